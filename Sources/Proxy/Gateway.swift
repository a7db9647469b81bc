import Core
import EventLoop
import Glibc
import HTTP
import Recorder
import Synchronization
import Telemetry
import Traffic

/// The data plane as its owner sees it: workers, snapshots, statistics, drain.
///
/// Belongs to the control thread; everything goes to the workers by message. Nothing here is on the
/// request path.
package final class Gateway {
    package struct Options {
        package var listeners: [(name: String, address: SocketAddress)] = []
        /// Of the listeners that speak TLS, by name.
        package var security: [String: ListenerSecurity] = [:]
        /// Of the listeners for which it is not as usual, by name.
        package var http2: [String: HTTP2Options] = [:]
        /// Event loops; one per core is usual.
        package var workers = 1
        package var seed: UInt64 = 0
        /// Whether the client's `X-Forwarded-*` and `Forwarded` are kept.
        package var trustsForwarded = true
        package var accessLog: AccessLogWriter?
        package init() {}
    }

    private let shared: GatewayShared
    /// What replicas say of their load beside their answers.
    package var loadReports: LoadReportBoard { self.shared.loadReports }
    private let workers: [LoopBound<Worker>]
    private let threads: [LoopThread]
    private let control: EventLoop
    /// Where the gateway listens, ports resolved, in the order of the options.
    package let addresses: [(name: String, address: SocketAddress)]
    private var acknowledged: [UInt64]
    private var waiters: [(generation: UInt64, body: () -> Void)] = []
    private var isStopped = false

    /// Binds every listener on every worker and starts the threads.
    package init(
        options: Options,
        snapshot: TrafficSnapshot,
        control: EventLoop
    ) throws(SystemError) {
        self.control = control
        let shared = GatewayShared(options: options)
        self.shared = shared
        self.acknowledged = Array(repeating: snapshot.generation, count: options.workers)
        let (descriptors, addresses) = try Self.bind(options)
        self.addresses = addresses
        var workers: [LoopBound<Worker>] = []
        var threads: [LoopThread] = []
        for index in 0..<options.workers {
            let loop = try EventLoop()
            let worker = Worker(index: index, loop: loop, shared: shared, snapshot: snapshot)
            for (listener, descriptors) in zip(options.listeners, descriptors) {
                worker.listen(
                    descriptors[index],
                    security: options.security[listener.name],
                    http2: options.http2[listener.name] ?? HTTP2Options()
                )
            }
            workers.append(LoopBound(worker, loop: loop))
        }
        shared.start(workers)
        for (index, worker) in workers.enumerated() {
            threads.append(
                LoopThread(name: "weir-worker-\(index)", loop: shared.loop(of: worker))
            )
        }
        self.workers = workers
        self.threads = threads
    }

    /// One descriptor per listener and worker. Port 0 is resolved by the first, shared by the rest.
    private static func bind(
        _ options: Options
    ) throws(SystemError) -> ([[Int32]], [(name: String, address: SocketAddress)]) {
        var all: [[Int32]] = []
        var addresses: [(name: String, address: SocketAddress)] = []
        do throws(SystemError) {
            for listener in options.listeners {
                var descriptors: [Int32] = []
                var address = listener.address
                try Self.checkIsFree(address)
                for _ in 0..<options.workers {
                    let descriptor = try Sockets.listen(on: address)
                    descriptors.append(descriptor)
                    address = Sockets.localAddress(of: descriptor) ?? address
                }
                all.append(descriptors)
                addresses.append((listener.name, address))
            }
        } catch {
            for descriptor in all.joined() { Sockets.close(descriptor) }
            throw error
        }
        return (all, addresses)
    }

    /// SO_REUSEPORT lets another process of the same user share an address unnoticed; a listener
    /// without it does not.
    private static func checkIsFree(_ address: SocketAddress) throws(SystemError) {
        if address.port != 0 { Sockets.close(try Sockets.listen(on: address, reusePort: false)) }
    }

    // MARK: Snapshots

    /// Hands a snapshot to every worker; `acknowledged` runs on the control thread once no worker
    /// starts a request with an older one: at once, when the gateway was stopped.
    package func publish(_ snapshot: TrafficSnapshot, acknowledged: @escaping () -> Void = {}) {
        if self.isStopped {
            // Posted to a loop that runs no more, it would keep the loop and all of this for ever.
            for worker in self.acknowledged.indices {
                self.acknowledged[worker] = max(self.acknowledged[worker], snapshot.generation)
            }
            return acknowledged()
        }
        self.waiters.append((snapshot.generation, acknowledged))
        let gateway = LoopBound(self, loop: self.control)
        for (index, worker) in self.workers.enumerated() {
            let control = self.control
            self.shared.loop(of: worker).post {
                worker.value.adopt(snapshot) {
                    control.post { gateway.value.acknowledge(index, snapshot.generation) }
                }
            }
        }
    }

    private func acknowledge(_ worker: Int, _ generation: UInt64) {
        self.acknowledged[worker] = max(self.acknowledged[worker], generation)
        let oldest = self.acknowledgedGeneration
        let done = self.waiters.filter { $0.generation <= oldest }
        self.waiters.removeAll { $0.generation <= oldest }
        for waiter in done { waiter.body() }
    }

    /// The newest generation that every worker uses.
    package var acknowledgedGeneration: UInt64 { self.acknowledged.min() ?? 0 }

    // MARK: Recording

    /// Makes every worker record with this recorder, or with none; `done` runs on the control
    /// thread once none uses the one before. A gateway that was stopped uses none.
    package func record(with recorder: TrafficRecorder?, done: @escaping () -> Void = {}) {
        if self.isStopped { return done() }
        var remaining = self.workers.count
        let finish = LoopBound(
            { () -> Void in
                remaining -= 1
                if remaining == 0 { done() }
            },
            loop: self.control
        )
        for worker in self.workers {
            let control = self.control
            self.shared.loop(of: worker).post {
                worker.value.record(with: recorder)
                control.post { finish.value() }
            }
        }
    }

    // MARK: Statistics

    /// Asks every worker for its numbers; `completion` runs on the control thread with their sum.
    /// A gateway that was stopped has none left.
    package func collect(_ completion: @escaping (GatewayStatistics) -> Void) {
        if self.isStopped { return completion(GatewayStatistics()) }
        let pending = LoopBound(
            Collection(remaining: self.workers.count, completion: completion),
            loop: self.control
        )
        for worker in self.workers {
            let control = self.control
            self.shared.loop(of: worker).post {
                let part = worker.value.collect()
                control.post { pending.value.add(part) }
            }
        }
    }

    /// Asks every worker for the counters of the models that had requests since it was asked last;
    /// `take` runs on the control thread for each that answers. A worker that is stuck answers
    /// late, and as counters only grow nothing is lost by that.
    package func collectLoad(_ take: @escaping (WorkerLoad) -> Void) {
        if self.isStopped { return }
        let take = LoopBound(take, loop: self.control)
        for worker in self.workers {
            let control = self.control
            self.shared.loop(of: worker).post {
                let load = worker.value.collectLoad()
                control.post { take.value(load) }
            }
        }
    }

    /// Asks every worker for what it measured of rollouts since it was asked last; `take` runs on
    /// the control thread for each that answers. One that answers late loses nothing.
    package func collectTrials(_ take: @escaping ([TrialReport]) -> Void) {
        if self.isStopped { return }
        let take = LoopBound(take, loop: self.control)
        for worker in self.workers {
            let control = self.control
            self.shared.loop(of: worker).post {
                let reports = worker.value.collectTrials()
                control.post { take.value(reports) }
            }
        }
    }

    package var workerCount: Int { self.workers.count }

    private final class Collection {
        private var remaining: Int
        private var sum = GatewayStatistics()
        private let completion: (GatewayStatistics) -> Void

        init(remaining: Int, completion: @escaping (GatewayStatistics) -> Void) {
            self.remaining = remaining
            self.completion = completion
        }

        func add(_ part: GatewayStatistics) {
            self.sum.merge(part)
            self.remaining -= 1
            if self.remaining == 0 { self.completion(self.sum) }
        }
    }

    // MARK: The end

    /// Stops accepting and lets requests finish; `completion` runs on the control thread when all
    /// are done. Streams may take long: the caller keeps the deadline and calls `stop`.
    package func drain(_ completion: @escaping () -> Void) {
        if self.isStopped { return completion() }
        var remaining = self.workers.count
        let done = LoopBound(
            { () -> Void in
                remaining -= 1
                if remaining == 0 { completion() }
            },
            loop: self.control
        )
        for worker in self.workers {
            let control = self.control
            self.shared.loop(of: worker).post {
                worker.value.drain { control.post { done.value() } }
            }
        }
    }

    /// Ends every connection and the threads. Returns when they have ended; once is enough.
    package func stop() {
        if self.isStopped { return }
        self.isStopped = true
        for worker in self.workers {
            let loop = self.shared.loop(of: worker)
            loop.post {
                worker.value.shutDown()
                loop.stop()
            }
        }
        for thread in self.threads { thread.join() }
        self.shared.stop()
    }
}

