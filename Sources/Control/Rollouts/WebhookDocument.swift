import Core
import Curl
import HTTPService
import Rollouts

/// A webhook's request and its answer.
enum WebhookDocument {
    static func bytes(_ call: WebhookCall, model: String) -> [UInt8] {
        let buffer = ByteBuffer(capacity: 512)
        var writer = JSONWriter(buffer)
        writer.object {
            $0.member("model", model)
            $0.member("when", call.moment.rawValue)
            // The same when a call is repeated.
            $0.member("id", call.id)
            $0.member("rollout", call.rollout)
            $0.member("stable", call.stable.name)
            $0.member("canary", call.canary?.name ?? "")
            $0.member("step", call.step + 1)
            $0.member("weight", call.weight)
            $0.member("message", call.message)
        }
        return buffer.readable.withUnsafeBytes { Array($0) }
    }

    static func answer(_ result: Result<CurlResponse, CurlError>) -> WebhookAnswer {
        switch result {
        case .failure(let error): .failed("\(error)")
        case .success(let response) where response.head.isSuccess: .accepted
        case .success(let response): .denied(Self.reason(response))
        }
    }

    private static func reason(_ response: CurlResponse) -> String {
        let text = String(response.text.prefix(160)).split(separator: "\n").first ?? ""
        return text.isEmpty ? "status \(response.status)" : "status \(response.status), \(text)"
    }
}
