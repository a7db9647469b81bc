import Core
import Foundation
import Testing

@testable import Traffic

/// What a scan came to, for comparing.
struct ScanResult: Equatable {
    var status: JSONKeyScanner.OnScan
    var model: String?
    var stream: Bool?
    var maxTokens: Int?
    var blocks: [UInt64]
}

extension JSONKeyScanner {
    func result(_ status: OnScan) -> ScanResult {
        ScanResult(
            status: status,
            model: self.hasModel ? text(self.model.bytes) : nil,
            stream: self.stream,
            maxTokens: self.maxTokens,
            blocks: self.prompt.blocks
        )
    }

    /// Scans pieces that end at `cuts`, each in memory of its own, and then finishes.
    static func scan(
        _ body: [UInt8],
        cuts: [Int],
        needs: Needs = [.model, .stream, .maxTokens, .prompt]
    ) -> ScanResult {
        var scanner = JSONKeyScanner(needs: needs)
        var start = 0
        for end in cuts + [body.count] where end > start {
            let piece = Array(body[start..<end])
            _ = scanner.scan(piece.span.bytes)
            start = end
        }
        let status = scanner.finish()
        return scanner.result(status)
    }
}

/// A slow, plain recursive reader of the same grammar over whole documents.
struct ReferenceReader {
    struct Failure: Error { var kind: JSONProblem.Kind, offset: Int }

    var body: [UInt8]
    var index = 0
    var depth = 0
    var model: [UInt8]?
    var stream: Bool?
    var maxTokens: Int?
    var prompt: Range<Int>?

    init(_ body: [UInt8]) { self.body = body }

    static func read(_ body: [UInt8]) -> ScanResult {
        var reader = ReferenceReader(body)
        var status = JSONKeyScanner.OnScan.complete
        do {
            try reader.document()
        } catch {
            status = .invalid(JSONProblem(error.kind, offset: error.offset))
        }
        var hash = PromptHash()
        if let range = reader.prompt { hash.update(Array(body[range]).span.bytes) }
        return ScanResult(
            status: status,
            model: reader.model.map { String(decoding: $0, as: UTF8.self) },
            stream: reader.stream,
            maxTokens: reader.maxTokens,
            blocks: hash.blocks
        )
    }

    mutating func document() throws(Failure) {
        try self.space()
        guard try self.peek() == UInt8(ascii: "{") else {
            throw self.failure(try self.peek() < 0x20 ? .unexpectedByte : .notAnObject)
        }
        try self.object()
        while self.index < self.body.count {
            guard [0x20, 0x09, 0x0A, 0x0D].contains(self.body[self.index]) else {
                throw self.failure(self.body[self.index] < 0x20 ? .unexpectedByte : .trailingBytes)
            }
            self.index += 1
        }
    }

    func failure(_ kind: JSONProblem.Kind) -> Failure { Failure(kind: kind, offset: self.index) }

    func peek() throws(Failure) -> UInt8 {
        guard self.index < self.body.count else { throw self.failure(.truncated) }
        return self.body[self.index]
    }

    mutating func space() throws(Failure) {
        while [0x20, 0x09, 0x0A, 0x0D].contains(try self.peek()) { self.index += 1 }
    }

    mutating func expect(_ byte: Character) throws(Failure) {
        guard try self.peek() == byte.asciiValue else { throw self.failure(.unexpectedByte) }
        self.index += 1
    }

    mutating func open() throws(Failure) {
        guard self.depth < JSONKeyScanner.depthMax else { throw self.failure(.tooDeep) }
        self.depth += 1
        self.index += 1
    }

    mutating func object() throws(Failure) {
        try self.open()
        try self.space()
        if try self.peek() == UInt8(ascii: "}") { return self.close() }
        while true {
            try self.space()
            let isTop = self.depth == 1
            guard try self.peek() == UInt8(ascii: "\"") else { throw self.failure(.unexpectedByte) }
            let key = try self.string()
            if isTop, key == bytes("model"), self.model != nil {
                self.index -= 1
                throw self.failure(.duplicateModel)
            }
            try self.space()
            try self.expect(":")
            try self.space()
            if isTop { try self.member(key) } else { try self.value() }
            try self.space()
            if try self.peek() == UInt8(ascii: "}") { return self.close() }
            try self.expect(",")
        }
    }

