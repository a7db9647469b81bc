import Autoscaling
import Core
import Traffic

/// Puts what was counted and what there is together into one observation per scaled variant.
///
/// Requests that any variant may serve are counted for the variants they went to. What is still
/// waiting, or was refused, is divided as the others were. A variant that has weight and no ready
/// replica gets nothing now, and its share must not be lost to it: it is credited with the requests
/// that its weight would have given it, so that it is started and kept. One whose replicas do not
/// come is credited with nothing; its requests are with those who serve them.
///
/// Interchangeable variants have one weight together: it belongs to those of them that are ready,
/// and where none is to one alone, which is started.
package struct VariantGather: Sendable {
    /// Fractions of requests that are left over, by variant of the plan.
    private var arrivalRest: [Double]
    private var refusedRest: [Double]

    package init(variants: Int) {
        self.arrivalRest = Array(repeating: 0, count: variants)
        self.refusedRest = Array(repeating: 0, count: variants)
    }

    /// The gateway's part of the observations, in the order of the plan's variants.
    /// - Parameters:
    ///   - replicas: in the same order; nil where the cluster does not answer.
    ///   - starter: which of the interchangeable variants is started where none is there.
    ///   - oldestQueuedSeconds: how long the first in the queue has waited.
    package mutating func samples(
        _ model: borrowing ScalingPlan.Model,
        _ delta: borrowing ModelDelta,
        replicas: [ReplicaCounts?],
        starter: Int? = nil,
        oldestQueuedSeconds: Double
    ) -> [GatewaySample] {
        let shares = Shares(model, delta, replicas: replicas, starter: starter)
        var samples: [GatewaySample] = []
        samples.reserveCapacity(model.variants.count)
        for (index, variant) in model.variants.enumerated() {
            let share = shares.divided[index]
            var sample = GatewaySample()
            let arrivals = shares.unpinned * (share + shares.credited[index])
            sample.arrivals = Self.whole(arrivals, &self.arrivalRest[index])
            sample.refused = Self.whole(
                Double(delta.refused) * share,
                &self.refusedRest[index]
            )
            sample.queuedSeconds = delta.queuedSeconds * share
            sample.queued = Int((Double(max(0, delta.queued)) * share).rounded(.up))
            if share > 0 {
                sample.queueWait = delta.queueWait
                sample.oldestQueuedSeconds = oldestQueuedSeconds
            }
            if let own = delta.variants.first(where: { $0.name == variant.name }) {
                Self.add(own, to: &sample)
            }
            samples.append(sample)
        }
        return samples
    }

    private static func add(_ own: borrowing VariantDelta, to sample: inout GatewaySample) {
        sample.arrivals += Int(clamping: own.pinned)
        sample.completions = Int(clamping: own.completions)
        sample.inFlightSeconds = own.inFlightSeconds
        sample.inFlight = max(0, own.inFlight)
        sample.queuedSeconds += own.queuedSeconds
        sample.queued += max(0, own.queued)
        sample.latency = own.latency
        sample.timeToFirstToken = own.timeToFirstToken
        sample.tokensIn = Double(own.tokensIn)
        sample.tokensOut = Double(own.tokensOut)
    }

    /// Whole requests now, and the rest with the next ones.
    private static func whole(_ amount: Double, _ rest: inout Double) -> Int {
        let sum = amount + rest
        let whole = sum.rounded(.down)
        rest = sum - whole
        return Int(whole)
    }

    /// Who gets which part of the requests that anybody may serve.
    private struct Shares {
        /// Requests that no header or cookie binds to a variant.
        var unpinned: Double
        /// Of what came and was divided among those that serve; 1 in sum where anybody is scaled.
        var divided: [Double]
        /// What a sleeping variant would have got.
        var credited: [Double]

        init(
            _ model: borrowing ScalingPlan.Model,
            _ delta: borrowing ModelDelta,
            replicas: [ReplicaCounts?],
            starter: Int?
        ) {
            var pinned: UInt64 = 0
            for variant in delta.variants { pinned += variant.pinned }
            self.unpinned = Double(delta.arrivals - min(pinned, delta.arrivals))
            self.divided = Array(repeating: 0, count: model.variants.count)
            self.credited = self.divided
            if model.weights.count == 1 {
                self.divided[0] = 1
                return
            }
            let weights = Self.weights(model, replicas, starter)
            self.divide(model, weights, delta, replicas)
        }

        /// Of all variants, with the weight of interchangeable ones where it is now.
        private static func weights(
            _ model: borrowing ScalingPlan.Model,
            _ replicas: [ReplicaCounts?],
            _ starter: Int?
        ) -> [Int] {
            let names = model.variants.map(\.name)
            let places = model.weights.map { entry in names.firstIndex(of: entry.name) }
            var weights = model.weights.map { max(0, $0.weight) }
            guard let starter else { return weights }
            let pool = places.indices.filter { place in
                places[place].map { model.setup.variants[$0].isInterchangeable } ?? false
            }
            func counts(_ place: Int) -> ReplicaCounts? { places[place].flatMap { replicas[$0] } }
            let isReady = pool.contains { (counts($0)?.ready ?? 0) > 0 }
            if isReady {
                return PoolWeights.divide(
                    weights.indices.map { place in
                        let variant = places[place].map { model.setup.variants[$0] }
                        return PoolWeights.Member(
                            weight: weights[place],
                            pool: variant?.isInterchangeable == true ? 0 : nil,
                            ready: counts(place)?.ready ?? 0,
                            worth: variant?.cost ?? 1
                        )
                    }
                )
            }
            let sum = pool.reduce(0) { $0 + weights[$1] }
            let coming = pool.first { (counts($0)?.starting ?? 0) > 0 }
            let chosen = coming ?? pool.first { places[$0] == starter }
            for place in pool { weights[place] = place == chosen ? sum : 0 }
            return weights
        }

        private mutating func divide(
            _ model: borrowing ScalingPlan.Model,
            _ weights: [Int],
            _ delta: borrowing ModelDelta,
            _ replicas: [ReplicaCounts?]
        ) {
            let names = model.variants.map(\.name)
            let total = Double(weights.reduce(0, +))
            guard total > 0 else { return }
            var readyWeight = 0.0
            var dispatched = 0.0
            var went: [Double] = []
            var isReady: [Bool] = []
            for (name, weight) in zip(model.weights.map(\.name), weights) {
                let index = names.firstIndex(of: name)
                // Fixed endpoints are there.
                let ready = index.map { (replicas[$0]?.ready ?? 0) > 0 } ?? true
                let own = delta.variants.first { $0.name == name }
                let count = own.map { Double($0.dispatched - min($0.dispatched, $0.pinned)) } ?? 0
                isReady.append(ready && weight > 0)
                went.append(ready && weight > 0 ? count : 0)
                if ready { readyWeight += Double(max(0, weight)) }
                dispatched += went.last ?? 0
            }
            for (position, entry) in model.weights.enumerated() {
                guard let index = names.firstIndex(of: entry.name), weights[position] > 0 else {
                    continue
                }
                let weight = Double(weights[position])
                if isReady[position] {
                    self.divided[index] =
                        dispatched > 0 ? went[position] / dispatched : weight / readyWeight
                } else if readyWeight == 0 {
                    self.divided[index] = weight / total
                } else if !Self.isBlocked(replicas[index]) {
                    self.credited[index] = weight / total
                }
            }
        }

        /// Replicas were asked for, and none is coming.
        private static func isBlocked(_ replicas: ReplicaCounts?) -> Bool {
            guard let replicas else { return false }
            return replicas.stuck > 0 && replicas.starting == 0 && replicas.ready == 0
        }
    }
}
