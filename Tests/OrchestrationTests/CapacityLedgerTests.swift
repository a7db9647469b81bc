import Core
import Testing

@testable import Orchestration

@Suite struct CapacityLedgerTests {
    private let gpu = "nvidia.com/gpu"

    private func ledger() -> CapacityLedger {
        var ledger = CapacityLedger()
        ledger.set(.init(pool: "a100", allocatable: [self.gpu: 8]), named: "n1")
        ledger.set(.init(pool: "a100", allocatable: [self.gpu: 8]), named: "n2")
        ledger.set(.init(pool: "l4", allocatable: [self.gpu: 1, "example.com/x": 2]), named: "n3")
        ledger.set(.init(pool: "cpu", allocatable: [:]), named: "n4")
        return ledger
    }

    @Test func countsByPool() {
        var ledger = self.ledger()
        ledger.set([self.gpu: 6], ofPod: "p1", on: "n1")
        ledger.set([self.gpu: 4], ofPod: "p2", on: "n2")
        ledger.set([self.gpu: 1], ofPod: "p3", on: "n3")
        #expect(
            ledger.pools(of: self.gpu) == [
                .init(name: "a100", nodes: 2, allocatable: 16, used: 10, largestFree: 4),
                .init(name: "l4", nodes: 1, allocatable: 1, used: 1, largestFree: 0),
            ]
        )
        #expect(ledger.pools(of: "example.com/x").map(\.allocatable) == [2])
        #expect(ledger.pools(of: "none").isEmpty)
    }

    /// Six GPUs are free, and only one pod that takes three finds them on one node.
    @Test func aPodFitsOnOneNode() {
        var ledger = self.ledger()
        ledger.set([self.gpu: 6], ofPod: "p1", on: "n1")
        ledger.set([self.gpu: 4], ofPod: "p2", on: "n2")
        #expect(ledger.fitting(1, of: self.gpu) == 7)
        #expect(ledger.fitting(3, of: self.gpu) == 1)
        #expect(ledger.fitting(9, of: self.gpu) == 0)
        ledger.set(
            .init(pool: "a100", allocatable: [self.gpu: 8], takesPods: false),
            named: "n2"
        )
        #expect(ledger.fitting(3, of: self.gpu) == 0)
        #expect(ledger.pools(of: self.gpu)[0].largestFree == 2)
    }

    @Test func aPodThatIsOverGivesBack() {
        var ledger = self.ledger()
        ledger.set([self.gpu: 6], ofPod: "p1", on: "n1")
        ledger.set([self.gpu: 2], ofPod: "p1", on: "n2")
        #expect(ledger.pools(of: self.gpu)[0].used == 2)
        ledger.set([:], ofPod: "p1", on: "n2")
        #expect(ledger.pools(of: self.gpu)[0].used == 0)
        ledger.set([self.gpu: 2], ofPod: "p1", on: "")
        #expect(ledger.pools(of: self.gpu)[0].used == 0)
        ledger.set(nil, named: "n1")
        #expect(ledger.pools(of: self.gpu)[0].allocatable == 8)
    }

    @Test func theTightestQuotaCounts() {
        var ledger = CapacityLedger()
        ledger.set([self.gpu: .init(hard: 8, used: 2)], ofQuota: "ns/a", in: "ns")
        ledger.set([self.gpu: .init(hard: 9, used: 6)], ofQuota: "ns/b", in: "ns")
        ledger.set([self.gpu: .init(hard: 1, used: 1)], ofQuota: "other/a", in: "other")
        #expect(ledger.quota(of: self.gpu, in: "ns") == .init(hard: 9, used: 6))
        #expect(ledger.quota(of: self.gpu, in: "none") == nil)
        #expect(ledger.quota(of: "none", in: "ns") == nil)
        ledger.set([:], ofQuota: "ns/b", in: "ns")
        #expect(ledger.quota(of: self.gpu, in: "ns") == .init(hard: 8, used: 2))
        #expect(CapacityLedger.Quota(hard: 1, used: 5).free == 0)
    }

    /// Whatever comes in which order, the sums are those of what is there.
    @Test func agreesWithASumOverAllPods() {
        let seed = UInt64.random(in: .min ... .max)
        print("seed \(seed)")
        var random = RandomSource(seed: seed)
        var ledger = self.ledger()
        var pods: [String: (node: String, units: Int)] = [:]
        for _ in 0..<500 {
            let uid = "p\(Int(random.next() % 20))"
            let node = ["n1", "n2", "n3", ""][Int(random.next() % 4)]
            let units = Int(random.next() % 4)
            ledger.set(units == 0 ? [:] : [self.gpu: units], ofPod: uid, on: node)
            pods[uid] = (node, units)
            let expected = ["n1", "n2", "n3"].map { name in
                pods.values.reduce(0) { $0 + ($1.node == name ? $1.units : 0) }
            }
            let pools = ledger.pools(of: self.gpu)
            #expect(pools.map(\.used) == [expected[0] + expected[1], expected[2]])
        }
    }
}
