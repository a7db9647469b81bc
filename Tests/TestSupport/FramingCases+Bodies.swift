/// Cases about lengths, transfer codings, chunks, connections and limits.
extension FramingCase {
    private static let post = "POST / HTTP/1.1\r\nHost: h\r\n"

    private static func length(_ name: String, _ value: String) -> FramingCase {
        .refuse(
            "length \(name)",
            post + "Content-Length: \(value)\r\n",
            "invalid-content-length",
            rest: "\r\n12345"
        )
    }

    static let lengths: [FramingCase] = [
        .accept(
            "length 5",
            post + "Content-Length: 5\r\n\r\n12345",
            .init("POST", "/", body: "12345")
        ),
        .accept("length 0", post + "Content-Length: 0\r\n\r\n", .init("POST", "/")),
        .accept(
            "length with zeros",
            post + "Content-Length: 002\r\n\r\nok",
            .init("POST", "/", body: "ok")
        ),
        .accept(
            "length in tabs",
            post + "Content-Length:\t2\t\r\n\r\nok",
            .init("POST", "/", body: "ok")
        ),
        .accept(
            "GET with a body",
            "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nok",
            .init("GET", "/", body: "ok")
        ),
        .accept("POST without length", post + "\r\n", .init("POST", "/")),
        .wait("body too short", post + "Content-Length: 5\r\n\r\n1234"),
        .length("empty", ""),
        .length("negative", "-5"),
        .length("with plus", "+5"),
        .length("hexadecimal", "0x5"),
        .length("list of equals", "5, 5"),
        .length("list", "5,6"),
        .length("with space inside", "5 5"),
        .length("with comma behind", "5,"),
        .length("with semicolon", "5;"),
        .length("with point", "5.0"),
        .length("with exponent", "1e1"),
        .length("with underscore", "1_0"),
        .length("in quotes", "\"5\""),
        .length("in full-width digits", "５"),
        .length("of 2^63", "9223372036854775808"),
        .length("of 2^64", "18446744073709551616"),
        .length("of 2^64 + 5", "18446744073709551621"),
        .length("endless", String(repeating: "9", count: 400)),
        .refuse(
            "length with vertical tab",
            post + "Content-Length: \u{B}",
            "invalid-field-value",
            rest: "5\r\n\r\n12345"
        ),
        .refuse(
            "two equal lengths",
            post + "Content-Length: 5\r\nContent-Length: 5\r\n",
            "duplicate-content-length",
            rest: "\r\n12345"
        ),
        .refuse(
            "two lengths",
            post + "Content-Length: 5\r\nX: y\r\ncontent-length: 0\r\n",
            "duplicate-content-length",
            rest: "\r\n12345"
        ),
        .refuse(
            "length zero twice",
            post + "Content-Length: 0\r\nContent-Length: 0\r\n",
            "duplicate-content-length",
            rest: "\r\n"
        ),
        .refuse(
            "length, then chunked",
            post + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "content-length-with-transfer-encoding",
            rest: "\r\n0\r\n\r\n"
        ),
        .refuse(
            "chunked, then length",
            post + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "content-length-with-transfer-encoding",
            rest: "\r\n0\r\n\r\n"
        ),
        .refuse(
            "length zero with chunked",
            post + "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
            "content-length-with-transfer-encoding",
            rest: "\r\n0\r\n\r\n"
        ),
        .refuse(
            "length with identity",
            post + "Content-Length: 5\r\nTransfer-Encoding: identity\r\n",
            "content-length-with-transfer-encoding",
            rest: "\r\n12345"
        ),
    ]

    private static func coding(
        _ value: String,
        _ label: String = "invalid-transfer-encoding",
        status: UInt16 = 400
    ) -> FramingCase {
        .refuse(
            "transfer-encoding '\(value)'",
            post + "Transfer-Encoding: \(value)\r\n",
            label,
            status: status,
            rest: "\r\n0\r\n\r\n"
        )
    }

