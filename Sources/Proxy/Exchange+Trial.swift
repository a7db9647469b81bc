import Core
import HTTP
import Rollouts
import Traffic

/// What an exchange tells of a rollout. Called only where its variant takes part in one.
extension Exchange {
    /// Records how the last try ended. Called once, when the response is complete or cannot be.
    func recordTrial(_ arm: TrialArm, _ now: Instant) {
        guard let model = self.model, let endpoint = self.endpoint ?? self.lastEndpoint,
            self.status != 101
        else { return }
        // What a client did wrong while it sent its body says nothing about a variant.
        if let error = self.error, error.source != .upstream, error.kind != .clientGone { return }
        var outcome = self.outcome(now)
        outcome.isCopy = self.isShadow
        let findings = self.inspection?.findings()
        if let findings, self.error == nil { Self.add(findings, to: &outcome) }
        let recorder = model.recorder(of: arm.trial)
        recorder.record(outcome, arm, at: endpoint)
        if let pair = self.pair, !outcome.has(.cancelled), self.attempt == 1 {
            let answer = TrialPair.Answer(
                isFailure: outcome.has(.error),
                nanoseconds: now.nanoseconds(since: self.admittedAt),
                hash: findings?.hash
            )
            if self.isShadow { pair.copy = answer } else { pair.stable = answer }
            recorder.record(pair, of: arm.trial)
        }
    }

    /// A try failed and another follows: the variant is judged by the failure, whatever comes of
    /// the request.
    func recordFailedTry(_ kind: UpstreamErrorKind, at endpoint: Endpoint) {
        guard let model = self.model, let arm = self.variant?.trial else { return }
        var outcome = self.blankOutcome
        outcome.insert(.error)
        outcome.isFailure = true
        if kind == .connectTimeout { outcome.insert(.timeout) }
        model.recorder(of: arm.trial).record(outcome, arm, at: endpoint)
    }

    private var blankOutcome: TrialOutcome {
        var outcome = TrialOutcome()
        outcome.isCompared = self.attempt == 1 && !self.hasChosenVariant
        outcome.stratum = PromptStratum.index(
            tokens: Int(clamping: self.bodyTotal) / PromptStratum.bytesPerToken
        )
        return outcome
    }

    private func outcome(_ now: Instant) -> TrialOutcome {
        var outcome = self.blankOutcome
        if let error = self.error {
            switch error.kind {
            case .clientGone: outcome.insert(.cancelled)
            case .connectTimeout, .firstByteTimeout, .upstreamTimeout, .streamIdleTimeout:
                outcome.insert(.timeout)
                outcome.insert(.error)
                outcome.isFailure = true
            default:
                outcome.insert(.error)
                outcome.isFailure = true
            }
            return outcome
        }
        // Bad requests reach both arms alike, so that more refusals by one of them mean something.
        if self.status >= 400 {
            outcome.insert(.error)
            outcome.isFailure = self.status >= 500 || self.status == 429
            return outcome
        }
        self.addTimes(to: &outcome, now)
        return outcome
    }

    private func addTimes(to outcome: inout TrialOutcome, _ now: Instant) {
        outcome.latencyNanoseconds = now.nanoseconds(since: self.arrivedAt)
        let usage = self.observer.finalUsage()
        let tokens = usage?.completion ?? self.observer.contentEvents
        if usage != nil || tokens > 0 { outcome.outputTokens = tokens }
        guard let first = self.firstContentAt else { return }
        outcome.firstTokenNanoseconds = first.nanoseconds(since: self.arrivedAt)
        guard tokens > 1, let last = self.observer.lastContentAt else { return }
        outcome.perTokenNanoseconds = last.nanoseconds(since: first) / UInt64(tokens - 1)
    }

    private static func add(_ findings: AnswerInspection.Findings, to outcome: inout TrialOutcome) {
        if findings.isRefused { outcome.insert(.refused) }
        if findings.isInvalidJSON { outcome.insert(.invalidJSON) }
        if findings.isEmpty { outcome.insert(.emptyOutput) }
        if findings.isTruncated { outcome.insert(.truncatedOutput) }
        guard findings.isMalformed else { return }
        outcome.insert(.error)
        outcome.isFailure = true
        outcome.latencyNanoseconds = nil
    }

    // MARK: Answers

    /// Keeps what the answer says, where the rollout asks for it.
    func beginInspection(_ arm: TrialArm, _ head: ResponseHead, _ bytes: RawSpan) {
        guard arm.trial.inspectsAnswers, head.status == 200, self.canRead(head, bytes) else {
            return
        }
        var format = AnswerInspection.Format.other
        if let field = head.first(.contentType) {
            let type = bytes.slice(field.valueRange)
            if type.hasPrefix("text/event-stream") {
                format = .eventStream
            } else if type.hasPrefix("application/json") {
                format = .json
            }
        }
        self.inspection = AnswerInspection(
            style: self.style,
            format: format,
            asksForJSON: self.style == .openAI
                && (self.plainBody.map { AnswerInspection.asksForJSON($0.readable) } ?? false)
        )
    }

    /// Compares this request's answer with its copy's, where this one goes to the old variant and
    /// the copy to the new, or to the old once more.
    func pairUp(with copy: Exchange, _ choice: EndpointChoice) {
        guard let arm = self.variant?.trial, arm.arm == .stable,
            let other = choice.route.trial?.arm
        else { return }
        let pair = TrialPair(isBaseline: other == .stable)
        self.pair = pair
        copy.pair = pair
    }
}
