import Core
import EventLoop
import HTTP
import Traffic

/// What a request is to its tenant; only where there are tenants.
struct Tenancy {
    let tenant: TenantRoute
    /// Bytes of the body, where the head says so.
    let declaredBytes: UInt64
    /// It asks a model to work.
    let isInference: Bool
    /// Tokens it was admitted with; nil before it was.
    var charged: Int?
    /// Of these, the prompt's.
    var promptTokens = 0
    var readings = RateReadings()
    /// What its place in a queue was claimed with.
    var claim = AdmissionClaim.common
}

extension Exchange {
    /// JSON bytes per token of a prompt, about.
    private static let bytesPerToken: UInt64 = 4
    /// How much more a token of an answer weighs than one of a prompt when tenants take turns
    /// (Sheng et al., OSDI 2024).
    private static let answerWeight = 2
    /// Tokens one request is taken to have at most.
    private static let chargedTokensMax = 100_000_000

    // MARK: Who

    /// Finds out whose request it is. False where it is nobody's, and has been refused.
    func authorise(
        _ tenants: TenantDirectory,
        _ decision: RoutingDecision,
        _ head: RequestHead,
        _ bytes: RawSpan
    ) -> Bool {
        var isProbe = false
        // Probes of the gateway itself ask without a key; a call may turn out to be about a model.
        if case .fleet(let endpoint) = decision.target, endpoint == .live || endpoint == .ready {
            if self.call == nil { return true }
            isProbe = true
        }
        switch tenants.find(head, bytes) {
        case .tenant(let tenant):
            var declared: UInt64 = 0
            if case .length(let length) = head.framing { declared = length }
            let operation = decision.operation
            self.tenancy = Tenancy(
                tenant: tenant,
                declaredBytes: declared,
                isInference: operation != .metadata && operation != .readiness
            )
            return true
        case .noKey where isProbe, .unknownKey where isProbe:
            return true
        case .noKey:
            self.fail(ProxyError(.unauthorized))
        case .unknownKey:
            let message: StaticString = "The API key is not known here."
            self.fail(
                ProxyError(.unauthorized, detail: .init(label: "invalid-key", message: message))
            )
        }
        return false
    }

    /// Whether the request's tenant may use the model; if not, it has been refused.
    func isAllowed(_ model: WorkerModel) -> Bool {
        guard let tenant = self.tenancy?.tenant, !tenant.mayUse(model.route) else { return true }
        tenant.shared.count(.forbidden)
        self.fail(ProxyError(.modelForbidden))
        return false
    }

    // MARK: How much

    /// Charges the tenant with what the request may cost. False where that is beyond its limits,
    /// and the request has been refused.
    func charge(_ model: WorkerModel) -> Bool {
        guard var tenancy = self.tenancy, tenancy.charged == nil else { return true }
        let shared = tenancy.tenant.shared
        var answerTokens = 0
        if tenancy.isInference {
            let bytes = self.plainBytes(declared: tenancy.declaredBytes)
            tenancy.promptTokens = Int(
                min(
                    bytes / Self.bytesPerToken + 1,
                    UInt64(Self.chargedTokensMax)
                )
            )
            if self.style == .openAI {
                let limit = self.answerLimit() ?? shared.expectedAnswerTokens
                answerTokens = min(limit, Self.chargedTokensMax)
            }
        }
        let tokens = tenancy.promptTokens + answerTokens
        let (outcome, readings) = shared.request(tokens: tokens, now: self.now)
        tenancy.readings = readings
        tenancy.claim = AdmissionClaim(
            priority: tenancy.tenant.priority,
            flow: tenancy.tenant.hash,
            work: Self.work(tenancy.promptTokens, answerTokens)
        )
        if case .admitted = outcome { tenancy.charged = tokens }
        self.tenancy = tenancy
        guard case .refused(let limit, let wait) = outcome else { return true }
        self.retryAfterNanoseconds = wait
        self.fail(ProxyError(.rateLimited, detail: Self.detail(limit)))
        return false
    }

    private static func work(_ prompt: Int, _ answer: Int) -> Int {
        prompt + self.answerWeight * answer
    }

