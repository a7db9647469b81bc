import Core
import Kubernetes
import Testing

/// A lease as a server keeps it, and processes that compete for it, each with a clock of its own.
private final class Contest {
    final class Process {
        let name: String
        var election: LeaderElection
        var random: RandomSource
        /// How wrong its wall clock is, in seconds.
        let skew: Double
        /// A step under way: when its answer comes, and what it is.
        var pending: (at: Instant, answer: (Process, Contest) -> Void)?
        var isCut = false
        var isGone = false
        var ended: [String] = []
        var began = 0

        init(_ name: String, skew: Double, seed: UInt64) {
            self.name = name
            self.skew = skew
            self.random = RandomSource(seed: seed)
            self.election = LeaderElection(LeaderElectionOptions(identity: name))
        }

        func take(_ outcome: LeaderElection.Outcome) {
            switch outcome {
            case .began: self.began += 1
            case .ended(let why): self.ended.append(why)
            case .none, .follows: break
            }
        }
    }

    var now = Instant(nanoseconds: 1_000_000_000_000)
    var record: LeaseRecord?
    var version = 0
    var dice: RandomSource
    var latencyMax = 0.05
    let processes: [Process]

    init(seed: UInt64, skews: [Double]) {
        self.dice = RandomSource(seed: seed)
        self.processes = skews.enumerated().map {
            Process("p\($0.offset)", skew: $0.element, seed: seed &+ UInt64($0.offset))
        }
    }

    var writers: [String] {
        self.processes.filter { $0.election.mayWrite(now: self.now) }.map(\.name)
    }

    private func wall(_ process: Process) -> Double {
        1.8e9 + Double(self.now.nanoseconds) / 1e9 + process.skew
    }

    /// Lets time pass in steps of 10 ms and checks after each that at most one may write.
    func run(_ seconds: Double, until done: () -> Bool = { false }) {
        let end = self.now + .seconds(seconds)
        while self.now < end, !done() {
            self.now = self.now + .milliseconds(10)
            for process in self.processes where !process.isGone { self.turn(process) }
            // Checked hundreds of thousands of times: an expectation only where it fails.
            let writers = self.processes.count { $0.election.mayWrite(now: self.now) }
            if writers > 1 { Issue.record("\(self.writers) may write at once") }
        }
    }

    private func turn(_ process: Process) {
        process.take(process.election.check(now: self.now))
        if let pending = process.pending {
            guard pending.at <= self.now else { return }
            process.pending = nil
            pending.answer(process, self)
        }
        let wall = self.wall(process)
        switch process.election.next(now: self.now, wallTime: wall) {
        case .wait, .nothing: return
        case .read:
            let record = self.record
            self.answer(process) { $0.received(record, now: $1, random: &$2) }
        case .create(var record):
            guard !process.isCut else { return self.lose(process) }
            let isTaken = self.record != nil
            if !isTaken { self.store(&record) }
            self.answer(process, isTaken ? nil : record.version)
        case .write(var record):
            guard !process.isCut else { return self.lose(process) }
            let isStale = self.record?.version != record.version
            if !isStale { self.store(&record) }
            self.answer(process, isStale ? nil : record.version)
        }
    }

    private func store(_ record: inout LeaseRecord) {
        self.version += 1
        record.version = ResourceVersion("v\(self.version)")
        self.record = record
    }

    private func lose(_ process: Process) {
        // The request's own timeout.
        process.pending = (
            self.now + .seconds(5),
            { process, contest in
                process.take(
                    process.election.failed(
                        isConflict: false,
                        now: contest.now,
                        random: &process.random
                    )
                )
            }
        )
    }

    private func answer(_ process: Process, _ version: ResourceVersion?) {
        self.answer(process) { election, now, random in
            if let version { return election.wrote(version, now: now, random: &random) }
            return election.failed(isConflict: true, now: now, random: &random)
        }
    }

    private func answer(
        _ process: Process,
        _ body:
            @escaping (inout LeaderElection, Instant, inout RandomSource) ->
            LeaderElection.Outcome
    ) {
        if process.isCut { return self.lose(process) }
        let latency = Duration.seconds(self.dice.nextUnit() * self.latencyMax)
        process.pending = (
            self.now + latency,
            { process, contest in
                process.take(body(&process.election, contest.now, &process.random))
            }
        )
    }

