import Core
import Testing

@testable import Signals

/// What the parser sees, as text: `name{a=b} value @time` per sample.
func samples(
    of text: String,
    format: ExpositionParser.Format = .text
) -> (lines: [String], parser: ExpositionParser) {
    let bytes = Array(text.utf8)
    var parser = ExpositionParser(format: format)
    var lines: [String] = []
    while let sample = parser.next(bytes.span.bytes) {
        let labels = parser.labels.map { label in
            bytes.span.bytes.string(label.name) + "="
                + parser.value(of: label, bytes.span.bytes)
        }
        let time = sample.timestamp.map { " @\($0)" } ?? ""
        let name = bytes.span.bytes.string(sample.name)
        lines.append("\(name){\(labels.joined(separator: ";"))} \(sample.value)\(time)")
    }
    return (lines, parser)
}

@Suite struct ExpositionParserTests {
    static let good: [(String, String)] = [
        ("a 1", "a{} 1.0"), ("a{} 1", "a{} 1.0"), ("a{ } 1", "a{} 1.0"),
        ("  a \t 1  ", "a{} 1.0"), ("a 1\r", "a{} 1.0"), ("a:b_C9 -1.5e3", "a:b_C9{} -1500.0"),
        ("_ 0", "_{} 0.0"), (": 0", ":{} 0.0"), ("a +Inf", "a{} inf"), ("a -Inf", "a{} -inf"),
        ("a inf", "a{} inf"), ("a NaN", "a{} nan"), ("a nan", "a{} nan"),
        ("a 123456789012345678", "a{} 1.2345678901234568e+17"), ("a .5", "a{} 0.5"),
        ("a 5.", "a{} 5.0"), ("a +5", "a{} 5.0"), ("a 007", "a{} 7.0"),
        (#"a{b="c"} 1"#, "a{b=c} 1.0"), (#"a {b="c"} 1"#, "a{b=c} 1.0"),
        (#"a{b="c"}1"#, "a{b=c} 1.0"), (#"a{b="c",} 1"#, "a{b=c} 1.0"),
        (#"a{ b = "c" , d = "e" } 1"#, "a{b=c;d=e} 1.0"),
        (#"a{b="\\ \" \n \x"} 1"#, "a{b=\\ \" \n \\x} 1.0"), (#"a{b=""} 1"#, "a{b=} 1.0"),
        (#"a{b="{},=# "} 1"#, "a{b={},=# } 1.0"), (#"a{b="é"} 1"#, "a{b=é} 1.0"),
        ("a 1 1500", "a{} 1.0 @1.5"), ("a 1 -1000", "a{} 1.0 @-1.0"),
        (#"a_bucket{le="1"} 5 # {trace_id="x"} 0.6 1.5"#, "a_bucket{le=1} 5.0"),
        (#"a 5 1000 # {} 0.6"#, "a{} 5.0 @1.0"),
        (#"{"a.b", c="d"} 1"#, "a.b{c=d} 1.0"), (#"{"a.b"} 1"#, "a.b{} 1.0"),
        (#"a{"b.c"="d"} 1"#, "a{b.c=d} 1.0"),
    ]

    @Test(arguments: good.indices)
    func readsSamples(index: Int) {
        let (text, expected) = Self.good[index]
        let (lines, parser) = samples(of: text + "\n")
        #expect(lines == [expected])
        #expect(parser.malformed == 0)
        // Neighbours do not matter.
        #expect(samples(of: "x 1\n\(text)\ny 2\n").lines == ["x{} 1.0", expected, "y{} 2.0"])
    }

    static let bad = [
        "a", "a ", "1 1", "a{", "a{b", "a{b=", "a{b=\"", "a{b=\"c", "a{b=\"c\"", "a{b=\"c\\\"} 1",
        "a{b=c} 1", "a{b} 1", "a{=\"c\"} 1", "a{b=\"c\" d=\"e\"} 1", "a{,} 1", "a{b=\"c\",,} 1",
        "a{b=\"c\"} ", "a{b=\"c\"} x", "a 1x", "a 0x1p3", "a 1_000", "a 1 x", "a 1 2 3", "a 1 NaN",
        "a-b 1", "é 1", "{} 1", "{b=\"c\"} 1", "{\"\"} 1", "{\"a\" 1", "{b=\"c\",\"a\"} 1",
        "a{\"b\"} 1", "a--1", "a 1e", "a .", "a -",
        "a " + String(repeating: "1", count: 65), "a b{} 1", "[{\"a\": 1}]", "<html>",
    ]

    @Test(arguments: bad)
    func skipsWhatIsNoSample(text: String) {
        let (lines, parser) = samples(of: "x 1\n\(text)\ny 2\n")
        #expect(lines == ["x{} 1.0", "y{} 2.0"])
        #expect(parser.malformed == 1)
    }

    @Test(arguments: ["", "\n", "# HELP a b\n", "#\n", "# EOF\n", "  \n", "\r\n", "#a 1\n"])
    func hasNothingToSayAboutCommentsAndEmptyLines(text: String) {
        let (lines, parser) = samples(of: text)
        #expect(lines.isEmpty)
        #expect(parser.malformed == 0)
    }

    /// Of a cut exposition only whole lines count: half a number is another number.
    @Test func cutAnywhereItReadsAPrefix() {
        let text =
            "# TYPE a gauge\na{b=\"c\\\"\"} 12\nbb 3.25 1700000000000\nc 1e10 # {x=\"y\"} 1\n"
        let bytes = Array(text.utf8)
        let whole = samples(of: text).lines
        #expect(whole.count == 3)
        for count in 0...bytes.count {
            let prefix = String(decoding: bytes[..<count], as: UTF8.self)
            let lines = samples(of: prefix).lines
            #expect(lines == Array(whole.prefix(lines.count)), "\(count) bytes")
            // Surrounded by bytes that would go on with it.
            let padded = Array("9 9\n\"".utf8) + bytes[..<count] + Array("99\n".utf8)
            let inside = padded.span.bytes.extracting(5..<(5 + count))
            var parser = ExpositionParser()
            var read = 0
            while parser.next(inside) != nil { read += 1 }
            #expect(read == lines.count)
        }
    }

    @Test func openMetricsHasTimesInSecondsAndAnEnd() {
        let text = "a_total 1 1700000000.5\n# EOF"
        let (lines, parser) = samples(of: text, format: .openMetrics)
        #expect(lines == ["a_total{} 1.0 @1700000000.5"])
        #expect(parser.hasEnd)
        #expect(!samples(of: "a 1\n# EO", format: .openMetrics).parser.hasEnd)
    }

    @Test(
        arguments: [
            ("application/openmetrics-text; version=1.0.0; charset=utf-8", true),
            ("Application/OpenMetrics-Text", true), ("text/plain; version=0.0.4", false),
            ("application/json", false), (nil, false),
        ] as [(String?, Bool)]
    )
    func formatsGoByContentType(type: String?, isOpen: Bool) {
        #expect((ExpositionParser.Format(contentType: type) == .openMetrics) == isOpen)
    }

    // MARK: Limits

    @Test func linesAreBounded() {
        let most = ExpositionParser.Limits.lineBytesMax
        for extra in [0, 1] {
            let value = String(repeating: "x", count: most - "a{b=\"\"} 1".utf8.count + extra)
            let (lines, parser) = samples(of: "a{b=\"\(value)\"} 1\nc 2\n")
            #expect(lines.count == 2 - extra)
            #expect(parser.malformed == extra)
        }
    }

    @Test func labelsAreBounded() {
        let most = ExpositionParser.Limits.labelsMax
        for extra in [0, 1] {
            let labels = (0..<(most + extra)).map { "l\($0)=\"v\"" }.joined(separator: ",")
            #expect(samples(of: "a{\(labels)} 1\n").lines.count == 1 - extra)
        }
    }

    @Test func samplesAreBounded() {
        let most = ExpositionParser.Limits.samplesMax
        let bytes = Array(String(repeating: "a 1\n", count: most + 2).utf8)
        var parser = ExpositionParser()
        var count = 0
        while parser.next(bytes.span.bytes) != nil { count += 1 }
        #expect(count == most)
        #expect(parser.isTruncated)
        #expect(parser.next(bytes.span.bytes) == nil)
    }

    // MARK: Random

    /// What is written reads back, whatever the values.
    @Test(arguments: 0..<20 as Range<UInt64>)
    func readsBackWhatWasWritten(seed: UInt64) {
        var random = RandomSource(seed: seed)
        var text = ""
        var expected: [String] = []
        let characters = Array("ab,{}=\"\\\n# é9")
        for _ in 0..<50 {
            let labels = (0..<Int(random.next() % 4)).map { number -> (String, String) in
                let count = Int(random.next() % 6)
                let value = (0..<count).map { _ in
                    characters[Int(random.next() % UInt64(characters.count))]
                }
                return ("l\(number)", String(value))
            }
            let value = Double(bitPattern: random.next())
            let written = labels.map { name, value in
                let escaped = value.map { character in
                    switch character {
                    case "\\": "\\\\"
                    case "\"": "\\\""
                    case "\n": "\\n"
                    default: String(character)
                    }
                }
                return "\(name)=\"\(escaped.joined())\""
            }
            let number = value.isNaN ? "NaN" : value.isInfinite ? "+Inf" : "\(value)"
            text += "m{\(written.joined(separator: ","))} \(number)\n"
            let seen = labels.map { "\($0)=\($1)" }.joined(separator: ";")
            let plain = value.isNaN ? "nan" : value.isInfinite ? "inf" : "\(value)"
            expected.append("m{\(seen)} \(plain)")
        }
        #expect(samples(of: text).lines == expected, "seed \(seed)")
    }
}
