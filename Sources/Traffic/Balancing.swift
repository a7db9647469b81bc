import Core

/// What a balancer sees of a variant's endpoints. The shell conforms with a struct around its own
/// arrays and counters; balancers are generic over it, so nothing is copied and calls are direct.
package protocol BalancedEndpoints {
    /// How many there are, at most `BalancingLimits.endpointsMax`.
    var count: Int { get }
    /// Requests that hold a slot, counted before they are sent.
    func inFlight(_ index: Int) -> Int
    /// Most slots; `Int.max` for no limit.
    func limit(_ index: Int) -> Int
    /// Ready, not ejected, and not tried in vain by this request.
    func isEligible(_ index: Int) -> Bool
    /// A hash of the endpoint's name, the same in every worker and gateway.
    func identity(_ index: Int) -> UInt64
}

package enum BalancingLimits {
    /// Decisions look at each endpoint at most twice, so this bounds their time.
    package static let endpointsMax = 4096
}

/// A balancer's answer.
package enum BalancerChoice: Equatable, Sendable {
    /// The best endpoint that has a slot.
    case free(Int)
    /// Every eligible endpoint is at its limit; this one is the least bad.
    case saturated(Int)
    /// No endpoint is eligible.
    case none
}

/// Sends each request where the fewest are under way.
///
/// Up to `scanMax` endpoints all are compared, from a start that moves past the last choice, so
/// that equal loads take turns. Above that, two are drawn at random and the less loaded wins
/// (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001); if draws find no
/// two with a slot, all are compared after all. An endpoint at its limit is chosen only when every
/// one is.
package struct LeastLoaded: Sendable {
    package static let scanMax = 16
    /// Draws for the two choices before all are compared.
    package static let drawsMax = 8

    @usableFromInline var cursor: Int
    @usableFromInline var random: RandomSource

    package init(random: RandomSource) {
        var random = random
        self.cursor = Int(random.next() &>> 33)
        self.random = random
    }

    @inlinable
    package mutating func pick(_ endpoints: borrowing some BalancedEndpoints) -> BalancerChoice {
        let count = endpoints.count
        guard count > 0 else { return .none }
        if count > Self.scanMax, let index = self.pickOfTwo(endpoints) { return .free(index) }
        return self.scan(endpoints)
    }

    @inlinable
    mutating func pickOfTwo(_ endpoints: borrowing some BalancedEndpoints) -> Int? {
        let count = UInt64(endpoints.count)
        var first = -1
        var firstLoad = 0
        for _ in 0..<Self.drawsMax {
            let index = Int(self.random.next().multipliedFullWidth(by: count).high)
            guard index != first, endpoints.isEligible(index) else { continue }
            let load = endpoints.inFlight(index)
            guard load < endpoints.limit(index) else { continue }
            if first >= 0 { return load < firstLoad ? index : first }
            first = index
            firstLoad = load
        }
        return nil
    }

    @inlinable
    mutating func scan(_ endpoints: borrowing some BalancedEndpoints) -> BalancerChoice {
        let count = endpoints.count
        var index = self.cursor % count
        var best = -1
        var bestLoad = Int.max
        var bestIsFree = false
        for _ in 0..<count {
            if endpoints.isEligible(index) {
                let load = endpoints.inFlight(index)
                let isFree = load < endpoints.limit(index)
                if best < 0 || (isFree && !bestIsFree) || (isFree == bestIsFree && load < bestLoad)
                {
                    best = index
                    bestLoad = load
                    bestIsFree = isFree
                }
                if isFree, load == 0 { break }
            }
            index &+= 1
            if index == count { index = 0 }
        }
        guard best >= 0 else { return .none }
        self.cursor = best &+ 1
        return bestIsFree ? .free(best) : .saturated(best)
    }
}

