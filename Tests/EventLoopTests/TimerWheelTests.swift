import Core
import EventLoop
import Glibc
import LoopTestSupport
import Testing

/// A timer that tells when it expires.
private final class Probe: WheelTimer {
    let number: Int
    let onExpiry: (Probe) -> Void

    init(_ number: Int, onExpiry: @escaping (Probe) -> Void) {
        self.number = number
        self.onExpiry = onExpiry
    }

    override func expired() { self.onExpiry(self) }
}

@Suite struct TimerWheelTests {
    private static let slot = Duration.milliseconds(8)
    /// One turn of the wheel.
    private static let turn = Duration.milliseconds(8 * 512)

    @Test func expiresOnceAndNeverEarly() throws {
        let harness = try LoopHarness()
        let wheel = TimerWheel(loop: harness.loop)
        var expiries: [Instant] = []
        let probe = Probe(0) { _ in expiries.append(harness.loop.now) }
        let deadline = harness.loop.refreshNow() + .milliseconds(20)
        wheel.arm(probe, at: deadline)
        #expect(wheel.count == 1 && probe.deadline == deadline)
        try harness.run(until: "the expiry") { !expiries.isEmpty }
        #expect(expiries[0] >= deadline)
        #expect(wheel.count == 0 && probe.deadline == .distantFuture)
        harness.settle()
        #expect(expiries.count == 1)
        wheel.stop()
    }

    @Test func aDeadlineThatHasPassedIsMetSoon() throws {
        let harness = try LoopHarness()
        let wheel = TimerWheel(loop: harness.loop)
        var expired: [Int] = []
        let probes = (0..<2).map { Probe($0) { expired.append($0.number) } }
        wheel.arm(probes[0], at: .zero)
        wheel.arm(probes[1], at: harness.loop.now)
        try harness.run(until: "both") { expired.count == 2 }
        wheel.stop()
    }

