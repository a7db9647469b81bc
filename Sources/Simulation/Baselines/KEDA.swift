import Core

/// KEDA with its HTTP add-on.
///
/// Source: kedacore/keda-docs 2.17, scaledobject-spec.md, and the add-on's external scaler. Between
/// one and many an HPA with an AverageValue of the requests that the interceptor holds or has sent
/// on; between none and one the scaler's activity: any request makes one replica, and nothing for
/// the cooldown takes the last one away. `polling` 0 stands for the add-on's push.
package struct KEDA: ReplicaPolicy {
    private let target: Double
    private let cooldown: Double
    private let polling: Double
    private let minimum: Int
    private var actuator: HPAActuator
    private var lastActive = 0.0
    private var nextPoll = 0.0

    package init(
        target: Double,
        cooldown: Double,
        polling: Double,
        bounds: ClosedRange<Int>,
        behavior: HPA.Behavior
    ) {
        self.target = target
        self.cooldown = cooldown
        self.polling = polling
        self.minimum = bounds.lowerBound
        let most = max(1, bounds.upperBound)
        self.actuator = HPAActuator(bounds: max(1, bounds.lowerBound)...most, behavior: behavior)
    }

    package mutating func desiredReplicas(_ seen: Observation) -> Int {
        let load = seen.inFlightMean + seen.queuedMean
        if load > 0 || seen.queued > 0 { self.lastActive = seen.seconds }
        let isDue = self.actuator.isDue(seen.seconds)
        if seen.desired == 0 {
            guard seen.seconds >= self.nextPoll else { return 0 }
            self.nextPoll = seen.seconds + self.polling
            return seen.queued > 0 ? max(1, self.minimum) : 0
        }
        let isIdle = seen.seconds - self.lastActive > self.cooldown
        if isIdle, self.minimum == 0, seen.desired <= 1 { return 0 }
        guard isDue else { return seen.desired }
        let wanted = HPA.external(total: load, target: self.target, current: seen.desired)
        return self.actuator.apply(wanted, current: seen.desired, at: seen.seconds)
    }

    package mutating func wake(_ seen: Observation) -> Int {
        self.lastActive = seen.seconds
        return self.polling == 0 ? max(1, seen.desired) : seen.desired
    }
}