    static let transferEncodings: [FramingCase] = [
        .accept(
            "chunked in mixed case",
            post + "transfer-ENCODING: ChunKed\r\n\r\n0\r\n\r\n",
            .init("POST", "/")
        ),
        .accept(
            "chunked in whitespace",
            post + "Transfer-Encoding: \t chunked \t\r\n\r\n0\r\n\r\n",
            .init("POST", "/")
        ),
        .accept("te is not the coding", post + "TE: trailers\r\n\r\n", .init("POST", "/")),
        .coding(""),
        .coding("gzip"),
        .coding("identity"),
        .coding("xchunked"),
        .coding("chunkedx"),
        .coding("chunked;q=1"),
        .coding("\"chunked\""),
        .coding("chunked chunked"),
        .coding("chunked,"),
        .coding(", chunked"),
        .coding("chunked, chunked"),
        .coding("chunked, gzip"),
        .coding("chunked, identity"),
        .coding("gzip, chunked", "unsupported-transfer-coding", status: 501),
        .coding("identity, chunked", "unsupported-transfer-coding", status: 501),
        .refuse(
            "chunked twice",
            post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "invalid-transfer-encoding",
            rest: "\r\n0\r\n\r\n"
        ),
        .refuse(
            "chunked, then identity",
            post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
            "invalid-transfer-encoding",
            rest: "\r\n0\r\n\r\n"
        ),
        .refuse(
            "coding with vertical tab",
            post + "Transfer-Encoding: \u{B}",
            "invalid-field-value",
            rest: "chunked\r\n\r\n0\r\n\r\n"
        ),
        .refuse(
            "coding with space before colon",
            post + "Transfer-Encoding ",
            "whitespace-before-colon",
            rest: ": chunked\r\n\r\n0\r\n\r\n"
        ),
        .refuse(
            "chunked in HTTP/1.0",
            "POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n",
            "transfer-encoding-in-http10",
            rest: "\r\n0\r\n\r\n"
        ),
    ]

    private static let chunked = post + "Transfer-Encoding: chunked\r\n\r\n"

    private static func chunk(
        _ name: String,
        _ proof: String,
        _ label: String = "invalid-chunk-size",
        rest: String = "\r\n0\r\n\r\n"
    ) -> FramingCase {
        .refuse("chunk \(name)", chunked + proof, label, rest: rest)
    }

    static let chunks: [FramingCase] = [
        .accept("no chunk but the last", chunked + "0\r\n\r\n", .init("POST", "/")),
        .accept("last chunk of many zeros", chunked + "0000\r\n\r\n", .init("POST", "/")),
        .accept(
            "one chunk",
            chunked + "5\r\nhello\r\n0\r\n\r\n",
            .init("POST", "/", body: "hello")
        ),
        .accept(
            "three chunks",
            chunked + "1\r\na\r\n2\r\nbc\r\n3\r\ndef\r\n0\r\n\r\n",
            .init("POST", "/", body: "abcdef")
        ),
        .accept(
            "sizes in both cases",
            chunked + "a\r\n0123456789\r\nB\r\n0123456789a\r\n0\r\n\r\n",
            .init("POST", "/", body: "01234567890123456789a")
        ),
        .accept(
            "size of sixteen digits",
            chunked + "0000000000000002\r\nok\r\n0\r\n\r\n",
            .init("POST", "/", body: "ok")
        ),
        .accept(
            "data that looks like framing",
            chunked + "9\r\n0\r\n\r\nGET \r\n0\r\n\r\n",
            .init("POST", "/", body: "0\r\n\r\nGET ")
        ),
        .chunk("without size", "\r", rest: "\n\r\n"),
        .chunk("with extension alone", ";", rest: "a\r\n0\r\n\r\n"),
        .chunk("size not hexadecimal", "g", rest: "\r\n0\r\n\r\n"),
        .chunk("size with 0x", "0x", rest: "5\r\nhello\r\n0\r\n\r\n"),
        .chunk("size with minus", "-", rest: "1\r\nh\r\n0\r\n\r\n"),
        .chunk("size with plus", "+", rest: "5\r\nhello\r\n0\r\n\r\n"),
        .chunk("size with space before", " ", rest: "5\r\nhello\r\n0\r\n\r\n"),
        .chunk("size with space behind", "5 ", rest: "\r\nhello\r\n0\r\n\r\n"),
        .chunk("size with tab behind", "5\t", rest: "\r\nhello\r\n0\r\n\r\n"),
        .chunk("size with space before extension", "5 ", rest: ";a\r\nhello\r\n0\r\n\r\n"),
        .chunk("size with underscore", "1_", rest: "0\r\n"),
        .chunk("size with NUL", "5\0", rest: "\r\nhello\r\n0\r\n\r\n"),
        .chunk("size with h", "5h", rest: "\r\nhello\r\n0\r\n\r\n"),
        .chunk("size of seventeen digits", "00000000000000005", "chunk-size-overflow"),
        .chunk("size of 2^63", "8000000000000000", "chunk-size-overflow"),
        .chunk("size of 2^64 - 1", "ffffffffffffffff", "chunk-size-overflow"),
        .chunk("size of 2^64 + 5", "10000000000000005", "chunk-size-overflow"),
        .chunk("size with bare LF", "5\n", "bare-lf", rest: "hello\r\n0\r\n\r\n"),
        .chunk("size with bare CR", "5\rh", "bare-cr", rest: "ello\r\n0\r\n\r\n"),
        .chunk("size with two CR", "5\r\r", "bare-cr", rest: "\nhello\r\n0\r\n\r\n"),
        .chunk("longer than its size", "5\r\nhello!", "invalid-chunk-end", rest: "\r\n0\r\n\r\n"),
        .chunk("shorter than its size", "5\r\nhell\r\n", "bare-lf", rest: "0\r\n\r\n"),
        .chunk("with LF behind data", "5\r\nhello\n", "bare-lf", rest: "0\r\n\r\n"),
        .chunk("with CR behind data", "5\r\nhello\r0", "bare-cr", rest: "\r\n\r\n"),
        .chunk("without line behind data", "5\r\nhello0", "invalid-chunk-end", rest: "\r\n\r\n"),
        .chunk("with two lines behind data", "5\r\nhello\r\n\r", rest: "\n0\r\n\r\n"),
        .chunk("last with LF", "0\n", "bare-lf", rest: "\n"),
        .wait("no last chunk", chunked + "5\r\nhello\r\n"),
        .wait("no empty line behind the last chunk", chunked + "0\r\n"),
        .wait("half a size", chunked + "5"),
        .wait("half a chunk", chunked + "5\r\nhel"),
    ]

