import Core
import Glibc
import Testing

@testable import Clusters

private typealias Machine = ProcessReplicaMachine

private let start = Instant(nanoseconds: 1_000_000_000_000)
private let policy = Machine.Policy(
    ProcessGroupSpec(
        name: "g",
        command: ["x"],
        readiness: ReadinessSpec(path: "/", period: .milliseconds(100), failureThreshold: 2),
        startupTimeout: .seconds(60),
        terminationGracePeriod: .seconds(30),
        drainDeadline: .seconds(20)
    )
)

extension ProcessReplicaMachine {
    /// Takes events in, one after the other at the given time.
    fileprivate mutating func feed(_ events: [Event], at now: Instant = start) {
        for event in events { _ = self.handle(event, now: now) }
    }
}

/// A machine after some events at `start`, the ticks among them as late as they need to be.
private func machineAfter(_ events: [Machine.Event]) -> Machine {
    var machine = Machine(policy: policy, now: start)
    for event in events {
        let isTick = event == .tick
        let time = isTick ? max(start, machine.deadline ?? start) : start
        _ = machine.handle(event, now: time)
    }
    return machine
}

private let up: [Machine.Event] = [.tick, .spawned(pid: 7)]
private let ready = up + [.tick, .probed(.good)]
private let unready =
    ready + [.tick, .probed(.bad("b")), .tick, .probed(.bad("b"))]
private let ended: Machine.Event = .exited(.code(1), output: "")

/// One machine in each state that makes a difference.
private let fixtures: [(name: String, events: [Machine.Event])] = [
    ("waiting", []),
    ("spawning", [.tick]),
    ("spawningToEnd", [.tick, .stop]),
    ("starting", up),
    ("startingProbing", up + [.tick]),
    ("ready", ready),
    ("readyProbing", ready + [.tick]),
    ("notReady", unready),
    ("draining", ready + [.drain]),
    ("drainingProbing", ready + [.tick, .drain]),
    ("terminating", up + [.stop]),
    ("terminatingToRestart", []),  // built below: it takes a start-up timeout
    ("killing", up + [.kill]),
    ("killingToRestart", []),
    ("clearingToRestart", up + [ended]),
    ("clearing", up + [.stop, ended]),
    ("clearingKilled", up + [.kill, ended]),
    ("clearingFromTimeout", []),
    ("gone", [.stop]),
]

private func fixture(_ name: String) -> Machine {
    let late = start + .seconds(61)
    var result = machineAfter(fixtures.first { $0.name == name }?.events ?? [])
    switch name {
    case "terminatingToRestart", "killingToRestart", "clearingFromTimeout":
        result = machineAfter(up)
        result.feed([.tick], at: late)
        if name == "killingToRestart" { result.feed([.tick], at: late + .seconds(31)) }
        if name == "clearingFromTimeout" { result.feed([ended], at: late) }
    default: break
    }
    return result
}

private func code(_ phase: Machine.Phase) -> String {
    switch phase {
    case .waiting: "W"
    case .spawning(let ending): ending == .end ? "s" : "S"
    case .running: "R"
    case .draining: "D"
    case .terminating(let ending, _): ending == .end ? "t" : "T"
    case .killing(let ending): ending == .end ? "k" : "K"
    case .clearing(let ending, _): ending == .end ? "c" : "C"
    case .gone: "G"
    }
}

private func code(_ action: Machine.Action) -> String {
    switch action {
    case .spawn: "+"
    case .probe: "?"
    case .cancelProbe: "x"
    case .terminate: "15"
    case .kill: "9"
    case .awaitClear: "~"
    case .releasePorts: "o"
    case .recordColdStart: "!"
    }
}

