import Core
import EventLoop
import LoopTestSupport
import Synchronization
import Testing

/// Counts across threads.
private final class Counter: Sendable {
    private let value = Atomic<Int>(0)

    func add() { self.value.add(1, ordering: .relaxed) }
    var count: Int { self.value.load(ordering: .acquiring) }
}

@Suite struct MailboxTests {
    @Test func jobsOfSeveralThreadsRunOnTheLoopInTheirOrder() throws {
        let harness = try LoopHarness()
        let loop = harness.loop
        let jobs = 2_000
        let seen = LoopBound(Seen(), loop: loop)
        let senders = try (0..<3).map { sender in
            LoopThread(
                name: "sender-\(sender)",
                loop: try EventLoop(),
                setUp: {
                    for number in 0..<jobs {
                        loop.post { seen.value.numbers[sender].append(number) }
                    }
                }
            )
        }
        try harness.run(until: "all jobs") { seen.value.numbers.allSatisfy { $0.count == jobs } }
        for numbers in seen.value.numbers { #expect(numbers == Array(0..<jobs)) }
        for sender in senders {
            sender.loop.stop()
            sender.join()
        }
    }

    private final class Seen {
        var numbers: [[Int]] = [[], [], []]
    }

    @Test func aFullMailboxSaysSo() throws {
        let loop = try EventLoop()
        let ran = Counter()
        for _ in 0..<EventLoop.mailboxCapacity {
            guard loop.post({ ran.add() }) else {
                Issue.record("refused before the bound")
                return
            }
        }
        #expect(!loop.post { ran.add() }, "one more than the bound")
        loop.turn(mayBlock: false)
        #expect(ran.count == EventLoop.mailboxCapacity, "the refused job was dropped")
        #expect(loop.post { ran.add() }, "there is room again")
        loop.turn(mayBlock: false)
        #expect(ran.count == EventLoop.mailboxCapacity + 1)
    }

    @Test func aJobPostedByAJobRunsInTheNextTurn() throws {
        let loop = try EventLoop()
        let ran = Counter()
        loop.post { loop.post { ran.add() } }
        loop.turn(mayBlock: true)
        #expect(ran.count == 0)
        // It would wait for ever had the post not woken it.
        loop.turn(mayBlock: true)
        #expect(ran.count == 1)
    }

    @Test func theHookRunsAfterTheJobsOfATurn() throws {
        let loop = try EventLoop()
        var order: [String] = []
        let log = LoopBound({ (what: String) in order.append(what) }, loop: loop)
        loop.afterTurn = { log.value("hook") }
        loop.post { log.value("job") }
        loop.turn(mayBlock: true)
        loop.turn(mayBlock: false)
        #expect(order == ["job", "hook", "hook"])
        // The hook keeps the loop, which keeps the hook.
        loop.afterTurn = nil
    }
}

@Suite struct EventLoopTests {
    @Test func aLoopStoppedBeforehandDoesNotRun() throws {
        let loop = try EventLoop()
        var turns = 0
        loop.afterTurn = { turns += 1 }
        loop.stop()
        loop.run()
        #expect(turns == 0)
    }

    @Test func aThreadRunsItsLoopUntilStopped() throws {
        let loop = try EventLoop()
        let events = Mutex<[String]>([])
        let thread = LoopThread(
            name: "a-name-longer-than-the-kernel-takes",
            loop: loop,
            setUp: { events.withLock { $0.append("begin") } },
            tearDown: { events.withLock { $0.append("end") } }
        )
        loop.post {
            events.withLock { $0.append(loop.isOnLoop ? "on the loop" : "elsewhere") }
            loop.stop()
        }
        thread.join()
        #expect(events.withLock { $0 } == ["begin", "on the loop", "end"])
    }

    @Test func aRunningLoopBelongsToItsThread() throws {
        let loop = try EventLoop()
        #expect(loop.isOnLoop, "nobody runs it yet")
        let started = Counter()
        let thread = LoopThread(name: "other", loop: loop)
        loop.post { started.add() }
        while started.count == 0 {}
        #expect(!loop.isOnLoop)
        loop.stop()
        thread.join()
        #expect(loop.isOnLoop, "nobody runs it any more")
    }

