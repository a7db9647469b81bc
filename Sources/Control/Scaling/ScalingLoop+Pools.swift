import Autoscaling

extension ScalingLoop {
    /// A change by less is noise.
    private static let worthChange = 0.1

    /// Keeps what replicas of interchangeable variants are worth.
    func noteWorths(of model: ScalingPlan.Model, _ decision: ScalingDecision) {
        guard model.setup.isInterchangeable else {
            if self.worths[model.name] != nil { self.worths[model.name] = nil }
            return
        }
        for (variant, own) in zip(model.setup.variants, decision.variants) {
            guard variant.isInterchangeable, let worth = own.worth, worth > 0 else { continue }
            let known = self.worths[model.name]?[variant.name] ?? 0
            if abs(worth - known) <= Self.worthChange * known { continue }
            self.worths[model.name, default: [:]][variant.name] = Self.rounded(worth)
        }
    }

    /// To a thousandth, which is what a status can say.
    private static func rounded(_ worth: Double) -> Double {
        max(0.001, (min(worth, 1e9) * 1_000).rounded() / 1_000)
    }
}
