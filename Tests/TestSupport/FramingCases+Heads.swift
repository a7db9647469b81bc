/// Cases about first lines, targets, hosts and the syntax of fields.
extension FramingCase {
    static let requestLines: [FramingCase] = [
        .accept("GET", "GET / HTTP/1.1\r\nHost: h\r\n\r\n", .init("GET", "/")),
        .accept("HEAD", "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", .init("HEAD", "/")),
        .accept(
            "HTTP/1.0 without host",
            "GET / HTTP/1.0\r\n\r\n",
            .init("GET", "/", authority: nil, keepsAlive: false)
        ),
        .accept("empty line first", "\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", .init("GET", "/")),
        .refuse("two empty lines first", "\r\n\r", "invalid-method", rest: "\nGET / HTTP/1.1\r\n"),
        .refuse("bare CR first", "\rG", "bare-cr", rest: "ET / HTTP/1.1\r\nHost: h\r\n\r\n"),
        .refuse("bare LF first", "\n", "bare-lf", rest: "GET / HTTP/1.1\r\nHost: h\r\n\r\n"),
        .refuse("space first", " ", "invalid-method", rest: "GET / HTTP/1.1\r\nHost: h\r\n\r\n"),
        .accept(
            "method of all token bytes",
            "!#$%&'*+-.^_`|~09azAZ / HTTP/1.1\r\nHost: h\r\n\r\n",
            .init("!#$%&'*+-.^_`|~09azAZ", "/")
        ),
        .accept(
            "method in lower case is another",
            "get / HTTP/1.1\r\nHost: h\r\n\r\n",
            .init("get", "/")
        ),
        .refuse(
            "method with slash",
            "GE/",
            "invalid-method",
            rest: "T / HTTP/1.1\r\nHost: h\r\n\r\n"
        ),
        .refuse(
            "method with NUL",
            "GE\0",
            "invalid-method",
            rest: " / HTTP/1.1\r\nHost: h\r\n\r\n"
        ),
        .refuse("method with colon", "GET:", "invalid-method", rest: " / HTTP/1.1\r\n\r\n"),
        .refuse("method with tab behind", "GET\t", "invalid-method", rest: "/ HTTP/1.1\r\n\r\n"),
        .refuse("method alone", "GET\r", "invalid-method", rest: "\n\r\n"),
        .refuse("method alone with LF", "GET\n", "bare-lf", rest: "\n"),
        .refuse("a response", "HTTP/", "invalid-method", rest: "1.1 200 OK\r\n\r\n"),
        .refuse("a TLS hello", bytes: [0x16], "invalid-method", rest: "\u{3}\u{1}"),
        .refuse("method with a byte over 127", bytes: [0x47, 0xC3], "invalid-method"),
        .refuse("no target", "GET  ", "invalid-target", rest: "HTTP/1.1\r\nHost: h\r\n\r\n"),
        .refuse("no version", "GET /\r", "invalid-request-line", rest: "\n\r\n"),
        .refuse("no version with LF", "GET /\n", "bare-lf", rest: "\r\n"),
        .refuse("two spaces before version", "GET /  ", "invalid-version", rest: "HTTP/1.1\r\n"),
        .refuse(
            "tab before version",
            "GET /\t",
            "invalid-target",
            rest: "HTTP/1.1\r\nHost: h\r\n\r\n"
        ),
        .refuse("space behind version", "GET / HTTP/1.1 ", "invalid-version", rest: "\r\n\r\n"),
        .refuse("version in lower case", "GET / h", "invalid-version", rest: "ttp/1.1\r\n\r\n"),
        .refuse("another protocol", "GET / HTTPS", "invalid-version", rest: "/1.1\r\n\r\n"),
        .refuse("version without minor", "GET / HTTP/1\r", "invalid-version", rest: "\n\r\n"),
        .refuse("version with comma", "GET / HTTP/1,", "invalid-version", rest: "1\r\n\r\n"),
        .refuse("version with two digits", "GET / HTTP/1.11", "invalid-version"),
        .refuse("version with letter", "GET / HTTP/1.x", "invalid-version"),
        .refuse("version 1.2", "GET / HTTP/1.2", "unsupported-version", status: 505),
        .refuse("version 0.9", "GET / HTTP/0.9", "unsupported-version", status: 505),
        .refuse("version 2.0", "GET / HTTP/2.0", "unsupported-version", status: 505),
        .refuse("version 3.0", "GET / HTTP/3.0", "unsupported-version", status: 505),
        .refuse(
            "HTTP/2 preface",
            "PRI * HTTP/2.0",
            "http2-preface",
            status: 505,
            rest: "\r\n\r\nSM\r\n\r\n"
        ),
        .refuse("PRI with a path", "PRI / HTTP/2.0", "unsupported-version", status: 505),
        .refuse("PRI in HTTP/1.1", "PRI * HTTP/1.1", "invalid-target"),
        .refuse("LF behind version", "GET / HTTP/1.1\n", "bare-lf", rest: "Host: h\n\n"),
        .refuse("CR behind version", "GET / HTTP/1.1\rH", "bare-cr", rest: "ost: h\r\r"),
        .refuse(
            "two CR behind version",
            "GET / HTTP/1.1\r\r",
            "bare-cr",
            rest: "\nHost: h\r\n\r\n"
        ),
    ]

