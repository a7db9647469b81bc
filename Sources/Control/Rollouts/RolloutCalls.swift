import Configuration
import Core
import Curl
import EventLoop
import Rollouts
import Scraping

/// What rollouts ask of the outside: webhooks, and Prometheus servers for custom metrics. Bounded
/// by their timeouts; what comes after `close` is dropped.
final class RolloutCalls {
    /// Of a webhook's answer, for people.
    private static let answerBytesMax = 64 << 10

    private let loop: EventLoop
    private var client: CurlClient?
    private var isOpen = false

    init(loop: EventLoop) {
        self.loop = loop
    }

    deinit {
        self.client?.close()
    }

    func open() { self.isOpen = true }

    func close() {
        self.isOpen = false
        self.client?.close()
        self.client = nil
    }

    private func liveClient() -> CurlClient {
        if let client = self.client { return client }
        let client = CurlClient(loop: self.loop)
        self.client = client
        return client
    }

    func call(
        _ webhook: WebhookCall,
        of model: String,
        completion: @escaping (WebhookAnswer) -> Void
    ) {
        guard self.isOpen else { return }
        var request = CurlRequest(webhook.url)
        request.method = "POST"
        request.fields = [("Content-Type", "application/json")]
        request.body = WebhookDocument.bytes(webhook, model: model)
        request.totalTimeout = .milliseconds(max(1, webhook.timeoutMilliseconds))
        request.responseBytesMax = Self.answerBytesMax
        request.allowsHTTP2 = false
        if let file = webhook.keyFile {
            do throws(WebhookKeyError) {
                let signature = try WebhookSignature(file: file)
                request.fields += signature.fields(
                    id: WebhookSignature.id(
                        model: model,
                        rollout: webhook.rollout,
                        call: webhook.id
                    ),
                    seconds: Int(EventLoop.readWallClock()),
                    body: request.body
                )
            } catch {
                // Never without the signature that was asked for.
                return self.answerLater(.failed("it cannot be signed: \(error)"), completion)
            }
        }
        self.liveClient().fetch(request) { [weak self] result in
            guard let self, self.isOpen else { return }
            completion(WebhookDocument.answer(result))
        }
    }

    /// Not within the call: who asked has not finished what it was doing.
    private func answerLater(
        _ answer: WebhookAnswer,
        _ completion: @escaping (WebhookAnswer) -> Void
    ) {
        let bound = LoopBound((calls: Weak(self), completion: completion), loop: self.loop)
        self.loop.post {
            let (calls, completion) = bound.value
            if calls.object?.isOpen ?? false { completion(answer) }
        }
    }

    /// Measures a metric of a policy; one that is not there, or is no custom one, has no answer.
    func measure(
        _ metric: Int,
        of policy: RolloutPolicySpec,
        completion: @escaping (CustomMetric.Result) -> Void
    ) {
        guard self.isOpen, policy.analysis.metrics.indices.contains(metric) else { return }
        let plan = policy.analysis.metrics[metric]
        guard let source = plan.source, let server = source.server,
            case .custom(let custom) = plan.plan.test
        else { return }
        let target = QueryTarget(server: "\(server)", query: source.query)
        let request = InstantQuery.request(target, timeout: custom.timeout)
        self.liveClient().fetch(request) { [weak self] result in
            guard let self, self.isOpen else { return }
            switch InstantQuery.read(result) {
            case .value(let value): completion(.value(value))
            case .noValue: completion(.noValue)
            case .error(let why): completion(.error(why))
            }
        }
    }
}

extension Configuration {
    /// The rollout policy that a model goes by.
    func rolloutPolicy(of model: ModelResource) -> RolloutPolicySpec? {
        guard let name = model.spec.rolloutPolicy else { return nil }
        return self.rolloutPolicy(name, namespace: model.metadata.namespace)?.spec
    }
}
