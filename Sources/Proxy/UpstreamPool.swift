import Core
import EventLoop
import Synchronization
import TLS

/// One worker's connections to one endpoint. The idle ones are a stack: the warmest is used first
/// and the coldest age out.
final class UpstreamPool {
    let endpoint: Endpoint
    let worker: Worker
    private var idle: [UpstreamConnection] = []
    private(set) var openCount = 0
    var idleCount: Int { self.idle.count + self.multiplexed.count(where: \.isIdle) }
    /// Those that carry several requests and may get more, the oldest first.
    private(set) var multiplexed: [MultiplexedUpstream] = []
    /// The replica has chosen HTTP/2 where it had a choice.
    var hasAgreedOnHTTP2 = false
    private let timer: PoolTimer
    /// What the next TLS session may begin with.
    private(set) var resumption: TLSResumption?

    init(endpoint: Endpoint, worker: Worker) {
        self.endpoint = endpoint
        self.worker = worker
        self.timer = PoolTimer()
        self.timer.pool = self
    }

    deinit {
        assert(self.openCount == 0, "a pool was dropped with open connections")
    }

    /// The warmest idle connection.
    func takeIdle() -> UpstreamConnection? {
        while let connection = self.idle.popLast() {
            if !connection.isClosed, !connection.peerClosed { return connection }
            connection.close()
        }
        return nil
    }

    /// A new connection that is being made; nil with errno when the kernel refuses at once.
    func connect() throws(SystemError) -> UpstreamConnection {
        let descriptor = try Sockets.connect(to: self.endpoint.address)
        let connection = UpstreamConnection(
            worker: self.worker,
            pool: self,
            descriptor: descriptor
        )
        self.openCount += 1
        self.worker.stats.upstreamOpened += 1
        connection.start()
        return connection
    }

    func put(_ connection: UpstreamConnection) {
        if self.endpoint.isRetired.load(ordering: .relaxed)
            || self.idle.count >= self.worker.limits.maxIdleUpstreams
        {
            connection.close()
            return
        }
        connection.idleSince = self.worker.loop.now
        self.idle.append(connection)
        if self.timer.deadline == .distantFuture {
            self.worker.wheel.arm(
                self.timer,
                at: self.worker.loop.now + self.worker.timeouts.upstreamIdle
            )
        }
    }

    /// Keeps what a session has that was begun from nothing.
    func remember(_ session: TLSSession) {
        if let resumption = session.resumption { self.resumption = resumption }
    }

    func closed(_ connection: UpstreamConnection) {
        self.openCount -= 1
        if let index = self.idle.firstIndex(where: { $0 === connection }) {
            self.idle.remove(at: index)
        }
        self.worker.poolMayBeDone(self)
    }

    // MARK: Connections of many requests

    func add(_ connection: MultiplexedUpstream) {
        self.openCount += 1
        self.multiplexed.append(connection)
    }

    /// It takes no more requests.
    func withdrawn(_ connection: MultiplexedUpstream) {
        self.multiplexed.removeAll { $0 === connection }
    }

    func closed(_ connection: MultiplexedUpstream) {
        self.withdrawn(connection)
        self.openCount -= 1
        self.worker.poolMayBeDone(self)
    }

    // MARK: Ends

    func closeIdle() {
        for connection in self.multiplexed where connection.isIdle { connection.closePolitely() }
        let connections = self.idle
        self.idle = []
        for connection in connections { connection.close() }
        self.worker.wheel.remove(self.timer)
    }

    /// Closes what has idled too long; the stack's bottom is the oldest.
    func expireIdle() {
        let now = self.worker.loop.now
        let expired = self.idle.prefix {
            $0.idleSince + self.worker.timeouts.upstreamIdle <= now
        }
        self.idle.removeFirst(expired.count)
        for connection in expired { connection.close() }
        if let oldest = self.idle.first {
            self.worker.wheel.arm(
                self.timer,
                at: oldest.idleSince + self.worker.timeouts.upstreamIdle
            )
        }
    }
}

private final class PoolTimer: WheelTimer {
    unowned(unsafe) var pool: UpstreamPool?

    override func expired() {
        self.pool?.expireIdle()
    }
}
