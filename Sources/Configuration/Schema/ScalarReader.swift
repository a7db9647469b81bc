/// Turns the text of a scalar into a value of the type that its schema asks for.
enum ScalarReader {
    /// What is wrong with a scalar, and what to write instead.
    struct Failure: Error, Equatable {
        var message: String
        var hint: String?

        init(_ message: String, hint: String? = nil) {
            self.message = message
            self.hint = hint
        }
    }

    /// - Parameter isPlain: without quotes, so that `5` is a number and `true` a truth value.
    static func read(_ text: String, isPlain: Bool, as schema: Schema) throws(Failure) -> Value {
        switch schema {
        case .boolean: try self.boolean(text, isPlain: isPlain)
        case .integer(let range): try self.integer(text, isPlain: isPlain, range)
        case .decimal(let range): try self.decimal(text, range)
        case .duration(let range, let keywords): try self.duration(text, range, keywords)
        case .bytes(let range): try self.bytes(text, range)
        case .percent(let range): try self.percent(text, range)
        case .text(let format): try self.text(text, isPlain: isPlain, format)
        case .choice(let choices): try self.choice(text, choices)
        case .list, .map, .object, .union:
            throw Failure(
                "expected \(schema.typeName), found \(PlainScalar(text, isPlain: isPlain).typeName)"
            )
        }
    }

    private static func boolean(_ text: String, isPlain: Bool) throws(Failure) -> Value {
        if isPlain && text == "true" { return .boolean(true) }
        if isPlain && text == "false" { return .boolean(false) }
        let wanted: String? =
            switch text.lowercased() {
            case "true", "yes", "on", "y": "write `true`"
            case "false", "no", "off", "n": "write `false`"
            default: nil
            }
        throw Failure("expected true or false, found `\(Excerpt.of(text))`", hint: wanted)
    }

    private static func integer(
        _ text: String,
        isPlain: Bool,
        _ range: ClosedRange<Int>
    ) throws(Failure) -> Value {
        guard PlainScalar.isInteger(text) else {
            throw Failure("expected a whole number, found `\(Excerpt.of(text))`")
        }
        guard isPlain else {
            throw Failure("expected a whole number, found text", hint: "remove the quotes")
        }
        guard let value = Int(text), range.contains(value) else {
            throw Failure(
                "\(Excerpt.of(text)) is out of range",
                hint: "write \(range.lowerBound) to \(range.upperBound)"
            )
        }
        return .integer(value)
    }

    private static func decimal(
        _ text: String,
        _ range: ClosedRange<Double>
    ) throws(Failure) -> Value {
        guard let value = NumberText.parse(text) else {
            let hint = text.hasSuffix("%") ? "write a fraction: `0.05` for 5%" : nil
            throw Failure("expected a number, found `\(Excerpt.of(text))`", hint: hint)
        }
        guard range.contains(value) else {
            throw Failure(
                "\(text) is out of range",
                hint: "write \(NumberText.format(range.lowerBound)) to "
                    + NumberText.format(range.upperBound)
            )
        }
        return .decimal(value)
    }

    private static func duration(
        _ text: String,
        _ range: ClosedRange<Duration>,
        _ keywords: [DurationKeyword]
    ) throws(Failure) -> Value {
        for keyword in keywords where keyword.rawValue == text {
            return .duration(keyword == .auto ? .automatic : .off)
        }
        guard let duration = DurationText.parse(text) else {
            let number = PlainScalar.isInteger(text) || DecimalText(text[...].utf8) != nil
            let alternatives = keywords.map { ", `\($0.rawValue)`" }.joined()
            throw Failure(
                "`\(Excerpt.of(text))` is not a duration",
                hint: number && !text.hasPrefix("-")
                    ? "add a unit: `\(text)s` or `\(text)ms`"
                    : "write for example `250ms`, `30s`, `5m`, `1h30m`\(alternatives)"
            )
        }
        guard range.contains(duration) else {
            throw Failure(
                "`\(text)` is out of range",
                hint: "write \(DurationText.format(range.lowerBound)) to "
                    + DurationText.format(range.upperBound)
            )
        }
        return .duration(.fixed(duration))
    }

    private static func bytes(_ text: String, _ range: ClosedRange<Int>) throws(Failure) -> Value {
        guard let size = SizeText.parse(text) else {
            throw Failure(
                "`\(Excerpt.of(text))` is not a size",
                hint: "write for example `64KiB`, `1MiB`, `2GiB`, `10M`, or a number of bytes"
            )
        }
        guard range.contains(size) else {
            throw Failure(
                "`\(text)` is out of range",
                hint: "write \(SizeText.format(range.lowerBound)) to "
                    + SizeText.format(range.upperBound)
            )
        }
        return .bytes(size)
    }

