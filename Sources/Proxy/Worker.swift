import Core
import EventLoop
import Glibc
import HTTP
import Recorder
import Synchronization
import TLS
import Telemetry
import Traffic

/// One event loop with its listeners, connections, pools and counters. Nothing here is shared with
/// other workers but what a snapshot carries (`Endpoint`, `ModelShared`) and `GatewayShared`.
final class Worker {
    /// Bytes read from a socket at once.
    static let readSize = 64 * 1024

    let index: Int
    let loop: EventLoop
    let wheel: TimerWheel
    let shared: GatewayShared
    private(set) var snapshot: TrafficSnapshot {
        didSet { self.unownedSnapshot = .passUnretained(self.snapshot) }
    }
    /// The same object: reading it here counts no references.
    private(set) var unownedSnapshot: Unmanaged<TrafficSnapshot>
    private(set) var limits: GatewayLimits
    private(set) var headLimits: HeadLimits
    private(set) var timeouts: GatewayLimits.Timeouts
    private(set) var isDraining = false
    let stats = ConnectionCounters()
    var buffers = BufferPool()
    var random: RandomSource

    // Scratch memory and parsers that live for one call only.
    let scratch = UnsafeMutableRawPointer.allocate(byteCount: readSize, alignment: 64)
    let upstreamScratch = UnsafeMutableRawPointer.allocate(byteCount: readSize, alignment: 64)
    let vectors = UnsafeMutablePointer<iovec>.allocate(capacity: 4)
    let requestHead = RequestHead()
    let responseHead = ResponseHead()
    // The same: reading them here counts no references.
    let unownedRequestHead: Unmanaged<RequestHead>
    let unownedResponseHead: Unmanaged<ResponseHead>
    /// For looking into a request's canonical head after its bytes are gone.
    let lookupHead = RequestHead()

    /// Made by the first exchange that has to do with content codings.
    private var madeCoding: WorkerCoding?
    var coding: WorkerCoding {
        if let coding = self.madeCoding { return coding }
        let coding = WorkerCoding()
        self.madeCoding = coding
        return coding
    }

    /// The fields of an HTTP/2 message, and lines that become some.
    let fieldList = OutgoingFields()
    let fieldLines = ByteBuffer(capacity: 512)

    var dateReadAt = Instant.zero
    var dateSeconds: Int64 = 0
    let accessLog: AccessLogSink?
    // Of `shared`, at hand.
    let logsAccess: Bool
    let trustsForwarded: Bool
    /// Nil where traffic is not recorded.
    var recorder: RecorderSink?
    private var listeners: [Listener] = []
    private var connections: [Connection?] = []
    private var freeSlots: [Int] = []
    private var pools: [UpstreamPool?] = []
    private var models: [WorkerModel?] = []
    /// Models from here on may still be as an older snapshot has them.
    private var nextAdopted = Int.max
    private var adoptionsDone: [() -> Void] = []
    /// All there are, which the worker owns: whoever works on one counts no references.
    private var exchanges: [Exchange] = []
    /// Those that serve no request.
    private var idleExchanges: [Unmanaged<Exchange>] = []
    private var deferred: [Connection] = []
    private var handling: [Connection] = []
    /// Connections that have something to be sent in this turn. Not counted: one that closes
    /// meanwhile is in `deferred`, which is let go of only after these have been sent.
    private var unsent: [Unmanaged<Connection>] = []
    /// Calls that want to be told of changes; those that have ended are let go of in time.
    var watchers: [Exchange] = []
    /// TLS handshakes with clients that are not done yet.
    var clientHandshakes = 0
    /// Those with clients and replicas that can go on, in the order in which they get their turn.
    private var handshakes = HandshakeQueue()
    private var sending: [Unmanaged<Connection>] = []
    /// Exchanges under way; a drain is done at 0.
    private(set) var activeExchanges = 0
    private var onDrained: (() -> Void)?