/// What every event leads to in every state: the phase's letter (small: for good), then the
/// actions.
/// `#` marks what only a bug of ours could cause; it traps.
private let table = """
    state                early late good bad exit clear up   noUp drain drained back stop kill
    waiting              S+    S+   W    W   #    #     #    #    G     W       W    G    G
    spawning             S     S    S    S   #    #     R    Wo   s     S       S    s    s
    spawningToEnd        s     s    s    s   #    #     tx15 Go   s     s       S    s    s
    starting             R     Tx15 R    R   Cx9~ #     #    #    tx15  R       R    tx15 kx9
    startingProbing      R     Tx15 R!   R   Cx9~ #     #    #    tx15  R       R    tx15 kx9
    ready                R     R?   R    R   Cx9~ #     #    #    D     R       R    tx15 kx9
    readyProbing         R     R    R    R   Cx9~ #     #    #    D     R       R    tx15 kx9
    notReady             R     R?   R    R   Cx9~ #     #    #    D     R       R    tx15 kx9
    draining             D     tx15 D    D   cx9~ #     #    #    D     tx15    R    tx15 kx9
    drainingProbing      D     tx15 D    D   cx9~ #     #    #    D     tx15    R    tx15 kx9
    terminating          t     k9   t    t   c~   #     #    #    t     t       t    t    k9
    terminatingToRestart T     K9   T    T   C~   #     #    #    t     T       T    t    k9
    killing              k     k    k    k   c~   #     #    #    k     k       k    k    k9
    killingToRestart     K     K    K    K   C~   #     #    #    k     K       K    k    k9
    clearingToRestart    C     C    C    C   #    Wo    #    #    c     C       C    c    c9
    clearing             c     c9   c    c   #    Go    #    #    c     c       c    c    c9
    clearingKilled       c     c    c    c   #    Go    #    #    c     c       c    c    c9
    clearingFromTimeout  C     C9   C    C   #    Wo    #    #    c     C       C    c    c9
    gone                 G     G    G    G   #    #     #    #    G     G       G    G    G
    """.split(separator: "\n").map { $0.split(separator: " ").map(String.init) }

private let events: [String: (event: Machine.Event, delay: Duration)] = [
    "early": (.tick, .zero),
    "late": (.tick, .seconds(3_600)),
    "good": (.probed(.good), .zero),
    "bad": (.probed(.bad("no")), .zero),
    "exit": (ended, .zero),
    "clear": (.cleared, .zero),
    "up": (.spawned(pid: 9), .zero),
    "noUp": (.spawnFailed("no such file"), .zero),
    "drain": (.drain, .zero),
    "drained": (.drained, .zero),
    "back": (.takeBack, .zero),
    "stop": (.stop, .zero),
    "kill": (.kill, .zero),
]

struct ReplicaMachineTests {
    @Test(arguments: table.dropFirst())
    func followsTheTableInEveryState(row: [String]) throws {
        #expect(row.count == events.count + 1)
        for (column, expected) in zip(table[0], row).dropFirst() where expected != "#" {
            var machine = fixture(row[0])
            let (event, delay) = try #require(events[column])
            let actions = machine.handle(event, now: start + delay)
            let seen = code(machine.phase) + actions.map(code).joined()
            #expect(seen == expected, "\(row[0]), \(column)")
        }
    }

    @Test func theTableHasEveryStateAndEvent() {
        #expect(table.dropFirst().map { $0[0] } == fixtures.map(\.name))
        #expect(Set(table[0].dropFirst()) == Set(events.keys))
    }