    static let targets: [FramingCase] = [
        .accept(
            "path and query",
            "GET /a/b?c=d?e&f=%20 HTTP/1.1\r\nHost: h\r\n\r\n",
            .init("GET", "/a/b?c=d?e&f=%20")
        ),
        .accept("double slash", "GET //a HTTP/1.1\r\nHost: h\r\n\r\n", .init("GET", "//a")),
        .accept(
            "bytes that URIs escape and clients send",
            "GET /\"<>[]\\^`{|} HTTP/1.1\r\nHost: h\r\n\r\n",
            .init("GET", "/\"<>[]\\^`{|}")
        ),
        .accept(
            "absolute wins over Host",
            "GET http://a.example/x HTTP/1.1\r\nHost: h\r\n\r\n",
            .init("GET", "http://a.example/x", authority: "a.example")
        ),
        .accept(
            "absolute without path",
            "GET HTTPS://a.example:8443 HTTP/1.1\r\nHost: h\r\n\r\n",
            .init("GET", "HTTPS://a.example:8443", authority: "a.example:8443")
        ),
        .accept(
            "absolute with query alone",
            "GET http://[::1]?q HTTP/1.1\r\nHost: h\r\n\r\n",
            .init("GET", "http://[::1]?q", authority: "[::1]")
        ),
        .accept(
            "asterisk",
            "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
            .init("OPTIONS", "*")
        ),
        .accept(
            "authority",
            "CONNECT a.example:443 HTTP/1.1\r\nHost: h\r\n\r\n",
            .init("CONNECT", "a.example:443", authority: "a.example:443")
        ),
        .refuse(
            "asterisk for GET",
            "GET * ",
            "invalid-target",
            rest: "HTTP/1.1\r\nHost: h\r\n\r\n"
        ),
        .refuse("asterisk and more", "OPTIONS *a ", "invalid-target", rest: "HTTP/1.1\r\n\r\n"),
        .refuse("CONNECT with path", "CONNECT /a ", "invalid-target", rest: "HTTP/1.1\r\n\r\n"),
        .refuse("CONNECT without port", "CONNECT a ", "invalid-target", rest: "HTTP/1.1\r\n\r\n"),
        .refuse(
            "CONNECT with empty port",
            "CONNECT a: ",
            "invalid-target",
            rest: "HTTP/1.1\r\n\r\n"
        ),
        .refuse(
            "authority for GET",
            "GET a.example:443 ",
            "invalid-target",
            rest: "HTTP/1.1\r\n\r\n"
        ),
        .refuse("relative path", "GET a/b ", "invalid-target", rest: "HTTP/1.1\r\n\r\n"),
        .refuse("query alone", "GET ?a ", "invalid-target", rest: "HTTP/1.1\r\n\r\n"),
        .refuse("another scheme", "GET ftp://a/ ", "invalid-target", rest: "HTTP/1.1\r\n\r\n"),
        .refuse(
            "scheme without authority",
            "GET http:/a ",
            "invalid-target",
            rest: "HTTP/1.1\r\n\r\n"
        ),
        .refuse("scheme alone", "GET http: ", "invalid-target", rest: "HTTP/1.1\r\n\r\n"),
        .refuse("empty authority", "GET http:///a ", "invalid-target", rest: "HTTP/1.1\r\n\r\n"),
        .refuse("user information", "GET http://u@a/ ", "invalid-target", rest: "HTTP/1.1\r\n\r\n"),
        .refuse("fragment", "GET /a#", "invalid-target", rest: "b HTTP/1.1\r\nHost: h\r\n\r\n"),
        .refuse("NUL in target", "GET /a\0", "invalid-target", rest: "b HTTP/1.1\r\n\r\n"),
        .refuse("DEL in target", "GET /\u{7F}", "invalid-target", rest: " HTTP/1.1\r\n\r\n"),
        .refuse("UTF-8 in target", bytes: Array("GET /".utf8) + [0xC3], "invalid-target"),
        .refuse("space in target", "GET /a b", "invalid-version", rest: " HTTP/1.1\r\n\r\n"),
        .refuse("CR in target", "GET /a\r", "invalid-request-line", rest: "b HTTP/1.1\r\n\r\n"),
    ]

