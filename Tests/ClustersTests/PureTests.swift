import Core
import Testing

@testable import Clusters

struct GroupPlanTests {
    private func candidate(
        _ serial: UInt64,
        current: Bool = true,
        ready: Bool = true,
        draining: Bool = false,
        stopping: Bool = false,
        inFlight: Int = 0
    ) -> GroupPlan.Candidate {
        GroupPlan.Candidate(
            id: ReplicaID(group: "g", index: Int(serial), serial: serial),
            isCurrent: current,
            isReady: ready,
            isLeaving: draining || stopping,
            drainSecondsLeft: draining ? 10 : nil,
            inFlight: inFlight
        )
    }

    @Test func createsWhatIsMissing() {
        let plan = GroupPlan(desired: 3, replicas: [candidate(1)])
        #expect(plan.create == 2 && plan.drain.isEmpty && plan.takeBack.isEmpty)
    }

    @Test func stopsTheUnreadyThenTheIdleThenTheNewest() {
        let replicas = [
            candidate(1, inFlight: 0), candidate(2, inFlight: 5), candidate(3, inFlight: 0),
            candidate(4, ready: false, inFlight: 9),
        ]
        let order = (0...4).map { GroupPlan(desired: $0, replicas: replicas).drain.map(\.serial) }
        #expect(order == [[4, 3, 1, 2], [4, 3, 1], [4, 3], [4], []])
    }

    @Test func takesBackTheBusiestOfThoseThatDrain() {
        let replicas = [
            candidate(1), candidate(2, draining: true, inFlight: 1),
            candidate(3, draining: true, inFlight: 7), candidate(4, stopping: true),
        ]
        let plan = GroupPlan(desired: 2, replicas: replicas)
        #expect(plan.takeBack.map(\.serial) == [3])
        #expect(plan.create == 0)
        let more = GroupPlan(desired: 4, replicas: replicas)
        #expect(Set(more.takeBack.map(\.serial)) == [2, 3])
        #expect(more.create == 1)
    }

    @Test func replacesOutdatedReplicasOneByOne() {
        let old = [candidate(1, current: false), candidate(2, current: false)]
        let first = GroupPlan(desired: 2, replicas: old)
        #expect(first.create == 1 && first.drain.isEmpty)
        let starting = GroupPlan(desired: 2, replicas: old + [candidate(3, ready: false)])
        #expect(starting.isEmpty)
        let ready = GroupPlan(desired: 2, replicas: old + [candidate(3)])
        #expect(ready.create == 0 && ready.drain.count == 1)
    }

    @Test func neverTakesBackAnOutdatedReplica() {
        let plan = GroupPlan(desired: 1, replicas: [candidate(1, current: false, draining: true)])
        #expect(plan.takeBack.isEmpty && plan.create == 1)
    }

    /// A world in which replicas become ready, fail and go at random.
    @Test(arguments: 0..<200)
    func settlesOnWhatIsDesiredAndNeverHalvesAServingGroup(seed: UInt64) {
        var random = RandomSource(seed: seed)
        var desired = Int.random(in: 0...6, using: &random)
        var serial: UInt64 = 0
        var world: [GroupPlan.Candidate] = []
        for round in 0..<80 {
            let isCalm = round >= 40
            if !isCalm, round % 7 == 0 { desired = Int.random(in: 0...6, using: &random) }
            if !isCalm, round % 11 == 0 {
                for index in world.indices { world[index].isCurrent = false }
            }
            let readyBefore = world.count { $0.isReady && !$0.isLeaving }
            let plan = GroupPlan(desired: desired, replicas: world)
            for index in world.indices {
                if plan.drain.contains(world[index].id) {
                    world[index].isLeaving = true
                    world[index].drainSecondsLeft = world[index].isReady ? 10 : nil
                }
                if plan.takeBack.contains(world[index].id) {
                    world[index].isLeaving = false
                    world[index].drainSecondsLeft = nil
                }
            }
            for _ in 0..<plan.create {
                serial += 1
                world.append(candidate(serial, ready: false))
            }
            let readyAfter = world.count { $0.isReady && !$0.isLeaving }
            #expect(readyAfter >= min(readyBefore, desired), "seed \(seed), round \(round)")
            let live = world.count { !$0.isLeaving }
            #expect(live <= max(desired + GroupPlan.surgeMax, live - plan.create), "seed \(seed)")
            for index in world.indices where Bool.random(using: &random) {
                world[index].isReady = isCalm || Bool.random(using: &random)
            }
            world.removeAll { $0.isLeaving && (isCalm || Bool.random(using: &random)) }
        }
        #expect(world.count { !$0.isLeaving } == desired, "seed \(seed)")
        #expect(world.allSatisfy { $0.isCurrent || $0.isLeaving }, "seed \(seed)")
    }
}

