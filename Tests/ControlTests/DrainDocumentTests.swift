import Core
import HTTPService
import Testing

@testable import Control

@Suite struct DrainDocumentTests {
    private func bytes(_ write: (inout JSONWriter) -> Void) -> [UInt8] {
        let buffer = ByteBuffer(capacity: 64)
        var writer = JSONWriter(buffer)
        write(&writer)
        return buffer.readable.withUnsafeBytes { Array($0) }
    }

    @Test func readsWhatItWrites() throws {
        let request = DrainRequest(endpoints: ["a", "b\"c"], seconds: 15)
        #expect(try DrainRequest(self.bytes(request.write).span.bytes) == request)
        let answer = DrainAnswer(generation: 7, drained: ["a"])
        #expect(try DrainAnswer(self.bytes(answer.write)) == answer)
    }

    @Test(arguments: [
        "", "[]", "{}", #"{"endpoints":[]}"#, #"{"seconds":1}"#,
        #"{"endpoints":[],"seconds":0}"#, #"{"endpoints":[],"seconds":3601}"#,
        #"{"endpoints":[1],"seconds":1}"#, #"{"endpoints":"a","seconds":1}"#,
        #"{"endpoints":[],"seconds":1,"more":1}"#, #"{"endpoints":[],"seconds":1}x"#,
    ])
    func refusesRequestsThatAreNone(_ text: String) {
        #expect(throws: JSONError.self) {
            try DrainRequest(Array(text.utf8).span.bytes)
        }
    }

    @Test func boundsTheNumberOfEndpoints() {
        let many = DrainRequest(
            endpoints: (0...DrainRequest.endpointsMax).map { "\($0)" },
            seconds: 1
        )
        let bytes = self.bytes(many.write)
        #expect(throws: JSONError.self) { try DrainRequest(bytes.span.bytes) }
    }

    @Test(arguments: ["", "{}", #"{"drained":[1]}"#, #"{"drained":[],"generation":"x"}"#])
    func refusesAnswersThatAreNone(_ text: String) {
        #expect(throws: JSONError.self) { try DrainAnswer(Array(text.utf8)) }
    }
}