    private static func host(_ name: String, _ value: String) -> FramingCase {
        .refuse(
            "host \(name)",
            "GET / HTTP/1.1\r\nHost: \(value)\r\n",
            "invalid-host",
            rest: "\r\n"
        )
    }

    private static func goodHost(_ name: String, _ value: String) -> FramingCase {
        .accept(
            "host \(name)",
            "GET / HTTP/1.1\r\nHost: \(value)\r\n\r\n",
            .init("GET", "/", authority: value)
        )
    }

    static let hosts: [FramingCase] = [
        .goodHost("with port", "a.example:8080"),
        .goodHost("with empty port", "a.example:"),
        .goodHost("IPv4", "192.0.2.1:80"),
        .goodHost("IPv6", "[2001:db8::1]:80"),
        .goodHost("IPv6 any", "[::]"),
        .goodHost("IPv6 full", "[1:2:3:4:5:6:7:8]"),
        .goodHost("IPv6 ending in zeros", "[1::]"),
        .goodHost("IPv6 with IPv4", "[::ffff:192.0.2.1]"),
        .goodHost("underscore and escapes", "my_model.%7Euser"),
        .host("empty", ""),
        .host("port alone", ":80"),
        .host("with path", "a/b"),
        .host("with scheme", "http://a"),
        .host("with user", "u@a"),
        .host("with space", "a b"),
        .host("with tab", "a\tb"),
        .host("list", "a,b"),
        .host("with quote", "\"a\""),
        .host("with backslash", "a\\b"),
        .host("with UTF-8", "münchen"),
        .host("with half an escape", "a%4"),
        .host("with bad escape", "a%zz"),
        .host("port not a number", "a:http"),
        .host("port with sign", "a:+80"),
        .host("port over 65535", "a:65536"),
        .host("two ports", "a:80:80"),
        .host("IPv6 without brackets", "2001:db8::1"),
        .host("IPv6 unclosed", "[::1"),
        .host("IPv6 with zone", "[fe80::1%25eth0]"),
        .host("IPv6 with text behind", "[::1]a"),
        .host("IPv6 of seven groups", "[1:2:3:4:5:6:7]"),
        .host("IPv6 of nine groups", "[1:2:3:4:5:6:7:8:9]"),
        .host("IPv6 with two gaps", "[1::2::3]"),
        .host("IPv6 with triple colon", "[1:::2]"),
        .host("IPv6 ending in colon", "[1:2:3:4:5:6:7:]"),
        .host("IPv6 with long group", "[12345::]"),
        .host("IPv6 with bad IPv4", "[::256.0.0.1]"),
        .host("IPv6 empty", "[]"),
        .refuse("no host", "GET / HTTP/1.1\r\n\r\n", "missing-host", rest: ""),
        .refuse(
            "no host beside an absolute target",
            "GET http://a/ HTTP/1.1\r\n\r\n",
            "missing-host",
            rest: ""
        ),
        .refuse(
            "two hosts",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n",
            "duplicate-host",
            rest: "\r\n"
        ),
        .refuse(
            "the same host twice",
            "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\nhost: a\r\n",
            "duplicate-host",
            rest: "\r\n"
        ),
        .refuse(
            "bad host beside an absolute target",
            "GET http://a/ HTTP/1.1\r\nHost: a b\r\n",
            "invalid-host",
            rest: "\r\n"
        ),
        .refuse(
            "two hosts in HTTP/1.0",
            "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n",
            "duplicate-host",
            rest: "\r\n"
        ),
    ]

    private static let start = "GET / HTTP/1.1\r\nHost: h\r\n"