struct RestartBackOffTests {
    @Test func doublesUpToTheLongestWait() {
        let backOff = RestartBackOff()
        let waits = (1...9).map { backOff.delay(afterFailures: $0) }
        #expect(waits.prefix(4) == [.milliseconds(500), .seconds(1), .seconds(2), .seconds(4)])
        #expect(waits.suffix(2) == [.seconds(60), .seconds(60)])
        #expect(backOff.delay(afterFailures: .max) == .seconds(60))
    }
}

struct ColdStartsTests {
    @Test func givesNearestRankQuantiles() {
        let samples = ColdStarts((1...10).reversed().map { .seconds($0) })
        #expect(samples.median == .seconds(5))
        #expect(samples.ninetieth == .seconds(9))
        #expect(samples.quantile(0) == .seconds(1))
        #expect(samples.quantile(1) == .seconds(10))
        #expect(ColdStarts().median == nil)
    }

    @Test func keepsTheNewestAtTheLimit() {
        let count = ClusterLimits.coldStartsMax + 5
        let samples = ColdStarts((1...count).map { .seconds($0) })
        #expect(samples.samples.count == ClusterLimits.coldStartsMax)
        #expect(samples.samples.first == .seconds(6))
    }

    @Test func survivesATornFile() {
        let text = ColdStarts([.milliseconds(1_500), .seconds(2)]).encoded
        #expect(text == "1500000\n2000000\n")
        #expect(ColdStarts(encoded: text + "12x\n-5\n\n99999999999999999999\n").samples.count == 2)
    }
}

struct OutputTests {
    @Test(arguments: 0...12)
    func keepsTheLastBytes(capacity: Int) {
        var ring = OutputRing(capacity: capacity)
        for chunk in ["abc", "", "defg", "h", "ijklmnopqrstuvwxyz"] {
            ring.append(Array(chunk.utf8))
        }
        #expect(ring.text == "abcdefghijklmnopqrstuvwxyz".suffix(capacity))
        ring.append(Array("!".utf8))
        #expect(ring.text == "abcdefghijklmnopqrstuvwxyz!".suffix(capacity))
        #expect(ring.count <= capacity)
    }

    @Test func quotesTheLastLines() {
        var ring = OutputRing(capacity: 1_000)
        ring.append(Array("one\n\n  two \r\nthree\n".utf8))
        #expect(ring.tail(lines: 2) == "two / three")
        #expect(ring.tail(lines: 9, bytesMax: 5) == "…three")
    }

    @Test func cutsLinesWhereverTheBytesAreCut() {
        let text = Array("first\r\n\nthird, without end".utf8)
        for cut in 0...text.count {
            var splitter = LineSplitter()
            var lines: [String] = []
            splitter.append(text[..<cut]) { lines.append($0) }
            splitter.append(text[cut...]) { lines.append($0) }
            splitter.flush { lines.append($0) }
            splitter.flush { lines.append($0) }
            #expect(lines == ["first", "", "third, without end"])
        }
    }

