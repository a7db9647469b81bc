import Core
import Foundation
import Testing

@testable import Traffic

@Suite struct WeightedPickerTests {
    static let weightSets: [[Int]] = [
        [70, 30, 0], [90, 10], [99, 1], [1, 1, 1], [5, 1, 1], [0, 100], [1_000_000, 1],
        [33, 33, 34],
    ]

    @Test(arguments: weightSets)
    func staysWithinOnePickOfTheShareOverEveryRun(weights: [Int]) {
        var picker = WeightedPicker(weights: weights)
        var counts = Array(repeating: 0, count: weights.count)
        let sum = weights.reduce(0, +)
        for pick in 1...500 {
            counts[picker.next() ?? -1] += 1
            for index in weights.indices {
                let exact = Double(pick * weights[index]) / Double(sum)
                #expect(abs(Double(counts[index]) - exact) <= 1.0 + 1e-9, "after \(pick)")
            }
        }
    }

    @Test func seventyThirtyZeroOverFiveHundred() {
        var picker = WeightedPicker(weights: [70, 30, 0])
        var counts = [0, 0, 0]
        for _ in 0..<500 { counts[picker.next() ?? -1] += 1 }
        #expect(counts == [350, 150, 0])
    }

    @Test func interleavesAsNginxDoes() {
        var picker = WeightedPicker(weights: [5, 1, 1])
        #expect((0..<7).map { _ in picker.next() } == [0, 0, 1, 0, 2, 0, 0])
    }

    @Test(arguments: [[], [0], [0, 0]])
    func hasNothingToChooseWithoutWeights(weights: [Int]) {
        var picker = WeightedPicker(weights: weights)
        #expect(picker.next() == nil)
    }

    @Test func neverPicksTheIneligibleAndSplitsTheirShare() {
        var picker = WeightedPicker(weights: [50, 30, 20])
        var counts = [0, 0, 0]
        for _ in 0..<500 { counts[picker.next(among: ~1) ?? -1] += 1 }
        #expect(counts == [0, 300, 200])
        var after = [0, 0, 0]
        for _ in 0..<100 { after[picker.next() ?? -1] += 1 }
        #expect(after == [50, 30, 20], "nobody catches up with a burst")
        #expect(picker.next(among: 0) == nil)
    }

    @Test func reloadWithTheSameWeightsChangesNothing() {
        var picker = WeightedPicker(weights: [7, 2, 1])
        var other = picker
        for step in 0..<100 {
            if step % 3 == 0 { picker.update(weights: [7, 2, 1]) }
            #expect(picker.next() == other.next())
        }
    }

    @Test func frequentReloadsDoNotStarveTheRareVariant() {
        var picker = WeightedPicker(weights: [90, 10])
        var counts = [0, 0]
        for step in 0..<1_000 {
            // Same proportion, other numbers, before every second pick.
            if step % 2 == 0 { picker.update(weights: step % 4 == 0 ? [90, 10] : [900, 100]) }
            counts[picker.next() ?? -1] += 1
        }
        #expect(abs(counts[1] - 100) <= 2, "\(counts)")
    }

    @Test func followsNewWeightsAndRemovedVariants() {
        var picker = WeightedPicker(weights: [90, 10])
        for _ in 0..<37 { _ = picker.next() }
        picker.update(weights: [50, 50])
        var counts = [0, 0]
        for _ in 0..<100 { counts[picker.next() ?? -1] += 1 }
        #expect(abs(counts[0] - 50) <= 1, "\(counts)")
        picker.update(weights: [10, 30], previousIndex: { $0 == 0 ? 1 : nil })
        var after = [0, 0]
        for _ in 0..<100 { after[picker.next() ?? -1] += 1 }
        #expect(abs(after[1] - 75) <= 2, "\(after)")
    }

    @Test func phasesOfWorkersSpreadTheRareVariant() {
        let first = (0..<10).map { worker -> Int in
            var picker = WeightedPicker(weights: [90, 10], phase: worker)
            return (0..<10).first { _ in picker.next() == 1 } ?? -1
        }
        #expect(Set(first).count == 10, "\(first)")
    }

    @Test func randomWeightsUpdatesAndEligibilityStayFair() {
        let seed: UInt64 = 0x5EED
        var random = RandomSource(seed: seed)
        for round in 0..<50 {
            let count = 1 + random.below(6)
            var picker = WeightedPicker(weights: (0..<count).map { _ in random.below(100) })
            for _ in 0..<20 {
                let weights = (0..<count).map { _ in random.below(100) }
                picker.update(weights: weights)
                let sum = weights.reduce(0, +)
                var counts = Array(repeating: 0, count: count)
                for _ in 0..<50 {
                    if let index = picker.next() { counts[index] += 1 }
                }
                for index in 0..<count where sum > 0 {
                    let exact = 50.0 * Double(weights[index]) / Double(sum)
                    #expect(
                        abs(Double(counts[index]) - exact) <= 2.01,
                        "seed \(seed) round \(round)"
                    )
                }
            }
        }
    }
}