    init(index: Int, loop: EventLoop, shared: GatewayShared, snapshot: TrafficSnapshot) {
        self.index = index
        self.loop = loop
        self.wheel = TimerWheel(loop: loop)
        self.shared = shared
        self.snapshot = snapshot
        self.unownedSnapshot = .passUnretained(snapshot)
        self.limits = snapshot.limits
        self.headLimits = snapshot.limits.head
        self.timeouts = snapshot.limits.timeouts
        self.random = RandomSource(seed: shared.seed &+ UInt64(index))
        self.accessLog = shared.accessLog?.makeSink(on: loop)
        self.logsAccess = shared.logsAccess
        self.trustsForwarded = shared.trustsForwarded
        self.unownedRequestHead = .passUnretained(self.requestHead)
        self.unownedResponseHead = .passUnretained(self.responseHead)
        self.models = Array(repeating: nil, count: snapshot.models.count)
        loop.afterTurn = { [unowned self] in self.afterTurn() }
    }

    deinit {
        self.scratch.deallocate()
        self.upstreamScratch.deallocate()
        self.vectors.deallocate()
    }

    var handle: WorkerHandle { WorkerHandle(index: self.index, loop: self.loop) }

    // MARK: Connections

    func listen(_ descriptor: Int32, security: ListenerSecurity?, http2: HTTP2Options) {
        self.listeners.append(
            Listener(worker: self, descriptor: descriptor, security: security, http2: http2)
        )
    }

    func accepted(
        _ descriptor: Int32,
        peer: SocketAddress?,
        http2: HTTP2Options,
        session: TLSSession? = nil
    ) {
        Sockets.disableNagle(descriptor)
        let connection = ServerConnection(
            worker: self,
            descriptor: descriptor,
            peer: peer,
            http2: http2
        )
        connection.open(session)
    }

    /// Connections over the limit that are being told so, at most; more are just closed.
    private static let turnedAwayMax = 256

    /// Over the connection limit: an answer, where few enough are being given one.
    func turnAway(_ descriptor: Int32, peer: SocketAddress?) {
        guard self.stats.turningAway < Self.turnedAwayMax else {
            Sockets.close(descriptor)
            return
        }
        ServerConnection(worker: self, descriptor: descriptor, peer: peer, isCounted: false)
            .turnAway()
    }

    func insert(_ connection: Connection) {
        if let slot = self.freeSlots.popLast() {
            connection.slot = slot
            self.connections[slot] = connection
        } else {
            connection.slot = self.connections.count
            self.connections.append(connection)
        }
    }

    /// Lets go of a closed connection at the end of the turn: its methods may be on the stack.
    func remove(_ connection: Connection) {
        let slot = connection.slot
        precondition(slot >= 0, "a connection was removed twice")
        connection.slot = -1
        self.deferred.append(connection)
        self.connections[slot] = nil
        self.freeSlots.append(slot)
        self.checkDrained()
    }

    /// Calls the connection again at the end of this turn: a failed write, or more to read.
    func deliverLater(_ connection: Connection) {
        self.deferred.append(connection)
    }

    func pumpLater(_ connection: Connection) {
        self.deferred.append(connection)
    }

    @inline(__always)
    func bytesRead(_ count: Int) {
        self.stats.bytesRead &+= UInt64(count)
    }

    @inline(__always)
    func bytesWritten(_ count: Int) {
        self.stats.bytesWritten &+= UInt64(count)
    }

    /// Most connections whose output waits for each other: the first is late by the reading of so
    /// many.
    private static let unsentMax = 64

    /// Sends what waits on a connection at the end of the turn.
    ///
    /// Reading from many and then writing to many costs less than turning from one to the other: the
    /// kernel's paths stay in the cache, and a peer that has several connections is woken once for
    /// all of them instead of for each.
    func flushLater(_ connection: Connection) {
        self.unsent.append(.passUnretained(connection))
        if self.unsent.count >= Self.unsentMax { self.flushUnsent() }
    }

    private func flushUnsent() {
        if self.unsent.isEmpty { return }
        swap(&self.unsent, &self.sending)
        for index in self.sending.indices {
            self.sending[index]._withUnsafeGuaranteedRef { $0.flushDeferred() }
        }
        self.sending.removeAll(keepingCapacity: true)
    }

    func handshakeLater(_ connection: Connection) {
        self.handshakes.append(connection)
    }

    /// How long handshakes may take in one turn; the others go on in the next one, after whoever
    /// else has something to do.
    private static let handshakesTimePerTurn = Interval(.milliseconds(1))

