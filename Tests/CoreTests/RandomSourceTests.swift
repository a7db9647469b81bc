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

    /// Shares below some quantiles, the tail beyond the last layer among them, and the moments.
    @Test func normalVariatesFollowTheirDistribution() {
        var random = RandomSource(seed: 11)
        let count = 2_000_000
        let edges = [-3.7, -3, -2, -1, -0.25, 0, 0.25, 1, 2, 3, 3.7]
        let shares = [
            0.000_107_8, 0.001_349_9, 0.022_750_1, 0.158_655_3, 0.401_293_7, 0.5, 0.598_706_3,
            0.841_344_7, 0.977_249_9, 0.998_650_1, 0.999_892_2,
        ]
        var below = [Int](repeating: 0, count: edges.count)
        var squares = 0.0
        for _ in 0..<count {
            let value = random.nextNormal()
            squares += value * value
            for index in edges.indices where value < edges[index] { below[index] += 1 }
        }
        Self.compare(below, shares, count)
        // The mean of squares has a standard deviation of √(2 / count) = 0.001.
        #expect(abs(squares / Double(count) - 1) < 0.005)
    }

    @Test func exponentialVariatesFollowTheirDistribution() {
        var random = RandomSource(seed: 12)
        let count = 2_000_000
        let edges = [0.01, 0.1, 0.5, 1, 2, 4, 7.7, 9]
        let shares = edges.map { 1 - exponential(-$0) }
        var below = [Int](repeating: 0, count: edges.count)
        var sum = 0.0
        for _ in 0..<count {
            let value = random.nextExponential()
            sum += value
            for index in edges.indices where value < edges[index] { below[index] += 1 }
        }
        Self.compare(below, shares, count)
        #expect(abs(sum / Double(count) - 1) < 0.004)
    }

    /// Within five standard deviations of a binomial count.
    private static func compare(_ below: [Int], _ shares: [Double], _ count: Int) {
        for (found, share) in zip(below, shares) {
            let expected = share * Double(count)
            let deviation = (expected * (1 - share)).squareRoot()
            #expect(abs(Double(found) - expected) < 5 * deviation, "\(found), not \(expected)")
        }
    }
}