    private static func goodExtension(_ name: String, _ text: String) -> FramingCase {
        .accept(
            "extension \(name)",
            chunked + "2\(text)\r\nok\r\n0\(text)\r\n\r\n",
            .init("POST", "/", body: "ok")
        )
    }

    private static func badExtension(
        _ name: String,
        _ proof: String,
        _ label: String = "invalid-chunk-extension"
    ) -> FramingCase {
        .refuse("extension \(name)", chunked + "2" + proof, label, rest: "\r\nok\r\n0\r\n\r\n")
    }

    static let chunkExtensions: [FramingCase] = [
        .goodExtension("name", ";a"),
        .goodExtension("token", ";a=b"),
        .goodExtension("several", ";a=b;c;d=e"),
        .goodExtension("quoted", ";a=\"b c\""),
        .goodExtension("quoted with specials", ";a=\";=\\\" 0\""),
        .goodExtension("empty quoted", ";a=\"\""),
        .goodExtension("with whitespace", "; a\t=  b ;c"),
        .badExtension("empty", ";\r"),
        .badExtension("without name", ";="),
        .badExtension("without value", ";a=\r"),
        .badExtension("twice empty", ";;"),
        .badExtension("of two names", ";a b"),
        .badExtension("with whitespace at its end", ";a \r"),
        .badExtension("with NUL", ";a\0"),
        .badExtension("quoted with NUL", ";a=\"\0"),
        .badExtension("quoted with CR", ";a=\"\r"),
        .badExtension("quoted with LF", ";a=\"\n", "bare-lf"),
        .badExtension("quoted with escaped CR", ";a=\"\\\r"),
        .badExtension("with text behind a quote", ";a=\"b\"c"),
        .badExtension("with LF", ";a\n", "bare-lf"),
        .badExtension("with CR inside", ";a\rb", "bare-cr"),
    ]

    private static func trailer(
        _ name: String,
        _ proof: String,
        _ label: String = "invalid-trailer",
        status: UInt16 = 400
    ) -> FramingCase {
        .refuse("trailer \(name)", chunked + "0\r\n" + proof, label, status: status)
    }

    static let trailers: [FramingCase] = [
        .accept(
            "trailers",
            chunked + "2\r\nok\r\n0\r\nX-Sum:  abc \r\nY:\r\n\r\n",
            .init("POST", "/", body: "ok", trailers: "X-Sum: abc\r\nY: \r\n")
        ),
        .accept(
            "trailers that are dropped",
            chunked + "0\r\nContent-Length: 5\r\nHost: b\r\nX: y\r\nIf-Match: a\r\n\r\n",
            .init("POST", "/", trailers: "X: y\r\n")
        ),
        .accept(
            "trailers that speak for the gateway",
            chunked
                + "0\r\nTransfer-Encoding: chunked\r\nx-weir-other: 1\r\nForwarded: for=a\r\n\r\n",
            .init("POST", "/")
        ),
        .trailer("without colon", "abc\r"),
        .trailer("without name", ":"),
        .trailer("with space before colon", "X "),
        .trailer("folded", "X: a\r\n "),
        .trailer("with NUL", "X: \0"),
        .trailer("with bare CR", "X: a\rb", "bare-cr"),
        .trailer("with bare LF", "X: a\n", "bare-lf"),
        .trailer("with LF in name", "X\n", "bare-lf"),
        .trailer("with LF for the empty line", "\n", "bare-lf"),
        .trailer("with CR for the empty line", "\rX", "bare-cr"),
        .trailer("forbidden and malformed", "Host: \u{1}"),
    ]

