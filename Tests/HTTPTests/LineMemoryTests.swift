import HTTP
import TestSupport
import Testing

/// A parser recognises lines of the head before; each head still means what it says by itself.
@Suite struct LineMemoryTests {
    /// Reads `second` with a parser that has read `first`.
    private static func read(
        _ second: String,
        after first: String,
        _ limits: HeadLimits = HeadLimits()
    ) -> (ParseStep<RequestError>, RequestHead) {
        let head = RequestHead()
        let firstBytes = Array(first.utf8)
        #expect(head.parse(firstBytes.span.bytes, limits: HeadLimits()).isComplete)
        head.reset()
        let bytes = Array(second.utf8)
        return (head.parse(bytes.span.bytes, limits: limits), head)
    }

    private static let lines = "POST /a/b HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n"
    private static let last = "X-A: 1\r\n\r\n"
    private static var request: String { Self.lines + Self.last }

    @Test func whatConnectionNamedIsForgotten() {
        let fields = "Host: h\r\nX-A: 1\r\n"
        let named = "GET / HTTP/1.1\r\n\(fields)Connection: x-a\r\n\r\n"
        let plain = "GET / HTTP/1.1\r\n\(fields)Connection: close\r\n\r\n"
        let (_, after) = Self.read(plain, after: named)
        #expect(after.fields.map(\.isHopByHop) == [false, false, true])
        let (_, before) = Self.read(named, after: plain)
        #expect(before.fields.map(\.isHopByHop) == [false, true, true])
    }

    @Test func knownLinesAreHeldAgainstTheLimitsOfNow() {
        let fields = Self.read(Self.request, after: Self.request, HeadLimits(maxFields: 2)).0
        guard case .invalid(.head(.tooManyFields)) = fields else {
            Issue.record("\(fields)")
            return
        }
        let target = Self.read(Self.request, after: Self.request, HeadLimits(maxTargetBytes: 3)).0
        guard case .invalid(.targetTooLong) = target else {
            Issue.record("\(target)")
            return
        }
        let size = HeadLimits(maxHeadBytes: Self.request.utf8.count - 1)
        let whole = Self.read(Self.request, after: Self.request, size).0
        guard case .invalid(.head(.headTooLarge)) = whole else {
            Issue.record("\(whole)")
            return
        }
    }

    @Test(arguments: [
        "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n", "X B: 1\r\n", "X-B : 1\r\n",
        "X-B: 1\n", " X-B: 1\r\n", "Host: i\r\n", ": 1\r\n", "X-B: \u{1}\r\n", "\r", "\n",
    ])
    func aBadLineAmongKnownOnesIsSeen(line: String) {
        for bad in [Self.lines + line + Self.last, Self.lines + Self.last.dropLast() + line] {
            let step = Self.read(bad + "\r\n", after: Self.request).0
            guard case .invalid = step else {
                Issue.record("\(step) for \(bad)")
                continue
            }
            let bytes = Array(bad.utf8)
            let known = Array(Self.request.utf8)
            #expect(ParserInvariants.head(RequestHead.self, bytes, after: known) == nil)
        }
    }

    /// Longer than what is kept, with one line that differs in its last byte.
    @Test func aLongHeadReadsTheSame() {
        let lines = (0..<90).map { "X-\($0): \(String(repeating: "v", count: 60))\r\n" }.joined()
        let long = "GET / HTTP/1.1\r\nHost: h\r\n\(lines)\r\n"
        for other in [long, Self.request, String(long.dropLast(5)) + "w\r\n\r\n"] {
            #expect(
                ParserInvariants.head(RequestHead.self, Array(long.utf8), after: Array(other.utf8))
                    == nil
            )
        }
    }

    /// A section that comes again as a whole is not read line by line; it means the same, and no
    /// more than it says by itself.
    @Test func aSectionThatComesAgainMeansTheSame() {
        let sections = [
            "Host: h\r\nContent-Length: 5\r\nX-A: 1\r\n\r\n",
            "Host: h\r\nTransfer-Encoding: chunked\r\n\r\n",
            "Host: h\r\nX-A: 1\r\nConnection: x-a, close\r\nExpect: 100-continue\r\n\r\n",
            "Host: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", "\r\n",
            "Host: h\r\n\r\n",
        ]
        let lines = [
            "POST /a HTTP/1.1\r\n", "POST /b HTTP/1.1\r\n", "POST /longer HTTP/1.1\r\n",
            "POST /a HTTP/1.0\r\n", "GET http://i/a HTTP/1.1\r\n",
        ]
        for (first, second) in lines.flatMap({ line in lines.map { (line, $0) } }) {
            for (known, section) in sections.flatMap({ part in sections.map { (part, $0) } }) {
                let broken = ParserInvariants.head(
                    RequestHead.self,
                    Array((second + section).utf8),
                    after: Array((first + known).utf8)
                )
                #expect(broken == nil, "\(second + section) after \(first + known)")
            }
        }
    }

    /// One head after the other through one parser, each against a new one: what a head that was
    /// refused, or came in pieces, has left behind is seen by nobody.
    @Test func headsAmongBadOnesReadAsIfAlone() {
        let good = Self.request
        let bad = Self.lines + "Content-Length: 6\r\n" + Self.last
        let order = [good, good, bad, good, good, String(good.dropLast(3)), good, good]
        let parser = RequestHead()
        for text in order {
            let bytes = Array(text.utf8)
            parser.reset()
            let step = parser.parse(bytes.span.bytes, limits: HeadLimits())
            let alone = RequestHead()
            let other = alone.parse(bytes.span.bytes, limits: HeadLimits())
            #expect("\(step)" == "\(other)")
            guard step.isComplete else { continue }
            #expect(parser.fields == alone.fields)
            #expect(parser.framing == alone.framing && parser.keepsAlive == alone.keepsAlive)
            #expect(parser.authorityRange == alone.authorityRange)
        }
    }
}
