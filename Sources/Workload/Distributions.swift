import Core

extension RandomSource {
    /// Gamma with the given shape and scale 1 (Marsaglia and Tsang, "A Simple Method for Generating
    /// Gamma Variables", ACM TOMS 2000).
    package mutating func nextGamma(shape: Double) -> Double {
        precondition(shape > 0, "a gamma shape of \(shape)")
        if shape < 1 {
            let boosted = self.nextGamma(shape: shape + 1)
            // U^(1/shape), as -ln U is exponential.
            return boosted * exponential(-self.nextExponential() / shape)
        }
        let d = shape - 1.0 / 3.0
        let c = 1 / (9 * d).squareRoot()
        while true {
            let normal = self.nextNormal()
            let cube = (1 + c * normal) * (1 + c * normal) * (1 + c * normal)
            if cube <= 0 { continue }
            let unit = 1 - self.nextUnit()
            let square = normal * normal
            // The squeeze of the paper spares the logarithms in most rounds.
            if unit < 1 - 0.0331 * square * square { return d * cube }
            let bound = 0.5 * square + d - d * cube + d * naturalLogarithm(cube)
            if naturalLogarithm(unit) < bound { return d * cube }
        }
    }
}

/// How many tokens a prompt or an answer has.
package enum LengthDistribution: Hashable, Sendable, CustomStringConvertible {
    case fixed(Int)
    case uniform(ClosedRange<Int>)
    case normal(mean: Double, deviation: Double)
    /// `sigma` is the deviation of the logarithm.
    case logNormal(median: Double, sigma: Double)
    case exponential(mean: Double)

    /// What `init` reads.
    package static let grammar =
        "N, uniform:MIN,MAX, normal:MEAN,DEVIATION, lognormal:MEDIAN,SIGMA or exponential:MEAN"

    /// Reads `grammar`; nil for anything else, and for lengths outside 1 to
    /// `WorkloadLimits.promptTokensMax`.
    package init?(_ text: String) {
        let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        let numbers = (parts.last ?? "").split(separator: ",", omittingEmptySubsequences: false)
            .compactMap { Double($0) }
        let lengths = 1...Double(WorkloadLimits.promptTokensMax)
        guard let first = numbers.first, lengths.contains(first) else { return nil }
        let name = parts.count == 2 ? String(parts[0]) : "fixed"
        switch (name, numbers.count) {
        case ("fixed", 1) where first == first.rounded():
            self = .fixed(Int(first))
        case ("uniform", 2) where lengths.contains(numbers[1]) && first <= numbers[1]:
            self = .uniform(Int(first)...Int(numbers[1]))
        case ("normal", 2) where numbers[1] >= 0 && lengths.upperBound >= numbers[1]:
            self = .normal(mean: first, deviation: numbers[1])
        case ("lognormal", 2) where (0...5).contains(numbers[1]):
            self = .logNormal(median: first, sigma: numbers[1])
        case ("exponential", 1):
            self = .exponential(mean: first)
        default: return nil
        }
    }

    /// 1 to `WorkloadLimits.promptTokensMax`.
    package func sample(_ random: inout RandomSource) -> Int {
        let value: Double
        switch self {
        case .fixed(let length): return length
        case .uniform(let range):
            // The bias of the remainder is below one in 2⁴³ for lengths up to the limit.
            return range.lowerBound + Int(random.next() % UInt64(range.count))
        case .normal(let mean, let deviation): value = mean + deviation * random.nextNormal()
        case .logNormal(let median, let sigma): value = median * random.nextLogNormal(sigma: sigma)
        case .exponential(let mean): value = mean * random.nextExponential()
        }
        return Int(min(max(value.rounded(), 1), Double(WorkloadLimits.promptTokensMax)))
    }

    package var description: String {
        switch self {
        case .fixed(let length): "\(length)"
        case .uniform(let range): "uniform:\(range.lowerBound),\(range.upperBound)"
        case .normal(let mean, let deviation): "normal:\(mean),\(deviation)"
        case .logNormal(let median, let sigma): "lognormal:\(median),\(sigma)"
        case .exponential(let mean): "exponential:\(mean)"
        }
    }
}
