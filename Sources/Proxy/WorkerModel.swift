import Core
import EventLoop
import HTTP
import Rollouts
import Synchronization
import Traffic

/// One worker's state of one model: what its decisions remember, and what it measured.
final class WorkerModel {
    private(set) var route: ModelRoute {
        didSet { self.timeouts = self.route.timeouts }
    }
    /// The route's, at hand: reading the route would count references.
    private(set) var timeouts: ModelTimeouts
    /// Of the model as a whole; the variants' own are in `meters`.
    var statistics: ModelStatistics
    /// By variant of the route at hand, and behind them those of variants that have left.
    private var meters: [VariantMeter] {
        didSet { self.unownedMeters = self.meters.map { .passUnretained($0) } }
    }
    /// The same objects, which live as long as the model: reading them here counts no references.
    private var unownedMeters: [Unmanaged<VariantMeter>] = []
    private var picker: WeightedPicker
    private var sticky: StickyHash
    /// By variant of the route at hand.
    private var balances: [VariantBalance] {
        didSet { self.unownedBalances = self.balances.map { .passUnretained($0) } }
    }
    /// The same objects, which `balances` holds: reading them here counts no references.
    private var unownedBalances: [Unmanaged<VariantBalance>] = []
    /// Some replica has failed lately; while none has, an answer without an error tells nothing.
    private(set) var isWatching = false
    private var retryBudget: RetryBudget
    private(set) var mirror: MirrorPolicy?
    /// What is measured of a rollout; nil before the model's first.
    private(set) var trial: TrialRecorder?
    var mirrorsInFlight = 0
    /// Copies made while a rollout repeats some at the old variant.
    private var copies: UInt64 = 0
    /// Set once the model has left the snapshot: earlier requests have nothing to wait for.
    var isGone = false
    private var random: RandomSource
    private let affinity: PrefixAffinity
    // What `collectIfChanged` saw last.
    private var collectedArrivals: UInt64 = 0
    private var wasBusy = false
    var nameBytes: [UInt8] { self.route.nameBytes }

    init(route: ModelRoute, seed: UInt64) {
        self.route = route
        self.timeouts = route.timeouts
        var random = RandomSource(seed: seed)
        self.statistics = ModelStatistics(name: route.name)
        self.statistics.epoch = random.next()
        self.meters = route.variants.map { VariantMeter($0.name) }
        self.picker = WeightedPicker(
            weights: route.variants.map(\.weight),
            phase: Int(random.next() % 100)
        )
        self.sticky = Self.stickyHash(route)
        self.balances = route.variants.map {
            VariantBalance(
                endpoints: $0.endpoints,
                settings: route.settings.outlier,
                random: &random
            )
        }
        self.unownedBalances = self.balances.map { .passUnretained($0) }
        self.unownedMeters = self.meters.map { .passUnretained($0) }
        self.retryBudget = RetryBudget(millionths: Int(route.settings.retryBudget * 1e6))
        self.mirror = route.settings.mirror.map {
            MirrorPolicy(sampler: PercentSampler(share: $0.share))
        }
        self.random = random
        self.affinity = PrefixAffinity(salt: Self.salt(route.name))
    }

    /// The same for the model on every worker and gateway.
    private static func salt(_ name: String) -> UInt64 {
        var name = name
        return name.withUTF8 { ByteHash.hash(UnsafeRawBufferPointer($0).bytes) }
    }

    func prefixKeys(_ prompt: PromptHash) -> PrefixKeys? { self.affinity.keys(prompt) }

    private static func stickyHash(_ route: ModelRoute) -> StickyHash {
        StickyHash(
            identities: route.variants.map { variant in
                Self.salt(variant.name)
            },
            weights: route.variants.map(\.weight),
            salt: Self.salt(route.name)
        )
    }

    /// Takes over the model as a new snapshot has it. Counters go by the variants' names.
    func adopt(_ route: ModelRoute) {
        let old = self.route
        if old === route { return }
        self.route = route
        precondition(old.shared === route.shared, "another model's route")
        let names = route.variants.map(\.name)
        let oldNames = old.variants.map(\.name)
        self.picker.update(weights: route.variants.map(\.weight)) { index in
            oldNames.firstIndex(of: names[index])
        }
        self.sticky = Self.stickyHash(route)
        if names != oldNames || self.meters.count < names.count {
            self.arrangeMeters(names)
        }
        self.adoptEndpoints(route, oldNames)
        if old.settings.retryBudget != route.settings.retryBudget {
            self.retryBudget = RetryBudget(millionths: Int(route.settings.retryBudget * 1e6))
        }
        self.adoptMirror(route.settings)
    }

