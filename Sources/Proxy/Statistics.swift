import Core
import GRPC

/// What one worker measured of one variant. Written by its worker alone, without locks; others get
/// copies through the worker's mailbox.
package struct VariantStatistics: Sendable {
    package var name: String
    /// Answers by status code, as sent to clients; 499 where the client left first.
    package var requestsByCode: [UInt16: UInt64] {
        get {
            var codes = self.otherCodes
            if self.requestsOK > 0 { codes[200] = self.requestsOK }
            return codes
        }
        set {
            self.requestsOK = newValue[200] ?? 0
            self.otherCodes = newValue
            self.otherCodes[200] = nil
        }
    }
    /// Those with status 200, nearly all of them: a table would cost each a hash.
    package private(set) var requestsOK: UInt64 = 0
    package private(set) var otherCodes: [UInt16: UInt64] = [:]
    /// Calls of gRPC, which are counted above as well, by how they ended.
    package var callsByStatus: [GRPCStatus: UInt64] = [:]
    package var inFlight = 0
    /// Request-nanoseconds in flight since the start, modulo 2^64: the difference between two
    /// collections is exact. Between collections `inFlight` times the present time is missing.
    package var inFlightNanoseconds: UInt64 = 0
    /// Requests bound for this variant alone, by a header or a cookie.
    package var pinnedArrivals: UInt64 = 0
    /// Of those, the ones that wait for a replica.
    package var pinnedQueue = TimedCount()
    /// First byte of the request to last byte of the response.
    package var duration = LatencyHistogram()
    package var timeToFirstToken = LatencyHistogram()
    package var timePerOutputToken = LatencyHistogram()
    package var inputTokens: UInt64 = 0
    package var outputTokens: UInt64 = 0
    package var upstreamErrors: [UpstreamErrorKind: UInt64] = [:]
    package var mirrored: UInt64 = 0
    package var mirrorDropped: UInt64 = 0
    /// Times an endpoint was ejected as an outlier.
    package var ejections: UInt64 = 0

    package init(name: String) {
        self.name = name
    }

    /// A request goes to one of the variant's replicas.
    @inline(__always)
    mutating func began(at now: Instant) {
        self.inFlight += 1
        self.inFlightNanoseconds &-= now.nanoseconds
    }

    /// It is over there, or goes elsewhere.
    @inline(__always)
    mutating func ended(at now: Instant) {
        self.inFlight -= 1
        self.inFlightNanoseconds &+= now.nanoseconds
    }

    /// Brings the integrals up to the present, for a copy that is handed out.
    mutating func settle(at now: Instant) {
        let count = UInt64(truncatingIfNeeded: self.inFlight)
        self.inFlightNanoseconds &+= count &* now.nanoseconds
        self.pinnedQueue.settle(at: now)
    }

    /// Counts one answer.
    mutating func count(_ status: UInt16) {
        if status == 200 {
            self.requestsOK += 1
        } else {
            self.otherCodes[status, default: 0] += 1
        }
    }

    package mutating func merge(_ other: VariantStatistics) {
        self.requestsOK += other.requestsOK
        self.otherCodes.merge(other.otherCodes, uniquingKeysWith: +)
        self.callsByStatus.merge(other.callsByStatus, uniquingKeysWith: +)
        self.inFlight += other.inFlight
        self.inFlightNanoseconds &+= other.inFlightNanoseconds
        self.pinnedArrivals += other.pinnedArrivals
        self.pinnedQueue.merge(other.pinnedQueue)
        self.duration.merge(other.duration)
        self.timeToFirstToken.merge(other.timeToFirstToken)
        self.timePerOutputToken.merge(other.timePerOutputToken)
        self.inputTokens += other.inputTokens
        self.outputTokens += other.outputTokens
        self.upstreamErrors.merge(other.upstreamErrors, uniquingKeysWith: +)
        self.mirrored += other.mirrored
        self.mirrorDropped += other.mirrorDropped
        self.ejections += other.ejections
    }
}

/// How many there are, and for how long there have been how many: an integral over time that costs
/// one addition per change.
package struct TimedCount: Sendable, Equatable {
    package private(set) var count = 0
    /// Item-nanoseconds since the start, modulo 2^64; between collections `count` times the present
    /// time is missing.
    package private(set) var nanoseconds: UInt64 = 0

    package init() {}

    /// - Parameter nanoseconds: as collected.
    package init(count: Int, nanoseconds: UInt64) {
        self.count = count
        self.nanoseconds = nanoseconds
    }

    mutating func entered(at now: Instant) {
        self.count += 1
        self.nanoseconds &-= now.nanoseconds
    }

    mutating func left(at now: Instant) {
        assert(self.count > 0, "more have left than came")
        self.count -= 1
        self.nanoseconds &+= now.nanoseconds
    }

    mutating func settle(at now: Instant) {
        self.nanoseconds &+= UInt64(truncatingIfNeeded: self.count) &* now.nanoseconds
    }

    mutating func merge(_ other: TimedCount) {
        self.count += other.count
        self.nanoseconds &+= other.nanoseconds
    }
}