    /// A signature with an RSA key takes a millisecond: a hundred clients that come at once must not
    /// hold up those that are there.
    private func stepHandshakes() {
        let end = EventLoop.readClock() + Self.handshakesTimePerTurn
        repeat {
            guard let connection = self.handshakes.next() else { return }
            connection.stepHandshake()
        } while EventLoop.readClock() < end
        if !self.handshakes.isEmpty { self.loop.continueWithoutWaiting() }
    }

    private func afterTurn() {
        if !self.handshakes.isEmpty { self.stepHandshakes() }
        if self.nextAdopted != .max { self.adoptSome() }
        self.flushUnsent()
        if self.idleExchanges.count > Self.exchangesKeptMax { self.dropExchanges() }
        if self.deferred.isEmpty { return }
        swap(&self.deferred, &self.handling)
        for connection in self.handling where !connection.isClosed {
            connection.deliverWriteFailure()
            if !connection.isClosed { connection.readReady() }
        }
        self.handling.removeAll(keepingCapacity: true)
        self.flushUnsent()
        if !self.deferred.isEmpty { self.loop.continueWithoutWaiting() }
    }

    // MARK: Exchanges

    /// Mirrored copies do not hold up a drain: nobody waits for them.
    func takeExchange(isShadow: Bool) -> Unmanaged<Exchange> {
        if !isShadow { self.activeExchanges += 1 }
        return self.idleExchanges.popLast() ?? self.makeExchange()
    }

    private func makeExchange() -> Unmanaged<Exchange> {
        let exchange = Exchange(worker: self, index: self.exchanges.count)
        self.exchanges.append(exchange)
        return .passUnretained(exchange)
    }

    /// It stays to the end of the turn at least: its methods may be on the stack.
    func giveExchange(_ exchange: Exchange) {
        if !exchange.isShadow { self.activeExchanges -= 1 }
        if exchange.phase == .watching { self.watchers.removeAll { $0 === exchange } }
        exchange.reset()
        self.idleExchanges.append(.passUnretained(exchange))
        self.checkDrained()
    }

    private static let exchangesKeptMax = 1_024

    /// Lets go of idle ones beyond those that are kept.
    private func dropExchanges() {
        while self.idleExchanges.count > Self.exchangesKeptMax {
            let exchange = self.idleExchanges.removeLast().takeUnretainedValue()
            self.wheel.remove(exchange)
            let last = self.exchanges.removeLast()
            if last === exchange { continue }
            last.index = exchange.index
            self.exchanges[last.index] = last
        }
    }

    // MARK: Snapshots

    /// Takes over a new snapshot; state of unused models is made when they are first used, and those
    /// in use are brought up to date a few per turn, so that no request waits for all of them. `done`
    /// is called once no request can meet the old state of any.
    func adopt(_ snapshot: TrafficSnapshot, done: @escaping () -> Void) {
        self.snapshot = snapshot
        self.limits = snapshot.limits
        self.headLimits = snapshot.limits.head
        self.timeouts = snapshot.limits.timeouts
        if self.models.count < snapshot.models.count {
            let missing = snapshot.models.count - self.models.count
            self.models.append(contentsOf: repeatElement(nil, count: missing))
        }
        for pool in self.pools {
            if let pool, pool.endpoint.isRetired.load(ordering: .relaxed) {
                pool.closeIdle()
                self.poolMayBeDone(pool)
            }
        }
        self.adoptionsDone.append(done)
        self.nextAdopted = 0
        self.adoptSome()
    }

    /// Models in use that are brought up to date in one turn.
    private static let adoptedPerTurn = 64

    private func adoptSome() {
        var budget = Self.adoptedPerTurn
        while self.nextAdopted < self.models.count, budget > 0 {
            if self.adoptModel(at: self.nextAdopted) { budget -= 1 }
            self.nextAdopted += 1
        }
        if self.nextAdopted < self.models.count { return self.loop.continueWithoutWaiting() }
        let done = self.adoptionsDone
        self.adoptionsDone = []
        self.nextAdopted = .max
        for body in done { body() }
        if !self.watchers.isEmpty { self.tellWatchers() }
    }