    @Test func trapsWhenToldOfAProcessThatDoesNotExist() async {
        await #expect(processExitsWith: .failure) {
            var machine = ProcessReplicaMachine(policy: .init(shellSpec("")), now: .zero)
            _ = machine.handle(.exited(.code(0), output: ""), now: .zero)
        }
        await #expect(processExitsWith: .failure) {
            var machine = ProcessReplicaMachine(policy: .init(shellSpec("")), now: .zero)
            _ = machine.handle(.spawned(pid: 1), now: .zero)
        }
        await #expect(processExitsWith: .failure) {
            var machine = ProcessReplicaMachine(policy: .init(shellSpec("")), now: .zero)
            _ = machine.handle(.cleared, now: .zero)
        }
    }

    @Test func measuresTheColdStartOfEachLife() {
        var machine = machineAfter(up)
        machine.feed([.tick], at: start + .milliseconds(100))
        let actions = machine.handle(.probed(.good), now: start + .milliseconds(140))
        #expect(actions == [.recordColdStart(.milliseconds(140))])
        #expect(machine.coldStart == .milliseconds(140))
        #expect(machine.state == .ready)
        #expect(machine.since == start + .milliseconds(140))
    }

    @Test func becomesUnreadyAfterTheThresholdAndReadyAgain() {
        var machine = machineAfter(ready + [.tick, .probed(.bad("503"))])
        #expect(machine.state == .ready)
        machine = machineAfter(unready)
        #expect(machine.state == .notReady)
        #expect(machine.message == "b")
        machine.feed([.tick], at: start + .seconds(10))
        machine.feed([.probed(.good)], at: start + .seconds(10))
        #expect(machine.state == .ready)
        #expect(machine.message == "")
    }

    @Test func backsOffFromFailureToFailureAndCallsItACrashLoop() {
        var machine = Machine(policy: policy, now: start)
        var now = start
        var waits: [Duration] = []
        var states: [ReplicaState] = []
        for _ in 0..<9 {
            machine.feed([.tick, .spawned(pid: 7), ended, .cleared], at: now)
            let until = machine.deadline ?? now
            waits.append(until - now)
            states.append(machine.state)
            now = until
        }
        let expected = [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]
        #expect(waits == expected.map { .milliseconds($0) })
        #expect(states == [.pending, .pending] + Array(repeating: .crashLooping, count: 7))
        #expect(machine.restarts == 8)
        #expect(machine.message == "exited with code 1 after 0 ms; starts again in 1 min")
    }

    @Test(arguments: [(59, 2), (60, 1)])
    func forgivesFailuresAfterAHealthyLife(seconds: Int, failures: Int) {
        var machine = machineAfter(up + [ended, .cleared])
        machine.feed([.tick, .spawned(pid: 8)], at: start + .seconds(1))
        machine.feed([.tick, .probed(.good)], at: start + .seconds(2))
        machine.feed([ended], at: start + .seconds(2 + seconds))
        #expect(machine.failures == failures)
    }

    @Test func saysWhyAStartUpTookTooLong() {
        var machine = machineAfter(up + [.tick, .probed(.bad("/ is answered with 503"))])
        machine.feed([.tick], at: start + .seconds(60))
        #expect(machine.state == .stopping)
        machine.feed([.exited(.signal(SIGTERM), output: ""), .cleared], at: start + .seconds(61))
        let reason = "was not ready within its start-up time of 1 min (/ is answered with 503)"
        #expect(machine.lastExit == reason)
        #expect(machine.message == reason + "; starts again in 500 ms")
        #expect(machine.state == .pending)
    }

    @Test func failsWithWordsWhenItCannotStart() {
        let machine = machineAfter([.tick, .spawnFailed("`x` is not on PATH")])
        #expect(machine.state == .failed)
        #expect(machine.message == "`x` is not on PATH")
        #expect(machine.deadline == start + .milliseconds(500))
        #expect(machine.restarts == 0)
    }

    @Test func quotesTheLastOutputOfACrash() {
        let machine = machineAfter(up + [.exited(.signal(SIGSEGV), output: "boom")])
        #expect(machine.lastExit == "was ended by SIGSEGV after 0 ms; it said: boom")
    }

    @Test func keepsProbingWhileItDrains() {
        var machine = machineAfter(ready + [.drain])
        let due = machine.deadline ?? start
        #expect(machine.handle(.tick, now: due) == [.probe])
        #expect(machine.isReady)
        machine.feed([.probed(.bad("b"))], at: start + .seconds(5))
        machine.feed([.tick, .probed(.bad("b"))], at: start + .seconds(6))
        #expect(!machine.isReady)
        machine.feed([.takeBack], at: start + .seconds(6))
        #expect(machine.state == .notReady)
    }

    @Test(arguments: 0..<300)
    func keepsItsInvariantsOnARandomWalk(seed: UInt64) {
        var walk = RandomWalk(seed: seed)
        for _ in 0..<400 where !walk.machine.isGone { walk.step() }
        walk.endAll()
        #expect(walk.problems == [], "seed \(seed)")
    }
}

/// Drives a machine with whatever could happen next, and keeps book of what a real shell would
/// have.
private struct RandomWalk {
    var machine: Machine
    var problems: [String] = []
    private var random: RandomSource
    private var now = start
    private var leaderAlive = false
    private var groupAlive = false
    private var awaitingClear = false
    private var holdsPorts = false
    private var isProbing = false
    private var mustAnswerSpawn = false
    private var wasTold = false
    private var wasKilled = false

    init(seed: UInt64) {
        self.random = RandomSource(seed: seed)
        self.machine = Machine(policy: policy, now: start)
    }

