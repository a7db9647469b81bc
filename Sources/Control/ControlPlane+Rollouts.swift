import Clusters
import Configuration
import Core
import EventLoop
import Rollouts

/// Says by which weights the snapshots go.
package protocol TrafficSource: AnyObject {
    /// Nil where the configuration's weights hold.
    func traffic(of model: String) -> SnapshotBuilder.Traffic?
    /// The generations of the traffic plans that a snapshot made now has.
    var generations: [String: Int] { get }
    /// Every worker uses a snapshot that was made of these plans.
    func acknowledged(_ generations: [String: Int])
}

/// Runs the rollouts of a cluster.
package protocol RolloutHost: AnyObject {
    /// Nil while another one leads.
    var loop: RolloutLoop? { get }
    var memory: (any RolloutMemory)? { get }
    /// - Throws: why it cannot be done; then nothing has changed.
    func perform(_ command: RolloutCommand, of model: ModelResource) throws(RolloutRefusal)
}

extension ControlPlane {
    /// What the configuration and the rollouts say about scaling.
    var scalingPlan: ScalingPlan {
        ScalingPlan(
            self.configuration,
            rollouts: self.rolloutDriver?.book.capacities ?? [:]
        )
    }

    func adoptScalingPlan() {
        self.scaling?.adopt(self.scalingPlan, memory: self.driver?.memory, at: self.loop.now)
    }

    /// All models' rollouts.
    package var rollouts: RolloutLoop? { self.rolloutDriver?.rollouts ?? self.rolloutHost?.loop }

    package var rolloutStore: (any RolloutMemory)? {
        if let driver = self.rolloutDriver { return driver.store }
        return self.rolloutHost?.memory
    }

    /// The share of each variant of a model in percent, in their order, as it is now.
    ///
    /// A pool's share is divided among its variants as it is among requests.
    package func weights(of model: ModelResource) -> [Int] {
        let own = self.rollouts?.controller(of: model.name)?.status.traffic
        let plan = own ?? self.trafficSource?.traffic(of: model.name)?.plan
        let weights =
            plan.map { plan in model.spec.variants.map { plan.weight(of: $0.name) } }
            ?? model.spec.variantWeights
        let worths = self.worths[model.name] ?? self.scaling?.worths[model.name]
        return model.spec.divided(
            weights,
            ready: model.spec.variants.map {
                self.groupStatus(model.name, $0)?.count(.ready) ?? 0
            },
            keepsScale: true
        ) { worths?[$0] }
    }

    /// The variant that serves, or is to serve when no rollout objects.
    package func live(of model: ModelResource) -> String? {
        self.rollouts?.controller(of: model.name)?.status.stable.name ?? model.spec.live
    }

    /// Does what somebody asks for by hand.
    /// - Throws: why it cannot be done; then nothing has changed.
    package func perform(_ command: RolloutCommand, of model: ModelResource)
        throws(RolloutRefusal)
    {
        if self.isDraining { throw RolloutRefusal("Weir is shutting down") }
        if let why = self.rolloutsElsewhere() { throw RolloutRefusal(why) }
        let command = command.standing { model.spec.representative(of: $0) }
        if let host = self.rolloutHost { return try host.perform(command, of: model) }
        guard let driver = self.rolloutDriver, let spec = driver.spec(of: model) else {
            throw RolloutRefusal(
                "\(model.name) has fixed `weights`, or no `live` variant: remove `weights` and "
                    + "name one in `live` to have rollouts"
            )
        }
        try driver.perform(command, of: model.name, spec)
    }
}

extension RolloutCommand {
    /// The same with another name for the variant it names, if it names one.
    func standing(for name: (String) -> String) -> RolloutCommand {
        switch self {
        case .start(let variant): .start(variant: name(variant))
        case .pause, .promote, .abort, .retry: self
        }
    }
}
