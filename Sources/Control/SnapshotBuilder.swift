import Clusters
import Configuration
import Core
import EventLoop
import Proxy
import Rollouts
import Synchronization
import TLS
import Traffic

/// Turns (configuration, replicas as observed) into a `TrafficSnapshot`.
///
/// It keeps what must outlive a snapshot: model indices, endpoint slots and objects (with their
/// in-flight counts), and each model's shared queue. Pure but for those; the control thread's
/// alone.
package final class SnapshotBuilder {
    /// One replica a variant may send requests to.
    package struct Target: Hashable {
        package var id: String
        /// Differs between one process and its successor at the same address.
        package var incarnation: UInt64
        package var address: SocketAddress
        /// Nil: plain text.
        package var security: ClientSecurity?
        /// Where it takes calls of gRPC, if that is a port of its own.
        package var callAddress: SocketAddress?

        package init(
            id: String,
            incarnation: UInt64 = 0,
            address: SocketAddress,
            security: ClientSecurity? = nil,
            callAddress: SocketAddress? = nil
        ) {
            self.id = id
            self.incarnation = incarnation
            self.address = address
            self.security = security
            self.callAddress = callAddress
        }
    }

    /// What a rollout makes of a model's route.
    package struct Traffic {
        package var plan: TrafficPlan
        /// The new variant, while a rollout runs.
        package var canary: String?
        /// Nil: nothing is measured.
        package var trial: Trial?

        package init(_ plan: TrafficPlan, canary: String? = nil, trial: Trial? = nil) {
            self.plan = plan
            self.canary = canary
            self.trial = trial
        }

        func isSame(_ other: Traffic) -> Bool {
            self.plan == other.plan && self.canary == other.canary && self.trial === other.trial
        }
    }

    /// Nil: the configuration's weights hold.
    package typealias TrafficLookup = (_ model: String) -> Traffic?

    /// What a replica of a variant can do against those of the others of its pool; nil: not known.
    package typealias WorthLookup = (_ model: String, _ variant: String) -> Double?

    /// The ready replicas of a variant's backend.
    package typealias TargetLookup = (_ model: String, _ variant: VariantSpec) -> [Target]

    private var generation: UInt64 = 0
    private var modelIndices: [String: Int] = [:]
    private var freeModelIndices: [Int] = []
    private var shared: [String: ModelShared] = [:]
    private var endpoints: [Key: Endpoint] = [:]
    private var tenants: [String: TenantShared] = [:]
    private var freeSlots: [Int] = []
    private var slotCount = 0
    /// Retired endpoints whose slot waits for the acknowledgement of a generation.
    private var retired: [Key: (generation: UInt64, endpoint: Endpoint)] = [:]
    /// The routes of the last snapshot, and what they were made from.
    private var routes: [String: (spec: ModelSpec, traffic: Traffic?, route: ModelRoute)] = [:]
    private let wake: @Sendable (_ model: String, _ variant: String?) -> Void

    /// `wake` is called, from any thread, when a request waits for a model without a replica.
    package init(wake: @escaping @Sendable (_ model: String, _ variant: String?) -> Void) {
        self.wake = wake
    }

    /// A replica may serve several models; each has its own limit and its own slots there.
    private struct Key: Hashable {
        var model: String
        var target: Target
        var wire: WireProtocol
    }

    /// gRPC needs HTTP/2. Otherwise a server with TLS is asked what it speaks, and one without,
    /// which cannot be asked, is spoken to in HTTP/1.
    private static func wire(_ kind: ModelSpec.ModelProtocol, _ target: Target) -> WireProtocol {
        if kind == .grpc { return .http2 }
        return target.security == nil ? .http1 : .negotiated
    }

    /// A model's endpoint at a replica, if the last snapshot has it.
    package func endpoint(for target: Target, model: String) -> Endpoint? {
        guard let kind = self.routes[model]?.spec.protocol else { return nil }
        let wire = Self.wire(kind, target)
        return self.endpoints[Key(model: model, target: target, wire: wire)]
    }

    /// Requests in flight at a replica of the last snapshot, over all models.
    package func requestsInFlight(at target: Target) -> Int {
        self.endpoints.reduce(0) {
            $1.key.target == target ? $0 + $1.value.inFlight.load(ordering: .relaxed) : $0
        }
    }

    /// Requests in flight by the name of the replica, where there are any.
    package func requestsInFlight() -> [String: Int] {
        var result: [String: Int] = [:]
        let retired = self.retired.values.lazy.map(\.endpoint)
        for endpoint in [Endpoint](self.endpoints.values) + retired {
            let count = endpoint.inFlight.load(ordering: .relaxed)
            if count > 0 { result[endpoint.name, default: 0] += count }
        }
        return result
    }

    /// Requests in flight at a replica that has left the snapshot.
    package func requestsDraining(_ id: String) -> Int {
        self.retired.reduce(0) {
            let endpoint = $1.value.endpoint
            return endpoint.name == id ? $0 + endpoint.inFlight.load(ordering: .acquiring) : $0
        }
    }

    package func queueDepth(of model: String) -> Int { self.shared[model]?.depth ?? 0 }

    package func oldestWaitSeconds(of model: String, now: Instant) -> Double {
        self.shared[model]?.oldestWaitSeconds(now: now) ?? 0
    }

    package func build(
        _ configuration: Configuration,
        traffic: TrafficLookup = { _ in nil },
        keys: TenantKeySource = TenantKeySource(),
        worths: WorthLookup = { _, _ in nil },
        targets: TargetLookup
    ) -> TrafficSnapshot {
        self.generation += 1
        var unused = Set(self.endpoints.keys)
        var routes: [ModelRoute?] = []
        var names: [(name: [UInt8], index: Int)] = []
        var paths: [HostPathTable.Route] = []
        var catchAll: Int?
        self.forgetModels(except: Set(configuration.models.map(\.name)))
        for model in configuration.models {
            let route = self.route(model, traffic(model.name), worths, targets, &unused)
            while routes.count <= route.index { routes.append(nil) }
            routes[route.index] = route
            names.append((Array(model.name.utf8), route.index))
            for alias in model.spec.aliases {
                if alias == ModelSpec.catchAllAlias {
                    catchAll = route.index
                } else {
                    names.append((Array(alias.utf8), route.index))
                }
            }
            paths += Self.routes(model.spec, index: route.index)
        }
        for key in unused { self.retire(key) }
        return TrafficSnapshot(
            generation: self.generation,
            models: routes,
            table: Self.table(names, catchAll),
            routes: Self.table(paths),
            limits: Self.limits(configuration),
            tenants: self.directory(configuration, keys)
        )
    }

    // MARK: Tenants

    /// The tenants of the last snapshot, with what was counted of them.
    package private(set) var tenantStatistics: [TenantShared] = []
    /// By `namespace/name`: other tenants who have one of its keys, and for whom that counts.
    private(set) var keyOwners: [String: Set<String>] = [:]

    /// Nil without tenants. One whose keys are all elsewhere has none yet; the gateway is closed to
    /// it, and not open to everybody.
    private func directory(
        _ configuration: Configuration,
        _ source: TenantKeySource
    ) -> TenantDirectory? {
        let names = Set(configuration.tenants.map(Self.label))
        self.tenants = self.tenants.filter { names.contains($0.key) }
        self.tenantStatistics = []
        self.keyOwners = [:]
        if configuration.tenants.isEmpty, !source.areRequired { return nil }
        let forwards = configuration.gateway.spec.forwardCredentials
        var directory = TenantDirectory(forwardsCredentials: forwards)
        let now = EventLoop.readClock()
        for tenant in configuration.tenants {
            let limits = tenant.spec.limits
            let quota = TenantQuota(
                requestsPerSecond: limits.requestsPerSecond,
                tokensPerMinute: limits.tokensPerMinute,
                concurrency: limits.concurrency
            )
            let name = Self.label(tenant)
            let share = source.share(tenant)
            let shared = self.tenants[name] ?? TenantShared(name, quota, share: share, now: now)
            shared.update(quota, share: share, now: now)
            self.tenants[name] = shared
            self.tenantStatistics.append(shared)
            let route = TenantRoute(
                name: name,
                priority: tenant.spec.priority,
                models: tenant.spec.models,
                shared: shared
            )
            let keys = tenant.spec.keys.compactMap(Self.digest) + source.inSecrets(tenant)
            self.keyOwners[tenant.key] = directory.add(route, keys: keys)
        }
        return directory
    }

    /// The parts of limits are others than before; the snapshot is as it was.
    func share(_ tenants: [TenantResource], _ source: TenantKeySource, now: Instant) {
        for tenant in tenants {
            self.tenants[Self.label(tenant)]?.take(source.share(tenant), now: now)
        }
    }

    /// What all workers share of a tenant, if the last snapshot has it.
    func shared(_ tenant: TenantResource) -> TenantShared? { self.tenants[Self.label(tenant)] }

    /// Unique among the tenants of all namespaces.
    private static func label(_ tenant: TenantResource) -> String {
        let namespace = tenant.metadata.namespace
        return namespace == Metadata.defaultNamespace ? tenant.name : "\(namespace)/\(tenant.name)"
    }

    private static func digest(_ key: TenantKey) -> KeyDigest? {
        switch key {
        case .sha256(let text): KeyDigest(hexadecimal: text)
        case .secret: nil
        }
    }

    /// Every worker uses `generation` or a later one: slots retired before it may be used again,
    /// once no request is in flight there.
    package func acknowledged(_ generation: UInt64) {
        for (key, entry) in self.retired
        where entry.generation <= generation
            && entry.endpoint.inFlight.load(ordering: .acquiring) == 0
        {
            self.freeSlots.append(entry.endpoint.slot)
            self.retired[key] = nil
        }
    }

    // MARK: Models

    private func route(
        _ model: ModelResource,
        _ traffic: Traffic?,
        _ worths: WorthLookup,
        _ targets: TargetLookup,
        _ unused: inout Set<Key>
    ) -> ModelRoute {
        let name = model.name
        let shared = self.shared[name] ?? ModelShared { [wake] in wake(name, $0) }
        self.shared[name] = shared
        let limit = Self.concurrencyLimit(model.spec.concurrency)
        let endpoints = model.spec.variants.map { variant in
            targets(name, variant).map { target in
                let wire = Self.wire(model.spec.protocol, target)
                let key = Key(model: name, target: target, wire: wire)
                unused.remove(key)
                return self.endpoint(key, limit: limit)
            }
        }
        let weights = Self.weights(model, traffic, endpoints.map(\.count), worths)
        if let kept = self.routes[name], kept.spec == model.spec,
            Self.isSame(kept.traffic, traffic), Self.has(kept.route, endpoints: endpoints),
            kept.route.variants.map(\.weight) == weights
        {
            return kept.route
        }
        var settings = ModelSettings(model.spec)
        if let traffic { settings.adopt(traffic, of: model.spec.variants.map(\.name)) }
        shared.setLimits(settings)
        let route = ModelRoute(
            index: self.index(of: name),
            name: name,
            settings: settings,
            variants: model.spec.variants.indices.map { index in
                VariantRoute(
                    name: model.spec.variants[index].name,
                    weight: weights[index],
                    endpoints: endpoints[index],
                    trial: Self.arm(index, model.spec, weights[index], traffic)
                )
            },
            shared: shared
        )
        self.routes[name] = (model.spec, traffic, route)
        return route
    }

    private static func isSame(_ left: Traffic?, _ right: Traffic?) -> Bool {
        guard let left, let right else { return left == nil && right == nil }
        return left.isSame(right)
    }

    /// As the configuration or a rollout says, those of pools divided by what is ready.
    private static func weights(
        _ model: ModelResource,
        _ traffic: Traffic?,
        _ ready: [Int],
        _ worths: WorthLookup
    ) -> [Int] {
        let spec = model.spec
        let weights =
            traffic.map { traffic in spec.variants.map { traffic.plan.weight(of: $0.name) } }
            ?? spec.variantWeights
        return spec.divided(weights, ready: ready) { worths(model.name, $0) }
    }

    /// The new variant is one arm, whoever else has a share is the other.
    private static func arm(
        _ index: Int,
        _ spec: ModelSpec,
        _ weight: Int,
        _ traffic: Traffic?
    ) -> TrialArm? {
        guard let traffic, let trial = traffic.trial else { return nil }
        let variant = spec.representative(of: spec.variants[index].name)
        if variant == traffic.canary {
            return TrialArm(trial, .canary, generation: traffic.plan.generation)
        }
        if weight == 0 { return nil }
        return TrialArm(trial, .stable, generation: traffic.plan.generation)
    }

    /// Most changes concern few models: the others keep their route, and with it every worker's
    /// state of it.
    private static func has(_ route: ModelRoute, endpoints: [[Endpoint]]) -> Bool {
        zip(route.variants, endpoints).allSatisfy { variant, endpoints in
            variant.endpoints.elementsEqual(endpoints, by: ===)
        }
    }

    private static func concurrencyLimit(_ concurrency: ConcurrencySpec) -> Int {
        switch concurrency {
        case .perReplica(let limit): limit
        case .unlimited, .adaptive: .max
        }
    }

    private func index(of name: String) -> Int {
        if let index = self.modelIndices[name] { return index }
        let index = self.freeModelIndices.popLast() ?? self.modelIndices.count
        self.modelIndices[name] = index
        return index
    }

    private func forgetModels(except names: Set<String>) {
        for (name, index) in self.modelIndices where !names.contains(name) {
            self.modelIndices[name] = nil
            self.shared[name] = nil
            self.routes[name] = nil
            self.freeModelIndices.append(index)
        }
    }

    // MARK: Endpoints

    private func endpoint(_ key: Key, limit: Int) -> Endpoint {
        self.revive(key)
        if let endpoint = self.endpoints[key] {
            endpoint.limit.store(limit, ordering: .relaxed)
            return endpoint
        }
        let slot: Int
        if let free = self.freeSlots.popLast() {
            slot = free
        } else {
            slot = self.slotCount
            self.slotCount += 1
        }
        let endpoint = Endpoint(
            slot: slot,
            name: key.target.id,
            address: key.wire == .http2
                ? key.target.callAddress ?? key.target.address : key.target.address,
            security: key.target.security,
            wire: key.wire,
            callAddress: key.wire == .http1 ? key.target.callAddress : nil,
            limit: limit
        )
        self.endpoints[key] = endpoint
        return endpoint
    }

    /// A replica that was not ready for a moment is the same as before, with the requests it has.
    private func revive(_ key: Key) {
        if self.retired.isEmpty { return }
        guard let endpoint = self.retired.removeValue(forKey: key)?.endpoint else { return }
        endpoint.isRetired.store(false, ordering: .releasing)
        self.endpoints[key] = endpoint
    }

    private func retire(_ key: Key) {
        guard let endpoint = self.endpoints.removeValue(forKey: key) else { return }
        endpoint.isRetired.store(true, ordering: .releasing)
        self.retired[key] = (self.generation, endpoint)
    }

    // MARK: Tables

    /// The configuration was checked for names given twice.
    private static func table(_ names: [(name: [UInt8], index: Int)], _ catchAll: Int?)
        -> ModelTable
    {
        do {
            return try ModelTable(names: names, catchAll: catchAll)
        } catch {
            preconditionFailure("a name twice in a checked configuration: \(error)")
        }
    }

    private static func table(_ routes: [HostPathTable.Route]) -> HostPathTable {
        do {
            return try HostPathTable(routes: routes)
        } catch {
            preconditionFailure("a bad route in a checked configuration: \(error)")
        }
    }

    /// Every host with every prefix; without prefixes, all of the hosts' paths. A catch-all model
    /// takes every path that no other one has.
    private static func routes(_ spec: ModelSpec, index: Int) -> [HostPathTable.Route] {
        let hosts: [[UInt8]?] =
            spec.hostnames.isEmpty ? [nil] : spec.hostnames.map { Array($0.utf8) }
        var prefixes: [[UInt8]?] = spec.paths.map { Array($0.prefix.utf8) }
        if prefixes.isEmpty {
            guard spec.isCatchAll || (spec.protocol == .http && !spec.hostnames.isEmpty) else {
                return []
            }
            prefixes = [nil]
        }
        return hosts.flatMap { host in
            prefixes.map { HostPathTable.Route(host: host, prefix: $0, index: index) }
        }
    }

    private static func limits(_ configuration: Configuration) -> GatewayLimits {
        let spec = configuration.gateway.spec.limits
        var limits = GatewayLimits()
        limits.maxConnections = spec.maxConnections
        limits.maxHeaderBytes = spec.maxHeaderBytes
        limits.maxHeaders = spec.maxHeaders
        limits.maxTargetBytes = spec.maxTargetBytes
        limits.maxBufferedBody = spec.maxBufferedBody
        limits.maxReplayBody = spec.maxRetryBody
        limits.maxRequestBody = UInt64(spec.maxRequestBody)
        limits.maxDecodedRatio = spec.maxDecodedRatio
        limits.headerTimeout = spec.headerTimeout
        limits.idleTimeout = spec.idleTimeout
        limits.handshakeTimeout = spec.handshakeTimeout
        limits.maxHandshakes = spec.maxHandshakes
        let upstream = configuration.gateway.spec.upstream
        limits.maxIdleUpstreams = upstream.maxIdleConnections
        limits.upstreamIdleTimeout = upstream.idleTimeout
        return limits
    }
}

