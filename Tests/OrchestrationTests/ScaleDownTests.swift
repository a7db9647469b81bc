import Core
import Testing

@testable import Orchestration

@Suite struct ScaleDownTests {
    private static let deadline = Duration.seconds(30)

    private func ready(
        _ uid: String,
        streams: Int = 0,
        drained: Bool = false,
        cost: Int? = nil
    ) -> ScaleDown.Pod {
        ScaleDown.Pod(
            uid: uid,
            state: .ready,
            streams: streams,
            isDrained: drained,
            deletionCost: cost
        )
    }

    private func at(_ seconds: Double) -> Instant { .zero + .seconds(100 + seconds) }

    @Test func writesARiseAtOnce() {
        var machine = ScaleDown(drainDeadline: Self.deadline)
        let plan = machine.step(wanted: 5, replicas: 2, pods: [], now: self.at(0))
        #expect(plan == .init(write: .init(replicas: 5, victims: [])))
    }

    @Test func drainsThenMarksThenWrites() {
        var machine = ScaleDown(drainDeadline: Self.deadline)
        var pods = [self.ready("a", streams: 3), self.ready("b", streams: 1)]
        var plan = machine.step(wanted: 1, replicas: 2, pods: pods, now: self.at(0))
        #expect(plan == .init(draining: ["b"]))
        pods[1].isDrained = true
        plan = machine.step(wanted: 1, replicas: 2, pods: pods, now: self.at(1))
        #expect(plan == .init(draining: ["b"], costs: ["b": ScaleDown.mark]))
        pods[1].deletionCost = ScaleDown.mark
        plan = machine.step(wanted: 1, replicas: 2, pods: pods, now: self.at(2))
        let write = ScaleDown.Write(replicas: 1, victims: ["b"])
        #expect(plan == .init(draining: ["b"], write: write))
        machine.wrote(write, at: self.at(2))
        plan = machine.step(wanted: 1, replicas: 1, pods: pods, now: self.at(3))
        #expect(plan == .init(draining: ["b"]))
        pods[1].state = .leaving
        plan = machine.step(wanted: 1, replicas: 1, pods: pods, now: self.at(4))
        #expect(plan == .init())
    }

    @Test func waitsForStreamsUntilTheDeadlineOnly() {
        var machine = ScaleDown(drainDeadline: Self.deadline)
        let pods = [self.ready("a", streams: 1)]
        #expect(machine.step(wanted: 0, replicas: 1, pods: pods, now: self.at(0)).costs.isEmpty)
        #expect(machine.step(wanted: 0, replicas: 1, pods: pods, now: self.at(29)).costs.isEmpty)
        let plan = machine.step(wanted: 0, replicas: 1, pods: pods, now: self.at(30))
        #expect(plan.costs == ["a": ScaleDown.mark])
    }

