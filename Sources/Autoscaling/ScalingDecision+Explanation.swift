import Core

/// A decision in words.
extension ScalingDecision {
    /// A few lines for each variant: what was decided, what was measured, what each target says,
    /// and what kept or changed the number.
    package var explanation: String {
        self.variants.map { "\(self.model) \($0.explanation)" }.joined(separator: "\n")
    }
}

extension VariantDecision {
    /// `v1: 3 → 5 replicas, because …`, in one line.
    package var summary: String {
        let dry = self.isDryRun ? " (dry run: nothing is changed)" : ""
        let why = self.because.map { ", because \($0)" } ?? ""
        switch self.outcome {
        case .hold:
            return "\(self.variant): holds what runs (\(self.previous) replicas)\(why)\(dry)"
        case .keep: return "\(self.variant): stays at \(self.desired) replicas\(why)\(dry)"
        case .scaleUp, .scaleDown:
            return "\(self.variant): \(self.previous) → \(self.desired) replicas\(why)\(dry)"
        }
    }

    package var explanation: String {
        var lines = [self.summary, "  measured: \(self.inputs.text)"]
        for recommendation in self.recommendations {
            let marks = recommendation.replicas == self.winner ? "*" : "-"
            lines.append("  \(marks) \(recommendation.text)")
        }
        for constraint in self.constraints {
            lines.append("  ! \(constraint.before) → \(constraint.after): \(constraint.kind.text)")
        }
        return lines.joined(separator: "\n")
    }

    /// The largest number recommended.
    private var winner: Int? { self.recommendations.compactMap(\.replicas).max() }

    /// The last constraint that made the number what it is, else the winning target.
    private var because: String? {
        if let last = self.constraints.last, last.after == self.desired { return last.kind.text }
        let winner = self.recommendations.first {
            $0.replicas != nil && $0.replicas == self.winner
        }
        return winner?.reason.text
    }
}

extension DecisionInputs {
    var text: String {
        var parts: [String] = []
        func add(_ name: String, _ value: String?) {
            if let value { parts.append("\(name) \(value)") }
        }
        if let ready {
            var replicas = "\(ready) ready"
            if let starting, starting > 0 { replicas += ", \(starting) starting" }
            if let draining, draining > 0 { replicas += ", \(draining) draining" }
            if let stuck, stuck > 0 { replicas += ", \(stuck) not coming" }
            parts.append(replicas)
        } else {
            parts.append("replicas unknown")
        }
        if self.inFlight == nil { parts.append("load unknown") }
        add("in flight", self.inFlight.map(Decimal.text))
        add("queued", self.queued.map(Decimal.text))
        add("requests/s", self.arrivalRate.map(Decimal.text))
        if let forecastRate, let forecastMethod {
            let ahead = self.forecastHorizonSeconds.map { " in \(Decimal.seconds($0))" } ?? ""
            add("forecast", "\(Decimal.text(forecastRate))/s\(ahead) (\(forecastMethod.rawValue))")
        }
        add("capacity", self.capacityRate.map { "\(Decimal.text($0))/s per replica" })
        add("within objectives", self.attainment.map(Decimal.percent))
        if let correction, correction > 1 { add("correction", Decimal.text(correction)) }
        add("plan", self.plan?.text)
        let kind = self.coldStartsMeasured > 0 ? "" : " (assumed)"
        add("cold start", "\(Decimal.seconds(self.coldStartSeconds))\(kind)")
        return parts.joined(separator: ", ")
    }
}

extension RehearsedPlan {
    /// Such as `forecast × 1.3 + 2.5 deviations, at least 70 % of the highest need`.
    package var text: String {
        var text = "forecast"
        if self.factor != 1 { text += " × \(Decimal.text(self.factor))" }
        if self.deviations != 0 { text += " + \(Decimal.text(self.deviations)) deviations" }
        if self.utilization > 0 {
            text += " and load to \(Decimal.percent(self.utilization)) of capacity"
        }
        if self.floor > 0 {
            text += " and at least \(Decimal.percent(self.floor)) of the highest need"
        }
        if let seconds = self.periodSeconds {
            text += " and what was needed \(Decimal.seconds(seconds)) ago"
        }
        return text
    }
}

extension Recommendation {
    var text: String {
        let count = self.replicas.map { "\($0)" } ?? "cannot say"
        return "\(count): \(self.reason.text)"
    }
}

extension ScalingGoalKind {
    var text: String {
        switch self {
        case .concurrency: "concurrency"
        case .queueWait: "queue wait"
        case .objective: "objective"
        case .requestRate: "request rate"
        case .tokenRate: "token rate"
        case .kvCache: "KV cache use"
        case .gpuUtilization: "GPU utilisation"
        case .metric: "Prometheus query"
        case .schedule: "schedule"
        }
    }
}

