import Core
import Foundation
import HTTP
import Testing

@Suite struct ModelPathTests {
    @Test(arguments: [
        ("/v2/models/digits", "digits", ""),
        ("/v2/models/digits/infer", "digits", "/infer"),
        ("/v2/models/digits/versions/1/infer", "digits", "/versions/1/infer"),
        ("/v2/models/a:b/ready", "a:b", "/ready"),
        ("/v1/models/digits", "digits", ""),
        ("/v1/models/digits:predict", "digits", ":predict"),
        ("/v1/models/digits:explain", "digits", ":explain"),
        ("/v1/models/ft:base:team", "ft:base:team", ""),
        ("/v1/models/org/name:predict", "org/name", ":predict"),
        ("/v1/models/digits:predict:predict", "digits:predict", ":predict"),
    ])
    func findsTheName(path: String, name: String, rest: String) throws {
        let bytes = Array("<<\(path)>>".utf8)
        let range = ByteRange(start: 2, count: UInt32(path.utf8.count))
        let parsed = ModelPath(bytes.span.bytes, path: range)
        let found = try #require(parsed)
        #expect(bytes.text(found.name) == name)
        #expect(bytes.text(found.rest) == rest)
        #expect(!found.isEncoded)
        #expect(found.api == (path.hasPrefix("/v1") ? .v1 : .v2))
    }

    @Test(arguments: [
        "/", "/v2/models", "/v2/models/", "/v2/models//infer", "/v1/models/", "/v1/models/:predict",
        "/v3/models/a", "/V2/models/a", "/v2/model/a", "/v2/models/a%", "/v2/models/a%4/infer",
        "/v2/models/a%zz", "/v2/models/a%00", "/v2/models/%0d%0a", "/v2/models/a%7F", "",
    ])
    func findsNoNameWhereThereIsNone(path: String) {
        let bytes = Array(path.utf8)
        let range = ByteRange(start: 0, count: UInt32(bytes.count))
        let parsed = ModelPath(bytes.span.bytes, path: range)
        #expect(parsed == nil)
    }

    @Test(arguments: [
        ("/v2/models/a%20b/infer", "a b"), ("/v1/models/org%2Fname:predict", "org/name"),
        ("/v2/models/%C3%a9", "é"), ("/v2/models/%2541", "%41"),
    ])
    func decodesEscapesOnce(path: String, name: String) throws {
        let bytes = Array(path.utf8)
        let range = ByteRange(start: 0, count: UInt32(bytes.count))
        let parsed = ModelPath(bytes.span.bytes, path: range)
        let found = try #require(parsed)
        #expect(found.isEncoded)
        let decoded = PercentEncoding.decode(bytes.span.bytes, found.name)
        #expect(decoded.map { String(decoding: $0, as: UTF8.self) } == name)
    }

    @Test(arguments: ["%", "a%", "%4", "%g1", "%1g", "%%41"])
    func refusesHalfEscapes(text: String) {
        let bytes = Array(text.utf8)
        let range = ByteRange(start: 0, count: UInt32(bytes.count))
        let decoded = PercentEncoding.decode(bytes.span.bytes, range)
        #expect(decoded == nil)
    }

    @Test(arguments: [
        ("/a/b", false), ("/a/../b", true), ("/a/./b", true), ("/..", true), ("/.", true),
        ("/a..b", false), ("/...", false), ("/.a", false), ("/%2e%2E/a", true), ("/.%2e", true),
        ("/%2", false), ("/%2ea", false), ("/", false), ("//", false), ("/a/%2e", true),
    ])
    func seesDotSegments(path: String, expected: Bool) {
        let bytes = Array(path.utf8)
        let range = ByteRange(start: 0, count: UInt32(bytes.count))
        let hasDots = RequestPath.hasDotSegments(bytes.span.bytes, range)
        #expect(hasDots == expected)
    }
}

@Suite struct HTTPDateTests {
    private let buffer = ByteBuffer(capacity: 32)

    @Test(arguments: [
        (Int64(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT"),
        (0, "Thu, 01 Jan 1970 00:00:00 GMT"), (-1, "Wed, 31 Dec 1969 23:59:59 GMT"),
        (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
        (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        (HTTPDate.range.lowerBound, "Sat, 01 Jan 0000 00:00:00 GMT"),
        (HTTPDate.range.upperBound, "Fri, 31 Dec 9999 23:59:59 GMT"),
        (.max, "Fri, 31 Dec 9999 23:59:59 GMT"), (.min, "Sat, 01 Jan 0000 00:00:00 GMT"),
    ])
    func writesKnownDates(seconds: Int64, expected: String) {
        HTTPDate.write(secondsSince1970: seconds, into: self.buffer)
        #expect(self.buffer.text == expected)
        #expect(self.buffer.count == HTTPDate.byteCount)
    }

    /// Foundation's calendar as the judge, over eight centuries.
    @Test func agreesWithFoundation() {
        let formatter = DateFormatter()
        formatter.locale = Locale(identifier: "en_US_POSIX")
        formatter.timeZone = TimeZone(identifier: "GMT")
        formatter.dateFormat = "EEE, dd MMM yyyy HH:mm:ss 'GMT'"
        var random = RandomSource(seed: 1)
        for _ in 0..<2000 {
            let seconds = Int64.random(in: -11_000_000_000...15_000_000_000, using: &random)
            self.buffer.removeAll()
            HTTPDate.write(secondsSince1970: seconds, into: self.buffer)
            let expected = formatter.string(from: Date(timeIntervalSince1970: Double(seconds)))
            #expect(self.buffer.text == expected, "\(seconds)")
        }
    }
}
