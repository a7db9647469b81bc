import Core
import Synchronization
import Traffic

/// How one worker spreads one variant's requests: the balancers' memory, and which endpoints have
/// failed of late. Each worker judges by what it saw itself. An object, so that a choice changes it
/// in place.
final class VariantBalance {
    private(set) var endpoints: [Endpoint] {
        didSet { self.single = Self.single(of: self.endpoints) }
    }
    /// The only one of `endpoints`, which holds it: reading it here counts no reference.
    private var single: Unmanaged<Endpoint>?
    private var leastLoaded: LeastLoaded
    private var roundRobin: RoundRobin
    private var outliers: OutlierDetector
    /// Some endpoint has failed lately; while none has, the detector is not asked.
    private(set) var isWatching = false

    init(endpoints: [Endpoint], settings: OutlierSettings, random: inout RandomSource) {
        self.endpoints = endpoints
        self.single = Self.single(of: endpoints)
        self.leastLoaded = LeastLoaded(random: random.split())
        self.roundRobin = RoundRobin(start: Int(truncatingIfNeeded: random.next()))
        self.outliers = OutlierDetector(count: endpoints.count, policy: settings.policy)
    }

    /// Takes over a new set of endpoints; what is known of those that stay is kept.
    func adopt(_ endpoints: [Endpoint], settings: OutlierSettings) {
        let old = self.endpoints
        self.endpoints = endpoints
        self.outliers.update(count: endpoints.count, policy: settings.policy) { index in
            old.firstIndex { $0 === endpoints[index] }
        }
    }

    private static func single(of endpoints: [Endpoint]) -> Unmanaged<Endpoint>? {
        endpoints.count == 1 ? .passUnretained(endpoints[0]) : nil
    }

    // MARK: Choosing

    /// The one endpoint there is to choose, whatever the way of choosing: in good order, and not on
    /// its way out.
    @inline(__always)
    var onlyEndpoint: Endpoint? {
        guard !self.isWatching, let endpoint = self.single?.takeUnretainedValue() else {
            return nil
        }
        return endpoint.isRetired.load(ordering: .relaxed) ? nil : endpoint
    }

    /// Whether some endpoint has a free slot.
    @inline(__always)
    func hasFreeSlot(excluding excluded: [Endpoint], now: Instant) -> Bool {
        if self.isWatching || !excluded.isEmpty {
            let view = self.view(excluding: excluded, now: now)
            return (0..<view.count).contains {
                view.isEligible($0) && view.inFlight($0) < view.limit($0)
            }
        }
        if let single = self.single {
            return single._withUnsafeGuaranteedRef { $0.hasFreeSlot }
        }
        // By the index: an iterator would hold the array and each endpoint.
        var index = 0
        while index < self.endpoints.count {
            if self.endpoints[index].hasFreeSlot { return true }
            index &+= 1
        }
        return false
    }

    func view(excluding excluded: [Endpoint], now: Instant) -> EndpointView {
        EndpointView(
            endpoints: self.endpoints,
            excluded: excluded,
            // Ejected are some, never all: a fleet that is out altogether answers nobody.
            outliers: self.isWatching && self.outliers.ejectedCount < self.endpoints.count
                ? self.outliers : nil,
            now: now
        )
    }

    func pickLeastLoaded(_ view: EndpointView) -> BalancerChoice {
        self.leastLoaded.pick(view)
    }

    func pickRoundRobin(_ view: EndpointView) -> BalancerChoice {
        self.roundRobin.pick(view)
    }

    /// The request goes to the endpoint at `index`; one that was ejected is being probed by it.
    @inline(__always)
    func willSend(_ index: Int, now: Instant) {
        if self.isWatching { self.outliers.willSend(index, now: now) }
    }

    // MARK: Outcomes

    /// Whether this failure ejected the endpoint, and until when.
    func recordError(of endpoint: Endpoint, now: Instant) -> Instant? {
        guard let index = self.index(of: endpoint) else { return nil }
        self.isWatching = true
        if case .ejected(let until) = self.outliers.recordError(index, now: now) { return until }
        return nil
    }

    @inline(__always)
    func recordSuccess(of endpoint: Endpoint, now: Instant) {
        if self.isWatching { self.clear(endpoint, now: now) }
    }

    /// The request ended without telling anything about the endpoint.
    func recordAbandoned(_ endpoint: Endpoint) {
        guard self.isWatching, let index = self.index(of: endpoint) else { return }
        self.outliers.recordAbandoned(index)
    }

    private func clear(_ endpoint: Endpoint, now: Instant) {
        guard let index = self.index(of: endpoint) else { return }
        self.outliers.recordSuccess(index, now: now)
        self.isWatching =
            !self.outliers.isQuiet
            || self.endpoints.indices.contains { self.outliers.consecutiveErrors($0) > 0 }
    }

    private func index(of endpoint: Endpoint) -> Int? {
        self.endpoints.firstIndex { $0 === endpoint }
    }
}

/// A variant's endpoints as a balancer sees them.
struct EndpointView: BalancedEndpoints {
    let endpoints: [Endpoint]
    let excluded: [Endpoint]
    let outliers: OutlierDetector?
    let now: Instant

    var count: Int { self.endpoints.count }

    func inFlight(_ index: Int) -> Int {
        self.endpoints[index].inFlight.load(ordering: .relaxed)
    }

    func limit(_ index: Int) -> Int {
        self.endpoints[index].limit.load(ordering: .relaxed)
    }

    func isEligible(_ index: Int) -> Bool {
        if let outliers = self.outliers, !outliers.admits(index, now: self.now) { return false }
        let endpoint = self.endpoints[index]
        if endpoint.isRetired.load(ordering: .relaxed) { return false }
        return self.excluded.isEmpty || !self.excluded.contains { $0 === endpoint }
    }

    func identity(_ index: Int) -> UInt64 { self.endpoints[index].hash }
}

extension OutlierSettings {
    var policy: OutlierPolicy {
        OutlierPolicy(
            consecutiveErrors: self.consecutiveErrors,
            ejectFor: self.ejectFor,
            ejectedMaxMillionths: Int((self.maxEjected * 1e6).rounded())
        )
    }
}