    mutating func step() {
        self.now = self.now + .milliseconds(Int64.random(in: 0...4_000, using: &self.random))
        self.send(self.nextEvent())
    }

    /// Asks for the end and lets time pass: it must come, with nothing left behind.
    mutating func endAll() {
        if self.mustAnswerSpawn { self.send(.spawned(pid: 5)) }
        self.send(.drain)
        for _ in 0..<20 where !self.machine.isGone {
            if let deadline = self.machine.deadline { self.now = max(self.now, deadline) }
            self.send(.tick)
            if self.wasKilled, self.leaderAlive {
                self.leaderAlive = false
                self.send(.exited(.signal(SIGKILL), output: ""))
            }
            if self.wasKilled, self.awaitingClear { self.clear() }
        }
        self.expect(self.machine.isGone, "does not end: \(self.machine.phase)")
        self.expect(!self.holdsPorts && !self.groupAlive, "something is left")
    }

    private mutating func nextEvent() -> Machine.Event {
        if self.mustAnswerSpawn {
            return Bool.random(using: &self.random) ? .spawned(pid: 5) : .spawnFailed("no")
        }
        var choices: [Machine.Event] = [.tick, .tick, .tick, .takeBack, .drained]
        if self.isProbing {
            choices += Array(repeating: .probed(.good), count: 6) + [.probed(.bad("x"))]
        }
        if self.leaderAlive { choices.append(ended) }
        if self.awaitingClear { choices += [.cleared, .cleared] }
        if UInt64.random(in: 0..<12, using: &self.random) == 0 { choices = [.drain, .stop, .kill] }
        let index = Int.random(in: 0..<choices.count, using: &self.random)
        return choices[index]
    }

    private mutating func clear() {
        self.groupAlive = false
        self.send(.cleared)
    }

    private mutating func send(_ event: Machine.Event) {
        switch event {
        case .spawned:
            (self.leaderAlive, self.groupAlive, self.mustAnswerSpawn) = (true, true, false)
            (self.wasTold, self.wasKilled) = (false, false)
        case .spawnFailed: self.mustAnswerSpawn = false
        case .exited: self.leaderAlive = false
        case .cleared: (self.groupAlive, self.awaitingClear) = (false, false)
        case .probed: self.isProbing = false
        case .tick, .drain, .drained, .takeBack, .stop, .kill: break
        }
        for action in self.machine.handle(event, now: self.now) { self.take(action) }
        self.check()
    }

    private mutating func take(_ action: Machine.Action) {
        switch action {
        case .spawn:
            self.expect(!self.groupAlive && !self.holdsPorts, "started beside what still runs")
            (self.mustAnswerSpawn, self.holdsPorts) = (true, true)
        case .probe:
            self.expect(self.leaderAlive && !self.isProbing, "a probe of nothing, or a second one")
            self.isProbing = true
        case .cancelProbe: self.isProbing = false
        case .terminate:
            self.expect(self.leaderAlive && !self.wasTold, "a needless SIGTERM")
            self.wasTold = true
        case .kill:
            self.expect(self.groupAlive, "SIGKILL to nobody")
            self.wasKilled = true
        case .awaitClear:
            self.expect(!self.leaderAlive && !self.awaitingClear, "waits for a live process")
            self.awaitingClear = true
        case .releasePorts:
            self.expect(self.holdsPorts && !self.groupAlive, "gave ports away that are in use")
            self.holdsPorts = false
        case .recordColdStart(let duration):
            self.expect(duration >= .zero && self.leaderAlive, "a cold start of nothing")
        }
    }

    private mutating func check() {
        let state = self.machine.state
        self.expect(!state.takesRequests || self.leaderAlive, "ready without a process")
        self.expect(state != .draining || self.leaderAlive, "drains without a process")
        let waitsForOthers = self.mustAnswerSpawn || self.isProbing || self.groupAlive
        self.expect(
            self.machine.isGone || self.machine.deadline != nil || waitsForOthers,
            "would wait for ever in \(self.machine.phase)"
        )
        self.expect(!(self.machine.isGone && self.groupAlive), "gone, and its processes run")
    }

    private mutating func expect(_ condition: Bool, _ problem: String) {
        if !condition, self.problems.count < 5 { self.problems.append(problem) }
    }
}
