import Core

/// The last cold starts of a group, and what they tell about the next.
package struct ColdStarts: Equatable, Sendable {
    /// Oldest first; at most `ClusterLimits.coldStartsMax`.
    package private(set) var samples: [Duration] = []

    package init() {}

    /// Keeps the newest where there are too many; negative ones are dropped.
    package init(_ samples: some Sequence<Duration>) {
        for sample in samples { self.add(sample) }
    }

    package mutating func add(_ sample: Duration) {
        guard sample >= .zero else { return }
        if self.samples.count >= ClusterLimits.coldStartsMax { self.samples.removeFirst() }
        self.samples.append(sample)
    }

    /// The smallest sample that at least `fraction` of all do not exceed (nearest rank); nil
    /// without samples. `fraction` is 0…1.
    package func quantile(_ fraction: Double) -> Duration? {
        precondition(fraction >= 0 && fraction <= 1, "a quantile of \(fraction)")
        let sorted = self.samples.sorted()
        guard !sorted.isEmpty else { return nil }
        let rank = (fraction * Double(sorted.count)).rounded(.up)
        return sorted[max(0, Int(rank) - 1)]
    }

    package var median: Duration? { self.quantile(0.5) }
    package var ninetieth: Duration? { self.quantile(0.9) }

    // MARK: As text, for the state directory

    /// One line of whole microseconds per sample.
    var encoded: String {
        self.samples.map { "\($0.nanosecondsClamped / 1_000)\n" }.joined()
    }

    /// Lines that hold anything but a number are skipped: a torn file costs samples, nothing else.
    init(encoded: String) {
        let limit = Int64.max / 1_000
        self.init(
            encoded.split(separator: "\n").compactMap { line in
                Int64(line).flatMap { $0 <= limit ? Duration.microseconds($0) : nil }
            }
        )
    }
}