    @Test func takesAVictimBackWhenMoreAreWanted() {
        var machine = ScaleDown(drainDeadline: Self.deadline)
        var pods = [self.ready("a", streams: 9), self.ready("b", streams: 1), self.ready("c")]
        #expect(
            machine.step(wanted: 1, replicas: 3, pods: pods, now: self.at(0)).draining
                == ["b", "c"]
        )
        pods[2].isDrained = true
        pods[2].deletionCost = ScaleDown.mark
        // The busier one is worth more.
        let fewer = machine.step(wanted: 2, replicas: 3, pods: pods, now: self.at(1))
        #expect(fewer == .init(draining: ["c"], write: .init(replicas: 2, victims: ["c"])))
        let plan = machine.step(wanted: 3, replicas: 3, pods: pods, now: self.at(2))
        #expect(plan == .init(costs: ["c": nil]))
    }

    @Test func removesWhatDoesNotServeFirstAndWithoutADrain() {
        var machine = ScaleDown(drainDeadline: Self.deadline)
        let pods = [
            self.ready("a"), ScaleDown.Pod(uid: "b", state: .stuck),
            ScaleDown.Pod(uid: "c", state: .starting),
        ]
        let plan = machine.step(wanted: 1, replicas: 3, pods: pods, now: self.at(0))
        #expect(plan.write == .init(replicas: 1, victims: ["b", "c"]))
        #expect(plan.costs.isEmpty)
    }

    @Test func countsPodsThatWereNeverMade() {
        var machine = ScaleDown(drainDeadline: Self.deadline)
        let pods = [self.ready("a", streams: 1), self.ready("b", streams: 1)]
        let plan = machine.step(wanted: 2, replicas: 5, pods: pods, now: self.at(0))
        #expect(plan == .init(write: .init(replicas: 2, victims: [])))
    }

    @Test func leavesTheSurplusOfARollingUpdateAlone() {
        var machine = ScaleDown(drainDeadline: Self.deadline)
        let pods = [self.ready("a"), self.ready("b"), self.ready("c")]
        #expect(machine.step(wanted: 2, replicas: 2, pods: pods, now: self.at(0)) == .init())
    }

    @Test func givesUpAVictimThatWasNotTaken() {
        var machine = ScaleDown(drainDeadline: Self.deadline)
        let pods = [self.ready("a"), self.ready("b", drained: true, cost: ScaleDown.mark)]
        _ = machine.step(wanted: 1, replicas: 2, pods: pods, now: self.at(0))
        // Equal in all else: the first name goes.
        let marked = [self.ready("a", drained: true, cost: ScaleDown.mark), self.ready("b")]
        let plan = machine.step(wanted: 1, replicas: 2, pods: marked, now: self.at(1))
        guard let write = plan.write else {
            Issue.record("no write in \(plan)")
            return
        }
        machine.wrote(write, at: self.at(1))
        let waiting = machine.step(wanted: 1, replicas: 1, pods: marked, now: self.at(60))
        #expect(waiting == .init(draining: ["a"]))
        let late = machine.step(wanted: 1, replicas: 1, pods: marked, now: self.at(61))
        #expect(late == .init(costs: ["a": nil]))
    }

    @Test func takesAwayTheMarkOfAnEarlierLeader() {
        var machine = ScaleDown(drainDeadline: Self.deadline)
        let pods = [self.ready("a", cost: ScaleDown.mark), self.ready("b", cost: 7)]
        let plan = machine.step(wanted: 2, replicas: 2, pods: pods, now: self.at(0))
        #expect(plan == .init(costs: ["a": nil]))
    }

    @Test func removesTheHighestOfAStatefulSet() {
        var machine = ScaleDown(drainDeadline: Self.deadline)
        var pods = (0..<4).map { index in
            ScaleDown.Pod(
                uid: "p\(index)",
                state: index == 0 ? .stuck : .ready,
                streams: 4 - index,
                ordinal: index
            )
        }
        var plan = machine.step(wanted: 2, replicas: 4, pods: pods, now: self.at(0))
        #expect(plan == .init(draining: ["p2", "p3"]))
        // The lower one is drained first, and cannot go before the higher one.
        pods[2].isDrained = true
        plan = machine.step(wanted: 2, replicas: 4, pods: pods, now: self.at(1))
        #expect(plan == .init(draining: ["p2", "p3"]))
        pods[3].isDrained = true
        plan = machine.step(wanted: 2, replicas: 4, pods: pods, now: self.at(2))
        #expect(
            plan
                == .init(
                    draining: ["p2", "p3"],
                    write: .init(replicas: 2, victims: ["p2", "p3"])
                )
        )
    }

    /// Random numbers wanted, streams, failures and writes that get lost, against a pretend
    /// ReplicaSet controller and gateways: no stream is cut before its deadline, the number never
    /// passes the one that is wanted, and in the end everything is as it should be.
    @Test(arguments: Array(1...20) as [UInt64])
    func cutsNoStreamAndComesToRest(seed: UInt64) {
        var world = World(seed: seed)
        for step in 0..<600 { world.turn(step, isCalm: step > 450) }
        #expect(world.replicas == world.wanted, "seed \(seed)")
        #expect(world.pods.count { $0.pod.state != .leaving } == world.wanted, "seed \(seed)")
        #expect(world.pods.allSatisfy { $0.pod.deletionCost == nil }, "seed \(seed)")
        #expect(world.machine.draining.isEmpty, "seed \(seed)")
    }
}

