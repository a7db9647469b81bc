import HTTP

/// A response head and what must become of it.
package struct ResponseCase: Sendable, CustomStringConvertible {
    package var name: String
    package var bytes: [UInt8]
    package var method: HTTPMethod
    /// The status and framing of a good one.
    package var status: UInt16
    package var framing: ResponseFraming?
    package var keepsAlive: Bool
    /// The label of a refusal, and the bytes that suffice for it.
    package var label: String?
    package var proofCount: Int?

    package var description: String { self.name }

    private static func accept(
        _ name: String,
        _ text: String,
        _ status: UInt16,
        _ framing: ResponseFraming,
        to method: HTTPMethod = .get,
        keepsAlive: Bool = true
    ) -> Self {
        Self(
            name: name,
            bytes: Array(text.utf8),
            method: method,
            status: status,
            framing: framing,
            keepsAlive: keepsAlive
        )
    }

    private static func refuse(
        _ name: String,
        _ proof: String,
        _ label: String,
        rest: String = "\r\n\r\n"
    ) -> Self {
        Self(
            name: name,
            bytes: Array((proof + rest).utf8),
            method: .get,
            status: 0,
            framing: nil,
            keepsAlive: false,
            label: label,
            proofCount: proof.utf8.count
        )
    }

    private static let success = "HTTP/1.1 200 OK\r\n"

    package static let all: [ResponseCase] = Self.good + Self.bad

    private static let good: [ResponseCase] = [
        .accept("length", success + "Content-Length: 5\r\n\r\n", 200, .length(5)),
        .accept("length 0", success + "Content-Length: 0\r\n\r\n", 200, .length(0)),
        .accept("chunked", success + "Transfer-Encoding: chunked\r\n\r\n", 200, .chunked),
        .accept("until close", success + "\r\n", 200, .untilClose),
        .accept("no reason", "HTTP/1.1 200 \r\n\r\n", 200, .untilClose),
        .accept("no reason and no space", "HTTP/1.1 200\r\n\r\n", 200, .untilClose),
        .accept("reason of words and UTF-8", "HTTP/1.1 299 très bien\t!\r\n\r\n", 299, .untilClose),
        .accept("status of no name", "HTTP/1.1 599 x\r\n\r\n", 599, .untilClose),
        .accept("HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\n", 200, .untilClose, keepsAlive: false),
        .accept(
            "HTTP/1.0 kept alive",
            "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\n",
            200,
            .length(1)
        ),
        .accept(
            "close",
            success + "Connection: close\r\nContent-Length: 1\r\n\r\n",
            200,
            .length(1),
            keepsAlive: false
        ),
        .accept("continue", "HTTP/1.1 100 Continue\r\n\r\n", 100, .none),
        .accept("early hints", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 103, .none),
        .accept(
            "early hints with length",
            "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n",
            103,
            .none,
            keepsAlive: false
        ),
        .accept(
            "switch",
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
            101,
            .tunnel
        ),
        .accept("204", "HTTP/1.1 204 No Content\r\n\r\n", 204, .none),
        .accept(
            "204 with length",
            "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
            204,
            .none,
            keepsAlive: false
        ),
        .accept(
            "204 with length 0",
            "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
            204,
            .none
        ),
        .accept(
            "204 with chunked",
            "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
            204,
            .none,
            keepsAlive: false
        ),
        .accept(
            "304 with length",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
            304,
            .none
        ),
        .accept("HEAD with length", success + "Content-Length: 5\r\n\r\n", 200, .none, to: .head),
        .accept(
            "HEAD with chunked",
            success + "Transfer-Encoding: chunked\r\n\r\n",
            200,
            .none,
            to: .head
        ),
        .accept("CONNECT", success + "Content-Length: 5\r\n\r\n", 200, .tunnel, to: .connect),
        .accept(
            "CONNECT refused",
            "HTTP/1.1 403 No\r\nContent-Length: 5\r\n\r\n",
            403,
            .length(5),
            to: .connect
        ),
    ]

    private static let bad: [ResponseCase] = [
        .refuse("garbage", "\u{16}", "invalid-status-line", rest: "\u{3}"),
        .refuse("empty line first", "\r", "invalid-status-line", rest: "\n" + success + "\r\n"),
        .refuse("a request", "G", "invalid-status-line", rest: "ET / HTTP/1.1\r\n\r\n"),
        .refuse("HTTP/2", "HTTP/2.0", "invalid-version", rest: " 200 OK\r\n\r\n"),
        .refuse("HTTP/1.2", "HTTP/1.2", "invalid-version", rest: " 200 OK\r\n\r\n"),
        .refuse("version without minor", "HTTP/1 ", "invalid-status-line", rest: "200 OK\r\n\r\n"),
        .refuse("ICY", "I", "invalid-status-line", rest: "CY 200 OK\r\n\r\n"),
        .refuse("no status", "HTTP/1.1\r", "invalid-status-line", rest: "\n\r\n"),
        .refuse("two spaces", "HTTP/1.1  ", "invalid-status", rest: "200 OK\r\n\r\n"),
        .refuse("status of two digits", "HTTP/1.1 20 ", "invalid-status", rest: "OK\r\n\r\n"),
        .refuse("status of four digits", "HTTP/1.1 2000", "invalid-status", rest: " OK\r\n\r\n"),
        .refuse("status under 100", "HTTP/1.1 0", "invalid-status", rest: "99 OK\r\n\r\n"),
        .refuse("status over 599", "HTTP/1.1 6", "invalid-status", rest: "00 OK\r\n\r\n"),
        .refuse("status with sign", "HTTP/1.1 -", "invalid-status", rest: "200 OK\r\n\r\n"),
        .refuse("status and letter", "HTTP/1.1 200x", "invalid-status-line"),
        .refuse("reason with NUL", "HTTP/1.1 200 \0", "invalid-reason"),
        .refuse("reason with bare LF", "HTTP/1.1 200 OK\n", "bare-lf"),
        .refuse("status with bare LF", "HTTP/1.1 200\n", "bare-lf"),
        .refuse("reason with bare CR", "HTTP/1.1 200 OK\rx", "bare-cr"),
        .refuse("obs-fold", success + "X: a\r\n ", "obs-fold", rest: "b\r\n\r\n"),
        .refuse("space before colon", success + "X ", "whitespace-before-colon", rest: ": a\r\n"),
        .refuse(
            "length and chunked",
            success + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "content-length-with-transfer-encoding"
        ),
        .refuse(
            "two lengths",
            success + "Content-Length: 5\r\nContent-Length: 5\r\n",
            "duplicate-content-length"
        ),
        .refuse("bad length", success + "Content-Length: 5,5\r\n", "invalid-content-length"),
        .refuse("gzip", success + "Transfer-Encoding: gzip\r\n", "invalid-transfer-encoding"),
        .refuse(
            "gzip, chunked",
            success + "Transfer-Encoding: gzip, chunked\r\n",
            "unsupported-transfer-coding"
        ),
        .refuse(
            "chunked in HTTP/1.0",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n",
            "transfer-encoding-in-http10"
        ),
    ]
}