    /// False where there was nothing to do.
    private func adoptModel(at index: Int) -> Bool {
        guard let model = self.models[index] else { return false }
        let route = index < self.snapshot.models.count ? self.snapshot.models[index] : nil
        if let route, route.shared === model.route.shared {
            if route === model.route { return false }
            model.adopt(route)
            self.pumpQueue(model)
        } else {
            // The model is gone, perhaps with another one at its index; requests under way keep
            // the old state, those that wait for a replica have nothing to wait for.
            self.models[index] = nil
            model.isGone = true
            self.refuseWaiting(model)
        }
        return true
    }

    private func refuseWaiting(_ model: WorkerModel) {
        while let waiter = model.route.shared.popAny(now: self.loop.now) {
            self.turnOut(waiter) { $0.modelRemoved() }
        }
    }

    /// Tells a request that was taken out of a queue, here or on another worker.
    func turnOut(_ waiter: Waiter, _ tell: @escaping @Sendable (Exchange) -> Void) {
        let refuse: @Sendable () -> Void = {
            let exchange = waiter.exchange.value
            if exchange.ticket == waiter.ticket { tell(exchange) }
        }
        if waiter.worker.index == self.index {
            refuse()
        } else {
            waiter.worker.loop.post(refuse)
        }
    }

    /// This worker's state of a model.
    func model(at index: Int) -> WorkerModel? {
        if index >= self.nextAdopted { _ = self.adoptModel(at: index) }
        if let model = self.models[index] { return model }
        // One that came with another worker's choice may have left the snapshot meanwhile.
        guard index < self.snapshot.models.count, let route = self.snapshot.models[index] else {
            return nil
        }
        let model = WorkerModel(route: route, seed: self.random.next())
        self.models[index] = model
        return model
    }

    func pool(for endpoint: Endpoint) -> UpstreamPool {
        let slot = endpoint.slot
        if slot >= self.pools.count {
            self.pools.append(contentsOf: repeatElement(nil, count: slot + 1 - self.pools.count))
        }
        if let pool = self.pools[slot], pool.endpoint === endpoint { return pool }
        let pool = UpstreamPool(endpoint: endpoint, worker: self)
        self.pools[slot] = pool
        return pool
    }

    func poolMayBeDone(_ pool: UpstreamPool) {
        guard pool.openCount == 0, pool.endpoint.isRetired.load(ordering: .relaxed) else { return }
        let slot = pool.endpoint.slot
        if slot < self.pools.count, self.pools[slot] === pool {
            pool.closeIdle()
            self.pools[slot] = nil
        }
    }

    // MARK: Queues

    /// A slot of the model came free: whoever waits longest gets it.
    @inline(__always)
    func slotReleased(_ model: WorkerModel) {
        if model.route.shared.hasWaiters { self.pumpQueue(model) }
    }

    /// Hands free slots to waiting requests, here or on other workers.
    func pumpQueue(_ model: WorkerModel) {
        let shared = model.route.shared
        let now = self.loop.now
        while shared.hasWaiters {
            let grant = shared.nextGrant(now: now) { waiter in
                model.pick(
                    pinned: waiter.pinned,
                    excluding: waiter.excluded,
                    key: waiter.affinity,
                    now: now
                )
            }
            guard let (waiter, choice) = grant else { return }
            self.deliver(waiter, choice)
        }
    }

    private func deliver(_ waiter: Waiter, _ choice: EndpointChoice) {
        let modelIndex = choice.modelIndex
        if waiter.worker.index == self.index {
            self.receive(waiter, choice, modelIndex: modelIndex)
            return
        }
        let peer = self.shared.worker(waiter.worker.index)
        let isPosted = waiter.worker.loop.post {
            peer.value.receive(waiter, choice, modelIndex: modelIndex)
        }
        // The other worker is stuck beyond help; its request ends by its deadline.
        if !isPosted { choice.endpoint.release() }
    }

    /// Hands out slots again once an ejection is over: until then nothing may have been released.
    func pumpQueue(_ model: WorkerModel, at time: Instant) {
        self.loop.schedule(after: time - self.loop.now) { [weak self, weak model] in
            if let self, let model { self.pumpQueue(model) }
        }
    }