    func release(_ process: Process) {
        process.isGone = true
        let wall = self.wall(process)
        if var record = process.election.release(now: self.now, wallTime: wall),
            record.version == self.record?.version
        {
            self.store(&record)
        }
    }
}

@Suite struct LeaderElectionTests {
    @Test func leadsWhereThereIsNoLease() throws {
        let contest = Contest(seed: 1, skews: [0])
        contest.run(1)
        #expect(contest.writers == ["p0"])
        let record = try #require(contest.record)
        #expect(record.holder == "p0" && record.durationSeconds == 15 && record.transitions == 0)
        #expect(record.acquireTime == record.renewTime)
    }

    @Test func renewsEveryPeriodAndKeepsTheTimeOfTaking() throws {
        let contest = Contest(seed: 2, skews: [0])
        contest.run(1)
        let first = try #require(contest.record)
        contest.run(60)
        let last = try #require(contest.record)
        #expect(last.acquireTime == first.acquireTime && last.renewTime > first.renewTime)
        #expect(last.transitions == 0)
        #expect((27...31).contains(contest.version), "\(contest.version) writes in a minute")
        #expect(contest.processes[0].began == 1 && contest.processes[0].ended.isEmpty)
    }

    /// Clocks an hour ahead and an hour behind change nothing.
    @Test(arguments: 0..<40 as Range<UInt64>)
    func oneLeadsWhateverTheClocksSay(seed: UInt64) {
        let contest = Contest(seed: seed, skews: [-3_600, 3_600, 0])
        contest.run(60)
        #expect(contest.writers.count == 1)
        #expect(contest.processes.map(\.began).reduce(0, +) == 1)
    }

    /// The leader is cut off: it stops writing before ten seconds are over, and another one takes
    /// over after fifteen, not sooner.
    @Test(arguments: 0..<40 as Range<UInt64>)
    func stopsWritingBeforeAnotherTakesOver(seed: UInt64) throws {
        let contest = Contest(seed: seed, skews: [3_600, -3_600])
        contest.run(10)
        let leader = try #require(contest.processes.first { $0.election.isLeader })
        let other = try #require(contest.processes.first { !$0.election.isLeader })
        leader.isCut = true
        let cutAt = contest.now
        contest.run(60) { !leader.election.mayWrite(now: contest.now) }
        #expect(contest.now - cutAt <= .seconds(10))
        contest.run(60) { !leader.ended.isEmpty }
        #expect(leader.ended.count == 1)
        contest.run(60) { other.election.isLeader }
        let tookOver = contest.now - cutAt
        // It renewed up to two seconds before the cut, and the other looks every 2 to 4.4 s.
        #expect(tookOver >= .seconds(12) && tookOver <= .seconds(22), "\(tookOver)")
        #expect(contest.record?.transitions == 1)
        leader.isCut = false
        contest.run(30)
        #expect(contest.writers == [other.name])
        #expect(leader.ended.count == 1)
    }

    @Test func aReleasedLeaseIsTakenAtOnce() throws {
        let contest = Contest(seed: 3, skews: [0, 0])
        contest.run(10)
        let leader = try #require(contest.processes.first { $0.election.isLeader })
        let other = try #require(contest.processes.first { !$0.election.isLeader })
        contest.run(5) { leader.pending == nil }
        contest.release(leader)
        #expect(contest.record?.holder == "" && contest.record?.durationSeconds == 1)
        #expect(!leader.election.isLeader && !leader.election.mayWrite(now: contest.now))
        contest.run(5) { other.election.isLeader }
        #expect(other.election.isLeader)
        #expect(leader.election.next(now: contest.now, wallTime: 0) == .nothing)
    }

    @Test func aDeletedLeaseEndsTheLeadAndIsMadeAgain() {
        let contest = Contest(seed: 4, skews: [0])
        contest.run(5)
        contest.record = nil
        contest.run(5)
        #expect(contest.processes[0].ended.count == 1)
        #expect(contest.processes[0].began == 2)
        #expect(contest.record?.holder == "p0")
    }

    @Test func aLeaseTakenByForceEndsTheLead() {
        let contest = Contest(seed: 5, skews: [0])
        contest.run(5)
        contest.record?.holder = "somebody"
        contest.record?.version = ResourceVersion("forced")
        contest.run(3)
        #expect(contest.processes[0].ended == ["`somebody` holds the lease"])
        #expect(!contest.processes[0].election.isLeader)
        // Nobody renews it: it expires here like any other.
        contest.run(25)
        #expect(contest.processes[0].election.isLeader)
    }

