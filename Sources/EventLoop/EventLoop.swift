import CEvent
import CPlatform
import Core
import Glibc
import Synchronization

/// One thread's event loop over libevent (epoll), with timers and a mailbox.
///
/// Everything but `post` and `stop` belongs to the thread that runs the loop. The loop is driven
/// turn by turn: the kernel's events first, then posted jobs, then the after-turn hook, so that a
/// user can batch what one turn produced. The clock is read at most once per turn.
///
/// Limits: the mailbox is bounded by `mailboxCapacity`; past it `post` reports `false` and the
/// caller decides. It does not schedule fairly between handlers: each must bound its own work.
///
/// Public only because the compiler inlines no method of a `package` type into another module.
public final class EventLoop: @unchecked Sendable {
    // @unchecked: `mailbox` and `stopping` are synchronised; every other field is touched by the
    // loop's own thread alone, which `assertOnLoop` checks.

    /// Posted jobs that may wait; a larger backlog means the loop is stuck.
    package static let mailboxCapacity = 65_536

    private let base: OpaquePointer
    private let wakeupDescriptor: Int32
    private let wakeup = Wakeup()
    private let mailbox = Locked<[@Sendable () -> Void]>([])
    private let stopping = Atomic<Bool>(false)
    private let thread = Atomic<UInt>(0)
    private var jobs: [@Sendable () -> Void] = []
    /// The time of this turn; zero while it has not been read.
    @usableFromInline var cachedNow = Instant.zero
    private var mustNotWait = false
    /// Runs after the events and jobs of each turn, on the loop's thread.
    package var afterTurn: (() -> Void)?

    package init() throws(SystemError) {
        guard let config = event_config_new() else {
            throw SystemError("event_config_new", code: ENOMEM)
        }
        defer { event_config_free(config) }
        event_config_set_flag(config, Int32(EVENT_BASE_FLAG_NOLOCK.rawValue))
        event_config_set_flag(config, Int32(EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST.rawValue))
        guard let base = event_base_new_with_config(config) else {
            throw SystemError("event_base_new", code: errno)
        }
        let descriptor = eventfd(0, Int32(EFD_NONBLOCK | EFD_CLOEXEC))
        guard descriptor >= 0 else {
            let code = errno
            event_base_free(base)
            throw SystemError("eventfd", code: code)
        }
        self.base = base
        self.wakeupDescriptor = descriptor
        self.wakeup.attach(to: self, descriptor: descriptor)
    }

    deinit {
        self.wakeup.detach()
        close(self.wakeupDescriptor)
        event_base_free(self.base)
    }

    // MARK: Any thread

    /// Queues a job for the loop's thread. False when the mailbox is full: the job was dropped.
    @discardableResult
    package func post(_ job: @escaping @Sendable () -> Void) -> Bool {
        let (accepted, wasEmpty) = self.mailbox.withLock { jobs in
            guard jobs.count < Self.mailboxCapacity else { return (false, false) }
            jobs.append(job)
            return (true, jobs.count == 1)
        }
        if accepted && wasEmpty { self.wake() }
        return accepted
    }

    /// Makes `run` return after the turn at hand.
    package func stop() {
        self.stopping.store(true, ordering: .releasing)
        self.wake()
    }

    // MARK: The loop's thread

    /// Runs turns on the calling thread until `stop`.
    package func run() {
        self.thread.store(Self.currentThread, ordering: .relaxed)
        while !self.stopping.load(ordering: .acquiring) {
            self.turn(mayBlock: true)
        }
        self.thread.store(0, ordering: .relaxed)
    }

    /// One turn: waits for events (unless told not to), runs handlers, jobs and the hook.
    package func turn(mayBlock: Bool) {
        if self.thread.load(ordering: .relaxed) == 0 {
            self.thread.store(Self.currentThread, ordering: .relaxed)
        }
        let waits = mayBlock && !self.mustNotWait
        self.mustNotWait = false
        self.blockingWaitForWork(mayBlock: waits)
        self.runJobs()
        self.afterTurn?()
        self.cachedNow = .zero
    }

    /// The time of this turn. Read from the kernel on first use in a turn.
    @inlinable
    package var now: Instant {
        self.cachedNow == .zero ? self.refreshNow() : self.cachedNow
    }

    /// The time at this very moment; also makes it the time of this turn.
    // It releases nothing, so that callers need not hold what they use before and after.
    @_effects(releasenone) @inline(never) @usableFromInline
    package func refreshNow() -> Instant {
        self.cachedNow = Self.readClock()
        return self.cachedNow
    }

    /// CLOCK_MONOTONIC. The one place in Weir that reads it.
    @_effects(releasenone)
    package static func readClock() -> Instant {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Instant(nanoseconds: UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec))
    }

    /// The wall clock as seconds since 1970, for stamps that people read and for schedules that
    /// they wrote; never for measuring time.
    package static func readWallClock() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    /// Runs `body` once, `delay` from now. Dropping the timer does not cancel it; `cancel` does.
    @discardableResult
    package func schedule(after delay: Duration, _ body: @escaping () -> Void) -> LoopTimer {
        self.assertOnLoop()
        return LoopTimer(base: self.base, delay: delay, repeats: false, body: body)
    }

    /// Runs `body` every `period` until cancelled, first after one period.
    package func scheduleRepeating(every period: Duration, _ body: @escaping () -> Void)
        -> LoopTimer
    {
        self.assertOnLoop()
        return LoopTimer(base: self.base, delay: period, repeats: true, body: body)
    }

    package var isOnLoop: Bool {
        let thread = self.thread.load(ordering: .relaxed)
        return thread == 0 || thread == Self.currentThread
    }

    @inline(__always)
    package func assertOnLoop() {
        assert(self.isOnLoop, "the loop's state was touched from another thread")
    }

    var eventBase: OpaquePointer { self.base }

    /// Makes the next turn look for events without waiting: there is work left over.
    package func continueWithoutWaiting() {
        self.mustNotWait = true
    }

    // MARK: Helpers

    private static var currentThread: UInt { UInt(pthread_self()) }

    private func wake() {
        var one: UInt64 = 1
        // A full counter (EAGAIN) is as good: the loop is about to wake anyway.
        _ = write(self.wakeupDescriptor, &one, 8)
    }

    /// Never inlined and never renamed, so that profilers can subtract idle time.
    @inline(never)
    private func blockingWaitForWork(mayBlock: Bool) {
        event_base_loop(self.base, EVLOOP_ONCE | (mayBlock ? 0 : EVLOOP_NONBLOCK))
    }

    private func runJobs() {
        self.mailbox.withLock { swap(&$0, &self.jobs) }
        if self.jobs.isEmpty { return }
        for job in self.jobs { job() }
        self.jobs.removeAll(keepingCapacity: true)
    }
}

/// Drains the eventfd; the jobs themselves run at the end of the turn.
private final class Wakeup: IOHandler {
    override func ready(_ events: IOEvents) {
        var count: UInt64 = 0
        _ = read(self.descriptor, &count, 8)
    }

    func attach(to loop: EventLoop, descriptor: Int32) {
        self.register(descriptor: descriptor, on: loop, interest: .read)
    }

    func detach() {
        self.deregister()
    }
}