/// What all workers of a gateway share: written at the start, read-only or atomic afterwards.
final class GatewayShared: Sendable {
    let seed: UInt64
    let trustsForwarded: Bool
    let accessLog: AccessLogWriter?
    let loadReports = LoadReportBoard()
    private let workers = Locked<[LoopBound<Worker>]>([])
    private let connections = Atomic<Int>(0)

    init(options: Gateway.Options) {
        self.seed = options.seed
        self.trustsForwarded = options.trustsForwarded
        self.accessLog = options.accessLog
    }

    var logsAccess: Bool { self.accessLog != nil }

    func start(_ workers: [LoopBound<Worker>]) {
        self.workers.withLock { $0 = workers }
    }

    func stop() {
        self.workers.withLock { $0 = [] }
    }

    func worker(_ index: Int) -> LoopBound<Worker> {
        self.workers.withLock { $0[index] }
    }

    func loop(of worker: LoopBound<Worker>) -> EventLoop { worker.loop }

    /// Counts a client connection unless there are `limit` already.
    func connectionOpened(limit: Int) -> Bool {
        if self.connections.add(1, ordering: .relaxed).newValue <= limit { return true }
        self.connections.subtract(1, ordering: .relaxed)
        return false
    }

    func connectionClosed() {
        self.connections.subtract(1, ordering: .relaxed)
    }
}
