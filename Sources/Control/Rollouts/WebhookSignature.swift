import Core
import Digests
import Foundation
import Kubernetes

/// Signs webhooks as Standard Webhooks has it (specification 1.0.0): HMAC with SHA-256 over the
/// request's identity, its time and its content, so that who gets it can tell that it is ours, new
/// and unchanged.
struct WebhookSignature {
    static let fileBytesMax = 4_096
    /// Shorter keys can be found by trying.
    static let keyBytesMin = 16
    /// So many sign beside each other, for the time in which one is replaced by another.
    static let keysMax = 4
    /// What stands before a key that is written in base64.
    static let prefix = "whsec_"

    private let keys: [[UInt8]]

    /// Reads the file anew for each call: keys are replaced on disk.
    init(file: String) throws(WebhookKeyError) {
        let bytes: [UInt8]
        switch LocalFile.read(file) {
        case .success(let read): bytes = read
        case .failure(let problem):
            throw WebhookKeyError("the key file \(file) cannot be read: \(problem.reason)")
        }
        guard bytes.count <= Self.fileBytesMax else {
            throw WebhookKeyError("\(file) has more than \(Self.fileBytesMax) bytes")
        }
        do throws(WebhookKeyError) {
            try self.init(String(decoding: bytes, as: UTF8.self))
        } catch {
            throw WebhookKeyError("\(file) \(error)")
        }
    }

    /// - Parameter text: a key in each line that is not empty: `whsec_` and base64, or any text,
    ///   which is taken as it is.
    init(_ text: String) throws(WebhookKeyError) {
        var keys: [[UInt8]] = []
        for line in text.split(whereSeparator: \.isNewline) {
            let word = line.trimmingCharacters(in: .whitespaces)
            if !word.isEmpty { keys.append(try Self.key(word)) }
        }
        guard !keys.isEmpty else { throw WebhookKeyError("has no key") }
        guard keys.count <= Self.keysMax else {
            throw WebhookKeyError("has more than \(Self.keysMax) keys")
        }
        self.keys = keys
    }

    private static func key(_ word: String) throws(WebhookKeyError) -> [UInt8] {
        var key = Array(word.utf8)
        if word.hasPrefix(Self.prefix) {
            guard let data = Data(base64Encoded: String(word.dropFirst(Self.prefix.count))) else {
                throw WebhookKeyError("has a key that is not base64 behind `\(Self.prefix)`")
            }
            key = Array(data)
        }
        guard key.count >= Self.keyBytesMin else {
            throw WebhookKeyError("has a key of less than \(Self.keyBytesMin) bytes")
        }
        return key
    }

    /// The same for a call that is repeated, and another one for every other call. The model's name
    /// may have dots, which part what is signed.
    static func id(model: String, rollout: Int, call: Int) -> String {
        let model = Digests.sha256(Array(model.utf8)).prefix(8).map { byte in
            (byte < 16 ? "0" : "") + String(byte, radix: 16)
        }
        return "\(model.joined())-\(rollout)-\(call)"
    }

    /// - Parameter seconds: since 1970, now.
    func fields(id: String, seconds: Int, body: [UInt8]) -> [(name: String, value: String)] {
        let signed = Array("\(id).\(seconds).".utf8) + body
        let signatures = self.keys.map { key in
            "v1," + Data(Digests.hmacSHA256(key: key, signed)).base64EncodedString()
        }
        return [
            ("webhook-id", id), ("webhook-timestamp", "\(seconds)"),
            ("webhook-signature", signatures.joined(separator: " ")),
        ]
    }
}

/// Why there is no key to sign with.
struct WebhookKeyError: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) {
        self.description = description
    }
}
