import Core

/// What the autoscaler keeps about one variant.
struct VariantState: Sendable {
    var ready = 0
    var load: Double?
    var desired: Int?
    var wanted = 0

    init(_ variant: VariantSetup, _ setup: ModelSetup, at now: Instant) {}

    mutating func observe(_ observation: borrowing VariantObservation, at now: Instant) {
        if let gateway = observation.gateway {
            self.load = (gateway.inFlightSeconds + gateway.queuedSeconds) / observation.seconds
        }
        if let replicas = observation.replicas { self.ready = replicas.ready }
    }

    mutating func propose(_ setup: ModelSetup, _ index: Int, at now: Instant) -> Proposal {
        let bounds = setup.variants[index].bounds
        self.wanted = bounds.clamp(Int((self.load ?? 0).rounded(.up)))
        return Proposal(wanted: self.wanted, minimum: bounds.minimum)
    }

    mutating func conclude(_ setup: ModelSetup, _ index: Int, grant: Int?, at now: Instant)
        -> VariantDecision
    {
        let before = self.desired ?? self.ready
        let after = min(self.wanted, grant ?? .max)
        self.desired = after
        return VariantDecision(
            variant: setup.variants[index].name,
            inputs: DecisionInputs(),
            recommendations: [
                Recommendation(source: .minimum, replicas: after, reason: .minimum)
            ],
            constraints: [],
            previous: before,
            desired: after,
            outcome: after > before ? .scaleUp : after < before ? .scaleDown : .keep,
            isDryRun: setup.policy.isDryRun
        )
    }
}
