import Core
import Testing

@testable import Traffic

@Suite struct PoolWeightsTests {
    private static func member(_ weight: Int, pool: Int?, ready: Int, worth: Double = 1)
        -> PoolWeights.Member
    {
        PoolWeights.Member(weight: weight, pool: pool, ready: ready, worth: worth)
    }

    @Test func followsWhatReadyReplicasCanDo() {
        let small = Self.member(100, pool: 0, ready: 2)
        let big = Self.member(0, pool: 0, ready: 1, worth: 3)
        #expect(PoolWeights.divide([small, big]) == [40_000, 60_000])
        #expect(PoolWeights.divide([small, big], keepsScale: true) == [40, 60])
    }

    @Test func leavesTheOthersTheirShare() {
        let members = [
            Self.member(90, pool: 0, ready: 1), Self.member(0, pool: 0, ready: 2),
            Self.member(10, pool: nil, ready: 1),
        ]
        #expect(PoolWeights.divide(members) == [30_000, 60_000, 10_000])
    }

    @Test func givesNothingToWhoeverIsNotReady() {
        let members = [Self.member(100, pool: 0, ready: 0), Self.member(0, pool: 0, ready: 4)]
        #expect(PoolWeights.divide(members) == [0, 100_000])
    }

    /// Somebody must be asked for a replica: the one that stands for the pool.
    @Test func staysAsItIsWhereNobodyIsReady() {
        let members = [Self.member(100, pool: 0, ready: 0), Self.member(0, pool: 0, ready: 0)]
        #expect(PoolWeights.divide(members) == [100, 0])
        let alone = [Self.member(70, pool: 1, ready: 3), Self.member(30, pool: nil, ready: 1)]
        #expect(PoolWeights.divide(alone) == [70, 30], "a pool of one is none")
    }

    @Test(arguments: [UInt64(1), 2, 3, 4])
    func neverLosesWeightNorExceedsWhatAPickerTakes(seed: UInt64) {
        var random = RandomSource(seed: seed)
        for _ in 0..<500 {
            let members = (0..<(1 + Int(random.next() % 6))).map { _ in
                Self.member(
                    random.next() % 3 == 0 ? 0 : Int(random.next() % 1_000_001),
                    pool: random.next() % 3 == 0 ? nil : Int(random.next() % 2),
                    ready: Int(random.next() % 4),
                    worth: random.nextUnit() * 100
                )
            }
            let weights = PoolWeights.divide(members)
            #expect(weights.allSatisfy { (0...WeightedPicker.weightMax).contains($0) })
            let kept = PoolWeights.divide(members, keepsScale: true)
            for pool in 0..<2 {
                let own = members.indices.filter { members[$0].pool == pool }
                let before = own.reduce(0) { $0 + members[$1].weight }
                guard before <= WeightedPicker.weightMax else { continue }
                let after = own.reduce(0) { $0 + kept[$1] }
                #expect(after == before, "seed \(seed): \(members)")
            }
        }
    }
}
