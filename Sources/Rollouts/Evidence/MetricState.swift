import Core

/// What one metric has seen; all of it can be stored.
package struct MetricState: Sendable, Equatable, Codable {
    package var name: String
    /// The plan it was gathered under; another one starts anew.
    package var definition: String
    package var bet: StratifiedBet?
    package var pairs: PairTest?
    package var custom: CustomMetric?
    /// Evidence reached its threshold once: that stays.
    package var isContradicted = false
    /// Of the current step.
    package var stable = ArmTotals()
    package var canary = ArmTotals()

    package struct ArmTotals: Sendable, Equatable, Codable {
        package var requests = 0
        package var bad = 0

        var rate: Double? {
            self.requests == 0 ? nil : Double(self.bad) / Double(self.requests)
        }
    }

    init(_ plan: MetricPlan) {
        self.name = plan.name
        self.definition = Self.definition(of: plan)
        switch plan.test {
        case .events: self.bet = StratifiedBet(grid: .events)
        case .quantile: self.bet = StratifiedBet(grid: .exceedances)
        case .distance: break
        case .pairs: self.pairs = PairTest()
        case .custom(let custom): self.custom = CustomMetric(custom)
        }
    }

    static func definition(of plan: MetricPlan) -> String { "\(plan.test)" }

    /// Whether a stored state belongs to `plan` and makes sense.
    func fits(_ plan: MetricPlan) -> Bool {
        guard self.name == plan.name, self.definition == Self.definition(of: plan) else {
            return false
        }
        switch plan.test {
        case .events: return self.bet?.fits(.events) ?? false
        case .quantile: return self.bet?.fits(.exceedances) ?? false
        case .distance: return true
        case .pairs: return self.pairs?.isValid ?? false
        case .custom: return self.custom != nil
        }
    }

    mutating func beginStep(_ plan: MetricPlan) {
        self.stable = ArmTotals()
        self.canary = ArmTotals()
        if let grid = plan.grid { self.bet?.beginStep(grid: grid) }
        self.pairs?.beginStep()
        self.custom?.beginStep()
    }

    mutating func pass(seconds: Double, _ plan: MetricPlan) {
        if let grid = plan.grid { self.bet?.pass(seconds: seconds, grid: grid) }
    }
}

extension MetricPlan {
    var grid: RatioGrid? {
        switch self.test {
        case .events: .events
        case .quantile: .exceedances
        case .distance, .pairs, .custom: nil
        }
    }

    var distribution: LatencyKind? {
        switch self.test {
        case .quantile(let kind, _, _), .distance(let kind, _): kind
        case .events, .pairs, .custom: nil
        }
    }
}