private struct World {
    struct Entry {
        var pod: ScaleDown.Pod
        var drainingSince: Int?
        var leavesAt: Int?
    }

    let seed: UInt64
    var random: RandomSource
    var machine = ScaleDown(drainDeadline: .seconds(20))
    var pods: [Entry] = []
    var replicas = 3
    var wanted = 3
    var made = 0

    init(seed: UInt64) {
        self.seed = seed
        self.random = RandomSource(seed: seed)
    }

    private mutating func chance(_ share: Double) -> Bool { self.random.nextUnit() < share }

    mutating func turn(_ step: Int, isCalm: Bool) {
        if !isCalm {
            if self.chance(0.1) { self.wanted = Int.random(in: 0...8, using: &self.random) }
            if self.chance(0.02), !self.pods.isEmpty {
                self.pods.remove(at: Int.random(in: 0..<self.pods.count, using: &self.random))
            }
        }
        self.live(step, isCalm: isCalm)
        let before = self.replicas
        let now = Instant.zero + .seconds(step)
        let plan = self.machine.step(
            wanted: self.wanted,
            replicas: self.replicas,
            pods: self.pods.map(\.pod),
            now: now
        )
        for index in self.pods.indices {
            let uid = self.pods[index].pod.uid
            let isDraining = plan.draining.contains(uid)
            self.pods[index].drainingSince =
                isDraining ? self.pods[index].drainingSince ?? step : nil
            // A drain is acknowledged a turn later at the earliest.
            self.pods[index].pod.isDrained =
                isDraining && self.pods[index].pod.streams == 0
            if let cost = plan.costs[uid], !self.chance(isCalm ? 0 : 0.2) {
                self.pods[index].pod.deletionCost = cost
            }
        }
        if let write = plan.write, !self.chance(isCalm ? 0 : 0.2) {
            let isBetween =
                (min(before, self.wanted)...max(before, self.wanted)).contains(write.replicas)
            #expect(isBetween, "\(before) to \(write.replicas), wanted \(self.wanted)")
            self.replicas = write.replicas
            self.machine.wrote(write, at: now)
        }
        self.control(step)
    }

    /// Streams come to those that serve, and end.
    private mutating func live(_ step: Int, isCalm: Bool) {
        for index in self.pods.indices {
            if self.pods[index].pod.state == .starting, self.chance(0.3) {
                self.pods[index].pod.state = .ready
            }
            guard self.pods[index].pod.state == .ready else { continue }
            if self.pods[index].pod.streams > 0, self.chance(0.3) {
                self.pods[index].pod.streams -= 1
            }
            if self.pods[index].drainingSince == nil, !isCalm, self.chance(0.5) {
                self.pods[index].pod.streams += 1
            }
        }
        self.pods.removeAll { $0.leavesAt.map { step >= $0 } ?? false }
    }

    /// The ReplicaSet controller: those not ready first, then by deletion cost.
    private mutating func control(_ step: Int) {
        var staying = self.pods.filter { $0.pod.state != .leaving }
        while staying.count < self.replicas {
            self.made += 1
            self.pods.append(.init(pod: .init(uid: "p\(self.made)", state: .starting)))
            staying = self.pods.filter { $0.pod.state != .leaving }
        }
        let order = staying.sorted {
            ($0.pod.state == .ready ? 1 : 0, $0.pod.deletionCost ?? 0)
                < ($1.pod.state == .ready ? 1 : 0, $1.pod.deletionCost ?? 0)
        }
        for entry in order.prefix(staying.count - self.replicas) {
            guard let index = self.pods.firstIndex(where: { $0.pod.uid == entry.pod.uid }) else {
                continue
            }
            let waited = entry.drainingSince.map { step - $0 } ?? 0
            #expect(
                entry.pod.streams == 0 || waited >= 20,
                "seed \(self.seed): \(entry.pod.streams) streams cut at \(step) after \(waited)"
            )
            self.pods[index].pod.state = .leaving
            self.pods[index].leavesAt = step + 2
        }
    }
}
