import Core
import EventLoop
import Synchronization
import Traffic

/// A request in a model's queue, as other workers may see it.
struct Waiter: Sendable {
    let exchange: LoopBound<Exchange>
    /// The exchange's ticket when it began to wait; a later use of the object has another.
    let ticket: UInt64
    let worker: WorkerHandle
    /// The variant it must go to, if any.
    let pinned: VariantRoute?
    /// Endpoints that failed it.
    let excluded: [Endpoint]
    let affinity: AffinityKey
}

/// A replica chosen for a request, its slot already taken.
struct EndpointChoice {
    let modelIndex: Int
    /// Where the variant stands on the worker that chose. Another one may have a different snapshot
    /// for a moment: `WorkerModel.meterIndex` goes by `route`.
    let variant: Int
    let route: VariantRoute
    let endpoint: Endpoint
}

/// What all workers share of one model: its admission queue.
///
/// Nothing here is touched while replicas have free slots: `hasWaiters` is one load. Only when the
/// model is saturated do workers meet at the mutex. A request pinned to a full variant lets those
/// behind it pass that may go elsewhere.
package final class ModelShared: Sendable {
    /// Waiting requests that one released slot is offered to.
    private static let lookaheadMax = 256

    private let queue: Locked<AdmissionQueue<Waiter>>
    private let waiting = Atomic<Int>(0)
    private let wakeHandler: @Sendable (_ variant: String?) -> Void

    /// `wake` asks for a replica; it may be called often and from any thread.
    package init(wake: @escaping @Sendable (_ variant: String?) -> Void) {
        self.queue = Locked(AdmissionQueue(limits: AdmissionLimits()))
        self.wakeHandler = wake
    }

    package var depth: Int { self.waiting.load(ordering: .relaxed) }
    /// How long the first in line has waited; 0 where nobody waits.
    package func oldestWaitSeconds(now: Instant) -> Double {
        if self.depth == 0 { return 0 }
        return Double(self.queue.withLock { $0.oldestWaitNanoseconds(now: now) }) / 1e9
    }

    /// After `Endpoint.release`, which says why the order matters.
    var hasWaiters: Bool { self.waiting.load(ordering: .sequentiallyConsistent) > 0 }
    /// Whether a new request may take a free slot at once: nobody is in line before it.
    var mayBypassQueue: Bool { !self.hasWaiters }

    /// `variant` is the one that the request is pinned to.
    func wake(_ variant: String?) {
        self.wakeHandler(variant)
    }

    package func setLimits(_ settings: ModelSettings) {
        self.queue.withLock {
            $0.limits = AdmissionLimits(
                countMax: settings.queueCapacity,
                bytesMax: settings.queueBytes
            )
        }
    }

    /// Joins the queue; nil when it is full by count or by bytes. The caller then looks once more
    /// for a free slot: one may have been given back before anybody could see that somebody waits.
    /// Those that had to make room are to be told.
    func enqueue(
        _ waiter: Waiter,
        claim: AdmissionClaim,
        bytes: Int,
        deadline: Instant,
        now: Instant
    ) -> (handle: AdmissionHandle?, shed: [Waiter]) {
        let result: (handle: AdmissionHandle?, shed: [Waiter]) = self.queue.withLock { queue in
            var shed: [Waiter] = []
            while true {
                let outcome = queue.enqueue(
                    waiter,
                    claim: claim,
                    bytes: bytes,
                    deadline: deadline,
                    now: now
                )
                if case .queued(let handle) = outcome {
                    self.waiting.store(queue.count, ordering: .sequentiallyConsistent)
                    return (handle, shed)
                }
                let room = queue.shed(for: claim, bytes: bytes)
                if room.isEmpty { return (nil, shed) }
                shed += room.map(\.ticket)
            }
        }
        // Between the store and the loads of `Endpoint.inFlight` that follow, which are relaxed.
        atomicMemoryFence(ordering: .sequentiallyConsistent)
        return result
    }

    /// What a request that had waited did cost more than its claim said.
    func settle(_ claim: AdmissionClaim, by difference: Int) {
        if difference != 0 { self.queue.withLock { $0.settle(claim, by: difference) } }
    }

    /// Leaves the queue; without effect when the request was granted a slot meanwhile.
    func remove(_ handle: AdmissionHandle) {
        self.queue.withLock { queue in
            queue.remove(handle)
            self.waiting.store(queue.count, ordering: .releasing)
        }
    }

    /// Takes whoever waits longest out of the queue, for a model that is gone.
    func popAny(now: Instant) -> Waiter? {
        self.queue.withLock { queue in
            let entry = queue.popFirst(now: now) ?? queue.popExpired(now: now)
            self.waiting.store(queue.count, ordering: .releasing)
            return entry?.ticket
        }
    }

    /// The longest-waiting request for which `pick` finds a slot, and that slot.
    func nextGrant(
        now: Instant,
        _ pick: (Waiter) -> EndpointChoice?
    ) -> (Waiter, EndpointChoice)? {
        self.queue.withLock { queue in
            var choice: EndpointChoice?
            var isNothingFree = false
            let entry = queue.popFirst(now: now, lookahead: Self.lookaheadMax) { waiter in
                if isNothingFree, waiter.pinned == nil { return false }
                choice = pick(waiter)
                if choice == nil, waiter.pinned == nil, waiter.excluded.isEmpty {
                    isNothingFree = true
                }
                return choice != nil
            }
            guard let entry, let choice else { return nil }
            self.waiting.store(queue.count, ordering: .releasing)
            return (entry.ticket, choice)
        }
    }
}