    private func adoptEndpoints(_ route: ModelRoute, _ oldNames: [String]) {
        let old = self.balances
        self.balances = route.variants.map { variant in
            guard let index = oldNames.firstIndex(of: variant.name) else {
                return VariantBalance(
                    endpoints: variant.endpoints,
                    settings: route.settings.outlier,
                    random: &self.random
                )
            }
            let balance = old[index]
            balance.adopt(variant.endpoints, settings: route.settings.outlier)
            return balance
        }
    }

    /// Puts the meters in the order of the new route, those of variants that left behind them.
    private func arrangeMeters(_ names: [String]) {
        let old = self.meters
        self.meters = names.map { name in
            old.first { $0.statistics.name == name } ?? VariantMeter(name)
        }
        self.meters += old.filter { !names.contains($0.statistics.name) }
    }

    func meter(_ variant: Int) -> VariantMeter { self.meters[variant] }

    /// As `meter`, for as long as the model is there.
    @inline(__always)
    func unownedMeter(_ variant: Int) -> Unmanaged<VariantMeter> { self.unownedMeters[variant] }

    /// A copy of everything measured.
    func collect(at now: Instant) -> ModelStatistics {
        var result = self.statistics
        result.queue.settle(at: now)
        result.variants = self.meters.map { meter in
            var statistics = meter.statistics
            statistics.settle(at: now)
            return statistics
        }
        return result
    }

    /// The same where anything has happened since the last such call or is happening.
    func collectIfChanged(at now: Instant) -> ModelStatistics? {
        let isBusy =
            self.statistics.queue.count > 0
            || self.meters.contains {
                $0.statistics.inFlight > 0 || $0.statistics.pinnedQueue.count > 0
            }
        let isChanged =
            isBusy || self.wasBusy || self.statistics.arrivals != self.collectedArrivals
        self.wasBusy = isBusy
        self.collectedArrivals = self.statistics.arrivals
        return isChanged ? self.collect(at: now) : nil
    }

    private func adoptMirror(_ settings: ModelSettings) {
        guard let mirror = settings.mirror else {
            self.mirror = nil
            return
        }
        let millionths = Int((mirror.share * 1e6).rounded())
        if self.mirror?.sampler.millionths == millionths { return }
        self.mirror = MirrorPolicy(sampler: PercentSampler(millionths: millionths))
    }

    // MARK: Choosing

    var needsPrefix: Bool { self.route.settings.balancing == .prefixAffinity }

    var hasEndpoints: Bool { self.route.variants.contains { !$0.endpoints.isEmpty } }

    /// Nobody can serve a waiting request until a replica is started.
    func needsWake(pinned: VariantRoute?) -> Bool {
        if let pinned {
            return self.index(of: pinned).map { self.route.variants[$0].endpoints.isEmpty } ?? false
        }
        return self.route.variants.allSatisfy { $0.weight == 0 || $0.endpoints.isEmpty }
    }

    func stickyVariant(keyHash: UInt64) -> Int? {
        self.sticky.pick(keyHash: keyHash)
    }

    /// A replica with a free slot, which is taken; nil when the request has to wait.
    func pick(
        pinned: VariantRoute?,
        excluding: [Endpoint],
        key: AffinityKey,
        now: Instant
    ) -> EndpointChoice? {
        if let pinned {
            guard let index = self.index(of: pinned) else { return nil }
            return self.pick(in: index, excluding: excluding, key: key, now: now)
        }
        if self.route.variants.count == 1 {
            guard self.route.variants[0].weight > 0 else { return nil }
            return self.pick(in: 0, excluding: excluding, key: key, now: now)
        }
        // A variant whose replicas are all busy passes its turn; it is not owed the request.
        var eligible: UInt64 = 0
        for index in self.unownedBalances.indices {
            let isFree = self.unownedBalances[index]._withUnsafeGuaranteedRef {
                $0.hasFreeSlot(excluding: excluding, now: now)
            }
            if isFree { eligible |= 1 &<< UInt64(truncatingIfNeeded: index) }
        }
        while let variant = self.picker.next(among: eligible) {
            if let choice = self.pick(in: variant, excluding: excluding, key: key, now: now) {
                return choice
            }
            eligible &= ~(1 &<< UInt64(truncatingIfNeeded: variant))
        }
        return nil
    }

