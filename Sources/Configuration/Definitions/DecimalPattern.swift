/// Regular expressions (RE2) for the decimal numbers on one side of a bound.
///
/// A bound on a number that is written as text can only be a pattern. The expressions are for the
/// whole text, without anchors, and take zeros in front and behind.
enum DecimalPattern {
    /// Digits with at most one point between them.
    static let form = "[0-9]+(\\.[0-9]+)?"

    /// - Parameter bound: digits with at most one point between them.
    static func atMost(_ bound: String) -> String {
        let (integer, fraction) = Self.split(bound)
        var choices = Self.integers(below: integer).map { $0 + "(\\.[0-9]+)?" }
        choices.append("\(integer)(\\.\(Self.fraction(atMost: fraction[...])))?")
        return "0*(\(choices.joined(separator: "|")))"
    }

    /// - Parameter bound: digits with at most one point between them.
    static func atLeast(_ bound: String) -> String {
        let (integer, fraction) = Self.split(bound)
        var choices = Self.integers(above: integer).map { $0 + "(\\.[0-9]+)?" }
        choices.append(
            fraction.isEmpty
                ? "\(integer)(\\.[0-9]+)?" : "\(integer)\\.\(Self.fraction(atLeast: fraction[...]))"
        )
        return "0*(\(choices.joined(separator: "|")))"
    }

    /// Without zeros in front of the whole part (nothing stands for 0) or behind the fraction.
    private static func split(_ bound: String) -> (integer: String, fraction: String) {
        let parts = bound.split(separator: ".", maxSplits: 1)
        let fraction = parts.count == 2 ? String(parts[1]) : ""
        let kept = fraction.reversed().drop { $0 == "0" }.reversed()
        return (String((parts.first ?? "").drop { $0 == "0" }), String(kept))
    }

    /// Those without zeros in front; the empty one is 0.
    private static func integers(below bound: String) -> [String] {
        guard !bound.isEmpty else { return [] }
        let count = bound.count
        var choices = [count == 1 ? "" : "([1-9][0-9]{0,\(count - 2)})?"]
        for (index, digit) in bound.enumerated() {
            guard let value = digit.wholeNumberValue else { continue }
            let lowest = index == 0 ? 1 : 0
            guard value > lowest else { continue }
            let rest = Self.digits(count - index - 1)
            choices.append(bound.prefix(index) + Self.range(lowest, value - 1) + rest)
        }
        return choices
    }

    private static func integers(above bound: String) -> [String] {
        let count = bound.count
        var choices = ["[1-9][0-9]{\(count),}"]
        for (index, digit) in bound.enumerated() {
            guard let value = digit.wholeNumberValue, value < 9 else { continue }
            let rest = Self.digits(count - index - 1)
            choices.append(bound.prefix(index) + Self.range(value + 1, 9) + rest)
        }
        return choices
    }

    /// At least one digit.
    private static func fraction(atMost bound: Substring) -> String {
        guard let digit = bound.first, let value = digit.wholeNumberValue else { return "0+" }
        let rest = bound.dropFirst()
        let same = rest.isEmpty ? "\(digit)0*" : "\(digit)(\(Self.fraction(atMost: rest)))?"
        return value == 0 ? same : "(\(Self.range(0, value - 1))[0-9]*|\(same))"
    }

    private static func fraction(atLeast bound: Substring) -> String {
        guard let digit = bound.first, let value = digit.wholeNumberValue else { return "[0-9]*" }
        let same = "\(digit)\(Self.fraction(atLeast: bound.dropFirst()))"
        return value == 9 ? same : "(\(Self.range(value + 1, 9))[0-9]*|\(same))"
    }

    private static func digits(_ count: Int) -> String {
        count == 0 ? "" : count == 1 ? "[0-9]" : "[0-9]{\(count)}"
    }

    private static func range(_ low: Int, _ high: Int) -> String {
        low == high ? "\(low)" : "[\(low)-\(high)]"
    }
}