    private static func closing(_ name: String, _ fields: String, version: String = "1.1")
        -> FramingCase
    {
        .accept(
            name,
            "GET / HTTP/\(version)\r\nHost: h\r\n\(fields)\r\nGET /ignored HTTP/1.1\r\n",
            .init("GET", "/", keepsAlive: false)
        )
    }

    private static func keeping(_ name: String, _ fields: String, version: String = "1.1")
        -> FramingCase
    {
        .accept(name, "GET / HTTP/\(version)\r\nHost: h\r\n\(fields)\r\n", .init("GET", "/"))
    }

    private static let get = "GET / HTTP/1.1\r\nHost: h\r\n"

    static let connections: [FramingCase] = [
        .closing("close", "Connection: close\r\n"),
        .closing("close in a list", "Connection: x, CLOSE ,y\r\n"),
        .closing("close in a second field", "Connection: x\r\nConnection: close\r\n"),
        .closing("close beats keep-alive", "Connection: keep-alive, close\r\n"),
        .closing("HTTP/1.0 closes", "", version: "1.0"),
        .keeping("HTTP/1.0 with keep-alive", "Connection: Keep-Alive\r\n", version: "1.0"),
        .keeping("empty elements", "Connection: , ,x,\r\n"),
        .keeping("empty connection", "Connection:\r\n"),
        .keeping("proxy-connection means nothing", "Proxy-Connection: close\r\n"),
        .keeping("upgrade", "Connection: Upgrade\r\nUpgrade: websocket\r\n"),
        .keeping("expectation without body", "Expect: 100-continue\r\n"),
        .keeping(
            "length that is nominated",
            "Connection: content-length, host\r\nContent-Length: 0\r\n"
        ),
        .accept(
            "a length that is nominated still counts",
            post + "Connection: content-length\r\nContent-Length: 2\r\n\r\nok",
            .init("POST", "/", body: "ok")
        ),
        .accept(
            "expectation with body",
            post + "Expect: 100-Continue\r\nContent-Length: 2\r\n\r\nok",
            .init("POST", "/", body: "ok")
        ),
        .refuse(
            "connection with two words",
            get + "Connection: a b\r\n",
            "invalid-connection",
            rest: "\r\n"
        ),
        .refuse(
            "connection in quotes",
            get + "Connection: \"close\"\r\n",
            "invalid-connection",
            rest: "\r\n"
        ),
        .refuse(
            "another expectation",
            get + "Expect: 200-ok\r\n",
            "unknown-expectation",
            status: 417,
            rest: "\r\n"
        ),
        .refuse(
            "empty expectation",
            get + "Expect:\r\n",
            "unknown-expectation",
            status: 417,
            rest: "\r\n"
        ),
    ]

    static let pipelines: [FramingCase] = [
        .accept(
            "three requests",
            get + "\r\n" + post + "Content-Length: 2\r\n\r\nok" + get + "\r\n",
            .init("GET", "/"),
            .init("POST", "/", body: "ok"),
            .init("GET", "/")
        ),
        .accept(
            "a request behind chunks",
            chunked + "2\r\nok\r\n0\r\nX: y\r\n\r\n" + get + "\r\n",
            .init("POST", "/", body: "ok", trailers: "X: y\r\n"),
            .init("GET", "/")
        ),
        .accept(
            "an empty line behind a body",
            post + "Content-Length: 2\r\n\r\nok\r\n" + get + "\r\n",
            .init("POST", "/", body: "ok"),
            .init("GET", "/")
        ),
        .refuse(
            "a body longer than its length",
            post + "Content-Length: 2\r\n\r\nok{",
            "invalid-method",
            after: [.init("POST", "/", body: "ok")]
        ),
        .refuse(
            "garbage behind a request",
            get + "\r\n" + "\0",
            "invalid-method",
            after: [.init("GET", "/")]
        ),
        .wait("half a second request", get + "\r\nGET / HT", .init("GET", "/")),
    ]

    private static func filler(_ count: Int) -> String { String(repeating: "a", count: count) }