    private func receive(_ waiter: Waiter, _ choice: EndpointChoice, modelIndex: Int) {
        let exchange = waiter.exchange.value
        if exchange.ticket == waiter.ticket, exchange.phase == .queued {
            exchange.granted(choice)
            return
        }
        // The request left while its slot was on the way.
        choice.endpoint.release()
        if let model = self.model(at: modelIndex) { self.slotReleased(model) }
    }

    // MARK: Draining

    /// Stops accepting, closes idle connections, and calls back when the last request is done.
    func drain(_ completion: @escaping () -> Void) {
        self.isDraining = true
        self.flushUnsent()
        self.onDrained = completion
        if !self.watchers.isEmpty { self.tellWatchers() }
        for listener in self.listeners { listener.stop() }
        self.listeners = []
        for connection in self.connections {
            (connection as? ServerConnection)?.drain()
        }
        self.checkDrained()
    }

    /// Done when every request has ended and every answer is with its client.
    private func checkDrained() {
        guard self.isDraining, self.activeExchanges == 0, self.stats.clientConnections == 0,
            let completion = self.onDrained
        else { return }
        self.onDrained = nil
        completion()
    }

    /// Ends everything at once. The worker is of no use afterwards.
    func shutDown() {
        self.isDraining = true
        self.flushUnsent()
        for listener in self.listeners { listener.stop() }
        self.listeners = []
        for connection in self.connections {
            switch connection {
            case let client as ServerConnection: client.abort()
            case let upstream as UpstreamConnection: upstream.abort()
            case let upstream as MultiplexedUpstream: upstream.abort()
            case let other?: other.close()
            case nil: break
            }
        }
        for pool in self.pools { pool?.closeIdle() }
        self.pools = []
        for exchange in self.exchanges { self.wheel.remove(exchange) }
        self.idleExchanges = []
        self.exchanges = []
        self.unsent = []
        self.deferred = []
        self.handshakes = HandshakeQueue()
        // A snapshot that was half taken over is as good as taken: there are no more requests.
        for body in self.adoptionsDone { body() }
        self.adoptionsDone = []
        self.accessLog?.flush()
        self.record(with: nil)
        self.wheel.stop()
    }

    // MARK: Statistics

    func collect() -> GatewayStatistics {
        let now = self.loop.now
        var result = GatewayStatistics()
        result.workers = self.stats.snapshot()
        if let coding = self.madeCoding { result.workers.coding = coding.statistics }
        result.workers.upstreamConnections = self.pools.reduce(0) { $0 + ($1?.openCount ?? 0) }
        result.workers.upstreamConnectionsIdle = self.pools.reduce(0) { $0 + ($1?.idleCount ?? 0) }
        for model in self.models {
            if let model { result.models[model.route.name] = model.collect(at: now) }
        }
        return result
    }

    /// What was measured of rollouts since the last such call.
    func collectTrials() -> [TrialReport] { self.models.compactMap { $0?.takeTrial() } }

    /// The models with requests since the last such call, or under way.
    func collectLoad() -> WorkerLoad {
        let now = self.loop.now
        return WorkerLoad(
            worker: self.index,
            at: now,
            models: self.models.compactMap { $0?.collectIfChanged(at: now) }
        )
    }
}

/// Connections in the order in which they get their turn. Each is there once at most.
private struct HandshakeQueue {
    private var connections: [Connection] = []
    private var first = 0

    var isEmpty: Bool { self.connections.isEmpty }

    mutating func append(_ connection: Connection) { self.connections.append(connection) }

    mutating func next() -> Connection? {
        guard self.first < self.connections.count else { return nil }
        let connection = self.connections[self.first]
        self.first += 1
        if self.first == self.connections.count {
            self.connections.removeAll(keepingCapacity: true)
            self.first = 0
        } else if self.first == Self.passedMax {
            self.connections.removeFirst(self.first)
            self.first = 0
        }
        return connection
    }

    /// Those that had their turn are let go of at the latest when there are so many.
    private static let passedMax = 256
}

/// Names a worker to others: where to post what is meant for it.
package struct WorkerHandle: Sendable {
    let index: Int
    let loop: EventLoop
}