@Suite struct StickyHashTests {
    static let keys = (0..<20_000).map { ByteHash.mix(UInt64($0)) }

    static func shares(_ hash: StickyHash, _ count: Int) -> [Double] {
        var counts = Array(repeating: 0.0, count: count)
        for key in Self.keys { counts[hash.pick(keyHash: key) ?? -1] += 1 }
        return counts.map { $0 / Double(Self.keys.count) }
    }

    @Test(arguments: [[50, 50], [90, 10], [95, 5], [1, 2, 7], [0, 3, 1]])
    func sharesFollowTheWeights(weights: [Int]) {
        let hash = StickyHash(
            identities: weights.indices.map { ByteHash.mix(UInt64($0)) },
            weights: weights,
            salt: 9
        )
        let sum = Double(weights.reduce(0, +))
        for (share, weight) in zip(Self.shares(hash, weights.count), weights) {
            // Five standard deviations of a share over 20 000 keys are below 0.018.
            #expect(abs(share - Double(weight) / sum) < 0.018)
        }
    }

    @Test func aGrowingCanaryKeepsItsUsersAndOnlyGains() {
        let identities: [UInt64] = [11, 22, 33]
        let before = StickyHash(identities: identities, weights: [90, 5, 5], salt: 1)
        let after = StickyHash(identities: identities, weights: [90, 25, 5], salt: 1)
        var moved = 0
        for key in Self.keys {
            let old = before.pick(keyHash: key)
            let new = after.pick(keyHash: key)
            if old != new {
                moved += 1
                #expect(new == 1)
            }
        }
        let expected = (25.0 / 120 - 0.05) * Double(Self.keys.count)
        #expect(abs(Double(moved) - expected) < 0.02 * Double(Self.keys.count))
    }

    @Test func anIneligibleVariantsKeysScatterAndComeBack() {
        let hash = StickyHash(identities: [1, 2, 3], weights: [1, 1, 1], salt: 0)
        for key in Self.keys.prefix(1_000) {
            let home = hash.pick(keyHash: key)
            let away = hash.pick(keyHash: key, where: { $0 != 0 })
            if home == 0 { #expect(away != 0) } else { #expect(away == home) }
        }
        #expect(hash.pick(keyHash: 5, where: { _ in false }) == nil)
        #expect(StickyHash(identities: [1], weights: [0], salt: 0).pick(keyHash: 5) == nil)
    }

    @Test func keysAreTakenAsBytes() {
        let hash = StickyHash(identities: [1, 2], weights: [1, 1], salt: 7)
        let key = bytes("user-1")
        let again = Array(bytes("xuser-1").dropFirst())
        let first = hash.pick(key.span.bytes)
        #expect(first == hash.pick(again.span.bytes))
    }

    @Test func logarithmAgreesWithTheSystems() {
        var random = RandomSource(seed: 4)
        for _ in 0..<10_000 {
            let value = random.nextUnit() + 0x1p-60
            #expect(abs(StickyHash.naturalLogarithm(value) - log(value)) < 1e-11)
        }
        #expect(StickyHash.exponential(0) > 0)
        #expect(StickyHash.exponential(.max) > 0)
    }
}

@Suite struct SamplerTests {
    @Test(arguments: [0, 1, 50_000, 333_333, 500_000, 999_999, 1_000_000])
    func isExactOverEveryRun(millionths: Int) {
        var sampler = PercentSampler(millionths: millionths)
        var yes = 0
        for asked in 1...5_000 {
            if sampler.next() { yes += 1 }
            #expect(yes == asked * millionths / 1_000_000)
        }
    }

    @Test func sharesAreClampedAndRounded() {
        #expect(PercentSampler(share: 0.05).millionths == 50_000)
        #expect(PercentSampler(share: 7).millionths == 1_000_000)
        #expect(PercentSampler(share: -1).millionths == 0)
        #expect(PercentSampler(share: .nan).millionths == 0)
        #expect(PercentSampler(share: .infinity).millionths == 0)
    }

    @Test func mirrorsTheSampleUnlessTheBoundsSayNo() {
        var policy = MirrorPolicy(sampler: PercentSampler(millionths: 500_000), inFlightMax: 2)
        #expect(policy.decide(inFlight: 0, hasWholeBody: true) == .skip)
        #expect(policy.decide(inFlight: 1, hasWholeBody: true) == .copy)
        #expect(policy.decide(inFlight: 2, hasWholeBody: true) == .skip)
        #expect(policy.decide(inFlight: 2, hasWholeBody: true) == .drop)
        #expect(policy.decide(inFlight: 0, hasWholeBody: false) == .skip)
        #expect(policy.decide(inFlight: 0, hasWholeBody: false) == .drop)
    }
}
