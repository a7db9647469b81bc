import Core

/// One deadline on a `TimerWheel`. Subclass it, or hold one and override `expired`.
open class WheelTimer {
    /// When `expired` is to run; `distantFuture` for never. Move it with `TimerWheel.arm`.
    @usableFromInline
    package final internal(set) var deadline = Instant.distantFuture
    /// The deadline that its slot was chosen for: the slot serves later ones as well.
    @usableFromInline final var linkedFor = Instant.distantFuture
    @usableFromInline final var slot: Int32 = -1
    fileprivate final unowned(unsafe) var next: WheelTimer?
    fileprivate final unowned(unsafe) var previous: WheelTimer?

    public init() {}

    deinit {
        precondition(self.slot < 0, "a timer was dropped while linked; remove it first")
    }

    /// Called on the loop's thread once the deadline has passed.
    open func expired() {}
}

/// Coarse deadlines for very many connections on one loop: arming and moving are a few stores.
///
/// A hashed timing wheel (Varghese and Lauck, "Hashed and Hierarchical Timing Wheels", SOSP 1987,
/// scheme 6) of 512 slots of 8 ms. A timer stays in its slot as long as its deadline is not earlier
/// than the one it was put there for, and is put right when the slot comes round; so a connection
/// that is disarmed and armed again with every request pays a few stores for it. A deadline is met
/// at most one slot late and never early. Deadlines beyond one turn of the wheel (4 s) are looked
/// at once per turn.
///
/// Public only because the compiler inlines no method of a `package` type into another module.
public final class TimerWheel {
    private static let slotCount = 512
    private static let slotNanoseconds: UInt64 = 8_000_000

    private let loop: EventLoop
    private var heads: [Unmanaged<WheelTimer>?]
    private var linked = 0
    /// The next slot, in ticks since the origin, that has not been looked at.
    private var cursor: UInt64
    /// The loop's timer for the earliest slot that holds a timer, and that slot's tick.
    private var ticker: LoopTimer?
    private var tickerTick = UInt64.max

    package init(loop: EventLoop) {
        self.loop = loop
        self.heads = Array(repeating: nil, count: Self.slotCount)
        self.cursor = loop.now.nanoseconds / Self.slotNanoseconds
    }

    /// Sets or moves a timer. `distantFuture` disarms it.
    @inlinable @inline(__always)
    package func arm(_ timer: WheelTimer, at deadline: Instant) {
        if timer.slot >= 0, deadline >= timer.linkedFor {
            timer.deadline = deadline
            return
        }
        self.link(timer, at: deadline)
    }

    /// Takes a timer out; needed before it is dropped.
    package func remove(_ timer: WheelTimer) {
        timer.deadline = .distantFuture
        if timer.slot >= 0 { self.unlink(timer) }
    }

    /// Ends the ticking; no timer may be linked any more.
    package func stop() {
        self.ticker?.cancel()
        self.ticker = nil
        self.tickerTick = .max
    }

    package var count: Int { self.linked }

    // MARK: Helpers

    @inline(never) @usableFromInline
    func link(_ timer: WheelTimer, at deadline: Instant) {
        if timer.slot >= 0 { self.unlink(timer) }
        timer.deadline = deadline
        if deadline == .distantFuture { return }
        if self.linked == 0 {
            // Nothing was waiting, so nothing between then and now is missed.
            self.cursor = max(self.cursor, self.loop.now.nanoseconds / Self.slotNanoseconds)
        }
        let tick = max(self.cursor, deadline.nanoseconds / Self.slotNanoseconds + 1)
        let slot = Int(tick % UInt64(Self.slotCount))
        timer.slot = Int32(slot)
        timer.linkedFor = deadline
        timer.previous = nil
        timer.next = self.heads[slot]?.takeUnretainedValue()
        timer.next?.previous = timer
        self.heads[slot] = .passUnretained(timer)
        self.linked += 1
        self.wake(atTick: tick)
    }

    private func unlink(_ timer: WheelTimer) {
        let slot = Int(timer.slot)
        if let previous = timer.previous {
            previous.next = timer.next
        } else {
            self.heads[slot] = timer.next.map { .passUnretained($0) }
        }
        timer.next?.previous = timer.previous
        timer.next = nil
        timer.previous = nil
        timer.slot = -1
        self.linked -= 1
    }

    /// Makes the loop wake once the slot of `tick` is due, unless it wakes earlier anyway.
    private func wake(atTick tick: UInt64) {
        if tick >= self.tickerTick { return }
        self.ticker?.cancel()
        self.tickerTick = tick
        let due = Instant(nanoseconds: tick &* Self.slotNanoseconds)
        self.ticker = self.loop.schedule(after: due - self.loop.now) { [unowned self] in
            self.ticker = nil
            self.tickerTick = .max
            self.tick()
        }
    }

    private func wakeForNextSlot() {
        guard self.linked > 0 else { return }
        for distance in 0..<UInt64(Self.slotCount) {
            let tick = self.cursor + distance
            if self.heads[Int(tick % UInt64(Self.slotCount))] != nil {
                self.wake(atTick: tick)
                return
            }
        }
    }

    private func tick() {
        let now = self.loop.refreshNow()
        let current = now.nanoseconds / Self.slotNanoseconds
        // After a long stall every slot is due once; more turns would find nothing new.
        if current > self.cursor + UInt64(Self.slotCount) {
            self.cursor = current - UInt64(Self.slotCount)
        }
        while self.cursor <= current {
            let slot = Int(self.cursor % UInt64(Self.slotCount))
            self.cursor += 1
            self.expireSlot(slot, now: now)
        }
        self.wakeForNextSlot()
    }

    private func expireSlot(_ slot: Int, now: Instant) {
        // Detach the list first: what handlers arm must not be visited in this pass.
        var pending: [WheelTimer] = []
        var current = self.heads[slot]?.takeUnretainedValue()
        while let timer = current {
            current = timer.next
            pending.append(timer)
        }
        for timer in pending where timer.slot == Int32(slot) {
            let deadline = timer.deadline
            self.unlink(timer)
            if deadline <= now {
                timer.deadline = .distantFuture
                timer.expired()
            } else {
                self.link(timer, at: deadline)
            }
        }
    }
}