    @Test func breaksLinesThatAreTooLong() {
        var splitter = LineSplitter(limit: 4)
        var lines: [String] = []
        splitter.append(Array("abcdefghij\n".utf8)) { lines.append($0) }
        #expect(lines == ["abcd", "efgh", "ij"])
    }
}

struct SubstitutionTests {
    private func resolve(
        _ command: [String],
        environment: [(String, String)] = [],
        inherited: [String: String] = ["HOME": "/data", "PORT": "1"]
    ) throws -> Invocation {
        var spec = ProcessGroupSpec(name: "g", command: command)
        spec.environment = environment.map { EnvironmentVariable(name: $0.0, value: $0.1) }
        var ports: [String: UInt16] = ["": 21_000]
        for (index, name) in try Substitution.portNames(in: spec).enumerated() {
            ports[name] = 21_001 + UInt16(index)
        }
        return try Substitution.resolve(
            spec,
            index: 3,
            ports: ports,
            inherited: inherited,
            extra: EnvironmentVariable(name: "MARK", value: "m")
        )
    }

    @Test(arguments: [
        ("plain", "plain"), ("$(PORT)", "21000"), ("a$(PORT)b$(REPLICA)c", "a21000b3c"),
        ("$(PORT_grpc)", "21001"), ("$(HOME)/x", "/data/x"), ("$$(PORT)", "$(PORT)"),
        ("cost: 5$", "cost: 5$"), ("$HOME ${A}", "$HOME ${A}"), ("$$$(PORT)", "$21000"), ("", ""),
    ])
    func replacesReferences(word: String, expected: String) throws {
        #expect(try resolve(["x", word]).command == ["x", expected])
    }

    @Test func layersTheEnvironment() throws {
        let result = try resolve(
            ["x", "$(B)"],
            environment: [("A", "$(PORT)"), ("B", "<$(A)>"), ("HOME", "/h"), ("MARK", "forged")]
        )
        #expect(result.command == ["x", "<21000>"])
        #expect(result.environment.first == EnvironmentVariable(name: "MARK", value: "m"))
        let values = Dictionary(
            uniqueKeysWithValues: result.environment.map { ($0.name, $0.value) }
        )
        #expect(
            values == [
                "MARK": "m", "A": "21000", "B": "<21000>", "HOME": "/h", "PORT": "21000",
                "REPLICA": "3",
            ]
        )
    }

    @Test(arguments: [
        ("$(PROT)", "refers to `PROT`, which is not set; there are `$(PORT)`"),
        ("$(PORT", "opens `$(` and never closes it"),
        ("$(PORT_)", "lacks the name of the port"),
        ("$()", "refers to ``"),
    ])
    func namesWhatIsWrong(word: String, message: String) throws {
        let error = #expect(throws: ClusterError.self) { try resolve(["x", word]) }
        #expect(error?.description.contains(message) ?? false, "\(String(describing: error))")
    }

    @Test func refusesVariablesThatAreSetFurtherDown() {
        let error = #expect(throws: ClusterError.self) {
            try resolve(["x"], environment: [("A", "$(B)"), ("B", "1")])
        }
        #expect(error?.description.contains("move that entry up") ?? false)
    }

    @Test func boundsPortsAndLengths() throws {
        let many = (0..<ClusterLimits.portsMax).map { "$(PORT_p\($0))" }
        #expect(throws: ClusterError.self) { try resolve(["x"] + many) }
        #expect(throws: Never.self) { try resolve(["x"] + many.dropFirst()) }
        let long = String(repeating: "$(HOME)", count: ClusterLimits.wordBytesMax / 4 + 1)
        #expect(throws: ClusterError.self) { try resolve(["x", long]) }
    }
}

