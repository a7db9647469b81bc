import HTTP
import TestSupport
import Testing

@Suite struct ResponseHeadTests {
    @Test(arguments: ResponseCase.all)
    func wholeInputGivesTheExpectedResponse(_ response: ResponseCase) {
        let head = ResponseHead()
        Self.check(head.parse(response.bytes.span.bytes, limits: HeadLimits()), head, response)
    }

    @Test(arguments: ResponseCase.all)
    func byteByByteGivesTheSame(_ response: ResponseCase) {
        let head = ResponseHead()
        let guardBytes = Array("\r\n\r\n".utf8)
        for count in 0...response.bytes.count {
            let padded = response.bytes[..<count] + guardBytes
            let input = Array(padded)
            let step = head.parse(input.span.bytes.extracting(0..<count), limits: HeadLimits())
            if case .needMore = step {
                #expect(count < response.proofCount ?? response.bytes.count, "too late")
                continue
            }
            #expect(count == response.proofCount ?? response.bytes.count)
            Self.check(step, head, response)
            break
        }
    }

    private static func check(
        _ step: ParseStep<ResponseError>,
        _ head: ResponseHead,
        _ response: ResponseCase
    ) {
        switch step {
        case .needMore:
            Issue.record("needs more")
        case .complete(let count):
            #expect(count == response.bytes.count)
            #expect(head.status == response.status)
            #expect(head.framing(requestMethod: response.method) == response.framing)
            #expect(head.keepsAlive == response.keepsAlive)
        case .invalid(let error):
            #expect(error.label.description == response.label)
            #expect(error.status == 502)
        }
    }

    @Test func isReusableAfterAResponseAndAfterAnError() {
        let head = ResponseHead()
        for response in ResponseCase.all + ResponseCase.all.reversed() {
            head.reset()
            Self.check(head.parse(response.bytes.span.bytes, limits: HeadLimits()), head, response)
        }
    }

    @Test func repeatsItsAnswer() {
        let bytes = Array("HTTP/1.1 200 OK\r\n\r\n".utf8)
        let head = ResponseHead()
        for _ in 0..<2 {
            guard case .complete(19) = head.parse(bytes.span.bytes, limits: HeadLimits()) else {
                Issue.record("not complete")
                return
            }
        }
    }

    @Test func refusesAHeadOverItsLimit() {
        let bytes = Array("HTTP/1.1 200 OK\r\nX: y\r\n\r\n".utf8)
        let head = ResponseHead()
        let exact = head.parse(bytes.span.bytes, limits: HeadLimits(maxHeadBytes: bytes.count))
        guard case .complete = exact else {
            Issue.record("a head of exactly the limit was refused")
            return
        }
        head.reset()
        let less = head.parse(bytes.span.bytes, limits: HeadLimits(maxHeadBytes: bytes.count - 1))
        guard case .invalid(.head(.headTooLarge)) = less else {
            Issue.record("a head over the limit was accepted")
            return
        }
    }
}
