import Core
import Testing

@testable import Traffic

/// Gateways and the messages to and from them, any of which may be late, lost or told twice.
private struct ShareWorld {
    struct Member {
        var lease = ShareLease()
        /// Which start it is.
        var run = 1
        var inFlight = 0
        var asked = 0.0
        var isListed = true
        /// Listed no more, it ends then.
        var endsAt: Instant?
        var isCutOff = false
        var bornAt: Instant
    }

    enum Envelope {
        case grant(to: String, ShareLease.Grant)
        case answer(
            from: String,
            run: String,
            generation: Int,
            fallback: Double,
            [ShareLedger.Limit: ShareLedger.Report]
        )
    }

    static let tenant = "ns/team"
    static let rate = ShareLedger.Limit(Self.tenant, .requests)
    static let places = ShareLedger.Limit(Self.tenant, .concurrency)
    static let limits = [Self.rate: 100.0, Self.places: 24.0]
    static let step = 0.1

    var now = Instant.zero
    var ledger = ShareLedger(generation: 0, at: .zero)
    var members: [String: Member] = [:]
    var mail: [(at: Instant, Envelope)] = []
    var random: RandomSource
    var serial = 0
    var losses = 0.0
    var delayMax = 0.0

    init(seed: UInt64) {
        self.random = RandomSource(seed: seed)
        self.ledger.adopt(Self.limits)
    }

    mutating func chance(_ probability: Double) -> Bool { self.random.nextUnit() < probability }

    mutating func join() {
        self.serial += 1
        self.members["g\(self.serial)"] = Member(bornAt: self.now)
    }

    /// It ends, and begins anew under the same name. What it has answered before is not listened to
    /// any more; what it was sent may still come.
    mutating func restart(_ name: String) {
        self.members[name]?.run += 1
        self.members[name]?.lease = ShareLease()
        self.members[name]?.inFlight = 0
        self.mail.removeAll {
            if case .answer(let from, _, _, _, _) = $0.1 { from == name } else { false }
        }
    }

    mutating func newLeader() {
        self.ledger = ShareLedger(generation: 0, at: self.now)
        self.ledger.adopt(Self.limits)
        self.roll()
    }

    mutating func roll() {
        let names = self.members.filter { $0.value.isListed }.map(\.key)
        self.ledger.roll(Set(names), at: self.now)
    }

    private mutating func send(_ envelope: Envelope) {
        for _ in 0..<(self.chance(0.05) && self.losses > 0 ? 2 : 1) {
            if self.chance(self.losses) { continue }
            let delay = self.random.nextUnit() * self.delayMax
            self.mail.append((self.now + .nanoseconds(Int64(delay * 1e9)), envelope))
        }
    }

    mutating func tick() {
        self.roll()
        for (name, message) in self.ledger.messages(at: self.now).sorted(by: { $0.key < $1.key }) {
            let share = TenantShare(
                requests: message.shares[Self.rate] ?? -1,
                tokens: 0,
                concurrency: message.shares[Self.places] ?? -1
            )
            let grant = ShareLease.Grant(
                generation: message.generation,
                fallback: message.fallback,
                shares: [Self.tenant: share]
            )
            self.send(.grant(to: name, grant))
        }
        // Those who are not told anything are asked.
        for name in self.members.keys.sorted() { self.answer(name) }
    }

    private mutating func answer(_ name: String) {
        guard let member = self.members[name], !member.isCutOff else { return }
        let share = member.lease.share(of: Self.tenant, at: self.now)
        self.send(
            .answer(
                from: name,
                run: "\(member.run)",
                generation: member.lease.generation,
                fallback: member.lease.grant?.fallback ?? 0,
                [
                    Self.rate: .init(share: share.requests, asked: member.asked, grain: 1),
                    Self.places: .init(
                        share: share.concurrency,
                        asked: member.asked / 4,
                        inUse: Double(member.inFlight)
                    ),
                ]
            )
        )
    }

    private mutating func deliver() {
        let due = self.mail.indices.filter { self.mail[$0].at <= self.now }
        let envelopes = due.map { self.mail[$0].1 }
        for index in due.reversed() { self.mail.remove(at: index) }
        for envelope in envelopes {
            switch envelope {
            case .grant(let name, let grant):
                guard self.members[name]?.isCutOff == false else { continue }
                _ = self.members[name]?.lease.take(grant, at: self.now)
                self.answer(name)
            case .answer(let name, let run, let generation, let fallback, let reports):
                self.ledger.heard(
                    name,
                    run: run,
                    generation: generation,
                    fallback: fallback,
                    reports,
                    at: self.now
                )
            }
        }
    }