extension ModelSettings {
    /// What a rollout changes of the settings.
    mutating func adopt(_ traffic: SnapshotBuilder.Traffic, of variants: [String]) {
        let plan = traffic.plan
        if let route = plan.headerRoute,
            let canary = traffic.canary.flatMap({ variants.firstIndex(of: $0) })
        {
            self.headerRoute = (Array(route.name.utf8), Array(route.value.utf8), canary)
        }
        if let to = plan.mirrorTo, let index = variants.firstIndex(of: to) {
            self.mirror = (index, Double(plan.mirrorPercent) / 100)
        }
    }

    /// What the request path reads of a model's resource.
    init(_ spec: ModelSpec) {
        self.init()
        self.kind =
            switch spec.protocol {
            case .openAI: .openAI
            case .openInference: .openInference
            case .http: .http
            case .grpc: .grpc
            }
        self.overrideHeader = spec.overrideHeader.map { Array($0.utf8) }
        self.sticky = spec.sticky.map {
            switch $0 {
            case .header(let name): .header(Array(name.utf8))
            case .cookie(let name): .cookie(Array(name.utf8))
            }
        }
        if let mirror = spec.mirror,
            let index = spec.variants.firstIndex(where: { $0.name == mirror.to })
        {
            self.mirror = (index, mirror.sample.fraction)
        }
        self.balancing =
            switch spec.loadBalancing.policy {
            case .leastLoaded: .leastLoaded
            case .roundRobin: .roundRobin
            case .prefixAffinity: .prefixAffinity
            case .consistentHash: .consistentHash
            }
        self.hashHeader = spec.loadBalancing.header.map { Array($0.utf8) }
        self.queueCapacity = spec.queue.capacity
        self.queueBytes = spec.queue.maxBytes
        self.queueTimeout = spec.queue.timeout
        self.connectTimeout = spec.timeouts.connect
        self.firstByteTimeout = spec.timeouts.firstByte
        self.requestTimeout = spec.timeouts.request
        self.streamIdleTimeout = spec.timeouts.streamIdle
        self.attempts = spec.retry.attempts
        self.startsReplicas = spec.variants.contains {
            if case .workload = $0.backend { true } else { false }
        }
        self.retryBudget = spec.retry.budget.fraction
        self.outlier.consecutiveErrors = spec.outlier.consecutiveErrors
        self.outlier.ejectFor = spec.outlier.ejectFor
        self.outlier.maxEjected = spec.outlier.maxEjected.fraction
        self.compression.answers = spec.compression.answers
        self.compression.streams = spec.compression.streams
        self.compression.answerBytesMin = spec.compression.minBytes
        self.compression.decodesRequests = spec.compression.requests == .decode
    }
}

extension ModelSpec {
    /// The variants' weights, those of pools divided by what is ready there.
    /// - Parameters:
    ///   - ready: replicas of each variant that take requests.
    ///   - worth: of a variant's replica; where that of one of a pool is not known, they are worth
    ///     what they cost.
    func divided(
        _ weights: [Int],
        ready: [Int],
        keepsScale: Bool = false,
        worth: (String) -> Double?
    ) -> [Int] {
        if self.variants.allSatisfy({ $0.pool == nil }) { return weights }
        let pools = self.variants.compactMap(\.pool)
        let members = self.variants.indices.map { index in
            let variant = self.variants[index]
            let own = self.interchangeable(with: variant.name)
            let isKnown = own.allSatisfy { worth($0.name) != nil }
            return PoolWeights.Member(
                weight: weights[index],
                pool: variant.pool.flatMap { pools.firstIndex(of: $0) },
                ready: ready[index],
                worth: isKnown ? worth(variant.name) ?? 1 : variant.scaling.cost
            )
        }
        return PoolWeights.divide(members, keepsScale: keepsScale)
    }
}