/// Why a try at a replica failed: the label of `weir_upstream_errors_total`.
package enum UpstreamErrorKind: String, Sendable, CaseIterable {
    case connect
    case connectTimeout = "connect_timeout"
    /// The connection was made, but no TLS session.
    case handshake
    case firstByteTimeout = "first_byte_timeout"
    case streamIdleTimeout = "stream_idle_timeout"
    case requestTimeout = "request_timeout"
    case reset
    case invalidResponse = "invalid_response"
    case truncated
}

/// What became of retries: the label of `weir_retries_total`.
package enum RetryOutcome: String, Sendable, CaseIterable {
    /// A retry that ended in an answer of a replica.
    case success
    /// A retry that failed too.
    case failure
    /// The request could have been retried, but the budget was spent.
    case budgetExhausted = "budget_exhausted"
}

/// What one worker measured of one model.
package struct ModelStatistics: Sendable {
    package var name: String
    package var variants: [VariantStatistics] = []
    /// Requests that reached no variant, by the status they were answered with.
    package var unrouted: [UInt16: UInt64] = [:]
    package var queueWait = LatencyHistogram()
    /// What the gateway itself added: first needed byte in to first byte out, without waiting for
    /// a slot, a connection or the client.
    package var overhead = LatencyHistogram()
    package var retries: [RetryOutcome: UInt64] = [:]
    package var arrivals: UInt64 = 0
    /// Requests that wait for a replica of any variant; pinned ones wait in their variant's count.
    package var queue = TimedCount()
    /// Another one for each time that a worker began counting anew; merging leaves it out.
    package var epoch: UInt64 = 0

    package init(name: String) {
        self.name = name
    }

    package mutating func merge(_ other: ModelStatistics) {
        self.queue.merge(other.queue)
        for variant in other.variants {
            if let index = self.variants.firstIndex(where: { $0.name == variant.name }) {
                self.variants[index].merge(variant)
            } else {
                self.variants.append(variant)
            }
        }
        self.unrouted.merge(other.unrouted, uniquingKeysWith: +)
        self.queueWait.merge(other.queueWait)
        self.overhead.merge(other.overhead)
        self.retries.merge(other.retries, uniquingKeysWith: +)
        self.arrivals += other.arrivals
    }
}

/// What one worker measured of itself.
package struct WorkerStatistics: Sendable {
    package var clientConnections = 0
    package var clientConnectionsAccepted: UInt64 = 0
    package var clientConnectionsRefused: UInt64 = 0
    package var upstreamConnections = 0
    package var upstreamConnectionsIdle = 0
    package var upstreamConnectionsOpened: UInt64 = 0
    package var bytesRead: UInt64 = 0
    package var bytesWritten: UInt64 = 0
    /// What was no valid request, by the error's label.
    package var refusedRequests: [String: UInt64] = [:]
    /// Requests answered without a model: unknown names, fleet endpoints; by status.
    package var localAnswers: [UInt16: UInt64] = [:]
    package var acceptErrors: UInt64 = 0
    package var tls = TLSStatistics()
    package var coding = CodingStatistics()
    package var http2 = HTTP2Statistics()

    package init() {}

    package mutating func merge(_ other: WorkerStatistics) {
        self.clientConnections += other.clientConnections
        self.clientConnectionsAccepted += other.clientConnectionsAccepted
        self.clientConnectionsRefused += other.clientConnectionsRefused
        self.upstreamConnections += other.upstreamConnections
        self.upstreamConnectionsIdle += other.upstreamConnectionsIdle
        self.upstreamConnectionsOpened += other.upstreamConnectionsOpened
        self.bytesRead += other.bytesRead
        self.bytesWritten += other.bytesWritten
        self.refusedRequests.merge(other.refusedRequests, uniquingKeysWith: +)
        self.localAnswers.merge(other.localAnswers, uniquingKeysWith: +)
        self.acceptErrors += other.acceptErrors
        self.tls.merge(other.tls)
        self.coding.merge(other.coding)
        self.http2.merge(other.http2)
    }
}

/// Everything the workers measured, merged.
package struct GatewayStatistics: Sendable {
    package var workers = WorkerStatistics()
    package var models: [String: ModelStatistics] = [:]

    package init() {}

    package mutating func merge(_ other: GatewayStatistics) {
        self.workers.merge(other.workers)
        for (name, model) in other.models {
            if self.models[name]?.merge(model) == nil { self.models[name] = model }
        }
    }
}

/// What one worker counted for autoscaling: cumulative, and of those models alone that had requests
/// since it was asked before. The others are as they were, with nothing in flight and nobody
/// waiting.
package struct WorkerLoad: Sendable {
    package var worker: Int
    package var at: Instant
    package var models: [ModelStatistics]

    package init(worker: Int, at: Instant, models: [ModelStatistics]) {
        self.worker = worker
        self.at = at
        self.models = models
    }
}