    private static func detail(_ limit: TenantMeter.Limit) -> ProxyError.Detail {
        switch limit {
        case .requests:
            .init(
                label: "requests-limit",
                message: "The limit of requests per second is reached: try again later."
            )
        case .tokens:
            .init(
                label: "tokens-limit",
                message: "The limit of tokens per minute is reached: try again later."
            )
        case .concurrency:
            .init(
                label: "concurrency-limit",
                message: "The limit of requests at a time is reached: try again later."
            )
        }
    }

    /// The most tokens the request lets its answer have, as far as its body has arrived.
    private func answerLimit() -> Int? {
        guard let body = self.plainBody else { return nil }
        // A prefix that is being hashed needs the scanner's state no more: it was taken.
        self.scanner.reset(needs: .maxTokens, stopsEarly: true)
        _ = self.scanner.scan(body.readable)
        return self.scanner.maxTokens
    }

    /// Settles what the request did cost. Called once, when it ends.
    func settleTenant(_ now: Instant) {
        guard let tenancy = self.tenancy, let charged = tenancy.charged else { return }
        let cost = self.cost(tenancy, charged)
        tenancy.tenant.shared.ended(charged: charged, cost: cost, now: now)
        guard self.queuedAt != .zero, self.admittedAt != .zero, let model = self.model else {
            return
        }
        let answer = max(0, cost.total - tenancy.promptTokens)
        let work = Self.work(cost.total - answer, answer)
        model.route.shared.settle(tenancy.claim, by: work - tenancy.claim.work)
    }

    /// By the server's count where it gave one; by the events of a stream without; what never
    /// reached a replica, or was refused by it, costs nothing.
    private func cost(_ tenancy: Tenancy, _ charged: Int) -> TenantCost {
        var cost = TenantCost()
        if self.sentAt == .zero || (self.status >= 400 && !self.isClientGone) { return cost }
        if let usage = self.observer.finalUsage() {
            let prompt = max(0, usage.prompt)
            let answer = max(0, usage.completion)
            cost.total =
                min(prompt, Self.chargedTokensMax) + min(answer, Self.chargedTokensMax)
            cost.answer = answer
            cost.counted = (prompt, answer)
        } else if self.observer.contentEvents > 0 {
            let answer = self.observer.contentEvents
            cost.total = tenancy.promptTokens + answer
            cost.answer = answer
            cost.counted = (0, answer)
        } else if self.isClientGone {
            cost.total = tenancy.promptTokens
        } else {
            cost.total = charged
        }
        return cost
    }

    // MARK: What the client is told

    /// `x-ratelimit-…` as OpenAI writes them: what the limit is, what is left, and when nothing is
    /// used any more.
    func writeRateFields(_ readings: RateReadings, into output: ByteBuffer) {
        if let reading = readings.requests {
            Self.write(reading, "requests", into: output)
        }
        if let reading = readings.tokens {
            Self.write(reading, "tokens", into: output)
        }
    }

    private static func write(
        _ reading: TenantMeter.Reading,
        _ what: StaticString,
        into output: ByteBuffer
    ) {
        for (name, value) in [
            ("X-RateLimit-Limit-" as StaticString, reading.limit),
            ("X-RateLimit-Remaining-", reading.remaining),
        ] {
            output.append(name)
            output.append(what)
            output.append(": ")
            output.append(decimal: UInt64(clamping: value))
            output.append("\r\n")
        }
        output.append("X-RateLimit-Reset-")
        output.append(what)
        output.append(": ")
        output.append(decimal: (reading.resetNanoseconds + 999_999) / 1_000_000)
        output.append("ms\r\n")
    }

    /// The models that the request's tenant may use: all of them without tenants.
    var visibleModels: [ModelRoute] {
        let models = self.worker.snapshot.models.compactMap { $0 }
        guard let tenant = self.tenancy?.tenant else { return models }
        return models.filter(tenant.mayUse)
    }

    /// The names of the models that the request's tenant may use, as the end of a sentence.
    var knownNames: String {
        let snapshot = self.worker.snapshot
        guard let tenant = self.tenancy?.tenant, tenant.models != nil else {
            return snapshot.knownNames
        }
        return TrafficSnapshot.sentence(snapshot.models.filter { $0.map(tenant.mayUse) ?? false })
    }
}