    mutating func close() {
        self.depth -= 1
        self.index += 1
    }

    mutating func array() throws(Failure) {
        try self.open()
        try self.space()
        if try self.peek() == UInt8(ascii: "]") { return self.close() }
        while true {
            try self.space()
            try self.value()
            try self.space()
            if try self.peek() == UInt8(ascii: "]") { return self.close() }
            try self.expect(",")
        }
    }

    mutating func member(_ key: [UInt8]?) throws(Failure) {
        let start = self.index
        switch key {
        case bytes("model"):
            guard try self.peek() == UInt8(ascii: "\"") else {
                throw self.failure(try self.peek() < 0x20 ? .unexpectedByte : .modelNotString)
            }
            guard let name = try self.string(), String(validating: name, as: UTF8.self) != nil
            else {
                self.index -= 1
                throw self.failure(.modelNotUnicode)
            }
            self.model = name
        case bytes("stream"):
            self.stream = nil
            try self.value()
            let value = Array(self.body[start..<self.index])
            self.stream = value == bytes("true") ? true : value == bytes("false") ? false : nil
        case bytes("max_tokens"), bytes("max_completion_tokens"), bytes("max_output_tokens"):
            self.maxTokens = nil
            try self.value()
            let value = self.body[start..<self.index]
            if value.allSatisfy({ (48...57).contains($0) }),
                let number = Int(String(decoding: value, as: UTF8.self)), number <= 1 << 53
            {
                self.maxTokens = number
            }
        case bytes("prompt"), bytes("messages"), bytes("input"):
            try self.value()
            if self.prompt == nil { self.prompt = start..<self.index }
        default:
            try self.value()
        }
    }

    mutating func value() throws(Failure) {
        switch try self.peek() {
        case UInt8(ascii: "{"): try self.object()
        case UInt8(ascii: "["): try self.array()
        case UInt8(ascii: "\""): _ = try self.string()
        case UInt8(ascii: "t"): try self.literal("true")
        case UInt8(ascii: "f"): try self.literal("false")
        case UInt8(ascii: "n"): try self.literal("null")
        case UInt8(ascii: "-"), 48...57: try self.number()
        default: throw self.failure(.unexpectedByte)
        }
    }

    mutating func literal(_ text: String) throws(Failure) {
        for character in text { try self.expect(character) }
    }

    mutating func digits() throws(Failure) {
        guard (48...57).contains(try self.peek()) else { throw self.failure(.unexpectedByte) }
        while (48...57).contains(try self.peek()) { self.index += 1 }
    }

    mutating func number() throws(Failure) {
        if try self.peek() == UInt8(ascii: "-") { self.index += 1 }
        if try self.peek() == UInt8(ascii: "0") { self.index += 1 } else { try self.digits() }
        if try self.peek() == UInt8(ascii: ".") {
            self.index += 1
            try self.digits()
        }
        if [UInt8(ascii: "e"), UInt8(ascii: "E")].contains(try self.peek()) {
            self.index += 1
            if [UInt8(ascii: "+"), UInt8(ascii: "-")].contains(try self.peek()) { self.index += 1 }
            try self.digits()
        }
    }

    /// The decoded bytes, or nil where a surrogate stands alone.
    mutating func string() throws(Failure) -> [UInt8]? {
        self.index += 1
        var units: [UInt8] = []
        var high: UInt32 = 0
        var isWhole = true
        while true {
            let byte = try self.peek()
            if byte < 0x20 { throw self.failure(.controlByte) }
            self.index += 1
            var scalar: UInt32?
            if byte == UInt8(ascii: "\\") { scalar = try self.escape() }
            if let unit = scalar, (0xDC00..<0xE000).contains(unit), high != 0 {
                let pair = 0x10000 + (high - 0xD800) * 1024 + unit - 0xDC00
                units += Array(String(Unicode.Scalar(pair) ?? "?").utf8)
                high = 0
                continue
            }
            if high != 0 { isWhole = false }
            high = 0
            if byte == UInt8(ascii: "\"") { return isWhole ? units : nil }
            guard let scalar else {
                units.append(byte)
                continue
            }
            if (0xD800..<0xDC00).contains(scalar) {
                high = scalar
            } else if let valid = Unicode.Scalar(scalar) {
                units += Array(String(valid).utf8)
            } else {
                isWhole = false
            }
        }
    }

