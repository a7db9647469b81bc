import Core
import HTTP
import Testing

/// What heads say about content codings.
@Suite struct ContentCodingTests {
    // MARK: Requests

    @Test(arguments: [
        ("gzip", ContentCodings.known([.gzip])), ("zstd", .known([.zstd])),
        ("X-GZip", .known([.gzip])), ("ZSTD", .known([.zstd])), ("identity", .known([])),
        ("", .known([])), (" , ,", .known([])), ("gzip, zstd", .known([.gzip, .zstd])),
        ("gzip,identity,gzip\t,zstd", .known([.gzip, .gzip, .zstd])),
        ("gzip, gzip, gzip, gzip", .unknown), ("br", .unknown), ("gzip, br", .unknown),
        ("gzip;q=1", .unknown), ("g zip", .unknown), ("deflate", .unknown),
    ])
    func codingsAreReadInTheirOrder(value: String, expected: ContentCodings) throws {
        let (head, bytes) = try Self.request("Content-Encoding: \(value)\r\n")
        #expect(ContentCodings.of(head.fields, bytes.span.bytes) == expected)
    }

    @Test func severalFieldsAreOneList() throws {
        let (head, bytes) = try Self.request(
            "Content-Encoding: gzip\r\nX: zstd\r\nContent-Encoding: zstd\r\n"
        )
        #expect(ContentCodings.of(head.fields, bytes.span.bytes) == .known([.gzip, .zstd]))
    }

