import Glibc
import Testing

@testable import Control

@Suite struct WebhookSignatureTests {
    private static let key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

    private func signatures(_ text: String) throws -> String? {
        let fields = try WebhookSignature(text).fields(
            id: "msg_p5jXN8AQM9LWM0D4loKWxJek",
            seconds: 1_614_265_330,
            body: Array(#"{"test": 2432232314}"#.utf8)
        )
        #expect(fields.map(\.name) == ["webhook-id", "webhook-timestamp", "webhook-signature"])
        #expect(fields[0].value == "msg_p5jXN8AQM9LWM0D4loKWxJek")
        #expect(fields[1].value == "1614265330")
        return fields.last?.value
    }

    /// The example that Standard Webhooks publishes.
    @Test func isTheOneOfTheStandard() throws {
        let signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        #expect(try self.signatures(Self.key) == signature)
        #expect(try self.signatures("\r\n  \(Self.key) \r\n\n") == signature)
        // While a key is replaced, both sign.
        let both = try #require(try self.signatures("\(Self.key)\na sentence is a key as well\n"))
        #expect(both.hasPrefix("\(signature) v1,"))
        #expect(both.split(separator: " ").count == 2)
    }

    @Test(arguments: [
        ("", "has no key"), (" \n\n", "has no key"),
        ("too short", "has a key of less than 16 bytes"),
        ("whsec_c2hvcnQ=", "has a key of less than 16 bytes"),
        ("whsec_%%%", "has a key that is not base64 behind `whsec_`"),
        (String(repeating: "0123456789abcdef\n", count: 5), "has more than 4 keys"),
    ])
    func refusesWhatIsNoKey(_ text: String, _ reason: String) {
        let error = #expect(throws: WebhookKeyError.self) { try WebhookSignature(text) }
        #expect(error?.description == reason)
    }

    @Test func namesTheFile() throws {
        let folder = try TemporaryFolder()
        let missing = #expect(throws: WebhookKeyError.self) {
            try WebhookSignature(file: "\(folder.path)/none")
        }
        #expect(
            missing?.description
                == "the key file \(folder.path)/none cannot be read: No such file or directory"
        )
        // A pipe, which a blocking read would wait for.
        #expect(mkfifo("\(folder.path)/pipe", 0o600) == 0)
        let pipe = #expect(throws: WebhookKeyError.self) {
            try WebhookSignature(file: "\(folder.path)/pipe")
        }
        #expect(pipe?.description.hasSuffix("cannot be read: it is no file") == true)
        try folder.write("short", "abc")
        let short = #expect(throws: WebhookKeyError.self) {
            try WebhookSignature(file: "\(folder.path)/short")
        }
        #expect(short?.description == "\(folder.path)/short has a key of less than 16 bytes")
        try folder.write("long", String(repeating: "a", count: 5_000))
        let long = #expect(throws: WebhookKeyError.self) {
            try WebhookSignature(file: "\(folder.path)/long")
        }
        #expect(long?.description == "\(folder.path)/long has more than 4096 bytes")
    }

    @Test func everyCallHasAnIdentityOfItsOwn() {
        let first = WebhookSignature.id(model: "llama-3.1", rollout: 3, call: 7)
        #expect(first == WebhookSignature.id(model: "llama-3.1", rollout: 3, call: 7))
        #expect(first.hasSuffix("-3-7") && !first.contains("."))
        #expect(first != WebhookSignature.id(model: "llama-3.2", rollout: 3, call: 7))
        #expect(first != WebhookSignature.id(model: "llama-3.1", rollout: 3, call: 8))
    }
}
