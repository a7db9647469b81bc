import Core
import EventLoop
import Synchronization
import TLS

/// What a replica is spoken to in.
package enum WireProtocol: Sendable {
    case http1
    /// HTTP/2: by prior knowledge in plain text, and as the only offer where there is TLS.
    case http2
    /// What a server with TLS chooses of both.
    case negotiated
}

/// One replica's address as every worker sees it, with what they share about it.
///
/// Lives as long as any snapshot or request that names it. The counters are the only things on the
/// request path that more than one worker touches; all are single atomic words.
package final class Endpoint: Sendable {
    /// A small dense number; workers index their connection pools by it. Reused only after every
    /// worker has acknowledged a snapshot without the endpoint.
    package let slot: Int
    /// The replica's identity for people: `digits-v1-0`, or the address itself.
    package let name: String
    package let address: SocketAddress
    /// Nil: plain text.
    package let security: ClientSecurity?
    package let wire: WireProtocol
    /// Where a replica that is spoken to in HTTP/1 takes calls of gRPC; nil: nowhere.
    package let callAddress: SocketAddress?
    /// Hash of the name, for consistent hashing: equal on every worker and every gateway.
    package let hash: UInt64

    /// Requests that hold a slot here, over all workers.
    package let inFlight = Atomic<Int>(0)
    /// Most requests at once; `Int.max` for no limit.
    package let limit: Atomic<Int>
    /// While this lies in the future, a worker has ejected the endpoint as an outlier. For people;
    /// each worker decides by its own detector.
    package let ejectedUntil = Atomic<UInt64>(0)
    /// When its latest report of its load was kept, in nanoseconds; 0: never.
    let reportedAt = Atomic<UInt64>(0)
    /// Set once the endpoint has left the snapshot: idle connections go, running requests finish.
    package let isRetired = Atomic<Bool>(false)

    package init(
        slot: Int,
        name: String,
        address: SocketAddress,
        security: ClientSecurity? = nil,
        wire: WireProtocol = .http1,
        callAddress: SocketAddress? = nil,
        limit: Int
    ) {
        self.slot = slot
        self.name = name
        self.address = address
        self.security = security
        self.wire = wire
        self.callAddress = callAddress
        self.hash = Endpoint.hash(name)
        self.limit = Atomic(limit)
    }

    /// Whether calls of gRPC can be sent there.
    var takesCalls: Bool { self.wire != .http1 || self.callAddress != nil }

    /// Takes a slot unless all are taken.
    package func tryAcquire() -> Bool {
        let limit = self.limit.load(ordering: .relaxed)
        if limit == .max {
            self.inFlight.add(1, ordering: .relaxed)
            return true
        }
        var current = self.inFlight.load(ordering: .relaxed)
        while current < limit {
            let (exchanged, original) = self.inFlight.weakCompareExchange(
                expected: current,
                desired: current + 1,
                ordering: .acquiringAndReleasing
            )
            if exchanged { return true }
            current = original
        }
        return false
    }

    /// Whether `tryAcquire` would have succeeded just now.
    var hasFreeSlot: Bool {
        !self.isRetired.load(ordering: .relaxed)
            && self.inFlight.load(ordering: .relaxed) < self.limit.load(ordering: .relaxed)
    }

    /// Gives a slot back. Sequentially consistent, as is the load of `ModelShared.hasWaiters` that
    /// follows: whoever joins the queue meanwhile either is seen there or sees the free slot. With
    /// less, both could look before the other's word has arrived, and the request would wait for a
    /// wake-up that nobody sends.
    package func release() {
        let after = self.inFlight.subtract(1, ordering: .sequentiallyConsistent).newValue
        assert(after >= 0, "a slot of \(self.name) was released twice")
    }

    package func isEjected(at now: Instant) -> Bool {
        self.ejectedUntil.load(ordering: .relaxed) > now.nanoseconds
    }

    /// FNV-1a, 64 bits (draft-eastlake-fnv), finished with SplitMix64's mixer for spread.
    private static func hash(_ text: String) -> UInt64 {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in text.utf8 {
            hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3
        }
        var mixer = RandomSource(seed: hash)
        return mixer.next()
    }
}
