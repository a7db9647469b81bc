import Core
import Dispatch
import EventLoop
import Glibc
import HTTP
import Proxy
import Synchronization
import Testing
import Traffic

/// A gateway in this process, with everything a test needs around it: snapshots by hand, replicas
/// to script, clients to type with. At the end of each test it checks that nothing was left over.
final class Wire {
    /// A model of a snapshot.
    struct Model {
        var name = "m"
        var settings = Wire.settings
        var variants: [Variant]
        var aliases: [String] = []
        /// For protocol HTTP: its path prefix, and the host it is bound to.
        var prefix: String?
        var host: String?
    }

    struct Variant {
        var name = "v1"
        var weight = 1
        var endpoints: [Endpoint]
        /// Its part in a rollout.
        var trial: TrialArm?
    }

    /// Defaults with deadlines far beyond what a healthy test takes.
    static var settings: ModelSettings {
        var settings = ModelSettings()
        settings.connectTimeout = .seconds(15)
        settings.queueTimeout = .seconds(60)
        settings.outlier.consecutiveErrors = 0
        return settings
    }

    let port: UInt16
    private(set) var endpoints: [Endpoint] = []
    private(set) var upstreams: [ScriptedUpstream] = []
    /// Calls for a replica, counted.
    let wakes = Counter()
    private let gateway: LoopBound<Gateway>
    private let control: EventLoop
    private let controlThread: LoopThread
    private var shared: [String: ModelShared] = [:]
    private var indexes: [String: Int] = [:]
    private var generation: UInt64 = 1
    private var limits: GatewayLimits
    private var clients: [RawSocket] = []
    private var isStopped = false

    /// Starts a gateway without models.
    init(workers: Int = 1, limits: GatewayLimits = GatewayLimits(), trustsForwarded: Bool = true)
        throws
    {
        var options = Gateway.Options()
        options.workers = workers
        options.seed = 42
        options.trustsForwarded = trustsForwarded
        let address = try #require(SocketAddress("127.0.0.1:0"))
        options.listeners = [("test", address)]
        self.limits = limits
        self.control = try EventLoop()
        let empty = TrafficSnapshot(
            generation: 1,
            models: [],
            table: ModelTable(),
            limits: limits
        )
        let gateway = try Gateway(options: options, snapshot: empty, control: self.control)
        self.port = gateway.addresses[0].address.port
        self.gateway = LoopBound(gateway, loop: self.control)
        self.controlThread = LoopThread(name: "wire-control", loop: self.control)
    }

    deinit { self.stop() }

    // MARK: Running

    /// Runs a test against a gateway and, when it went well, checks what is left behind.
    static func run(
        workers: Int = 1,
        limits: GatewayLimits = GatewayLimits(),
        trustsForwarded: Bool = true,
        _ body: (Wire) throws -> Void
    ) throws {
        let wire = try Wire(workers: workers, limits: limits, trustsForwarded: trustsForwarded)
        defer { wire.stop() }
        try body(wire)
        try wire.checkNothingIsLeft()
    }

    /// The usual case: one model `m` with one variant and one replica, played by the test.
    static func one(
        limit: Int = .max,
        limits: GatewayLimits = GatewayLimits(),
        _ change: (inout ModelSettings) -> Void = { _ in },
        body: (Wire, ScriptedUpstream) throws -> Void
    ) throws {
        try self.run(limits: limits) { wire in
            let upstream = try wire.upstream()
            var settings = Self.settings
            change(&settings)
            let endpoint = wire.endpoint(upstream, limit: limit)
            wire.publish([Model(settings: settings, variants: [Variant(endpoints: [endpoint])])])
            try body(wire, upstream)
        }
    }

    func stop() {
        if self.isStopped { return }
        self.isStopped = true
        for upstream in self.upstreams { upstream.stop() }
        self.onControl { $0.stop() }
        self.control.stop()
        self.controlThread.join()
    }

    // MARK: Peers

    func upstream(isListening: Bool = true, backlog: Int32 = 1024) throws -> ScriptedUpstream {
        let upstream = try ScriptedUpstream(isListening: isListening, backlog: backlog)
        self.upstreams.append(upstream)
        return upstream
    }

