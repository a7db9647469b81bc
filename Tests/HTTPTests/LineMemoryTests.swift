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
            #expect(ParserInvariants.requestHead(bytes, after: known) == nil)
        }
    }

    /// Longer than what is kept, with one line that differs in its last byte.
    @Test func aLongHeadReadsTheSame() {
        let lines = (0..<90).map { "X-\($0): \(String(repeating: "v", count: 60))\r\n" }.joined()
        let long = "GET / HTTP/1.1\r\nHost: h\r\n\(lines)\r\n"
        for other in [long, Self.request, String(long.dropLast(5)) + "w\r\n\r\n"] {
            #expect(ParserInvariants.requestHead(Array(long.utf8), after: Array(other.utf8)) == nil)
        }
    }
}
