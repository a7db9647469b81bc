import Core
import Testing

@Suite struct RandomSourceTests {
    /// The sequence of Sebastiano Vigna's reference implementation (splitmix64.c), for this seed.
    @Test func followsTheReference() {
        var random = RandomSource(seed: 1_234_567)
        let sequence = (0..<5).map { _ in random.next() }
        #expect(
            sequence == [
                6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423,
                4_593_380_528_125_082_431, 16_408_922_859_458_223_821,
            ]
        )
    }

    @Test func theSameSeedGivesTheSame() {
        var one = RandomSource(seed: 42)
        var other = RandomSource(seed: 42)
        #expect((0..<100).allSatisfy { _ in one.next() == other.next() })
        var third = RandomSource(seed: 43)
        #expect(one.next() != third.next())
    }

    @Test func unitsLieBelowOneAndAreSpread() {
        var random = RandomSource(seed: 7)
        var buckets = [Int](repeating: 0, count: 10)
        for _ in 0..<10_000 {
            let unit = random.nextUnit()
            #expect(unit >= 0 && unit < 1)
            buckets[Int(unit * 10)] += 1
        }
        // Each bucket's count has mean 1000 and standard deviation 30.
        #expect(buckets.allSatisfy { (850...1_150).contains($0) }, "\(buckets)")
    }

    @Test func splitStreamsDiffer() {
        var random = RandomSource(seed: 9)
        var one = random.split()
        var other = random.split()
        let first = (0..<50).map { _ in one.next() }
        let second = (0..<50).map { _ in other.next() }
        let rest = (0..<50).map { _ in random.next() }
        #expect(Set(first + second + rest).count == 150)
    }
}
