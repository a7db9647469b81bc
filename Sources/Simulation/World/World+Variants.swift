import Core
import Rollouts
import Traffic

/// Several variants of one model: who gets a request.
///
/// Weights are divided among interchangeable variants as the gateway divides them (`PoolWeights`),
/// one variant after the other gets its turn (`WeightedPicker`), and one whose replicas are all
/// busy passes it.
extension World {
    func makeFamilies() {
        for (index, model) in self.models.enumerated() where model.whole != index {
            if self.models[model.whole].family.isEmpty {
                self.models[model.whole].family = [model.whole]
            }
            self.models[model.whole].family.append(index)
        }
        for model in self.models where !model.family.isEmpty { self.reweigh(model) }
    }

    /// Whether none of a model's variants has a replica.
    func isAsleep(_ model: ModelState) -> Bool {
        model.family.allSatisfy { self.models[$0].members.isEmpty }
    }

    /// The weights of a model's variants by what is ready; nothing for one without variants.
    func reweigh(_ model: ModelState) {
        if model.family.isEmpty { return }
        let isKnown = model.family.allSatisfy { index in
            self.models[index].worth != nil || !self.isPooled(self.models[index])
        }
        let members = model.family.map { index in
            let variant = self.models[index]
            return PoolWeights.Member(
                weight: variant.rolloutWeight ?? (variant.whole == variant.index ? 100 : 0),
                pool: self.isPooled(variant) ? 0 : nil,
                ready: variant.ready.count,
                worth: isKnown ? variant.worth ?? variant.setup.cost : variant.setup.cost
            )
        }
        let weights = PoolWeights.divide(members)
        if weights.count == model.picker.count {
            if weights.indices.contains(where: { weights[$0] != model.picker.weight($0) }) {
                model.picker.update(weights: weights)
            }
        } else {
            model.picker = WeightedPicker(weights: weights)
        }
    }

    /// Takes over what replicas are worth by now.
    func reweigh(_ worth: (Int) -> Double?) {
        for model in self.models where !model.family.isEmpty {
            for index in model.family { self.models[index].worth = worth(index) }
            self.reweigh(model)
        }
    }

    /// Whether it does what its model does.
    private func isPooled(_ variant: ModelState) -> Bool {
        variant.whole == variant.index || variant.setup.isInterchangeable
    }

    /// Whether it may take what waits: it has a share.
    func mayServe(_ variant: ModelState) -> Bool {
        let whole = self.models[variant.whole]
        guard let place = whole.family.firstIndex(of: variant.index) else { return true }
        return whole.picker.weight(place) > 0
    }

    /// A variant with a free slot, and the place of the replica that has it.
    func pick(_ model: ModelState) -> (ModelState, Int)? {
        var eligible: UInt64 = 0
        for (place, index) in model.family.enumerated() {
            let variant = self.models[index]
            if variant.pick() != nil { eligible |= 1 << UInt64(place) }
        }
        while eligible != 0, let place = model.picker.next(among: eligible) {
            let variant = self.models[model.family[place]]
            if let replica = variant.pick() {
                return (variant, replica)
            }
            eligible &= ~(1 << UInt64(place))
        }
        return nil
    }
}