    mutating func escape() throws(Failure) -> UInt32 {
        let simple: [Character: UInt32] = [
            "\"": 34, "\\": 92, "/": 47, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9,
        ]
        let byte = try self.peek()
        if let value = simple[Character(Unicode.Scalar(byte))] {
            self.index += 1
            return value
        }
        guard byte == UInt8(ascii: "u") else { throw self.failure(.invalidEscape) }
        self.index += 1
        var value: UInt32 = 0
        for _ in 0..<4 {
            guard let digit = Character(Unicode.Scalar(try self.peek())).hexDigitValue else {
                throw self.failure(.invalidEscape)
            }
            value = value * 16 + UInt32(digit)
            self.index += 1
        }
        return value
    }
}

/// Makes JSON documents at random.
struct DocumentMaker {
    var random: RandomSource

    mutating func document() -> String {
        var keys = [
            "model", "stream", "max_tokens", "messages", "n", "input", "max_completion_tokens",
        ]
        if self.random.chance(20) { keys.append("mod\\u0065l") }
        var members: [String] = []
        for _ in 0..<self.random.below(6) {
            let key = self.random.chance(70) ? keys[self.random.below(keys.count)] : self.string()
            members.append(self.space() + "\"\(key)\"" + self.space() + ":" + self.member(key))
        }
        return self.space() + "{" + members.joined(separator: ",") + self.space() + "}"
            + self.space()
    }

    mutating func member(_ key: String) -> String {
        if key.hasPrefix("mod"), self.random.chance(90) { return "\"\(self.string())\"" }
        if key == "stream", self.random.chance(80) {
            return self.random.chance(50) ? "true" : "false"
        }
        if key.hasPrefix("max"), self.random.chance(80) { return "\(self.random.below(10_000))" }
        return self.value(4)
    }

    mutating func value(_ depth: Int) -> String {
        let scalars = [
            "true", "false", "null", "0", "7", "42", "-1.5e+3", "12345678901234567890", "0.25",
            "1E5",
        ]
        switch self.random.below(depth > 0 ? 8 : 5) {
        case 0...2: return self.space() + scalars[self.random.below(scalars.count)] + self.space()
        case 3, 4: return self.space() + "\"\(self.string())\""
        case 5, 6:
            let items = (0..<self.random.below(4)).map { _ in self.value(depth - 1) }
            return "[" + (items.isEmpty ? self.space() : items.joined(separator: ",")) + "]"
        default:
            let items = (0..<self.random.below(4)).map { _ in
                "\"\(self.random.chance(30) ? "model" : self.string())\":" + self.value(depth - 1)
            }
            return "{" + (items.isEmpty ? self.space() : items.joined(separator: ",")) + "}"
        }
    }

    mutating func space() -> String {
        ["", "", "", " ", "\n", "\t \r\n"][self.random.below(6)]
    }

    mutating func string() -> String {
        let parts = [
            "a", "key", "\\n", "\\\"", "\\\\", "\\/", "\\u00e9", "\\ud83d\\ude00", "\\ud83d", "é",
            "😀",
            "{", "]", ":", ",", "long run of plain text without anything special in it",
        ]
        return (0..<self.random.below(6)).map { _ in parts[self.random.below(parts.count)] }
            .joined()
    }
}

