import EventLoop
import TLS

/// What a listener shows to clients now. Its connections keep what they began with.
package final class ListenerSecurity: Sendable {
    private let current: Locked<ServerContext>

    package init(_ context: ServerContext) {
        self.current = Locked(context)
    }

    /// Read once per connection, by whichever worker accepted it.
    var context: ServerContext { self.current.withLock { $0 } }

    /// New connections get another context from here on.
    package func replace(with context: ServerContext) {
        self.current.withLock { $0 = context }
    }
}

/// What a worker counted of handshakes.
package struct TLSStatistics: Sendable, Equatable {
    /// Which of the handshakes that are counted apart.
    package struct Key: Sendable, Hashable {
        package var version: TLSVersion
        package var isResumed: Bool

        package init(version: TLSVersion, isResumed: Bool) {
            self.version = version
            self.isResumed = isResumed
        }
    }

    /// With clients.
    package var handshakes: [Key: UInt64] = [:]
    package var failures: [TLSFailure.Kind: UInt64] = [:]
    /// Of those with clients: where the kernel encrypts what is sent.
    package var kernelSessions: UInt64 = 0
    /// With replicas.
    package var upstreamHandshakes: [Key: UInt64] = [:]
    package var upstreamFailures: [TLSFailure.Kind: UInt64] = [:]

    package init() {}

    mutating func merge(_ other: TLSStatistics) {
        self.handshakes.merge(other.handshakes, uniquingKeysWith: +)
        self.failures.merge(other.failures, uniquingKeysWith: +)
        self.kernelSessions += other.kernelSessions
        self.upstreamHandshakes.merge(other.upstreamHandshakes, uniquingKeysWith: +)
        self.upstreamFailures.merge(other.upstreamFailures, uniquingKeysWith: +)
    }
}

extension TLSStatistics.Key {
    init(_ session: TLSSession) {
        self.init(version: session.version, isResumed: session.isResumed)
    }
}