    /// A tenth of a second: requests begin and end, mail arrives.
    mutating func pass() {
        self.now = self.now + .milliseconds(100)
        self.deliver()
        for name in self.members.keys.sorted() {
            guard var member = self.members[name] else { continue }
            let share = member.lease.share(of: Self.tenant, at: self.now)
            let places = Int((share.concurrency * 24 + 1e-6).rounded(.down))
            while member.inFlight > 0, self.chance(0.2) { member.inFlight -= 1 }
            while member.inFlight < min(places, Int(member.asked / 4)) { member.inFlight += 1 }
            self.members[name] = member
            if let endsAt = member.endsAt, endsAt <= self.now { self.members[name] = nil }
        }
    }

    /// What all of them may use together, of the limit; and what is in flight, of that limit.
    var used: (rate: Double, places: Double) {
        self.members.values.reduce((0, 0)) { sum, member in
            let share = member.lease.share(of: Self.tenant, at: self.now)
            return (sum.0 + share.requests, sum.1 + Double(member.inFlight) / 24)
        }
    }

    /// Gateways that nobody has told anything yet.
    var untold: Int { self.members.values.count { $0.lease.grant == nil } }
}

@Suite struct ShareLedgerTests {
    /// Random operations: messages are lost, late and doubled, gateways come, go and are cut off,
    /// leaders change. The sum of what all gateways may use never exceeds the limit by more than a
    /// tenth.
    @Test func theWholeIsNeverExceeded() {
        var seeds = RandomSource(seed: 0x5EED)
        for _ in 0..<60 {
            let seed = seeds.next()
            var world = ShareWorld(seed: seed)
            world.losses = world.random.nextUnit() * 0.4
            world.delayMax = world.random.nextUnit() * 0.9
            for _ in 0..<(1 + Int(world.random.nextUnit() * 4)) { world.join() }
            var worst = 0.0
            for step in 0..<3_000 {
                self.disturb(&world)
                if step % 10 == 0 { world.tick() }
                world.pass()
                let used = world.used
                worst = max(worst, used.rate, used.places)
            }
            #expect(worst <= 1.1 + 1e-6, "seed \(seed): \(worst) of the limit")
        }
    }

    private func disturb(_ world: inout ShareWorld) {
        let listed = world.members.filter { $0.value.isListed }.map(\.key).sorted()
        if world.chance(0.002), world.untold < 1, listed.count < 6 { world.join() }
        if listed.isEmpty { return }
        let name = listed[Int(world.random.nextUnit() * Double(listed.count))]
        if world.chance(0.05) { world.members[name]?.asked = world.random.nextUnit() * 120 }
        if world.chance(0.01) { world.members[name]?.isCutOff.toggle() }
        if world.chance(0.003), world.untold < 1 { world.restart(name) }
        if world.chance(0.001), listed.count > 1 {
            world.members[name]?.isListed = false
            world.members[name]?.lease.isLeaving = true
            world.members[name]?.endsAt = world.now + .seconds(4)
        }
        if world.chance(0.001) { world.newLeader() }
    }

    private func quiet(_ asked: [Double], seconds: Int = 30) -> ShareWorld {
        var world = ShareWorld(seed: 1)
        for _ in asked { world.join() }
        for (index, amount) in asked.enumerated() { world.members["g\(index + 1)"]?.asked = amount }
        for step in 0..<(seconds * 10) {
            if step % 10 == 0 { world.tick() }
            world.pass()
        }
        return world
    }

    private func rates(_ world: ShareWorld) -> [Double] {
        (1...world.serial).map {
            world.members["g\($0)"]?.lease.share(of: ShareWorld.tenant, at: world.now).requests
                ?? -1
        }
    }

    @Test(
        arguments: [
            ([300.0], [1.0]),
            ([0, 0], [0.5, 0.5]),
            // Whoever asks for less than a fair part gets it, and the other one the rest.
            ([300, 20], [0.785, 0.215]),
            ([300, 300, 300, 300], [0.25, 0.25, 0.25, 0.25]),
            ([300, 0], [0.975, 0.025]),
        ]
    )
    func sharesFollowWhatIsAskedFor(_ asked: [Double], _ expected: [Double]) {
        let rates = self.rates(self.quiet(asked))
        for (rate, wanted) in zip(rates, expected) {
            #expect(abs(rate - wanted) < 0.01, "\(asked): \(rates)")
        }
        #expect(abs(rates.reduce(0, +) - 1) < 1e-6)
    }

    /// One without traffic has a floor, and more as soon as it asks.
    @Test func oneWithoutTrafficCanBegin() {
        var world = self.quiet([300, 0])
        world.members["g2"]?.asked = 40
        for step in 0..<60 {
            if step % 10 == 0 { world.tick() }
            world.pass()
        }
        #expect(abs(self.rates(world)[1] - 0.42) < 0.02, "\(self.rates(world))")
    }

    @Test func oneThatIsCutOffGoesBackToAnEqualPart() {
        var world = self.quiet([300, 0])
        for name in ["g1", "g2"] { world.members[name]?.isCutOff = true }
        for step in 0..<100 {
            if step % 10 == 0 { world.tick() }
            world.pass()
        }
        // Shrunk at once, and not grown before the other one must have shrunk.
        #expect(self.rates(world)[0] == 0.5 && self.rates(world)[1] == 0.025)
        for _ in 0..<100 { world.pass() }
        #expect(self.rates(world) == [0.5, 0.5])
    }