    func endpoint(
        _ upstream: ScriptedUpstream,
        name: String? = nil,
        limit: Int = .max,
        wire: WireProtocol = .http1
    ) -> Endpoint {
        let slot = self.endpoints.count
        guard let address = SocketAddress(host: "127.0.0.1", port: upstream.port) else {
            preconditionFailure("the loopback has no address")
        }
        let endpoint = Endpoint(
            slot: slot,
            name: name ?? "replica-\(slot)",
            address: address,
            wire: wire,
            limit: limit
        )
        self.endpoints.append(endpoint)
        return endpoint
    }

    func client(receiveBuffer: Int32? = nil) throws -> RawSocket {
        let client = try RawSocket.connect(port: self.port, receiveBuffer: receiveBuffer)
        self.clients.append(client)
        return client
    }

    /// One request on a connection of its own, and its answer.
    func fetch(_ text: String, to method: String = "GET") throws -> Message {
        let client = try RawSocket.connect(port: self.port)
        defer { client.close() }
        try client.send(text)
        return try client.readResponse(to: method)
    }

    // MARK: Snapshots

    /// Publishes a snapshot of these models and waits until every worker uses it.
    func publish(_ models: [Model], limits: GatewayLimits? = nil) {
        if let limits { self.limits = limits }
        self.generation += 1
        let snapshot = self.snapshot(models)
        let done = DispatchSemaphore(value: 0)
        self.gateway.loop.post { [gateway] in
            gateway.value.publish(snapshot) { done.signal() }
        }
        precondition(done.wait(timeout: Self.patience) == .success, "no worker acknowledged")
    }

    private static var patience: DispatchTime { .now() + .seconds(RawSocket.deadlineSeconds) }

    private func snapshot(_ models: [Model]) -> TrafficSnapshot {
        var routes: [ModelRoute?] = Array(repeating: nil, count: self.indexes.count)
        var names: [(name: [UInt8], index: Int)] = []
        var paths: [HostPathTable.Route] = []
        for model in models {
            let route = self.route(model)
            while routes.count <= route.index { routes.append(nil) }
            routes[route.index] = route
            for name in [model.name] + model.aliases {
                names.append((Array(name.utf8), route.index))
            }
            if model.prefix != nil || model.host != nil {
                paths.append(
                    .init(
                        host: model.host.map { Array($0.utf8) },
                        prefix: model.prefix.map { Array($0.utf8) },
                        index: route.index
                    )
                )
            }
        }
        do {
            return TrafficSnapshot(
                generation: self.generation,
                models: routes,
                table: try ModelTable(names: names),
                routes: try HostPathTable(routes: paths),
                limits: self.limits
            )
        } catch {
            preconditionFailure("a test's own snapshot is wrong: \(error)")
        }
    }

    private func route(_ model: Model) -> ModelRoute {
        let index = self.indexes[model.name] ?? self.indexes.count
        self.indexes[model.name] = index
        let wakes = self.wakes
        let shared = self.shared[model.name] ?? ModelShared { _ in wakes.add() }
        self.shared[model.name] = shared
        shared.setLimits(model.settings)
        return ModelRoute(
            index: index,
            name: model.name,
            settings: model.settings,
            variants: model.variants.map {
                VariantRoute(
                    name: $0.name,
                    weight: $0.weight,
                    endpoints: $0.endpoints,
                    trial: $0.trial
                )
            },
            shared: shared
        )
    }

    /// Requests that wait for a slot of the model.
    func queueDepth(_ model: String = "m") -> Int { self.shared[model]?.depth ?? 0 }

    // MARK: Control

    func onControl<Value: Sendable>(_ body: @escaping @Sendable (Gateway) -> Value) -> Value {
        let done = DispatchSemaphore(value: 0)
        let result = Locked<Value?>(nil)
        let carried = Carried(UncheckedReference(result))
        self.control.post { [gateway] in
            let value = body(gateway.value)
            carried.value.result.withLock { $0 = value }
            done.signal()
        }
        precondition(done.wait(timeout: Self.patience) == .success, "the control loop is stuck")
        guard let value = carried.value.result.withLock({ $0 }) else {
            preconditionFailure("signalled without a value")
        }
        return value
    }

    private final class UncheckedReference<Value: Sendable>: Sendable {
        let result: Locked<Value?>
        init(_ result: consuming Locked<Value?>) { self.result = result }
    }

