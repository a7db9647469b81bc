import Core
import HTTP
import TestSupport
import Testing

/// Random input. Seeds are fixed, so that a failure repeats; it says its seed.
@Suite struct RandomTests {
    static let seeds = Array<UInt64>(1...24)

    @Test(arguments: Self.seeds)
    func mutatedRequestsKeepTheInvariants(seed: UInt64) {
        var mutator = Mutator(seed: seed)
        for framing in FramingCase.all {
            let bytes = mutator.mutate(framing.bytes)
            let violation =
                ParserInvariants.requestHead(bytes)
                ?? ParserInvariants.head(RequestHead.self, bytes, after: framing.bytes)
            #expect(violation == nil, "seed \(seed), from '\(framing)': \(bytes)")
        }
    }

    @Test(arguments: Self.seeds)
    func mutatedResponsesKeepTheInvariants(seed: UInt64) {
        var mutator = Mutator(seed: seed)
        for response in ResponseCase.all {
            let bytes = mutator.mutate(response.bytes)
            let violation =
                ParserInvariants.responseHead(bytes)
                ?? ParserInvariants.head(ResponseHead.self, bytes, after: response.bytes)
            #expect(violation == nil, "seed \(seed), from '\(response)': \(bytes)")
        }
    }

    @Test(arguments: Self.seeds)
    func mutatedChunksKeepTheInvariants(seed: UInt64) {
        var mutator = Mutator(seed: seed)
        for framing in FramingCase.bodies {
            let separator = Array("\r\n\r\n".utf8)
            guard let start = framing.bytes.firstRange(of: separator)?.upperBound else { continue }
            let bytes = mutator.mutate(Array(framing.bytes[start...]))
            let violation = ParserInvariants.chunkedBody(bytes)
            #expect(violation == nil, "seed \(seed), from '\(framing)': \(bytes)")
        }
    }

    /// The unmutated table keeps them too; if it did not, mutations would prove nothing.
    @Test(arguments: FramingCase.all)
    func tableKeepsTheInvariants(framing: FramingCase) {
        #expect(ParserInvariants.requestHead(framing.bytes) == nil)
    }

    @Test(arguments: Self.seeds)
    func generatedRequestsReadAsGenerated(seed: UInt64) {
        var generator = RequestGenerator(seed: seed)
        let head = RequestHead()
        for _ in 0..<100 {
            let request = generator.next()
            head.reset()
            let step = head.parse(request.bytes.span.bytes, limits: HeadLimits())
            guard case .complete(let count) = step else {
                Issue.record("seed \(seed): \(step) for \(request.text)")
                continue
            }
            let bytes = request.bytes
            #expect(count == bytes.count)
            #expect(bytes.text(head.methodRange) == request.method)
            #expect(bytes.text(head.targetRange) == request.target)
            #expect(head.framing == request.framing, "seed \(seed)")
            let fields = head.fields.map { [bytes.text($0.nameRange), bytes.text($0.valueRange)] }
            #expect(fields == request.fields, "seed \(seed)")
        }
    }
}

/// Valid requests with everything that may vary varied.
struct RequestGenerator {
    struct Request {
        var method = ""
        var target = ""
        var fields: [[String]] = []
        var framing = RequestFraming.none
        var text = ""
        var bytes: [UInt8] { Array(self.text.utf8) }
    }

    private var random: RandomSource

    init(seed: UInt64) {
        self.random = RandomSource(seed: seed)
    }

    mutating func next() -> Request {
        var request = Request()
        request.method = self.pick(["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "QUERY"])
        request.target = "/" + self.word("abc/%?&=._~!$'()*+,;:@|", 0...40)
        request.fields = (0..<self.number(0...12)).map { _ in
            // X- keeps random names from being one that means something.
            ["X-" + self.word("abcXYZ019-_.!#~", 1...20), self.value()]
        }
        self.insert(["hOsT", "h\(self.number(0...9)):80"], into: &request)
        switch self.number(0...2) {
        case 0: break
        case 1:
            let length = UInt64(self.number(1...1_000_000))
            request.framing = .length(length)
            self.insert(["content-LENGTH", "\(length)"], into: &request)
        default:
            request.framing = .chunked
            self.insert(["Transfer-Encoding", self.pick(["chunked", "CHUNKED"])], into: &request)
        }
        request.text = "\(request.method) \(request.target) HTTP/1.1\r\n"
        for field in request.fields {
            let before = self.word(" \t", 0...3)
            let behind = self.word(" \t", 0...3)
            request.text += "\(field[0]):\(before)\(field[1])\(behind)\r\n"
        }
        request.text += "\r\n"
        return request
    }

    private mutating func insert(_ field: [String], into request: inout Request) {
        request.fields.insert(field, at: self.number(0...request.fields.count))
    }

    /// A value without whitespace at its ends.
    private mutating func value() -> String {
        let inner = self.word("ab \t,;:\"\\=é(){}", 0...60)
        return self.number(0...5) == 0 ? "" : "<" + inner + ">"
    }

    private mutating func number(_ range: ClosedRange<Int>) -> Int {
        Int.random(in: range, using: &self.random)
    }

    private mutating func pick(_ choices: [String]) -> String {
        choices[self.number(0...(choices.count - 1))]
    }

    private mutating func word(_ alphabet: String, _ count: ClosedRange<Int>) -> String {
        let letters = Array(alphabet)
        return String(
            (0..<self.number(count)).map { _ in letters[self.number(0...(letters.count - 1))] }
        )
    }
}