    /// Fields `X: y` beside the Host field, so that there are `count` in all.
    private static func fields(_ count: Int) -> String {
        get + String(repeating: "X: y\r\n", count: count - 1)
    }

    static let limits: [FramingCase] = [
        .accept(
            "longest target",
            "GET /\(filler(127)) HTTP/1.1\r\nHost: h\r\n\r\n",
            .init("GET", "/\(filler(127))")
        ).atLimit,
        .refuse("target too long", "GET /\(filler(128))", "target-too-long", status: 414).atLimit,
        .accept(
            "longest method",
            "\(filler(32)) / HTTP/1.1\r\nHost: h\r\n\r\n",
            .init(filler(32), "/")
        ).atLimit,
        .refuse("method too long", filler(33), "method-too-long", status: 501).atLimit,
        .accept("most fields", fields(16) + "\r\n", .init("GET", "/")).atLimit,
        .refuse("too many fields", fields(16) + "X", "too-many-fields", status: 431).atLimit,
        .accept("largest head", get + "X: \(filler(1024 - 25 - 7))\r\n\r\n", .init("GET", "/"))
            .atLimit,
        .refuse(
            "head too large",
            get + "X: \(filler(1024 - 25 - 6))\r\n\r",
            "head-too-large",
            status: 431,
            rest: "\n"
        ).atLimit,
        .refuse(
            "value without end",
            get + "X: \(filler(1024 - 25 - 3))",
            "head-too-large",
            status: 431
        ).atLimit,
        .refuse("name without end", get + filler(1024 - 25), "head-too-large", status: 431).atLimit,
        .accept(
            "most connection options",
            get + "Connection: x" + String(repeating: ",x", count: 31) + "\r\n\r\n",
            .init("GET", "/")
        ).atLimit,
        .refuse(
            "too many connection options",
            get + "Connection: x" + String(repeating: ",", count: 32) + "\r\n",
            "too-many-connection-options",
            rest: "\r\n"
        ).atLimit,
        .accept(
            "largest body",
            post + "Content-Length: 256\r\n\r\n" + filler(256),
            .init("POST", "/", body: filler(256))
        ).atLimit,
        .refuse(
            "body too large",
            post + "Content-Length: 257\r\n\r\n",
            "body-too-large",
            status: 413,
            rest: "a"
        ).atLimit,
        .refuse(
            "length of Int64.max",
            post + "Content-Length: 9223372036854775807\r\n\r\n",
            "body-too-large",
            status: 413,
            rest: "a"
        ).atLimit,
        .accept(
            "largest chunks",
            chunked + "80\r\n\(filler(128))\r\n80\r\n\(filler(128))\r\n0\r\n\r\n",
            .init("POST", "/", body: filler(256))
        ).atLimit,
        .refuse(
            "chunks too large",
            chunked + "80\r\n\(filler(128))\r\n81\r\n",
            "body-too-large",
            status: 413,
            rest: "a"
        ).atLimit,
        .refuse(
            "chunk of Int64.max",
            chunked + "7fffffffffffffff\r\n",
            "body-too-large",
            status: 413,
            rest: "a"
        ).atLimit,
        .accept(
            "longest extension",
            chunked + "0;\(filler(63))\r\n\r\n",
            .init("POST", "/")
        ).atLimit,
        .refuse("extension too long", chunked + "0;\(filler(64))", "chunk-extensions-too-large")
            .atLimit,
        .refuse(
            "extensions too long together",
            chunked + "1;\(filler(40))\r\na\r\n1;\(filler(23))",
            "chunk-extensions-too-large"
        ).atLimit,
        .accept(
            "most trailers",
            chunked + "0\r\na: 1\r\nb: 2\r\nc: 3\r\nd: 4\r\n\r\n",
            .init("POST", "/", trailers: "a: 1\r\nb: 2\r\nc: 3\r\nd: 4\r\n")
        ).atLimit,
        .refuse(
            "too many trailers",
            chunked + "0\r\na: 1\r\nb: 2\r\nc: 3\r\nd: 4\r\ne",
            "too-many-trailers",
            status: 431
        ).atLimit,
        .accept(
            "largest trailer section",
            chunked + "0\r\na: \(filler(121))\r\n\r\n",
            .init("POST", "/", trailers: "a: \(filler(121))\r\n")
        ).atLimit,
        .refuse(
            "trailer section too large",
            chunked + "0\r\na: \(filler(122))\r\n\r\n",
            "trailers-too-large",
            status: 431,
            rest: ""
        ).atLimit,
    ]
}
