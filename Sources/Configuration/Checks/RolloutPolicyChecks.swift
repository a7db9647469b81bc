/// What a schema cannot say about rollout policies.
extension ConfigurationChecker {
    mutating func checkRolloutPolicies() {
        for policy in self.set.rolloutPolicies {
            self.checkSteps(policy)
        }
    }

    private mutating func checkSteps(_ policy: Loaded<RolloutPolicySpec>) {
        let steps = ConfigurationPath("spec", "steps")
        var last = -1
        for (index, record) in policy.origin.spec.records("steps").enumerated() {
            let path = steps.index(index)
            self.checkFlags(record, policy.origin, path)
            self.checkHold(record, policy.origin, path)
            guard let weight = record.optionalInteger("weight") else { continue }
            if weight <= last {
                self.report(
                    policy.origin,
                    path.field("weight"),
                    "the weights of the steps must rise: \(weight) comes after \(last)",
                    hint: "put the steps in rising order"
                )
            }
            last = max(last, weight)
        }
    }

    /// A field that says `false` makes a step of nothing.
    private mutating func checkFlags(
        _ record: Record,
        _ origin: LoadedResource,
        _ path: ConfigurationPath
    ) {
        if record.has("pause"), !record.boolean("pause") {
            self.report(
                origin,
                path.field("pause"),
                "a step that does not pause does nothing",
                hint: "write `pause: true`, or remove the step"
            )
        }
        if record.has("removeHeaderRoute"), !record.boolean("removeHeaderRoute") {
            self.report(
                origin,
                path.field("removeHeaderRoute"),
                "a step that does not remove the header route does nothing",
                hint: "write `removeHeaderRoute: true`, or remove the step"
            )
        }
        if let scale = record.optionalRecord("canaryScale"), scale.has("matchWeight"),
            !scale.boolean("matchWeight")
        {
            self.report(
                origin,
                path.field("canaryScale").field("matchWeight"),
                "says nothing about how many replicas there should be",
                hint: "write `matchWeight: true`, `replicas` or `share`"
            )
        }
    }

    private mutating func checkHold(
        _ record: Record,
        _ origin: LoadedResource,
        _ path: ConfigurationPath
    ) {
        guard record.has("hold"), !record.has("weight"), !record.has("mirror") else { return }
        let isPause = record.has("pause")
        self.report(
            origin,
            path.field("hold"),
            isPause ? "a pause ends by hand, not after a time" : "only shares and copies are held",
            hint: isPause ? "remove `hold`, or write `wait` instead of the pause" : "remove `hold`",
            isKey: true
        )
    }
}
