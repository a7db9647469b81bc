import Core
import Foundation
import HTTP
import Testing

@Suite struct ErrorTests {
    private let buffer = ByteBuffer(capacity: 16)

    @Test func labelsAreUniqueAndKebabCase() {
        let labels = ProxyError.Kind.allCases.map(\.label.description)
        #expect(Set(labels).count == labels.count)
        for label in labels { #expect(label.allSatisfy { $0.isLowercase || $0 == "-" }) }
    }

    @Test(arguments: ProxyError.Kind.allCases)
    func statusSuitsTheSource(_ kind: ProxyError.Kind) {
        let error = ProxyError(kind)
        switch error.source {
        case .client:
            #expect((400..<500).contains(error.status) || [501, 505].contains(error.status))
        case .upstream: #expect([502, 504].contains(error.status))
        case .gateway: #expect([429, 500, 503].contains(error.status))
        }
        #expect(error.needsRetryAfter == [429, 503].contains(error.status))
        if error.source != .upstream { #expect(error.retryable == .no) }
    }

    @Test(arguments: [
        (RequestError.head(.bareLineFeed), ProxyError.Kind.badRequest, UInt16(400)),
        (.head(.tooManyFields), .headersTooLarge, 431), (.targetTooLong, .targetTooLong, 414),
        (.unknownExpectation, .expectationFailed, 417), (.methodTooLong, .notImplemented, 501),
        (.head(.unsupportedTransferCoding), .notImplemented, 501),
        (.http2Preface, .versionNotSupported, 505),
    ])
    func requestErrorsKeepTheirStatus(error: RequestError, kind: ProxyError.Kind, status: UInt16) {
        let proxyError = ProxyError(error)
        #expect(proxyError.kind == kind)
        #expect(error.status == status)
        #expect(proxyError.status == status)
        #expect(proxyError.detail?.label.description == error.label.description)
        #expect(proxyError.message.description == error.message.description)
    }

    /// No head error may come out of the one mapping with another status than it says.
    @Test(arguments: HeadError.allCases)
    func headErrorsKeepTheirStatus(_ error: HeadError) {
        #expect(ProxyError(RequestError.head(error)).status == RequestError.head(error).status)
        #expect(ProxyError(ResponseError.head(error)).status == 502)
    }

    @Test(arguments: BodyError.allCases)
    func bodyErrorsKeepTheirStatus(_ error: BodyError) {
        if error != .truncated { #expect(ProxyError(requestBody: error).status == error.status) }
        let response = ProxyError(responseBody: error)
        #expect(response.status == 502)
        #expect((response.kind == .upstreamTruncated) == (error == .truncated))
    }

    @Test(arguments: ProxyError.Kind.allCases)
    func openAIBodiesAreJSON(_ kind: ProxyError.Kind) throws {
        ErrorBody.write(ProxyError(kind), style: .openAI, into: self.buffer)
        let object = try JSONSerialization.jsonObject(with: Data(self.buffer.bytes))
        let error = try #require((object as? [String: Any])?["error"] as? [String: Any])
        #expect(error["message"] as? String == kind.message.description)
        #expect((error["type"] as? String)?.hasSuffix("_error") == true)
        #expect(error["code"] is String)
        let isAboutModel = [
            .noModel, .unknownModel, .ambiguousModel, .modelForbidden,
        ].contains(kind)
        #expect((error["param"] as? String) == (isAboutModel ? "model" : nil))
        #expect(error.keys.contains("param"))
    }

    @Test func openAINamesTheModelError() {
        ErrorBody.write(
            ProxyError(.unknownModel),
            style: .openAI,
            message: "There is no model \"x\".",
            into: self.buffer
        )
        let expected = """
            {"error":{"message":"There is no model \\"x\\".","type":"invalid_request_error",\
            "param":"model","code":"model_not_found"}}

            """
        #expect(self.buffer.text == expected)
    }

    @Test func openInferenceHasOneString() {
        ErrorBody.write(ProxyError(.draining), style: .openInference, into: self.buffer)
        #expect(self.buffer.text == "{\"error\":\"The gateway is shutting down: try again.\"}\n")
    }

    /// Every scalar below 0x800 and some above, alone and between others, survives the round trip.
    @Test func untrustedTextSurvivesJSON() throws {
        var texts = (UInt32(0)..<0x800).compactMap { Unicode.Scalar($0) }.map { "a\($0)b" }
        texts += ["\u{2028}", "👩‍🔬", "\"}],\\", String(repeating: "\\\"", count: 50), ""]
        texts.append(String(decoding: [0xFF, 0xC0, 0x80, 0x41], as: UTF8.self))
        for text in texts {
            self.buffer.removeAll()
            ErrorBody.write(
                ProxyError(.badRequest),
                style: .openInference,
                message: text,
                into: self.buffer
            )
            let object = try JSONSerialization.jsonObject(with: Data(self.buffer.bytes))
            #expect((object as? [String: String])?["error"] == text)
            #expect(self.buffer.bytes.dropLast().allSatisfy { $0 >= 0x20 && $0 != 0x7F })
        }
    }

    @Test(arguments: ErrorBody.Style.allCases)
    func longMessagesAreCut(_ style: ErrorBody.Style) {
        let text = String(repeating: "é", count: ErrorBody.maxMessageBytes)
        ErrorBody.write(ProxyError(.badRequest), style: style, message: text, into: self.buffer)
        #expect(self.buffer.count < ErrorBody.maxMessageBytes + 200)
        #expect(String(validating: self.buffer.bytes, as: UTF8.self) != nil)
    }

    @Test func plainTextCannotDriveATerminal() {
        ErrorBody.write(
            ProxyError(.badRequest),
            style: .plain,
            message: "a\u{1B}[31m\r\nb",
            into: self.buffer
        )
        #expect(self.buffer.text == "a [31m  b\n")
    }
}