struct SpecTests {
    @Test(arguments: [
        "", "A", "a/b", "../x", ".x", "-x", "a b", "ä", String(repeating: "a", count: 300),
    ])
    func refusesNamesThatAreNone(name: String) {
        #expect(throws: ClusterError.self) {
            try ProcessGroupSpec(name: name, command: ["x"]).validate()
        }
    }

    @Test func refusesWhatCannotWork() {
        func refuses(_ change: (inout ProcessGroupSpec) -> Void) -> Bool {
            var spec = ProcessGroupSpec(name: "g", command: ["x"])
            change(&spec)
            return (try? spec.validate()) == nil
        }
        #expect(!refuses { _ in })
        #expect(refuses { $0.command = [] })
        #expect(refuses { $0.command = ["a\0b"] })
        #expect(refuses { $0.replicas = -1 })
        #expect(refuses { $0.replicas = ClusterLimits.replicasMax + 1 })
        #expect(refuses { $0.readiness.path = "ready" })
        #expect(refuses { $0.readiness.path = "/a b" })
        #expect(refuses { $0.readiness.path = "/a\r\nx: y" })
        #expect(refuses { $0.readiness.period = .zero })
        #expect(refuses { $0.readiness.successThreshold = 0 })
        #expect(refuses { $0.startupTimeout = .zero })
        #expect(refuses { $0.terminationGracePeriod = .seconds(-1) })
        #expect(refuses { $0.outputLimit = ClusterLimits.outputBytesMax + 1 })
        #expect(refuses { $0.environment = [EnvironmentVariable(name: "A=B", value: "")] })
        #expect(refuses { $0.backOff.first = .zero })
    }
}

struct StatusLineTests {
    @Test(arguments: [
        ("HTTP/1.1 200 OK\r\n", true), ("HTTP/1.0 204 \r\n", true), ("HTTP/1.1 302\r\n", true),
        ("HTTP/1.1 399 x", true), ("HTTP/1.1 400 x", false), ("HTTP/1.1 503 x", false),
        ("HTTP/1.1 2000 x", false), ("HTTP/2 200 OK\r\n", false), ("HTTP/1.1  200 OK", false),
        ("HTTP/1.x 200 OK", false), ("SSH-2.0-OpenSSH", false), ("\u{15}\u{3}\u{1}", false),
        ("HTTP/1.1 100 Continue\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\n", true),
        ("HTTP/1.1 102 x\r\n\r\nHTTP/1.1 500 x\r\n", false),
    ])
    func judgesByteByByte(text: String, isGood: Bool) throws {
        let bytes = Array(text.utf8)
        var verdicts: [ProbeResult] = []
        for count in 0...bytes.count {
            if let verdict = StatusLine.judge(Array(bytes[..<count]), path: "/r") {
                verdicts.append(verdict)
            }
        }
        let last = try #require(verdicts.last)
        #expect((last == .good) == isGood, "\(last)")
        #expect(Set(verdicts).count == 1)
    }

    @Test func givesUpOnEndlessInterimResponses() {
        let interim = Array("HTTP/1.1 103 Early\r\nX: y\r\n\r\n".utf8)
        let enough = ClusterLimits.probeAnswerBytesMax / interim.count + 2
        let bytes = Array(repeatElement(interim, count: enough).joined())
        #expect(
            StatusLine.judge(bytes, path: "/")
                == .bad("/ is answered with too many interim responses")
        )
    }
}

struct ProcessTableTests {
    @Test func readsNamesWithParenthesesAndSpaces() throws {
        let rest = (7...21).map(String.init).joined(separator: " ")
        let entry = try #require(ProcessTable.parse(stat: "42 (a) S (b)) Z 1 77 88 \(rest) 4242 9"))
        #expect(entry.pid == 42 && entry.state == "Z" && entry.group == 77 && entry.session == 88)
        #expect(entry.startTime == 4_242)
        #expect(entry.isDead)
    }

