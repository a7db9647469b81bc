/// The time something takes, from its last samples.
struct DurationEstimate: Sendable {
    static let samplesMax = 32
    private let assumed: Double
    private var samples: [Double] = []
    private var next = 0
    /// 90 % of the samples are at most this; the assumption where there are none.
    private(set) var seconds: Double

    init(assumedSeconds: Double) {
        self.assumed = max(0, assumedSeconds)
        self.seconds = self.assumed
    }

    var count: Int { self.samples.count }

    mutating func add(_ seconds: Double) {
        guard seconds.isFinite, seconds >= 0 else { return }
        let clean = min(seconds, 86_400)
        if self.samples.count < Self.samplesMax {
            self.samples.append(clean)
        } else {
            self.samples[self.next] = clean
            self.next = (self.next + 1) % Self.samplesMax
        }
        let sorted = self.samples.sorted()
        let rank = Int((0.9 * Double(sorted.count)).rounded(.up))
        self.seconds = sorted[max(0, rank - 1)]
    }
}
