import Core
import Testing

@testable import HTTPService

private func parse<Value>(
    _ text: String,
    _ body: (inout JSONCursor, RawSpan) throws(JSONError) -> Value
) throws(JSONError) -> Value {
    let bytes = Array(text.utf8)
    var cursor = JSONCursor()
    let value = try body(&cursor, bytes.span.bytes)
    try cursor.end(bytes.span.bytes)
    return value
}

private func isValid(_ text: String) -> Bool {
    do throws(JSONError) {
        _ = try parse(text) { (cursor, bytes) throws(JSONError) in try cursor.skip(bytes) }
        return true
    } catch {
        return false
    }
}

@Suite struct JSONCursorTests {
    @Test(arguments: [
        "0", "-0", "12", "-1.5e+10", "1E400", "true", "false", "null", "\"\"", "\"a\\\"b\\u00e4\"",
        "[]", "{}", " [ 1 , 2 ] ", "{\"a\":{\"b\":[1,{\"c\":null}]},\"d\":\"e\"}", "\t\r\n 1 \n",
        "[\(String(repeating: "9", count: 400))]", "\"\u{7F}ä𝄞\"",
    ])
    func acceptsJSON(_ text: String) {
        #expect(isValid(text))
    }

    @Test(arguments: [
        "", " ", "01", "1.", ".5", "+1", "-", "1e", "1e+", "0x1", "NaN", "tru", "nulll", "\"",
        "\"\\x\"",
        "\"\\u12g4\"", "\"\\u123", "\"\n\"", "[", "[1", "[1,", "[1,]", "[,1]", "{", "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}", "{a:1}", "{\"a\" 1}", "[1 2]", "1 2", "]", "'a'", "[1}", "{\"a\":1]",
        "\u{FEFF}1",
    ])
    func refusesWhatIsNot(_ text: String) {
        #expect(!isValid(text))
    }

    @Test func refusesEveryProperPrefix() {
        let text = #"{"model":"m","messages":[{"role":"user","content":"h\u00e4\\"}],"n":-1.5e3}"#
        #expect(isValid(text))
        for count in 0..<text.utf8.count {
            #expect(!isValid(String(decoding: Array(text.utf8.prefix(count)), as: UTF8.self)))
        }
    }

    @Test func nestingIsBounded() {
        func nested(_ depth: Int) -> String {
            String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
        }
        #expect(isValid(nested(JSONCursor.depthMax)))
        #expect(!isValid(nested(JSONCursor.depthMax + 1)))
        #expect(!isValid(String(repeating: "[", count: 1_000_000)))
        #expect(!isValid(String(repeating: "{\"a\":", count: 100_000)))
    }

    @Test(arguments: [
        (#""plain""#, "plain"), (#""a\"\\\/\b\f\n\r\tz""#, "a\"\\/\u{8}\u{C}\n\r\tz"),
        (#""\u00e4\u20AC""#, "ä€"), (#""\ud834\udd1e""#, "𝄞"), (#""\ud834""#, "\u{FFFD}"),
        (#""\udd1e\ud834""#, "\u{FFFD}\u{FFFD}"), (#""\ud834x""#, "\u{FFFD}x"), ("\"ä\"", "ä"),
    ])
    func decodesStrings(_ text: String, _ expected: String) throws {
        let value = try parse(text) { (cursor, bytes) throws(JSONError) in try cursor.string(bytes)
        }
        #expect(value == expected)
    }

    @Test(arguments: [
        ("0", 0.0), ("-0", -0.0), ("123456789012345", 123_456_789_012_345), ("-7", -7),
        ("1.25", 1.25), ("1e3", 1_000), ("123456789012345680", 123_456_789_012_345_680),
    ])
    func readsNumbers(_ text: String, _ expected: Double) throws {
        let value = try parse(text) { (cursor, bytes) throws(JSONError) in try cursor.number(bytes)
        }
        #expect(value == expected)
        #expect(value.sign == expected.sign)
    }

    @Test func saysWhereItWentWrong() {
        let error = #expect(throws: JSONError.self) {
            try parse("[1, x]") { (cursor, bytes) throws(JSONError) in try cursor.skip(bytes) }
        }
        #expect(error?.offset == 4)
        #expect(throws: JSONError.self) {
            try parse("1.5") { (cursor, bytes) throws(JSONError) in try cursor.integer(bytes) }
        }
        #expect(throws: JSONError.self) {
            try parse("1e999") { (cursor, bytes) throws(JSONError) in try cursor.number(bytes) }
        }
    }
}

@Suite struct JSONWriterTests {
    private func written(_ body: (inout JSONWriter) -> Void) -> String {
        let buffer = ByteBuffer(capacity: 16)
        var writer = JSONWriter(buffer)
        body(&writer)
        return String(decoding: JSONText.array(buffer.readable), as: UTF8.self)
    }

    @Test func placesCommas() {
        let text = self.written { json in
            json.object { json in
                json.member("a", 1)
                json.key("b")
                json.array { json in
                    json.integer(-5)
                    json.number(0.5)
                    json.array { _ in }
                    json.null()
                }
                json.member("c", object: { $0.member("d", true) })
                json.member("e", "x")
            }
        }
        #expect(text == #"{"a":1,"b":[-5,0.5,[],null],"c":{"d":true},"e":"x"}"#)
    }

    @Test func whatItWritesCanBeRead() throws {
        var random = RandomSource(seed: 9)
        for _ in 0..<2_000 {
            let scalars = (0..<Int.random(in: 0...20, using: &random)).map { _ in
                Unicode.Scalar(UInt32.random(in: 0...0x2FFF, using: &random)) ?? "x"
            }
            var string = ""
            string.unicodeScalars.append(contentsOf: scalars)
            let text = self.written { $0.string(string) }
            let back = try parse(text) { (cursor, bytes) throws(JSONError) in
                try cursor.string(bytes)
            }
            #expect(back == string)
        }
    }

    @Test func extremesStayJSON() {
        #expect(self.written { $0.number(.nan) } == "null")
        #expect(self.written { $0.number(-.infinity) } == "null")
        #expect(self.written { $0.integer(UInt64.max) } == "18446744073709551615")
        #expect(self.written { $0.integer(Int64.min) } == "-9223372036854775808")
        for number in [Double.leastNonzeroMagnitude, 1e308, 0.1, -2, 1e21, 123_456_789.123] {
            #expect(isValid(self.written { $0.number(number) }))
        }
        let broken: [UInt8] = [0x61, 0xFF, 0x22]
        #expect(self.written { $0.string(bytes: broken.span.bytes) } == "\"a\u{FFFD}\\\"\"")
    }
}