    @Test(arguments: ["", "42", "42 (a", "42 (a) S 1", "x (a) S 1 2 3"])
    func passesOverWhatItCannotRead(stat: String) {
        #expect(ProcessTable.parse(stat: stat) == nil)
    }
}

struct EndpointMachineTests {
    private let now = Instant(nanoseconds: 5_000_000_000)

    private func machine(host: String?, probed: Bool = true) -> EndpointMachine {
        EndpointMachine(
            numericHost: host,
            readiness: probed ? ReadinessSpec(path: "/", failureThreshold: 1) : nil,
            drainDeadline: .seconds(10),
            now: self.now
        )
    }

    private let good = HealthVerdict(isReady: true, failure: nil)

    @Test func isReadyAsSoonAsItsAddressIs() {
        var machine = machine(host: "127.0.0.1")
        machine.handle(.tick, now: self.now)
        #expect(machine.state == .pending)
        machine.handle(.health(HealthVerdict(isReady: false, failure: "refused")), now: self.now)
        #expect(machine.state == .pending && machine.message == "refused")
        machine.handle(.health(self.good), now: self.now + .seconds(1))
        #expect(machine.state == .ready && machine.message == "")
        #expect(machine.since == self.now + .seconds(1))
        #expect(machine.deadline == nil)
    }

    @Test func aNewAddressStartsAnew() {
        var machine = machine(host: nil)
        machine.handle(.notResolved("gone fishing"), now: self.now)
        #expect(machine.message == "gone fishing" && machine.host == nil)
        machine.handle(.resolved("10.0.0.1"), now: self.now)
        #expect(machine.message == "" && machine.state == .pending)
        machine.handle(.health(self.good), now: self.now)
        machine.handle(.notResolved("gone fishing"), now: self.now)
        #expect(machine.state == .ready && machine.host == "10.0.0.1")
        machine.handle(.resolved("10.0.0.1"), now: self.now)
        #expect(machine.state == .ready)
        machine.handle(.resolved("10.0.0.2"), now: self.now)
        #expect(machine.host == "10.0.0.2" && machine.state == .notReady)
    }

    @Test func isReadyUnaskedWithoutAReadinessCheck() {
        var machine = machine(host: "127.0.0.1", probed: false)
        machine.handle(.tick, now: self.now)
        #expect(machine.state == .ready)
        #expect(machine.deadline == nil)
    }

    @Test func drainsOnlyWhatWasReady() {
        var fresh = machine(host: "127.0.0.1")
        fresh.handle(.drain, now: self.now)
        #expect(fresh.isGone)
        var served = machine(host: "127.0.0.1")
        for event in [EndpointMachine.Event.health(self.good), .drain, .drain] {
            served.handle(event, now: self.now)
        }
        #expect(served.state == .draining)
        #expect(served.deadline == self.now + .seconds(10))
        var back = served
        back.handle(.takeBack, now: self.now)
        #expect(back.state == .ready)
        served.handle(.tick, now: self.now + .seconds(9))
        #expect(!served.isGone)
        served.handle(.tick, now: self.now + .seconds(10))
        #expect(served.isGone)
    }

    @Test func becomesUnreadyAndSaysWhy() {
        var machine = machine(host: "127.0.0.1")
        machine.handle(.health(self.good), now: self.now)
        let bad = HealthVerdict(isReady: false, failure: "refused")
        machine.handle(.health(bad), now: self.now + .seconds(1))
        #expect(machine.state == .notReady && machine.message == "refused")
    }
}

struct HealthWatchTests {
    private let now = Instant(nanoseconds: 5_000_000_000)
    private let readiness = ReadinessSpec(path: "/", period: .seconds(2), failureThreshold: 2)

    private func watch(_ tally: ProbeTally = ProbeTally(), phase: UInt64 = 0) -> HealthWatch {
        HealthWatch(self.readiness, tally: tally, phase: phase, now: self.now)
    }