extension RecommendationReason {
    /// Without the number of replicas itself.
    package var text: String {
        switch self {
        case .perReplica(let kind, let measured, let target):
            return "\(kind.text) \(Decimal.text(measured)), \(Decimal.text(target)) per replica"
        case .utilization(let kind, _, let target, ready: 0):
            return "\(kind.text) is not known without replicas, target \(Decimal.percent(target))"
        case .utilization(let kind, let measured, let target, let ready):
            return "\(kind.text) \(Decimal.percent(measured)) on \(ready) replicas, "
                + "target \(Decimal.percent(target))"
        case .queueWait(let seconds, let limit, let demand):
            return "queue wait \(Decimal.seconds(seconds)), limit \(Decimal.seconds(limit)), "
                + "demand \(Decimal.text(demand)) replicas"
        case .objective(let rate, let perReplica, let backlog):
            let extra = backlog >= 0.5 ? ", \(Decimal.text(backlog)) more for the backlog" : ""
            return "\(Decimal.text(rate)) requests/s expected, \(Decimal.text(perReplica)) per "
                + "replica hold the objective\(extra)"
        case .objectiveStanding(let rate, let readyFor, let perReplica, let backlog):
            let extra = backlog >= 0.5 ? ", \(Decimal.text(backlog)) more for the backlog" : ""
            return "ready for \(Decimal.text(readyFor)) requests/s, as there were before and may "
                + "return sooner than a start takes (\(Decimal.text(rate)) expected), "
                + "\(Decimal.text(perReplica)) per replica\(extra)"
        case .objectiveLearning(let load, let target, let samples):
            return "still learning what a replica can do (\(samples) requests seen): "
                + "\(Decimal.text(load)) in flight or queued, \(Decimal.text(target)) per replica"
        case .objectiveOutOfReach(let attainment, let rate, let perReplica):
            return "the objective is out of reach: even at low load only "
                + "\(Decimal.percent(attainment)) of requests keep it, and more replicas would not "
                + "help; \(Decimal.text(rate)) requests/s expected, "
                + "\(Decimal.text(perReplica)) per replica come close to that"
        case .mix(let demand, let perReplica):
            return "part of the cheapest mix for \(Decimal.text(demand)) requests/s, "
                + "\(Decimal.text(perReplica)) per replica here"
        case .schedule(isAhead: false): return "the schedule is on"
        case .schedule(isAhead: true): return "the schedule begins before a replica could be ready"
        case .scheduleOff: return "the schedule is off"
        case .unknown(let kind, let silent):
            let since = silent.map { " for \(Decimal.seconds($0))" } ?? ""
            return "\(kind.text): no usable reading\(since)"
        case .requestWaiting: return "a request waits and no replica runs"
        case .minimum: return "the least there may be"
        }
    }
}

extension AppliedConstraint.Kind {
    package var text: String {
        switch self {
        case .minimum: return "minReplicas"
        case .maximum: return "maxReplicas"
        case .floor: return "a rollout needs so many"
        case .stabilization(let seconds): return "stabilisation over \(Decimal.seconds(seconds))"
        case .breakEven(let seconds):
            return "wanted within the last \(Decimal.seconds(seconds)), less than a new start costs"
        case .rate(let perMinute): return "at most \(perMinute) per minute"
        case .consolidation(let load, let limit):
            return "the others would have \(Decimal.text(load)) requests each, "
                + "and can have \(Decimal.text(limit))"
        case .othersNotReady:
            return "others of the pool are to do its work, and too few of them are ready"
        case .workLeft: return "there is work for the last replica"
        case .notIdle(let seconds, let needed):
            return "idle for \(Decimal.seconds(seconds)), not yet \(Decimal.seconds(needed))"
        case .zeroNotAllowed: return "scaleToZero is not set"
        case .warmingUp(let left):
            return "windows are full in \(Decimal.seconds(left)); nothing is taken away before"
        case .sourceOut(let kind):
            return "\(kind?.text ?? "a gateway") is silent; nothing is taken away"
        case .budget(let granted): return "the budget allows \(granted)"
        case .obstacle(let obstacle, let retry):
            let message = obstacle.message.isEmpty ? "" : " (\(obstacle.message))"
            return "replicas do not come: \(obstacle.kind.text)\(message); "
                + (retry > 0 ? "next try in \(Decimal.seconds(retry))" : "a try is under way")
        case .fallback(let from, let obstacle?):
            let message = obstacle.message.isEmpty ? "" : " (\(obstacle.message))"
            return "stands in for \(from), whose replicas do not come: "
                + "\(obstacle.kind.text)\(message)"
        case .fallback(let from, nil): return "stands in for \(from): the budget has no more for it"
        case .blind: return "no data from gateway or cluster"
        }
    }
}

extension Obstacle.Kind {
    package var text: String {
        switch self {
        case .noCapacity: "no capacity"
        case .quota: "quota"
        case .imageError: "image cannot be run"
        case .crashLoop: "crash loop"
        case .startTimeout: "start-up timeout"
        }
    }
}