    /// A process that was stopped and goes on does not write first and notice afterwards.
    @Test func aStoppedProcessDoesNotWriteWhenItGoesOn() {
        let contest = Contest(seed: 6, skews: [0])
        contest.run(5)
        let process = contest.processes[0]
        #expect(process.election.mayWrite(now: contest.now))
        let later = contest.now + .seconds(60)
        #expect(!process.election.mayWrite(now: later))
        #expect(process.election.check(now: later) != .none)
    }

    /// An answer that comes after the deadline does not bring the lead back.
    @Test func anAnswerThatComesTooLateIsNoLead() {
        var random = RandomSource(seed: 7)
        var election = LeaderElection(LeaderElectionOptions(identity: "a"))
        let start = Instant(nanoseconds: 1_000_000_000_000)
        #expect(election.next(now: start, wallTime: 0) == .read)
        #expect(election.received(nil, now: start, random: &random) == .none)
        guard case .create = election.next(now: start, wallTime: 0) else {
            Issue.record("nothing created")
            return
        }
        let late = start + .seconds(10)
        let version = ResourceVersion("1")
        #expect(election.wrote(version, now: late, random: &random) == .none)
        #expect(!election.isLeader)
        #expect(election.next(now: late, wallTime: 0) == .read)
    }

    /// What the lead rests on is when the renewal was sent, not when it was answered.
    @Test func countsFromWhenTheRenewalWasSent() {
        var random = RandomSource(seed: 8)
        var election = LeaderElection(LeaderElectionOptions(identity: "a"))
        let start = Instant(nanoseconds: 1_000_000_000_000)
        _ = election.next(now: start, wallTime: 0)
        _ = election.received(nil, now: start, random: &random)
        _ = election.next(now: start, wallTime: 0)
        let answered = start + .seconds(4)
        let version = ResourceVersion("1")
        #expect(election.wrote(version, now: answered, random: &random) == .began)
        #expect(election.mayWrite(now: start + .milliseconds(9_999)))
        #expect(!election.mayWrite(now: start + .seconds(10)))
    }

    @Test func respectsAHolderThatAskedForLonger() {
        var random = RandomSource(seed: 9)
        var election = LeaderElection(LeaderElectionOptions(identity: "a"))
        var now = Instant(nanoseconds: 1_000_000_000_000)
        var other = LeaseRecord()
        other.holder = "b"
        other.durationSeconds = 60
        other.version = ResourceVersion("1")
        let start = now
        while now - start < .seconds(120) {
            switch election.next(now: now, wallTime: 0) {
            case .wait(let delay): now = now + delay
            case .read:
                let outcome = election.received(other, now: now, random: &random)
                #expect(outcome == (now == start ? .follows("b") : .none))
            case .write:
                #expect(now - start >= .seconds(60) && now - start <= .seconds(65))
                return
            case .create, .nothing: Issue.record("neither read nor written")
            }
        }
        Issue.record("never taken over")
    }

    /// Cut links, late answers, restarts, releases: never two that may write.
    @Test(arguments: 0..<60 as Range<UInt64>)
    func neverTwoMayWrite(seed: UInt64) {
        var dice = RandomSource(seed: seed)
        let contest = Contest(seed: seed, skews: [-3_600, 0, 3_600])
        contest.latencyMax = [0.05, 1, 4.9][Int(seed % 3)]
        for _ in 0..<40 {
            contest.run(dice.nextUnit() * 10)
            for process in contest.processes where dice.next() % 3 == 0 {
                process.isCut.toggle()
            }
        }
        for process in contest.processes { process.isCut = false }
        contest.latencyMax = 0.05
        contest.run(60)
        #expect(contest.writers.count == 1, "seed \(seed)")
    }

    @Test func refusesTimesThatCannotWork() {
        var options = LeaderElectionOptions(identity: "a")
        #expect(options.problem == nil)
        options.identity = ""
        #expect(options.problem != nil)
        options = LeaderElectionOptions(identity: "a")
        options.leaseDuration = options.renewDeadline
        #expect(options.problem?.contains("leaseDuration") == true)
        options = LeaderElectionOptions(identity: "a")
        options.retryPeriod = .seconds(9)
        #expect(options.problem?.contains("retryPeriod") == true)
    }
}
