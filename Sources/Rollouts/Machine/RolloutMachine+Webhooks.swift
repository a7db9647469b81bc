import Core

/// Webhooks: gates that are asked before a rollout goes on, and notices that nobody waits for.
///
/// Every wait is bounded. A webhook that hangs counts as one without an answer once its timeout is
/// over; one that denies is asked again every few seconds; either way the rollout pauses, and says
/// which webhook keeps it, when the tries or the progress deadline are used up.
extension RolloutMachine {
    /// Beyond the webhook's own timeout, for the shell to report it.
    static let webhookGraceMilliseconds = 2_000
    static let webhookRetryMilliseconds = 10_000
    /// Tries without an answer.
    package static let webhookAttemptsMax = 5
    package static let noticeAttemptsMax = 3
    /// The call number of a gate that is open.
    private static let openCall = -1

    // MARK: Gates

    /// Whether all webhooks of a moment have accepted; asks the first, or the next, if not.
    mutating func passGate(_ moment: WebhookPlan.Moment, _ elapsed: Int) -> Bool {
        if self.status.gate?.moment != moment {
            self.status.gate = nil
            guard let first = self.webhook(moment, after: -1) else { return true }
            self.ask(moment, first)
            return false
        }
        if self.status.gate?.call == Self.openCall {
            self.status.gate = nil
            return true
        }
        self.passGateTime(elapsed)
        return false
    }

    private func webhook(_ moment: WebhookPlan.Moment, after index: Int) -> Int? {
        let webhooks = self.spec.plan?.webhooks ?? []
        return webhooks.indices.first { $0 > index && webhooks[$0].moment == moment }
    }

    private mutating func ask(_ moment: WebhookPlan.Moment, _ index: Int) {
        let id = self.takeID()
        self.status.gate = WebhookGate(moment: moment, webhook: index, call: id)
        self.callGate()
    }

    private mutating func callGate() {
        guard let gate = self.status.gate, gate.call > 0, let webhooks = self.spec.plan?.webhooks,
            webhooks.indices.contains(gate.webhook)
        else { return }
        self.actions.append(.callWebhook(self.call(gate.call, webhooks[gate.webhook])))
    }

    private func call(_ id: Int, _ webhook: WebhookPlan) -> WebhookCall {
        WebhookCall(
            id: id,
            moment: webhook.moment,
            url: webhook.url,
            timeoutMilliseconds: webhook.timeout.millisecondsClamped,
            keyFile: webhook.keyFile,
            rollout: self.status.rollout,
            stable: self.status.stable,
            canary: self.status.canary,
            step: self.status.step,
            weight: self.canaryWeight,
            message: self.status.message
        )
    }

    private mutating func passGateTime(_ elapsed: Int) {
        self.status.gate?.waitedMilliseconds += elapsed
        self.status.gate?.totalMilliseconds += elapsed
        guard let gate = self.status.gate, let webhooks = self.spec.plan?.webhooks else { return }
        guard webhooks.indices.contains(gate.webhook) else {
            // The plan has changed and the webhook is gone.
            self.status.gate = nil
            return
        }
        let webhook = webhooks[gate.webhook]
        if gate.totalMilliseconds >= self.progressDeadline.millisecondsClamped {
            self.pause(.webhook, "the webhook \(webhook.url) did not agree in time")
        } else if gate.call == 0 {
            if gate.waitedMilliseconds >= Self.webhookRetryMilliseconds { self.askAgain() }
        } else {
            let limit = webhook.timeout.millisecondsClamped + Self.webhookGraceMilliseconds
            if gate.waitedMilliseconds >= limit {
                let seconds = webhook.timeout.secondsAsDouble.shortText
                self.gateAnswered(.failed("no answer within \(seconds) s"))
            }
        }
    }

    private mutating func askAgain() {
        self.status.gate?.waitedMilliseconds = 0
        let id = self.takeID()
        self.status.gate?.call = id
        self.callGate()
    }

    private mutating func gateAnswered(_ answer: WebhookAnswer) {
        guard let gate = self.status.gate, let webhooks = self.spec.plan?.webhooks,
            webhooks.indices.contains(gate.webhook)
        else { return }
        let url = webhooks[gate.webhook].url
        switch answer {
        case .accepted:
            if let next = self.webhook(gate.moment, after: gate.webhook) {
                self.ask(gate.moment, next)
            } else {
                self.status.gate?.call = Self.openCall
                self.status.message = ""
            }
        case .denied(let text):
            self.status.message = "the webhook \(url) says no: \(Self.short(text))"
            self.waitAndAskAgain()
        case .failed(let text):
            self.status.message = "the webhook \(url) failed: \(Self.short(text))"
            if gate.attempts >= Self.webhookAttemptsMax {
                self.pause(.webhook, self.status.message)
            } else {
                self.status.gate?.attempts += 1
                self.waitAndAskAgain()
            }
        }
    }

    private mutating func waitAndAskAgain() {
        self.record(.webhook, self.status.message)
        self.status.gate?.call = 0
        self.status.gate?.waitedMilliseconds = 0
    }

    private static func short(_ text: String) -> String { String(text.prefix(200)) }

    // MARK: Answers

    mutating func webhookAnswered(_ call: Int, _ answer: WebhookAnswer) {
        if call > 0, self.status.gate?.call == call {
            self.gateAnswered(answer)
        } else if let index = self.status.notices.firstIndex(where: { $0.call.id == call }) {
            if case .failed = answer {
                self.retryNotice(index)
            } else {
                self.status.notices.remove(at: index)
            }
        }
    }

    // MARK: Notices

    /// Tells the webhooks of a moment; nobody waits for them.
    mutating func notify(_ moment: WebhookPlan.Moment) {
        for webhook in self.spec.plan?.webhooks ?? [] where webhook.moment == moment {
            let call = self.call(self.takeID(), webhook)
            if self.status.notices.count >= RolloutStatus.noticesMax {
                self.status.notices.removeFirst()
            }
            self.status.notices.append(WebhookNotice(call: call))
            self.actions.append(.callWebhook(call))
        }
    }

    mutating func passNotices(_ elapsed: Int) {
        for index in self.status.notices.indices.reversed() {
            self.status.notices[index].waitedMilliseconds += elapsed
            let notice = self.status.notices[index]
            let limit = notice.call.timeoutMilliseconds + Self.webhookGraceMilliseconds
            if notice.waitedMilliseconds >= limit { self.retryNotice(index) }
        }
    }

    private mutating func retryNotice(_ index: Int) {
        let notice = self.status.notices[index]
        guard notice.attempts < Self.noticeAttemptsMax else {
            self.status.notices.remove(at: index)
            self.record(.webhook, "the webhook \(notice.call.url) was not told: no answer")
            return
        }
        self.status.notices[index].attempts += 1
        self.status.notices[index].waitedMilliseconds = 0
        self.actions.append(.callWebhook(notice.call))
    }

    mutating func resendWebhooks() {
        let said = Set(
            self.actions.compactMap { if case .callWebhook(let call) = $0 { call.id } else { nil } }
        )
        if let gate = self.status.gate, !said.contains(gate.call) { self.callGate() }
        for notice in self.status.notices where !said.contains(notice.call.id) {
            self.actions.append(.callWebhook(notice.call))
        }
    }
}
