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
    /// The variant it must go to, or -1.
    let pinned: Int
    /// Slots of endpoints that failed it.
    let excluded: [Int]
}

/// A replica chosen for a request, its slot already taken.
struct EndpointChoice {
    let modelIndex: Int
    let variant: Int
    let endpoint: Endpoint
}

/// Names a place in a model's queue.
struct AdmissionHandle: Sendable {
    let lane: Int
    let ticket: AdmissionQueue<Waiter>.Handle
}

/// What all workers share of one model: its admission queue and its outlier detector.
///
/// Nothing here is touched while replicas have free slots: `hasWaiters` is one relaxed load. Only
/// when the model is saturated do workers meet at the mutex.
///
/// Requests pinned to a variant wait in a lane of their own, so that one full variant does not hold
/// up what may go elsewhere; between lanes, whoever came first is served first.
package final class ModelShared: Sendable {
    private struct Queues {
        /// Lane 0 takes any variant; lane 1 + i waits for variant i.
        var lanes: [AdmissionQueue<Waiter>] = []
        var count = 0
        var bytes = 0
    }

    private let queues = Mutex(Queues())
    private let waiting = Atomic<Int>(0)
    private let wakeHandler: @Sendable () -> Void

    /// `wake` asks for a replica; it may be called often and from any thread.
    package init(wake: @escaping @Sendable () -> Void) {
        self.wakeHandler = wake
    }

    package var depth: Int { self.waiting.load(ordering: .relaxed) }
    var hasWaiters: Bool { self.waiting.load(ordering: .acquiring) > 0 }
    /// Whether a new request may take a free slot at once: nobody is in line before it.
    var mayBypassQueue: Bool { !self.hasWaiters }

    func wake() {
        self.wakeHandler()
    }

    /// Joins the queue; nil when it is full by count or by bytes.
    func enqueue(_ waiter: Waiter, bytes: Int, settings: ModelSettings) -> AdmissionHandle? {
        let lane = waiter.pinned + 1
        return self.queues.withLock { queues in
            guard queues.count < settings.queueCapacity,
                queues.bytes + bytes <= settings.queueBytes
            else { return nil }
            while queues.lanes.count <= lane { queues.lanes.append(AdmissionQueue()) }
            let ticket = queues.lanes[lane].enqueue(waiter, bytes: bytes)
            queues.count += 1
            queues.bytes += bytes
            self.waiting.add(1, ordering: .acquiringAndReleasing)
            return AdmissionHandle(lane: lane, ticket: ticket)
        }
    }

    /// Leaves the queue; without effect when the request was granted a slot meanwhile.
    func remove(_ handle: AdmissionHandle) {
        self.queues.withLock { queues in
            if let entry = queues.lanes[handle.lane].remove(handle.ticket) {
                self.left(&queues, entry.bytes)
            }
        }
    }

    /// The longest-waiting request for which `pick` finds a slot, and that slot.
    func nextGrant(
        _ pick: (_ pinned: Int, _ excluded: [Int]) -> EndpointChoice?
    ) -> (Waiter, EndpointChoice)? {
        self.queues.withLock { queues in
            var blocked = 0
            while true {
                guard let lane = Self.oldestLane(queues.lanes, blocked: blocked),
                    let first = queues.lanes[lane].first
                else { return nil }
                if let choice = pick(first.pinned, first.excluded) {
                    guard let entry = queues.lanes[lane].popFirst() else { return nil }
                    self.left(&queues, entry.bytes)
                    return (first, choice)
                }
                blocked |= 1 << min(lane, 62)
            }
        }
    }

    private func left(_ queues: inout Queues, _ bytes: Int) {
        queues.count -= 1
        queues.bytes -= bytes
        self.waiting.subtract(1, ordering: .acquiringAndReleasing)
    }

    /// The lane whose first request has waited longest, but for those in the `blocked` set.
    private static func oldestLane(_ lanes: [AdmissionQueue<Waiter>], blocked: Int) -> Int? {
        var oldest: Int?
        var sequence = UInt64.max
        for lane in lanes.indices where blocked & (1 << min(lane, 62)) == 0 {
            guard let first = lanes[lane].firstSequence, first < sequence else { continue }
            oldest = lane
            sequence = first
        }
        return oldest
    }
}
