import Configuration
import Core
import EventLoop
import Rollouts

extension ControlPlane {
    /// What the configuration and the rollouts say about scaling.
    var scalingPlan: ScalingPlan {
        ScalingPlan(
            self.configuration,
            rollouts: self.rolloutDriver?.capacities ?? [:]
        )
    }

    func adoptScalingPlan() {
        self.scaling?.adopt(self.scalingPlan, memory: self.driver?.memory, at: self.loop.now)
    }

    /// All models' rollouts.
    package var rollouts: RolloutLoop? { self.rolloutDriver?.rollouts }

    package var rolloutStore: RolloutStore? { self.rolloutDriver?.store }

    /// The share of each variant of a model in percent, in their order, as it is now.
    package func weights(of model: ModelResource) -> [Int] {
        guard let status = self.rollouts?.controller(of: model.name)?.status else {
            return model.spec.variantWeights
        }
        return model.spec.variants.map { status.traffic.weight(of: $0.name) }
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
        guard let driver = self.rolloutDriver,
            let spec = RolloutSpec(model, self.configuration)
        else {
            throw RolloutRefusal(
                "\(model.name) has fixed `weights`, or no `live` variant: remove `weights` and "
                    + "name one in `live` to have rollouts"
            )
        }
        try driver.perform(command, of: model.name, spec)
    }
}