    static let fieldSyntax: [FramingCase] = [
        .accept("empty value", start + "X:\r\n\r\n", .init("GET", "/")),
        .accept("value of whitespace", start + "X: \t \r\n\r\n", .init("GET", "/")),
        .accept("whitespace around value", start + "X:\t a\tb \t\r\n\r\n", .init("GET", "/")),
        .accept(
            "name of all token bytes",
            start + "!#$%&'*+-.^_`|~09aZ: v\r\n\r\n",
            .init("GET", "/")
        ),
        .accept("value of UTF-8", start + "X: grüße\r\n\r\n", .init("GET", "/")),
        .accept("colons in value", start + "X: :a::b:\r\n\r\n", .init("GET", "/")),
        .accept(
            "names in any case",
            "POST / HTTP/1.1\r\nhOST: h\r\nCONTENT-length: 2\r\n\r\nok",
            .init("POST", "/", body: "ok")
        ),
        .accept(
            "underscore is another name",
            start + "Content_Length: 5\r\nTransfer_Encoding: chunked\r\n\r\n",
            .init("GET", "/")
        ),
        .refuse("no colon", start + "abc\r", "invalid-field-name", rest: "\n\r\n"),
        .refuse("no name", start + ":", "empty-field-name", rest: " x\r\n\r\n"),
        .refuse("space before colon", start + "X ", "whitespace-before-colon", rest: ": y\r\n\r\n"),
        .refuse("tab before colon", start + "X\t", "whitespace-before-colon", rest: ": y\r\n\r\n"),
        .refuse("obs-fold with space", start + "X: a\r\n ", "obs-fold", rest: "b\r\n\r\n"),
        .refuse("obs-fold with tab", start + "X: a\r\n\t", "obs-fold", rest: "b\r\n\r\n"),
        .refuse(
            "whitespace before the first field",
            "GET / HTTP/1.1\r\n ",
            "obs-fold",
            rest: "Host: h\r\n\r\n"
        ),
        .refuse("NUL in name", start + "X\0", "invalid-field-name", rest: ": y\r\n\r\n"),
        .refuse("DEL in name", start + "X\u{7F}", "invalid-field-name", rest: ": y\r\n\r\n"),
        .refuse("UTF-8 in name", bytes: Array((start + "X").utf8) + [0xC3], "invalid-field-name"),
        .refuse("parenthesis in name", start + "X(", "invalid-field-name", rest: "): y\r\n\r\n"),
        .refuse("slash in name", start + "X/", "invalid-field-name", rest: "Y: y\r\n\r\n"),
        .refuse("at in name", start + "X@", "invalid-field-name", rest: ": y\r\n\r\n"),
        .refuse("quote in name", start + "\"", "invalid-field-name", rest: "X\": y\r\n\r\n"),
        .refuse("CR in name", start + "X\r", "invalid-field-name", rest: "Y: y\r\n\r\n"),
        .refuse("LF in name", start + "X\n", "bare-lf", rest: "Y: y\r\n\r\n"),
        .refuse(
            "vertical tab before a name",
            start + "\u{B}",
            "invalid-field-name",
            rest: "X: y\r\n"
        ),
        .refuse("NUL in value", start + "X: a\0", "invalid-field-value", rest: "b\r\n\r\n"),
        .refuse("control in value", start + "X: a\u{1}", "invalid-field-value", rest: "b\r\n\r\n"),
        .refuse(
            "escape in value",
            start + "X: \u{1B}",
            "invalid-field-value",
            rest: "[31m\r\n\r\n"
        ),
        .refuse("form feed in value", start + "X: a\u{C}", "invalid-field-value", rest: "\r\n\r\n"),
        .refuse("DEL in value", start + "X: a\u{7F}", "invalid-field-value", rest: "\r\n\r\n"),
        .refuse("bare CR in value", start + "X: a\rb", "bare-cr", rest: ": c\r\n\r\n"),
        .refuse("two CR behind value", start + "X: a\r\r", "bare-cr", rest: "\n\r\n"),
        .refuse("bare LF behind value", start + "X: a\n", "bare-lf", rest: "\r\n"),
        .refuse("bare LF in value", start + "X: a b\n", "bare-lf", rest: "Y: c\r\n\r\n"),
        .refuse("bare LF behind colon", start + "X:\n", "bare-lf", rest: "\r\n"),
        .refuse("bare LF for the empty line", start + "\n", "bare-lf", rest: ""),
        .refuse("bare CR for the empty line", start + "\rX", "bare-cr", rest: ": y\r\n\r\n"),
        .wait("no empty line", start),
        .wait("half an empty line", start + "\r"),
        .wait("half a line", start + "X: a"),
    ]
}