    @Test(arguments: [
        (UInt64?.some(12), "Content-Length: 12"), (nil, "Transfer-Encoding: chunked"),
    ])
    func decodedRequestsSayNothingOfCodings(length: UInt64?, framing: String) throws {
        let (head, bytes) = try Self.request(
            "Content-Encoding: gzip\r\nA: b\r\nContent-Length: 5\r\nExpect: 100-continue\r\n"
        )
        let output = ByteBuffer(capacity: 16)
        DecodedRequest.writeHead(head, bytes.span.bytes, length: length, into: output)
        #expect(
            output.text
                == "POST /a HTTP/1.1\r\nHost: h\r\nA: b\r\nExpect: 100-continue\r\n"
                + "\(framing)\r\n\r\n"
        )
    }

    // MARK: Accept-Encoding

    @Test(arguments: [
        ("gzip", ContentCoding?.some(.gzip)), ("zstd", .zstd), ("gzip, zstd", .zstd),
        ("gzip, deflate, br, zstd", .zstd), ("gzip, deflate", .gzip), ("*", .zstd),
        ("gzip;q=1.0, zstd;q=0.9", .gzip), ("gzip;q=0.5, zstd;q=0.5", .zstd),
        ("zstd;q=0, *", .gzip), ("zstd;q=0, *;q=0.1", .gzip), ("gzip;q=0", nil),
        ("identity", nil), ("", nil), ("br", nil), ("*;q=0", nil), ("identity;q=0, *", .zstd),
        ("identity, gzip;q=0.5", nil), ("identity;q=0.5, gzip", .gzip), ("identity, gzip", .gzip),
        ("GZIP;Q=0.001", .gzip), ("gzip;q=0.000", nil), ("gzip ; q=0.8", .gzip),
        ("gzip;q=1.", .gzip), ("gzip;q=1.001", nil), ("gzip;q=2", nil), ("gzip;q=-1", nil),
        ("gzip;q=", nil), ("gzip;x=1", nil), ("gzip;q=0.1234", nil), ("gzip;q", nil), (";q=1", nil),
        ("x-gzip", .gzip), ("gzip;q=0, gzip;q=1", .gzip), ("gzipp, xzstd", nil),
        (",,gzip,,", .gzip),
    ])
    func theBestAcceptedCodingIsTaken(value: String, expected: ContentCoding?) throws {
        let (head, bytes) = try Self.request("Accept-Encoding: \(value)\r\n")
        #expect(AcceptedCodings(head.fields, bytes.span.bytes).preferred == expected)
    }

    @Test func severalAcceptFieldsAreOneList() throws {
        let (head, bytes) = try Self.request(
            "Accept-Encoding: zstd;q=0.1\r\nAccept-Encoding: gzip\r\n"
        )
        #expect(AcceptedCodings(head.fields, bytes.span.bytes).preferred == .gzip)
    }

    // MARK: Answers

    static let json = "Content-Type: application/json\r\n"

    @Test(arguments: [
        ("200 OK", Self.json, AnswerCompression.Verdict.negotiated),
        ("200 OK", "Content-Type: application/json; charset=utf-8\r\n", .negotiated),
        ("200 OK", "Content-Type: Text/Plain\r\n", .negotiated),
        ("200 OK", "Content-Type: application/problem+json\r\n", .negotiated),
        ("404 Not Found", Self.json, .negotiated), ("200 OK", "", .never),
        ("200 OK", "Content-Type: image/png\r\n", .never),
        ("200 OK", "Content-Type: application/octet-stream\r\n", .never),
        ("200 OK", "Content-Type: application/grpc+proto\r\n", .never),
        ("200 OK", "Content-Type: text/event-stream\r\n", .never),
        ("206 Partial Content", Self.json + "Content-Range: bytes 0-9/20\r\n", .never),
        ("204 No Content", Self.json, .never), ("304 Not Modified", Self.json, .never),
        ("200 OK", Self.json + "Content-Encoding: br\r\n", .never),
        ("200 OK", Self.json + "Content-Encoding: identity\r\n", .negotiated),
        ("200 OK", Self.json + "Cache-Control: private, No-Transform\r\n", .never),
        ("200 OK", Self.json + "Cache-Control: no-store\r\n", .negotiated),
        ("200 OK", Self.json + "Content-Digest: sha-256=:x:\r\n", .never),
        ("200 OK", Self.json + "Content-Length: 1023\r\n", .never),
        ("200 OK", Self.json + "Content-Length: 1024\r\n", .negotiated),
    ])
    func someAnswersAreWorthIt(
        status: String,
        fields: String,
        expected: AnswerCompression.Verdict
    ) throws {
        #expect(try Self.verdict(status, fields, streams: false) == expected)
    }

    @Test func streamsAreAskedForByThemselves() throws {
        let stream = "Content-Type: text/event-stream\r\n"
        #expect(try Self.verdict("200 OK", stream, streams: true) == .negotiated)
        #expect(try Self.verdict("200 OK", stream, answers: false, streams: true) == .negotiated)
        #expect(try Self.verdict("200 OK", Self.json, answers: false, streams: true) == .never)
    }

    @Test func answersToHeadAreNotTouched() throws {
        let (head, bytes) = try Self.response("200 OK", Self.json)
        let verdict = AnswerCompression.verdict(
            head,
            bytes.span.bytes,
            framing: head.framing(requestMethod: .head),
            streams: true,
            bytesMin: 0
        )
        #expect(verdict == .never)
    }

    @Test(arguments: [
        ("ETag: \"a\"\r\n", "ETag: W/\"a\"\r\nContent-Encoding: zstd\r\nVary: Accept-Encoding\r\n"),
        (
            "ETag: W/\"a\"\r\n",
            "ETag: W/\"a\"\r\nContent-Encoding: zstd\r\nVary: Accept-Encoding\r\n"
        ),
        ("Content-Length: 9\r\n", "Content-Encoding: zstd\r\nVary: Accept-Encoding\r\n"),
        ("Vary: Origin\r\n", "Vary: Origin\r\nContent-Encoding: zstd\r\nVary: Accept-Encoding\r\n"),
        ("Vary: *\r\n", "Vary: *\r\nContent-Encoding: zstd\r\n"),
        ("Vary: a, accept-ENCODING\r\n", "Vary: a, accept-ENCODING\r\nContent-Encoding: zstd\r\n"),
        (
            "A: b\r\nAccept-Ranges: bytes\r\nC: d\r\n",
            "A: b\r\nC: d\r\nContent-Encoding: zstd\r\nVary: Accept-Encoding\r\n"
        ),
    ])
    func headsOfCompressedAnswers(fields: String, expected: String) throws {
        #expect(
            try Self.written(fields, .zstd) == "HTTP/1.1 200 Fine\r\n" + Self.json + expected
                + "\r\n"
        )
    }

    @Test func headsOfAnswersThatCouldHaveBeen() throws {
        let fields = "ETag: \"a\"\r\nContent-Length: 9\r\nAccept-Ranges: bytes\r\n"
        #expect(
            try Self.written(fields, nil)
                == "HTTP/1.1 200 Fine\r\n\(Self.json)\(fields)Vary: Accept-Encoding\r\n\r\n"
        )
    }

    // MARK: Helpers

    static func request(_ fields: String) throws -> (RequestHead, [UInt8]) {
        let bytes = Array("POST /a HTTP/1.1\r\nHost: h\r\n\(fields)\r\n".utf8)
        let head = RequestHead()
        try #require(head.parse(bytes.span.bytes, limits: HeadLimits()).isComplete)
        return (head, bytes)
    }

    static func response(_ status: String, _ fields: String) throws -> (ResponseHead, [UInt8]) {
        let bytes = Array("HTTP/1.1 \(status)\r\n\(fields)\r\n".utf8)
        let head = ResponseHead()
        try #require(head.parse(bytes.span.bytes, limits: HeadLimits()).isComplete)
        return (head, bytes)
    }

    static func verdict(
        _ status: String,
        _ fields: String,
        answers: Bool = true,
        streams: Bool
    ) throws -> AnswerCompression.Verdict {
        let (head, bytes) = try self.response(status, fields)
        return AnswerCompression.verdict(
            head,
            bytes.span.bytes,
            framing: head.framing(requestMethod: .post),
            answers: answers,
            streams: streams,
            bytesMin: 1024
        )
    }

    static func written(_ fields: String, _ coding: ContentCoding?) throws -> String {
        let (head, bytes) = try self.response("200 Fine", self.json + fields)
        let output = ByteBuffer(capacity: 16)
        AnswerCompression.writeHead(head, bytes.span.bytes, coding: coding, into: output)
        return output.text
    }
}