    @Test func probesAtOnceAndThenOncePerPeriod() {
        var watch = watch()
        let isBegun = watch.begin(now: self.now)
        #expect(isBegun && watch.deadline == nil)
        let isBegunAgain = watch.begin(now: self.now + .seconds(9))
        #expect(!isBegunAgain)
        _ = watch.note(.good, now: self.now)
        #expect(watch.deadline == self.now + .seconds(1))
        let isEarly = watch.begin(now: self.now + .milliseconds(999))
        #expect(!isEarly)
        let isDue = watch.begin(now: self.now + .seconds(1))
        #expect(isDue)
        _ = watch.note(.good, now: self.now + .seconds(1))
        #expect(watch.deadline == self.now + .seconds(3))
    }

    @Test func spreadsAddressesOverHalfAPeriod() {
        let deadlines = [UInt64.zero, .max / 4, .max / 2, .max].map { phase in
            var watch = self.watch(phase: phase)
            _ = watch.note(.good, now: self.now)
            return watch.deadline.map { ($0 - self.now) / .milliseconds(1) } ?? 0
        }
        #expect(deadlines == deadlines.sorted())
        #expect(deadlines[0] == 1_000 && deadlines[3] <= 2_000)
        #expect(abs(deadlines[1] - 1_250) < 1 && abs(deadlines[2] - 1_500) < 1)
    }

    @Test func tellsOnlyWhatIsNew() {
        var watch = watch()
        #expect(watch.verdict == nil)
        let isFirstNew = watch.note(.bad("refused"), now: self.now)
        #expect(isFirstNew)
        #expect(watch.verdict == HealthVerdict(isReady: false, failure: "refused"))
        for (result, isNew) in [
            (ProbeResult.bad("refused"), false), (.bad("timed out"), true), (.good, true),
            (.good, false), (.bad("refused"), false), (.good, false), (.bad("refused"), false),
            (.bad("refused"), true),
        ] {
            let seen = watch.note(result, now: self.now)
            #expect(seen == isNew, "\(result)")
        }
        #expect(watch.verdict == HealthVerdict(isReady: false, failure: "refused"))
    }

    @Test func goesOnFromWhatEarlierProbesSaid() {
        var first = watch()
        _ = first.note(.good, now: self.now)
        var second = watch(first.tally)
        #expect(second.verdict == nil)
        let isNew = second.note(.bad("once"), now: self.now)
        #expect(isNew)
        #expect(second.verdict == HealthVerdict(isReady: true, failure: nil))
    }
}

struct NameWatchTests {
    private let now = Instant(nanoseconds: 5_000_000_000)

    @Test func asksAgainAndKeepsWhatItFound() {
        var watch = NameWatch(now: self.now)
        let isBegun = watch.begin(now: self.now)
        #expect(isBegun && watch.deadline == nil)
        let isFirstNew = watch.note(.failure("gone fishing"), now: self.now)
        #expect(isFirstNew)
        #expect(watch.deadline == self.now + NameWatch.retryPeriod)
        let isTooEarly = watch.begin(now: self.now)
        #expect(!isTooEarly)
        let isDue = watch.begin(now: self.now + NameWatch.retryPeriod)
        #expect(isDue)
        for (answer, isNew) in [
            (NameResolver.Answer.failure("gone fishing"), false), (.failure("no answer"), true),
            (.address("10.0.0.1"), true), (.address("10.0.0.1"), false),
            (.failure("no answer"), false), (.address("10.0.0.2"), true),
        ] {
            let seen = watch.note(answer, now: self.now)
            #expect(seen == isNew, "\(answer)")
        }
        #expect(watch.answer == .address("10.0.0.2"))
        #expect(watch.deadline == self.now + NameWatch.period)
        _ = watch.note(.failure("no answer"), now: self.now)
        #expect(watch.answer == .address("10.0.0.2"))
        #expect(watch.deadline == self.now + NameWatch.retryPeriod)
    }
}