@Suite struct JSONKeyScannerTests {
    @Test(
        arguments: [
            (#"{"model":"m"}"#, "m"), (#" { "a" : [1,{"model":"x"}] , "model" : "m" } "#, "m"),
            (#"{"mod\u0065l":"\u006d"}"#, "m"), (#"{"model":"a\/b\\\"\n"}"#, "a/b\\\"\n"),
            (#"{"model":"\u00e9\ud83d\ude00"}"#, "é😀"), (#"{"model":"é😀"}"#, "é😀"),
            (#"{"model":""}"#, ""), (#"{"models":"x"}"#, nil), (#"{"Model":"x"}"#, nil),
            ("{}", nil),
            (#"{"model\u0000":"x"}"#, nil), (#"{"mode\ud83d":1}"#, nil), (#"{"x":"\ud83d"}"#, nil),
            (#"{"a_key_that_is_longer_than_any_we_know":"x","model":"m"}"#, "m"),
            (#"{"model":"\u0000"}"#, "\0"),
        ] as [(String, String?)]
    )
    func findsTheModelInEverySplit(document: String, expected: String?) {
        let body = bytes(document)
        for cut in 0...body.count {
            let result = JSONKeyScanner.scan(body, cuts: [cut])
            #expect(result.status == .complete, "cut at \(cut)")
            #expect(result.model == expected, "cut at \(cut)")
        }
        #expect(JSONKeyScanner.scan(body, cuts: Array(1..<body.count)).model == expected)
    }

    @Test(
        arguments: [
            ("", .truncated, 0), ("[]", .notAnObject, 0), ("\"model\"", .notAnObject, 0),
            ("\u{FEFF}{}", .notAnObject, 0), ("{", .truncated, 1), ("{\"a\"", .truncated, 4),
            ("{\"a\":1", .truncated, 6), ("{}x", .trailingBytes, 2), ("{}{}", .trailingBytes, 2),
            ("{,}", .unexpectedByte, 1), ("{\"a\":1,}", .unexpectedByte, 7),
            ("{\"a\":[1,]}", .unexpectedByte, 8), ("{\"a\":01}", .unexpectedByte, 6),
            ("{\"a\":1.}", .unexpectedByte, 7), ("{\"a\":-}", .unexpectedByte, 6),
            ("{\"a\":+1}", .unexpectedByte, 5), ("{\"a\":1e}", .unexpectedByte, 7),
            ("{\"a\":.5}", .unexpectedByte, 5), ("{\"a\":NaN}", .unexpectedByte, 5),
            ("{\"a\":tru}", .unexpectedByte, 8), ("{\"a\":nul", .truncated, 8),
            ("{\"a\":truex}", .unexpectedByte, 9), ("{'a':1}", .unexpectedByte, 1),
            ("{\"a\" 1}", .unexpectedByte, 5), ("{\"a\":1]", .unexpectedByte, 6),
            ("{\"a\":[1}", .unexpectedByte, 7), ("{\"a\":\"\n\"}", .controlByte, 6),
            ("{\"a\":\"\\x\"}", .invalidEscape, 7), ("{\"a\":\"\\u12g4\"}", .invalidEscape, 10),
            ("{\"a\":\"\\", .truncated, 7), ("{\"model\":1}", .modelNotString, 9),
            ("{\"model\":null}", .modelNotString, 9), ("{\"model\":[\"m\"]}", .modelNotString, 9),
            ("{\"model\":\"a\",\"model\":\"a\"}", .duplicateModel, 19),
            ("{\"model\":\"a\",\"mod\\u0065l\":\"a\"}", .duplicateModel, 24),
            ("{\"model\":\"\\ud83dx\"}", .modelNotUnicode, 17),
            ("{\"model\":\"\\ude00\"}", .modelNotUnicode, 16), ("{\u{1}}", .unexpectedByte, 1),
            ("{\"a\":1 /* no */}", .unexpectedByte, 7), ("{a:1}", .unexpectedByte, 1),
        ] as [(String, JSONProblem.Kind, Int)]
    )
    func namesTheProblemAndItsPlaceInEverySplit(
        document: String,
        kind: JSONProblem.Kind,
        offset: Int
    ) {
        let body = bytes(document)
        let expected = JSONKeyScanner.OnScan.invalid(JSONProblem(kind, offset: offset))
        for cut in 0...body.count {
            #expect(JSONKeyScanner.scan(body, cuts: [cut]).status == expected, "cut at \(cut)")
        }
        #expect(JSONKeyScanner.scan(body, cuts: Array(1..<max(body.count, 1))).status == expected)
        #expect(ReferenceReader.read(body).status == expected, "the reference disagrees")
    }

    @Test(
        arguments: [
            [0xFF], [0xC0, 0x80], [0xE0, 0x80, 0x80], [0xED, 0xA0, 0x80], [0xF4, 0x90, 0x80, 0x80],
            [0xC3], [0xE2, 0x82], [0x80], [0xF5, 0x80, 0x80, 0x80],
        ] as [[UInt8]]
    )
    func invalidUTF8InTheModelIsRefusedAndElsewhereLeftAlone(sequence: [UInt8]) {
        let model = bytes("{\"model\":\"a") + sequence + bytes("\"}")
        let problem = JSONProblem(.modelNotUnicode, offset: 11 + sequence.count)
        #expect(JSONKeyScanner.scan(model, cuts: []).status == .invalid(problem))
        let elsewhere = bytes("{\"prompt\":\"a") + sequence + bytes("\",\"model\":\"m\"}")
        #expect(JSONKeyScanner.scan(elsewhere, cuts: []).model == "m")
    }

    @Test func theModelsLengthIsBounded() {
        let fits = String(repeating: "m", count: NameBuffer.capacity)
        #expect(JSONKeyScanner.scan(bytes("{\"model\":\"\(fits)\"}"), cuts: []).model == fits)
        let problem = JSONProblem(.modelTooLong, offset: 10 + NameBuffer.capacity)
        let body = bytes("{\"model\":\"\(fits)m\"}")
        #expect(JSONKeyScanner.scan(body, cuts: [100]).status == .invalid(problem))
    }

    @Test func depthIsBounded() {
        func nested(_ depth: Int) -> [UInt8] {
            bytes(
                "{\"a\":" + String(repeating: "[", count: depth - 1)
                    + String(repeating: "]", count: depth - 1) + ",\"model\":\"m\"}"
            )
        }
        let deepest = JSONKeyScanner.depthMax
        #expect(JSONKeyScanner.scan(nested(deepest), cuts: []).model == "m")
        let problem = JSONProblem(.tooDeep, offset: 5 + deepest - 1)
        #expect(JSONKeyScanner.scan(nested(deepest + 1), cuts: []).status == .invalid(problem))
        let endless = bytes("{\"a\":") + [UInt8](repeating: UInt8(ascii: "["), count: 1_000_000)
        #expect(JSONKeyScanner.scan(endless, cuts: []).status == .invalid(problem))
    }

    @Test(
        arguments: [
            ("true", true, 7), ("false", false, 7), ("null", nil, nil), ("1", nil, nil),
            ("\"true\"", nil, nil),
        ] as [(String, Bool?, Int?)]
    )
    func readsTheOtherKeys(value: String, stream: Bool?, ignored: Int?) {
        let body = bytes("{\"stream\":\(value),\"max_tokens\":7}")
        let result = JSONKeyScanner.scan(body, cuts: Array(1..<body.count))
        #expect(result.stream == stream)
        #expect(result.maxTokens == 7)
    }

    @Test(
        arguments: [
            ("0", 0), ("128", 128), ("9007199254740992", 1 << 53), ("9007199254740993", nil),
            ("99999999999999999999999999", nil), ("-1", nil), ("1.5", nil), ("1e2", nil),
            ("\"5\"", nil),
        ] as [(String, Int?)]
    )
    func tokenLimitsAreWholeNumbers(value: String, expected: Int?) {
        for key in ["max_tokens", "max_completion_tokens", "max_output_tokens"] {
            let body = bytes("{\"\(key)\":\(value)}")
            for cut in 0..<body.count {
                #expect(JSONKeyScanner.scan(body, cuts: [cut]).maxTokens == expected)
            }
        }
    }

    @Test func stopsAsSoonAsAllIsFoundIfAskedTo() {
        var scanner = JSONKeyScanner(needs: .model, stopsEarly: true)
        let start = bytes("{\"model\":\"m\"")
        let garbage = bytes("}}}\u{0}garbage")
        var statuses = [
            scanner.scan((start + garbage).span.bytes), scanner.scan(garbage.span.bytes),
        ]
        statuses.append(scanner.finish())
        #expect(statuses == [.found, .found, .complete])
        var thorough = JSONKeyScanner(needs: .model)
        let again = bytes(",\"model\":\"n\"}")
        let answers = [
            thorough.scan(start.span.bytes), thorough.scan(again.span.bytes),
            thorough.scan(start.span.bytes),
        ]
        let problem = JSONKeyScanner.OnScan.invalid(JSONProblem(.duplicateModel, offset: 19))
        #expect(answers == [.found, problem, problem])
    }

    @Test func isUsedAgainAfterReset() {
        var scanner = JSONKeyScanner(needs: [.model, .prompt])
        let prompt = String(repeating: "x", count: 1_000)
        let body = bytes("{\"prompt\":\"\(prompt)\",\"model\":\"m\"}")
        let first = scanner.scan(body.span.bytes)
        #expect(first == .complete)
        let blocks = scanner.prompt.blocks
        #expect(blocks.count == 15)
        _ = scanner.scan(body.span.bytes)
        scanner.reset(needs: [.model, .prompt])
        #expect(!scanner.hasModel && scanner.prompt.blocks.isEmpty)
        let second = scanner.scan(body.span.bytes)
        #expect(second == .complete)
        #expect(scanner.prompt.blocks == blocks)
    }

    @Test func thePromptIsHashedOnlyIfAskedFor() {
        let body = bytes("{\"prompt\":\"\(String(repeating: "x", count: 500))\"}")
        #expect(JSONKeyScanner.scan(body, cuts: [], needs: .model).blocks.isEmpty)
        #expect(JSONKeyScanner.scan(body, cuts: [], needs: .prompt).blocks.count == 7)
    }

    @Test(arguments: 0..<40)
    func longStringsEndWhereTheyShouldAtEveryAlignment(offset: Int) {
        for special in ["\\\"", "\\n", "\\\\", "\\u00e9", ""] {
            for length in [0, 15, 16, 31, 63, 64, 65, 127, 200] {
                let filler = String(repeating: "x", count: length)
                let lead = String(repeating: " ", count: offset)
                let body = bytes("\(lead){\"p\":\"\(filler)\(special)\(filler)\",\"model\":\"m\"}")
                #expect(JSONKeyScanner.scan(body, cuts: []).model == "m")
                let control = bytes("\(lead){\"p\":\"\(filler)\(special)\u{1}\(filler)\"}")
                let at = offset + 6 + length + special.utf8.count
                #expect(
                    JSONKeyScanner.scan(control, cuts: []).status
                        == .invalid(JSONProblem(.controlByte, offset: at))
                )
            }
        }
    }

    /// The scanner looks at 16 and at 64 bytes at once, and at words of 8 inside them: two escapes
    /// at all distances from each other and from the beginning lie across every edge.
    @Test(arguments: ["\\n", "\\\"", "\\\\", "\\u0041", "\\x", "\"", "\u{1}"])
    func specialBytesAreFoundAtEveryDistance(special: String) {
        for first in 0..<150 {
            for second in [0, 1, 2, 6, 7, 8, 14, 15, 16, 30, 31, 32, 62, 63, 64, 65] {
                for lead in ["\\n", "\\\\", ""] {
                    let body = bytes(
                        "{\"p\":\"" + String(repeating: "x", count: first) + lead
                            + String(repeating: "y", count: second) + special
                            + String(repeating: "z", count: 70) + "\",\"model\":\"m\"}"
                    )
                    let result = JSONKeyScanner.scan(body, cuts: [])
                    #expect(Self.agree(result, ReferenceReader.read(body)), "\(first) \(second)")
                }
            }
        }
    }

    @Test(arguments: [11, 12, 13, 14] as [UInt64])
    func agreesWithTheReferenceOverStringsFullOfEscapes(seed: UInt64) {
        var random = RandomSource(seed: seed)
        let rare = ["\\u00e9", "\\x", "\u{1}", "\"", "\\"]
        let common = ["\\n", "\\\"", "\\\\", "\\/", "é"]
        for round in 0..<400 {
            var text = ""
            for _ in 0..<random.below(60) {
                text += String(repeating: "t", count: random.below(random.chance(20) ? 90 : 6))
                if random.chance(90) { text += common[random.below(common.count)] }
                if random.chance(1) { text += rare[random.below(rare.count)] }
            }
            let body = bytes("{\"messages\":[\"\(text)\"],\"model\":\"m\"}")
            let expected = ReferenceReader.read(body)
            var cuts: [Int] = []
            for cut in 0...body.count {
                cuts = [cut]
                if !Self.agree(JSONKeyScanner.scan(body, cuts: cuts), expected) {
                    Issue.record("seed \(seed) round \(round) cut \(cut): \(text) \(expected)")
                    return
                }
            }
        }
    }

    @Test(arguments: [1, 63, 64, 1_000, 4_096, 16_383, 16_384, 16_385, 70_000])
    func aLongPromptIsReadOnlyAsFarAsItIsHashed(piece: Int) {
        let hashed = PromptHash.blocksMax * PromptHash.blockBytes
        let key = "{\"prompt\":"
        // The value's first byte is hashed too: its quotation mark.
        let text = "\"" + String(repeating: "words \\n", count: hashed / 8)
        let whole = bytes(key + String(text.prefix(hashed)))
        for (body, isRead) in [(whole, true), (Array(whole.dropLast()), false)] {
            var scanner = JSONKeyScanner(needs: .prompt, stopsEarly: true)
            var status = JSONKeyScanner.OnScan.needMore
            for start in stride(from: 0, to: body.count, by: piece) {
                let part = Array(body[start..<min(start + piece, body.count)])
                status = scanner.scan(part.span.bytes)
            }
            #expect(status == (isRead ? .found : .needMore))
            #expect(scanner.prompt.isFull == isRead)
            // No longer looked at, or a control byte in a string.
            status = scanner.scan(bytes("\u{1}").span.bytes)
            #expect((status == .found) == isRead)
        }
    }

    @Test(arguments: [1, 2, 3, 4] as [UInt64])
    func agreesWithTheReferenceOverGeneratedDocuments(seed: UInt64) {
        var maker = DocumentMaker(random: RandomSource(seed: seed))
        var valid = 0
        for round in 0..<300 {
            let body = bytes(maker.document())
            let expected = ReferenceReader.read(body)
            if expected.status == .complete { valid += 1 }
            for cut in 0...min(body.count, 400) {
                let result = JSONKeyScanner.scan(body, cuts: [cut])
                if !Self.agree(result, expected) {
                    Issue.record(
                        """
                        seed \(seed) round \(round) cut \(cut): \
                        \(String(decoding: body, as: UTF8.self)) \(result) \(expected)
                        """
                    )
                    return
                }
            }
            #expect(Self.agree(JSONKeyScanner.scan(body, cuts: Array(1..<body.count)), expected))
        }
        #expect(valid > 100, "the maker makes too little sense")
    }

    @Test(arguments: [5, 6, 7, 8] as [UInt64])
    func agreesWithTheReferenceOverMutatedDocuments(seed: UInt64) {
        var maker = DocumentMaker(random: RandomSource(seed: seed))
        var random = RandomSource(seed: seed &* 7919)
        for round in 0..<1_500 {
            var body = bytes(maker.document())
            for _ in 0...random.below(3) where !body.isEmpty {
                let at = random.below(body.count)
                switch random.below(4) {
                case 0: body.remove(at: at)
                case 1: body.insert(Array("{}[]\",:\\0u\n\u{1}".utf8)[random.below(12)], at: at)
                case 2: body[at] = UInt8(truncatingIfNeeded: random.next())
                default: body.removeSubrange(at...)
                }
            }
            let expected = ReferenceReader.read(body)
            let cuts = [random.below(body.count + 1), random.below(body.count + 1)].sorted()
            let result = JSONKeyScanner.scan(body, cuts: cuts)
            if !Self.agree(result, expected) {
                Issue.record(
                    """
                    seed \(seed) round \(round) cuts \(cuts): \
                    \(String(decoding: body, as: UTF8.self)) \(result) \(expected)
                    """
                )
                return
            }
        }
    }

    /// Where a document is invalid, what had been found before does not matter.
    static func agree(_ one: ScanResult, _ two: ScanResult) -> Bool {
        if case .invalid = one.status { return one.status == two.status }
        return one == two
    }
}