/// Takes turns among the eligible endpoints that have a slot.
package struct RoundRobin: Sendable {
    @usableFromInline var cursor: Int

    /// `start` should differ between workers; any number will do.
    package init(start: Int) {
        self.cursor = Int(truncatingIfNeeded: start.magnitude &>> 1)
    }

    @inlinable
    package mutating func pick(_ endpoints: borrowing some BalancedEndpoints) -> BalancerChoice {
        let count = endpoints.count
        guard count > 0 else { return .none }
        var index = self.cursor % count
        var firstFull = -1
        for _ in 0..<count {
            if endpoints.isEligible(index) {
                if endpoints.inFlight(index) < endpoints.limit(index) {
                    self.cursor = index &+ 1
                    return .free(index)
                }
                if firstFull < 0 { firstFull = index }
            }
            index &+= 1
            if index == count { index = 0 }
        }
        guard firstFull >= 0 else { return .none }
        self.cursor = firstFull &+ 1
        return .saturated(firstFull)
    }
}

/// Sends a key to the same endpoint as long as that is not overloaded.
///
/// Consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam, 2018): no endpoint takes
/// more than `factor` times the mean, counting the request at hand; a key whose endpoint is full
/// goes to the next in the key's own order. That order is rendezvous hashing's, by hash of key and
/// endpoint, not a ring's: it needs no table to rebuild when endpoints come and go, moves only the
/// keys of an endpoint that left, and scatters the overflow of one endpoint over all the others
/// instead of its ring neighbour. It costs one hash per endpoint, a few nanoseconds each.
///
/// The choice depends on nothing but the key, the endpoints and their loads: gateways that share no
/// state agree.
package struct ConsistentHash: Sendable {
    /// Bound of an endpoint's load, in percent of the mean; more than 100.
    package let loadPercent: Int
    /// An endpoint below this many requests is never counted as overloaded. With few requests in
    /// all, 1.25 times the mean is one request, and affinity would end at the second.
    package let loadFloor: Int

    package static let loadPercentDefault = 125

    package init(loadPercent: Int = loadPercentDefault, loadFloor: Int = 1) {
        precondition(loadPercent > 100 && loadPercent <= 10_000, "a bound of \(loadPercent) %")
        precondition(loadFloor >= 1, "a floor of \(loadFloor)")
        self.loadPercent = loadPercent
        self.loadFloor = loadFloor
    }

    @inlinable
    package func pick(
        keyHash: UInt64,
        _ endpoints: borrowing some BalancedEndpoints
    ) -> BalancerChoice {
        self.pick(keyHash: keyHash, cap: self.loadCap(endpoints), endpoints)
    }

    /// The endpoint that is first in the key's order whatever its load; -1 where none is eligible.
    @inlinable
    static func home(keyHash: UInt64, _ endpoints: borrowing some BalancedEndpoints) -> Int {
        var best = -1
        var bestScore: UInt64 = 0
        for index in 0..<endpoints.count where endpoints.isEligible(index) {
            let score = ByteHash.combine(keyHash, endpoints.identity(index))
            if best < 0 || score > bestScore {
                best = index
                bestScore = score
            }
        }
        return best
    }

    /// As `pick`, with the bound known: an endpoint below `cap` requests is preferred.
    @inlinable
    func pick(
        keyHash: UInt64,
        cap: Int,
        _ endpoints: borrowing some BalancedEndpoints
    ) -> BalancerChoice {
        // Ranks: 3 below the bound and with a slot, 2 with a slot, 1 at its limit.
        var best = -1
        var bestRank = 0
        var bestScore: UInt64 = 0
        for index in 0..<endpoints.count where endpoints.isEligible(index) {
            let load = endpoints.inFlight(index)
            let rank = load >= endpoints.limit(index) ? 1 : load >= cap ? 2 : 3
            if rank < bestRank { continue }
            let score = ByteHash.combine(keyHash, endpoints.identity(index))
            if rank > bestRank || score > bestScore {
                best = index
                bestRank = rank
                bestScore = score
            }
        }
        if best < 0 { return .none }
        return bestRank == 1 ? .saturated(best) : .free(best)
    }

    /// The most requests an endpoint may have before this one: ceil(factor × (total + 1) / count),
    /// over the eligible ones.
    @inlinable
    package func loadCap(_ endpoints: borrowing some BalancedEndpoints) -> Int {
        var total = 1
        var count = 0
        for index in 0..<endpoints.count where endpoints.isEligible(index) {
            total &+= endpoints.inFlight(index)
            count &+= 1
        }
        guard count > 0 else { return self.loadFloor }
        let divisor = 100 * count
        return max(self.loadFloor, (self.loadPercent * total + divisor - 1) / divisor)
    }
}