    /// Where a variant stands now: a reload may have moved it, or taken it away.
    private func index(of variant: VariantRoute) -> Int? {
        self.route.variants.firstIndex {
            $0 === variant || $0.nameBytes == variant.nameBytes
        }
    }

    /// The meter of a choice that another worker may have made with another snapshot.
    func meterIndex(of choice: EndpointChoice) -> Int {
        let variants = self.route.variants
        if choice.variant < variants.count, variants[choice.variant] === choice.route {
            return choice.variant
        }
        let name = choice.route.name
        if let index = self.meters.firstIndex(where: { $0.statistics.name == name }) {
            return index
        }
        self.meters.append(VariantMeter(name))
        return self.meters.count - 1
    }

    private func pick(
        in variant: Int,
        excluding: [Endpoint],
        key: AffinityKey,
        now: Instant
    ) -> EndpointChoice? {
        if excluding.isEmpty {
            let only = self.unownedBalances[variant]._withUnsafeGuaranteedRef { $0.onlyEndpoint }
            if let only { return only.tryAcquire() ? self.choice(variant, only) : nil }
        }
        let balance = self.balances[variant]
        let view = balance.view(excluding: excluding, now: now)
        // A slot may be lost to another worker between the choice and the taking.
        for _ in 0..<Self.raceAttemptsMax {
            guard case .free(let index) = self.choose(balance, view, key: key) else { return nil }
            let endpoint = view.endpoints[index]
            if endpoint.tryAcquire() {
                balance.willSend(index, now: now)
                return self.choice(variant, endpoint)
            }
        }
        return nil
    }

    @inline(__always)
    private func choice(_ variant: Int, _ endpoint: consuming Endpoint) -> EndpointChoice {
        let route = self.route
        return EndpointChoice(
            modelIndex: route.index,
            variant: variant,
            route: route.variants[variant],
            endpoint: endpoint
        )
    }

    private static let raceAttemptsMax = 8

    private func choose(
        _ balance: VariantBalance,
        _ view: EndpointView,
        key: AffinityKey
    ) -> BalancerChoice {
        switch self.route.settings.balancing {
        case .leastLoaded:
            return balance.pickLeastLoaded(view)
        case .roundRobin:
            return balance.pickRoundRobin(view)
        case .consistentHash:
            guard case .hash(let hash) = key else {
                return balance.pickLeastLoaded(view)
            }
            return ConsistentHash().pick(keyHash: hash, view)
        case .prefixAffinity:
            guard case .prefix(let keys) = key else {
                return balance.pickLeastLoaded(view)
            }
            return self.affinity.pick(keys, view)
        }
    }

    // MARK: Measuring

    /// Counts a failed try; the endpoint is ejected when it has failed too often in a row.
    /// The end of its ejection, if this one ejected it.
    @discardableResult
    func noteFailure(of endpoint: Endpoint, variant: VariantRoute?, now: Instant) -> Instant? {
        guard let variant, let index = self.index(of: variant) else { return nil }
        self.isWatching = true
        guard let until = self.balances[index].recordError(of: endpoint, now: now) else {
            return nil
        }
        endpoint.ejectedUntil.store(until.nanoseconds, ordering: .relaxed)
        self.meters[index].statistics.ejections += 1
        return until
    }

    /// An answer: a server error of its own making counts against the endpoint, others clear it.
    func noteResponse(
        _ status: UInt16,
        of endpoint: Endpoint?,
        variant: VariantRoute?,
        now: Instant
    ) {
        guard let endpoint else { return }
        if status >= 500, status != 501, status != 503 {
            self.noteFailure(of: endpoint, variant: variant, now: now)
        } else if let variant, let index = self.index(of: variant) {
            self.balances[index].recordSuccess(of: endpoint, now: now)
            self.isWatching = self.balances.contains { $0.isWatching }
        }
    }