    private static func percent(
        _ text: String,
        _ range: ClosedRange<Percent>
    ) throws(Failure) -> Value {
        guard let percent = Percent(text: text) else {
            let isNumber = DecimalText(text[...].utf8) != nil
            throw Failure(
                "`\(Excerpt.of(text))` is not a percentage",
                hint: isNumber
                    ? "write `\"\(text)%\"`" : "write for example `\"5%\"` or `\"99.9%\"`"
            )
        }
        guard range.contains(percent) else {
            throw Failure(
                "`\(text)` is out of range",
                hint: "write \(range.lowerBound) to \(range.upperBound)"
            )
        }
        return .percent(percent)
    }

    private static func text(
        _ text: String,
        isPlain: Bool,
        _ format: TextFormat
    ) throws(Failure) -> Value {
        let scalar = PlainScalar(text, isPlain: isPlain)
        if scalar != .text {
            throw Failure(
                "expected \(format.typeName), found \(scalar.typeName)",
                hint: "put it in quotes: `\"\(Excerpt.of(text))\"`"
            )
        }
        if let failure = format.failure(of: text) {
            throw Failure(Excerpt.of(failure.message, limit: 400), hint: failure.hint)
        }
        return .text(text)
    }

    private static func choice(_ text: String, _ choices: [Choice]) throws(Failure) -> Value {
        let names = choices.map(\.name)
        if names.contains(text) { return .text(text) }
        throw Failure(
            "`\(Excerpt.of(text))` is not one of \(Words.list(names, conjunction: "and"))",
            hint: Words.suggestion(for: text, among: names)
        )
    }
}

/// What a scalar is by the core schema of YAML 1.2.
enum PlainScalar: Equatable {
    case null
    case boolean
    case number
    case text

    init(_ text: String, isPlain: Bool) {
        guard isPlain else {
            self = .text
            return
        }
        switch text {
        case "", "~", "null", "Null", "NULL": self = .null
        case "true", "True", "TRUE", "false", "False", "FALSE": self = .boolean
        default: self = Self.isNumber(text) ? .number : .text
        }
    }

    var typeName: String {
        switch self {
        case .null: "nothing"
        case .boolean: "a truth value"
        case .number: "a number"
        case .text: "text"
        }
    }

    static func isInteger(_ text: String) -> Bool {
        let digits = text.hasPrefix("-") || text.hasPrefix("+") ? text.dropFirst() : text[...]
        return !digits.isEmpty && digits.utf8.allSatisfy(HostText.isDigit)
    }

    private static func isNumber(_ text: String) -> Bool {
        if Self.isInteger(text) { return true }
        let unsigned = text.hasPrefix("-") || text.hasPrefix("+") ? text.dropFirst() : text[...]
        if unsigned == ".inf" || unsigned == ".nan" { return true }
        guard let first = unsigned.utf8.first, HostText.isDigit(first) || first == 0x2E else {
            return false
        }
        // `0x` is a number to YAML as well; `1e3` and `1.5` are read by Double, names are not.
        return unsigned.utf8.contains(where: HostText.isDigit) && Double(unsigned) != nil
    }
}

/// Decimal numbers as text that any reader of decimals takes.
enum NumberText {
    /// Without a point where it is whole, and never with an exponent.
    static func format(_ number: Double) -> String {
        if number == number.rounded(), abs(number) < 1e15 { return String(Int(number)) }
        let text = String(number)
        let parts = text.split(separator: "e")
        guard parts.count == 2, let exponent = Int(parts[1]), exponent < 0 else { return text }
        let digits = parts[0].filter { $0 != "." }
        return "0." + String(repeating: "0", count: -exponent - 1) + digits
    }

    /// Digits with at most one point between them, at most 40 bytes.
    static func parse(_ text: String) -> Double? {
        let bytes = text.utf8
        guard let first = bytes.first, let last = bytes.last, bytes.count <= 40 else { return nil }
        guard HostText.isDigit(first), HostText.isDigit(last) else { return nil }
        guard bytes.count(where: { $0 == UInt8(ascii: ".") }) <= 1 else { return nil }
        guard bytes.allSatisfy({ HostText.isDigit($0) || $0 == UInt8(ascii: ".") }) else {
            return nil
        }
        return Double(text)
    }
}

/// Untrusted text for a message: bounded, without control characters.
enum Excerpt {
    static func of(_ text: String, limit: Int = 80) -> String {
        var result = ""
        var count = 0
        for scalar in text.unicodeScalars {
            if count == limit { return result + "…" }
            let isControl = scalar.value < 0x20 || scalar.value == 0x7F
            result.unicodeScalars.append(isControl ? "·" : scalar)
            count += 1
        }
        return result
    }
}