    @Test func movesLaterAndEarlier() throws {
        let harness = try LoopHarness()
        let wheel = TimerWheel(loop: harness.loop)
        var expiries: [Int: Instant] = [:]
        let probes = (0..<2).map { Probe($0) { expiries[$0.number] = harness.loop.now } }
        let now = harness.loop.refreshNow()
        wheel.arm(probes[0], at: now + .milliseconds(10))
        wheel.arm(probes[0], at: now + .milliseconds(60))
        wheel.arm(probes[1], at: now + .seconds(60))
        wheel.arm(probes[1], at: now + .milliseconds(30))
        #expect(wheel.count == 2)
        try harness.run(until: "both") { expiries.count == 2 }
        let (later, earlier) = (try #require(expiries[0]), try #require(expiries[1]))
        #expect(later >= now + .milliseconds(60))
        #expect(earlier >= now + .milliseconds(30))
        #expect(earlier <= later, "thirty seconds would have been too long")
        wheel.stop()
    }

    @Test func removedTimersMayGo() throws {
        let harness = try LoopHarness()
        let wheel = TimerWheel(loop: harness.loop)
        var expired: [Int] = []
        let now = harness.loop.now
        var probes = (0..<9).map { Probe($0) { expired.append($0.number) } }
        // All in one slot: the first, one in the middle and the last of its list are taken out.
        for probe in probes { wheel.arm(probe, at: now + .milliseconds(40)) }
        for number in [8, 4, 0] {
            wheel.remove(probes[number])
            wheel.remove(probes[number])
            probes.remove(at: number)
        }
        #expect(wheel.count == 6)
        try harness.run(until: "the rest") { wheel.count == 0 }
        #expect(Set(expired) == [1, 2, 3, 5, 6, 7])
        wheel.stop()
    }

    @Test func never() throws {
        let harness = try LoopHarness()
        let wheel = TimerWheel(loop: harness.loop)
        var expired: [Int] = []
        let probes = (0..<3).map { Probe($0) { expired.append($0.number) } }
        let now = harness.loop.now
        wheel.arm(probes[0], at: .distantFuture)
        #expect(wheel.count == 0)
        wheel.arm(probes[1], at: now + .milliseconds(5))
        wheel.arm(probes[1], at: .distantFuture)
        wheel.arm(probes[2], at: now + .milliseconds(30))
        try harness.run(until: "the third") { !expired.isEmpty }
        #expect(expired == [2])
        for probe in probes { wheel.remove(probe) }
        wheel.stop()
    }

    @Test func handlersMayArmMoveAndRemove() throws {
        let harness = try LoopHarness()
        let wheel = TimerWheel(loop: harness.loop)
        var expired: [Int] = []
        var probes: [Probe] = []
        let deadline = harness.loop.now + .milliseconds(20)
        probes = (0..<4).map { number in
            Probe(number) { probe in
                expired.append(number)
                // Whoever comes first takes the others out; then it runs again, twice.
                for other in probes where other !== probe { wheel.remove(other) }
                if expired.count < 3 { wheel.arm(probe, at: .zero) }
            }
        }
        for probe in probes { wheel.arm(probe, at: deadline) }
        try harness.run(until: "three expiries") { expired.count == 3 }
        harness.settle()
        #expect(expired.count == 3 && Set(expired).count == 1)
        #expect(wheel.count == 0)
        probes = []
        wheel.stop()
    }

    /// Nothing is lost when the loop does not run for longer than the wheel takes to turn, and what
    /// lies more than a turn ahead is not taken for what lies just ahead.
    @Test func aLongStallLosesNothing() throws {
        let harness = try LoopHarness()
        let wheel = TimerWheel(loop: harness.loop)
        var expired: [Int: Instant] = [:]
        let start = harness.loop.refreshNow()
        // 0 ms to 4.9 s, several of them in the same slot of the wheel.
        let delays = (0..<50).map { $0 * 100 } + [8, 16, 24, 8 + 4_096, 16 + 4_096]
        let probes = delays.indices.map { Probe($0) { expired[$0.number] = harness.loop.now } }
        for (probe, delay) in zip(probes, delays) {
            wheel.arm(probe, at: start + .milliseconds(delay))
        }
        // The stall is the subject, not a way to wait for something.
        let stall = Int32((Self.turn.secondsAsDouble * 1_000).rounded()) + 100
        poll(nil, 0, stall)
        try harness.run(until: "the first expiry") { !expired.isEmpty }
        let woken = try #require(expired.values.first)
        for (number, delay) in delays.enumerated() {
            let deadline = start + .milliseconds(delay)
            if deadline + Self.slot <= woken {
                #expect(expired[number] == woken, "\(delay) ms was due in the first pass")
            } else if deadline > woken {
                #expect(expired[number] == nil, "\(delay) ms was early")
            }
        }
        try harness.run(until: "the rest") { expired.count == delays.count }
        for (number, delay) in delays.enumerated() {
            let instant = try #require(expired[number])
            #expect(instant >= start + .milliseconds(delay))
        }
        #expect(wheel.count == 0)
        wheel.stop()
    }

    /// Random timers are armed, moved and removed; a dictionary says when each is due.
    @Test(arguments: 1...4)
    func agreesWithAnOracle(seed: Int) throws {
        let harness = try LoopHarness()
        let oracle = Oracle(loop: harness.loop, seed: UInt64(seed))
        var steps = 0
        let stepper = harness.loop.scheduleRepeating(every: .milliseconds(1)) {
            if steps < 300 { for _ in 0..<8 { oracle.step() } }
            steps += 1
        }
        harness.loop.afterTurn = { oracle.check() }
        try harness.run(until: "300 steps, seed \(seed)") { steps >= 300 }
        stepper.cancel()
        try harness.run(until: "the last expiries, seed \(seed)") { oracle.due.isEmpty }
        #expect(oracle.wheel.count == 0)
        #expect(oracle.problems == [], "seed \(seed)")
        #expect(oracle.expiries > 50, "seed \(seed) tested little: \(oracle.expiries)")
        harness.loop.afterTurn = nil
        oracle.wheel.stop()
    }

    private final class Oracle {
        /// How far in the past a timer is armed at most.
        private static let pastMax = Duration.milliseconds(2)

        let wheel: TimerWheel
        /// When each armed timer is due.
        private(set) var due: [Int: Instant] = [:]
        private(set) var problems: [String] = []
        private(set) var expiries = 0
        private let loop: EventLoop
        private var random: RandomSource
        private var probes: [Probe] = []
        /// When the wheel last looked at its slots, if it did in this turn.
        private var looked: Instant?

        init(loop: EventLoop, seed: UInt64) {
            self.loop = loop
            self.wheel = TimerWheel(loop: loop)
            self.random = RandomSource(seed: seed)
            self.probes = (0..<100).map { Probe($0) { [unowned self] in self.expired($0) } }
        }

        private func expired(_ probe: Probe) {
            self.looked = self.loop.now
            self.expiries += 1
            guard let deadline = self.due.removeValue(forKey: probe.number) else {
                self.problems.append("\(probe.number) was not armed")
                return
            }
            if self.loop.now < deadline { self.problems.append("\(probe.number) is early") }
            if Int.random(in: 0..<4, using: &self.random) == 0 { self.step() }
        }

        func step() {
            let probe = self.probes[Int.random(in: self.probes.indices, using: &self.random)]
            if Int.random(in: 0..<5, using: &self.random) == 0 {
                self.wheel.remove(probe)
                self.due[probe.number] = nil
                return
            }
            let delay = Int64.random(in: 0...122_000, using: &self.random)
            let deadline = self.loop.now + (.microseconds(delay) - Self.pastMax)
            self.wheel.arm(probe, at: deadline)
            self.due[probe.number] = deadline
        }

        /// What was due more than a slot before the wheel looked must have expired; a timer that
        /// was armed for the past has a slot from then on.
        func check() {
            defer { self.looked = nil }
            if self.wheel.count != self.due.count {
                self.problems.append("\(self.wheel.count) linked, \(self.due.count) armed")
            }
            guard let looked = self.looked else { return }
            let patience = TimerWheelTests.slot + Self.pastMax
            for (number, deadline) in self.due where deadline + patience <= looked {
                self.problems.append("\(number) is late")
            }
        }
    }

    @Test func droppingALinkedTimerTraps() async {
        await #expect(processExitsWith: .failure) {
            let loop = try EventLoop()
            let wheel = TimerWheel(loop: loop)
            wheel.arm(WheelTimer(), at: loop.now + .seconds(1))
        }
    }
}