    /// Fewer places than gateways that ask: they take turns.
    @Test func nobodyStarvesWhereThereIsTooLittle() {
        var ledger = ShareLedger(generation: 0, at: .zero)
        let limit = ShareLedger.Limit("t", .concurrency)
        let names = (1...5).map { "g\($0)" }
        var held = Dictionary(uniqueKeysWithValues: names.map { ($0, 0.0) })
        var rounds = held
        var generations = Dictionary(uniqueKeysWithValues: names.map { ($0, 0) })
        for second in 0..<120 {
            let now = Instant.zero + .seconds(second)
            ledger.adopt([limit: 2])
            ledger.roll(Set(names), at: now)
            for name in names {
                let report = ShareLedger.Report(share: held[name] ?? 0, asked: 3)
                ledger.heard(
                    name,
                    run: "1",
                    generation: generations[name] ?? 0,
                    fallback: 0,
                    [limit: report],
                    at: now
                )
            }
            for (name, message) in ledger.messages(at: now) {
                held[name] = message.shares[limit]
                generations[name] = message.generation
            }
            #expect(held.values.reduce(0, +) <= 1 + 1e-9)
            for (name, share) in held where share > 0.49 { rounds[name, default: 0] += 1 }
        }
        #expect(rounds.values.allSatisfy { $0 >= 24 }, "\(rounds)")
    }

    /// A container that starts again in its pod has the name that it had, and knows nothing.
    @Test(arguments: [1, 60, 300])
    func oneThatStartsAgainGetsItsPart(afterTenths silence: Int) {
        var world = self.quiet([300, 300])
        #expect(abs(self.rates(world)[0] - 0.5) < 0.01)
        world.members["g1"]?.isCutOff = true
        for step in 0..<silence {
            if step % 10 == 0 { world.tick() }
            world.pass()
        }
        world.members["g1"]?.isCutOff = false
        world.restart("g1")
        for step in 0..<300 {
            if step % 10 == 0 { world.tick() }
            world.pass()
        }
        #expect(self.rates(world).allSatisfy { abs($0 - 0.5) < 0.01 }, "\(self.rates(world))")
    }

    /// Whatever a gateway says it was told: only its own messages go on from there.
    @Test func oneThatLiesAboutGenerationsHarmsNobody() throws {
        var ledger = ShareLedger(generation: 7, at: .zero)
        let limit = ShareLedger.Limit("t", .requests)
        ledger.adopt([limit: 10])
        ledger.roll(["liar", "other"], at: .zero)
        let report = ShareLedger.Report(share: 0.05, asked: 5)
        let now = Instant.zero + .seconds(2)
        for (name, generation) in [("liar", ShareLease.Grant.generationMax), ("other", 3)] {
            ledger.heard(
                name,
                run: "1",
                generation: generation,
                fallback: 0,
                [limit: report],
                at: now
            )
        }
        ledger.heard("nobody", run: "", generation: .max, fallback: 0, [:], at: now)
        let first = ledger.messages(at: now)
        let second = ledger.messages(at: now)
        #expect(first["other"]?.generation == 8 && second["other"]?.generation == 9)
        #expect(first["liar"]?.generation == ShareLease.Grant.generationMax + 1)
    }

    @Test func aNewLeaderTakesNothingForGranted() {
        var world = self.quiet([300, 20])
        let before = self.rates(world)
        world.members["g2"]?.isCutOff = true
        world.newLeader()
        for step in 0..<30 {
            if step % 10 == 0 { world.tick() }
            world.pass()
        }
        // The other one may go by anything: nobody grows.
        #expect(self.rates(world)[0] <= before[0] + 1e-9)
        #expect(self.rates(world)[0] > 0.4)
    }

    @Test func oldMessagesAreNotTakenOver() {
        var lease = ShareLease()
        let first = ShareLease.Grant(generation: 2, fallback: 0.5, shares: ["t": .init(all: 0.7)])
        let old = ShareLease.Grant(generation: 1, fallback: 0.5, shares: ["t": .whole])
        #expect(lease.share(of: "t", at: .zero) == .init(all: ShareLease.firstFraction))
        let isTaken = lease.take(first, at: .zero)
        let isOldTaken = lease.take(old, at: .zero)
        #expect(isTaken && !isOldTaken && lease.share(of: "t", at: .zero) == .init(all: 0.7))
        // A tenant that it was not told of has what everybody begins with.
        #expect(lease.share(of: "u", at: .zero) == .init(all: ShareLease.firstFraction))
        lease.isLeaving = true
        #expect(lease.share(of: "t", at: .zero + .seconds(60)) == .init(all: 0.5))
    }
}