    /// The client left before the endpoint had shown how it does.
    func noteAbandoned(_ endpoint: Endpoint, variant: VariantRoute?) {
        guard self.isWatching, let variant, let index = self.index(of: variant) else { return }
        self.balances[index].recordAbandoned(endpoint)
    }

    // MARK: Rollouts

    /// The recorder of a rollout, made with its first request.
    func recorder(of trial: Trial) -> TrialRecorder {
        if let recorder = self.trial {
            recorder.follow(trial)
            return recorder
        }
        let recorder = TrialRecorder(trial, model: self.route.name)
        self.trial = recorder
        return recorder
    }

    /// What was measured of a rollout since the last call; nothing once none runs any more.
    func takeTrial() -> TrialReport? {
        guard let recorder = self.trial else { return nil }
        let runs = self.route.variants.contains { $0.trial != nil }
        if !runs { self.trial = nil }
        return recorder.take()
    }

    // MARK: Retries and mirroring

    func noteRequest(now: Instant) {
        self.statistics.arrivals += 1
        self.retryBudget.recordRequest(now: now)
    }

    /// A request that may go to one variant only.
    func notePinned(to variant: VariantRoute) {
        self.meter(of: variant).statistics.pinnedArrivals += 1
    }

    func noteQueued(pinned: VariantRoute?, now: Instant) {
        if let pinned {
            self.meter(of: pinned).statistics.pinnedQueue.entered(at: now)
        } else {
            self.statistics.queue.entered(at: now)
        }
    }

    func noteUnqueued(pinned: VariantRoute?, now: Instant) {
        if let pinned {
            self.meter(of: pinned).statistics.pinnedQueue.left(at: now)
        } else {
            self.statistics.queue.left(at: now)
        }
    }

    /// The meter of a variant that may have moved, or left.
    private func meter(of variant: VariantRoute) -> VariantMeter {
        if let meter = self.meters.first(where: { $0.nameBytes == variant.nameBytes }) {
            return meter
        }
        let meter = VariantMeter(variant.name)
        self.meters.append(meter)
        return meter
    }

    func decideRetry(_ facts: RetryFacts, now: Instant) -> RetryDecision {
        RetryPolicy.decide(facts, budget: &self.retryBudget, now: now)
    }

    /// Whether an endpoint other than those that failed a request may take it.
    func hasAlternative(to failed: [Endpoint], pinned: VariantRoute?, now: Instant) -> Bool {
        let pinnedIndex = pinned.map { self.index(of: $0) }
        return self.route.variants.indices.contains { index in
            let variant = self.route.variants[index]
            guard pinnedIndex.map({ $0 == index }) ?? (variant.weight > 0) else { return false }
            let view = self.balances[index].view(excluding: failed, now: now)
            return (0..<view.count).contains { view.isEligible($0) }
        }
    }

    /// Where the copy of a request goes instead of the mirror: for a rollout one in five goes to
    /// the variant that answers the request itself, to see how much that differs from itself.
    func mirrorRoute(of exchange: Exchange) -> Int? {
        guard let variant = exchange.variant, let arm = variant.trial, arm.arm == .stable,
            arm.trial.repeatsStable
        else { return nil }
        // A Weyl sequence: evenly spread, and in step with nothing that clients do.
        self.copies &+= 1
        let place = (self.copies &* 0x9E37_79B9_7F4A_7C15) >> 32
        return place % Self.baselinePeriod == 0 ? self.index(of: variant) : nil
    }

    static let baselinePeriod: UInt64 = 5

    /// Whether this request is copied to the mirror.
    func decideMirror(hasWholeBody: Bool) -> MirrorPolicy.Decision? {
        self.mirror?.decide(inFlight: self.mirrorsInFlight, hasWholeBody: hasWholeBody)
    }
}

/// By what a request prefers some replicas to others.
enum AffinityKey: Sendable {
    case none
    case hash(UInt64)
    case prefix(PrefixKeys)
}

/// What one worker measures of one variant. An object, so that a request under way keeps its own
/// through a reload that reorders the variants.
final class VariantMeter {
    var statistics: VariantStatistics
    /// The variant's name as it goes into headers.
    let nameBytes: [UInt8]

    init(_ name: String) {
        self.statistics = VariantStatistics(name: name)
        self.nameBytes = Array(name.utf8)
    }

    func writeName(into output: ByteBuffer) { output.append(self.nameBytes) }
}