    @Test func timeStandsStillDuringATurn() throws {
        let loop = try EventLoop()
        let first = loop.now
        while EventLoop.readClock() <= first {}
        #expect(loop.now == first)
        let second = loop.refreshNow()
        #expect(second > first)
        #expect(loop.now == second)
        loop.turn(mayBlock: false)
        while EventLoop.readClock() <= second {}
        #expect(loop.now > second)
    }

    @Test func workLeftOverIsNotWaitedFor() throws {
        let loop = try EventLoop()
        loop.continueWithoutWaiting()
        loop.turn(mayBlock: true)  // Would wait for ever.
        var isLate = false
        loop.schedule(after: .milliseconds(1)) { isLate = true }
        loop.turn(mayBlock: true)
        #expect(isLate, "the next turn waits again")
    }

    @Test func aLoopBoundValueTrapsElsewhere() async {
        await #expect(processExitsWith: .failure) {
            let loop = try EventLoop()
            let bound = LoopBound(1, loop: loop)
            let ready = Counter()
            let thread = LoopThread(name: "other", loop: loop, setUp: { ready.add() })
            loop.post { ready.add() }
            while ready.count < 2 {}
            _ = bound.value
            thread.join()
        }
    }
}

@Suite struct LoopTimerTests {
    /// The kernel's coarse clock, by which libevent waits, lags behind by up to a tick of it.
    private static let coarseness = Duration.milliseconds(10)

    @Test func firesOnceAndNotBeforeItsTime() throws {
        let harness = try LoopHarness()
        let start = harness.loop.refreshNow()
        var firings: [Instant] = []
        let timer = harness.loop.schedule(after: .milliseconds(30)) {
            firings.append(harness.loop.refreshNow())
        }
        #expect(timer.isArmed)
        try harness.run(until: "the timer") { !firings.isEmpty }
        #expect(!timer.isArmed)
        harness.settle()
        #expect(firings.count == 1)
        #expect(firings[0] - start >= .milliseconds(30) - Self.coarseness)
    }

    @Test func timersFireInTheirOrder() throws {
        let harness = try LoopHarness()
        var order: [Int] = []
        for delay in [60, 0, 30, -5, 90] {
            harness.loop.schedule(after: .milliseconds(delay)) { order.append(delay) }
        }
        try harness.run(until: "all timers") { order.count == 5 }
        #expect(Set(order.prefix(2)) == [0, -5])
        #expect(order.suffix(3) == [30, 60, 90])
    }

    @Test func aCancelledTimerNeverFires() throws {
        let harness = try LoopHarness()
        var fired: [String] = []
        let cancelled = harness.loop.schedule(after: .milliseconds(1)) { fired.append("cancelled") }
        cancelled.cancel()
        cancelled.cancel()
        harness.loop.schedule(after: .milliseconds(20)) { fired.append("other") }
        try harness.run(until: "the other timer") { !fired.isEmpty }
        #expect(fired == ["other"])
        #expect(!cancelled.isArmed)
    }

    @Test func aRepeatingTimerEndsItself() throws {
        let harness = try LoopHarness()
        var count = 0
        var timer: LoopTimer?
        timer = harness.loop.scheduleRepeating(every: .milliseconds(1)) {
            count += 1
            if count == 5 { timer?.cancel() }
        }
        try harness.run(until: "five firings") { count == 5 }
        var isLater = false
        harness.loop.schedule(after: .milliseconds(20)) { isLater = true }
        try harness.run(until: "more time") { isLater }
        #expect(count == 5)
    }

    @Test func timersLetGoOfWhatTheyHold() throws {
        final class Witness {}
        let harness = try LoopHarness()
        weak var firedWitness: Witness?
        weak var cancelledWitness: Witness?
        weak var cancelledTimer: LoopTimer?
        var isDone = false
        do {
            let fired = Witness()
            let cancelled = Witness()
            firedWitness = fired
            cancelledWitness = cancelled
            harness.loop.schedule(after: .zero) { withExtendedLifetime(fired) { isDone = true } }
            let timer = harness.loop.schedule(after: .seconds(60)) {
                withExtendedLifetime(cancelled) {}
            }
            cancelledTimer = timer
            timer.cancel()
        }
        try harness.run(until: "the timer") { isDone }
        #expect(firedWitness == nil && cancelledWitness == nil && cancelledTimer == nil)
    }
}