    /// What all workers measured of rollouts since the last call.
    func trials() -> [TrialReport] {
        let done = DispatchSemaphore(value: 0)
        let reports = Locked<[TrialReport]>([])
        let workers = self.onControl { $0.workerCount }
        self.control.post { [gateway] in
            gateway.value.collectTrials { part in
                reports.withLock { $0 += part }
                done.signal()
            }
        }
        for _ in 0..<workers {
            precondition(done.wait(timeout: Self.patience) == .success, "no worker answered")
        }
        return reports.withLock { $0 }
    }

    /// What all workers measured.
    func statistics() throws -> GatewayStatistics {
        let done = DispatchSemaphore(value: 0)
        let result = Box<GatewayStatistics>()
        self.control.post { [gateway] in
            gateway.value.collect {
                result.set($0)
                done.signal()
            }
        }
        guard done.wait(timeout: Self.patience) == .success else {
            throw WireError.timeout("statistics")
        }
        return try #require(result.get())
    }

    /// Asks for statistics until they are as wanted: for what has no answer to wait for. Bounded by
    /// the same deadline as a read.
    func wait(
        for what: String,
        until condition: (GatewayStatistics) -> Bool
    ) throws {
        let deadline = EventLoop.readClock() + .seconds(RawSocket.deadlineSeconds)
        while !condition(try self.statistics()) {
            if EventLoop.readClock() > deadline { throw WireError.timeout(what) }
            sched_yield()
        }
    }

    /// The same for what atomics show.
    func wait(for what: String, until condition: () -> Bool) throws {
        try self.wait(for: what) { (_: GatewayStatistics) in condition() }
    }

    /// Starts to drain; the counter is raised when all requests are done.
    func drain() -> Counter {
        let done = Counter()
        self.control.post { [gateway] in gateway.value.drain { done.add() } }
        return done
    }

    // MARK: Leftovers

    /// After the clients have gone no request is under way and no slot is taken.
    func checkNothingIsLeft() throws {
        for client in self.clients { client.close() }
        try self.wait(for: "all clients gone") { $0.workers.clientConnections == 0 }
        let drained = self.drain()
        try self.wait(for: "the end of all requests") { drained.value == 1 }
        for endpoint in self.endpoints {
            let inFlight = endpoint.inFlight.load(ordering: .relaxed)
            #expect(inFlight == 0, "slots of \(endpoint.name) are still taken")
        }
        let statistics = try self.statistics()
        let workers = statistics.workers
        #expect(workers.upstreamConnections == workers.upstreamConnectionsIdle)
        for model in statistics.models.values {
            for variant in model.variants { #expect(variant.inFlight == 0, "\(variant.name)") }
        }
        for name in self.shared.keys { #expect(self.queueDepth(name) == 0) }
    }
}

/// Counts across threads.
final class Counter: Sendable {
    private let count = Atomic<Int>(0)
    var value: Int { self.count.load(ordering: .acquiring) }

    @discardableResult
    func add(_ amount: Int = 1) -> Int {
        self.count.add(amount, ordering: .acquiringAndReleasing).newValue
    }
}

/// Carries one value between threads.
final class Box<Value: Sendable>: Sendable {
    private let value = Locked<Value?>(nil)
    func set(_ value: Value) { self.value.withLock { $0 = value } }
    func get() -> Value? { self.value.withLock { $0 } }
}

/// Requests as clients write them.
enum Ask {
    /// An inference that says its model in the path.
    static func infer(
        _ model: String = "m",
        _ body: String = "{}",
        fields: String = "",
        host: String = "h"
    ) -> String {
        "POST /v2/models/\(model)/infer HTTP/1.1\r\nHost: \(host)\r\n\(fields)"
            + "Content-Length: \(body.utf8.count)\r\n\r\n\(body)"
    }

    /// A chat that says its model in the body.
    static func chat(_ body: String, fields: String = "") -> String {
        "POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\n\(fields)"
            + "Content-Length: \(body.utf8.count)\r\n\r\n\(body)"
    }

    /// A plain request that says its model in a header.
    static func get(
        _ target: String = "/a",
        method: String = "GET",
        fields: String = "",
        model: String = "m"
    ) -> String {
        "\(method) \(target) HTTP/1.1\r\nHost: h\r\nX-Weir-Model: \(model)\r\n\(fields)\r\n"
    }
}
