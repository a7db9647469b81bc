import Core
import Workload

/// How long something takes that is not the same each time: a cold start, a node's coming.
package enum Delay: Hashable, Sendable {
    /// Seconds.
    case fixed(Double)
    /// Seconds, each as likely as the other.
    case uniform(ClosedRange<Double>)
    /// Half take longer than `median` seconds; `sigma` is the deviation of the logarithm.
    case logNormal(median: Double, sigma: Double)
    /// Heavy-tailed: at least `minimum` seconds, and longer than x with probability
    /// (minimum ÷ x)^shape; cut off at `maximum`.
    case pareto(minimum: Double, shape: Double, maximum: Double)
    /// Quantiles that were measured, rising, at equal steps from the least to the greatest; in
    /// between they are joined by straight lines.
    case empirical([Double])

    /// What `init` reads.
    package static let grammar =
        "60s, 20s..90s, lognormal:MEDIAN,SIGMA, pareto:MIN,SHAPE,MAX or empirical:S,S,…"

    /// Reads `grammar`; nil for anything else.
    package init?(_ text: String) {
        let parts = text.split(separator: ":", maxSplits: 1).map(String.init)
        if parts.count == 1 {
            let dots = Array(text)
            if let at = dots.indices.dropLast().first(where: {
                dots[$0] == "." && dots[$0 + 1] == "."
            }) {
                guard let low = TimeText.seconds(String(dots[..<at])),
                    let high = TimeText.seconds(String(dots[(at + 2)...])), low <= high
                else { return nil }
                self = .uniform(low...high)
                return
            }
            guard let seconds = TimeText.seconds(text) else { return nil }
            self = .fixed(seconds)
            return
        }
        let values = parts[1].split(separator: ",", omittingEmptySubsequences: false).map {
            TimeText.seconds($0) ?? Double($0)
        }
        guard let numbers = Self.present(values) else { return nil }
        self.init(name: parts[0], numbers: numbers)
    }

    private init?(name: String, numbers: [Double]) {
        switch (name, numbers.count) {
        case ("lognormal", 2) where numbers[0] > 0 && numbers[1] <= 5:
            self = .logNormal(median: numbers[0], sigma: numbers[1])
        case ("pareto", 3) where numbers[0] > 0 && numbers[1] > 0 && numbers[2] >= numbers[0]:
            self = .pareto(minimum: numbers[0], shape: numbers[1], maximum: numbers[2])
        case ("empirical", 1...1_000_000):
            self = .empirical(numbers.sorted())
        default: return nil
        }
    }

    private static func present(_ values: [Double?]) -> [Double]? {
        let numbers = values.compactMap { $0 }
        let isUsable = numbers.allSatisfy { (0...WorkloadLimits.durationMaxSeconds).contains($0) }
        return numbers.count == values.count && isUsable ? numbers : nil
    }

    /// Loading of base models in production at Alibaba (GenTD26, base models): the deciles of 7 531
    /// events would need the file; these are its published p50, p90, p99 and maximum joined up.
    package static let gentd26BaseModel = Delay.logNormal(median: 22.7, sigma: 0.48)

    /// Nanoseconds.
    package func sample(_ random: inout RandomSource) -> UInt64 {
        UInt64(min(max(self.seconds(&random), 0), WorkloadLimits.durationMaxSeconds) * 1e9)
    }

    private func seconds(_ random: inout RandomSource) -> Double {
        switch self {
        case .fixed(let seconds): return seconds
        case .uniform(let range):
            return range.lowerBound + (range.upperBound - range.lowerBound) * random.nextUnit()
        case .logNormal(let median, let sigma): return median * random.nextLogNormal(sigma: sigma)
        case .pareto(let minimum, let shape, let maximum):
            let unit = 1 - random.nextUnit()
            return min(maximum, minimum * exponential(-naturalLogarithm(unit) / shape))
        case .empirical(let quantiles):
            guard quantiles.count > 1 else { return quantiles.first ?? 0 }
            let position = random.nextUnit() * Double(quantiles.count - 1)
            let index = min(Int(position), quantiles.count - 2)
            let share = position - Double(index)
            return quantiles[index] * (1 - share) + quantiles[index + 1] * share
        }
    }

    /// Its typical value, in seconds.
    package var median: Double {
        switch self {
        case .fixed(let seconds): seconds
        case .uniform(let range): (range.lowerBound + range.upperBound) / 2
        case .logNormal(let median, _): median
        case .pareto(let minimum, let shape, let maximum):
            min(maximum, minimum * exponential(naturalLogarithm(2) / shape))
        case .empirical(let quantiles): quantiles.isEmpty ? 0 : quantiles[quantiles.count / 2]
        }
    }
}
