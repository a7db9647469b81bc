import Core
import EventLoop
import Glibc
import HTTP

/// Accepts connections for one worker, within the gateway's connection limit.
final class Listener: IOHandler {
    /// Connections accepted per event, so that a flood of them does not starve the others.
    private static let acceptsPerTurnMax = 64
    /// How long accepting rests when the process has no descriptors left.
    private static let restTime = Duration.milliseconds(100)

    private unowned(unsafe) let worker: Worker

    /// Owns the descriptor from here on.
    init(worker: Worker, descriptor: Int32) {
        self.worker = worker
        super.init()
        self.register(descriptor: descriptor, on: worker.loop, interest: .read)
    }

    override func ready(_ events: IOEvents) {
        for _ in 0..<Self.acceptsPerTurnMax {
            do throws(SystemError) {
                guard let (descriptor, peer) = try Sockets.accept(from: self.descriptor) else {
                    return
                }
                self.admit(descriptor, peer)
            } catch {
                self.rest()
                return
            }
        }
    }

    private func admit(_ descriptor: Int32, _ peer: SocketAddress?) {
        let limit = self.worker.limits.maxConnections
        guard self.worker.shared.connectionOpened(limit: limit) else {
            self.worker.stats.connectionsRefused += 1
            self.worker.turnAway(descriptor, peer: peer)
            return
        }
        self.worker.accepted(descriptor, peer: peer)
    }

    /// No descriptors (EMFILE) or no memory: trying again at once would spin.
    private func rest() {
        self.worker.stats.acceptErrors += 1
        let descriptor = self.descriptor
        let loop = self.worker.loop
        self.deregister()
        loop.schedule(after: Self.restTime) { [weak self] in
            guard let self, !self.isStopped else { return }
            self.register(descriptor: descriptor, on: loop, interest: .read)
        }
    }

    private var isStopped = false

    func stop() {
        if self.isStopped { return }
        self.isStopped = true
        self.deregister()
        Sockets.close(self.descriptor)
    }
}

/// A worker's counters of its connections, written by the worker alone.
final class ConnectionCounters {
    var clientConnections = 0
    /// Of those, the ones over the limit that are being told so.
    var turningAway = 0
    var connectionsAccepted: UInt64 = 0
    var connectionsRefused: UInt64 = 0
    var upstreamOpened: UInt64 = 0
    var bytesRead: UInt64 = 0
    var bytesWritten: UInt64 = 0
    var acceptErrors: UInt64 = 0
    var refusedRequests: [String: UInt64] = [:]
    var localAnswers: [UInt16: UInt64] = [:]

    func refused(_ error: ProxyError) {
        let label = (error.detail?.label ?? error.label).description
        self.refusedRequests[label, default: 0] += 1
    }

    func snapshot() -> WorkerStatistics {
        var result = WorkerStatistics()
        result.clientConnections = self.clientConnections
        result.clientConnectionsAccepted = self.connectionsAccepted
        result.clientConnectionsRefused = self.connectionsRefused
        result.upstreamConnectionsOpened = self.upstreamOpened
        result.bytesRead = self.bytesRead
        result.bytesWritten = self.bytesWritten
        result.acceptErrors = self.acceptErrors
        result.refusedRequests = self.refusedRequests
        result.localAnswers = self.localAnswers
        return result
    }
}
