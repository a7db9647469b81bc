import Core
import EventLoop
import Glibc
import HTTP
import TLS

/// Accepts connections for one worker, within the gateway's connection limit.
final class Listener: IOHandler {
    /// Connections accepted per event, so that a flood of them does not starve the others.
    private static let acceptsPerTurnMax = 64
    /// How long accepting rests when the process has no descriptors left.
    private static let restTime = Duration.milliseconds(100)

    private unowned(unsafe) let worker: Worker
    /// Nil: plain text.
    private let security: ListenerSecurity?
    private let http2: HTTP2Options

    /// Owns the descriptor from here on.
    init(
        worker: Worker,
        descriptor: Int32,
        security: ListenerSecurity?,
        http2: HTTP2Options
    ) {
        self.worker = worker
        self.security = security
        self.http2 = http2
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
        if let security = self.security {
            return self.admitSecurely(descriptor, peer, security)
        }
        let limit = self.worker.limits.maxConnections
        guard self.worker.shared.connectionOpened(limit: limit) else {
            self.worker.stats.connectionsRefused += 1
            self.worker.turnAway(descriptor, peer: peer)
            return
        }
        self.worker.accepted(descriptor, peer: peer, http2: self.http2)
    }

    /// Nobody can be told anything before a handshake, so one that is too many is just closed.
    private func admitSecurely(
        _ descriptor: Int32,
        _ peer: SocketAddress?,
        _ security: ListenerSecurity
    ) {
        guard self.worker.clientHandshakes < self.worker.limits.maxHandshakes else {
            self.worker.stats.tls.failures[.tooMany, default: 0] += 1
            return Sockets.close(descriptor)
        }
        guard self.worker.shared.connectionOpened(limit: self.worker.limits.maxConnections) else {
            self.worker.stats.connectionsRefused += 1
            return Sockets.close(descriptor)
        }
        do throws(TLSError) {
            let session = try security.context.makeSession(descriptor: descriptor)
            self.worker.accepted(descriptor, peer: peer, http2: self.http2, session: session)
        } catch {
            // Out of memory, or of something else that OpenSSL needs.
            self.worker.stats.tls.failures[.malformed, default: 0] += 1
            self.worker.shared.connectionClosed()
            Sockets.close(descriptor)
        }
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
    var tls = TLSStatistics()
    var http2 = HTTP2Statistics()

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
        result.tls = self.tls
        result.http2 = self.http2
        return result
    }
}
