/// The largest (or smallest) number of the last seconds, for any window up to what is kept.
///
/// Keeps only numbers that no later one outdoes, with the last time each was seen: at most
/// `entriesMax`. When full, the two oldest become one, with the more extreme number and the later
/// time, so that what is remembered errs towards holding on.
struct MonotoneWindow: Sendable {
    static let entriesMax = 32
    /// Whether the largest are kept, else the smallest.
    let keepsLargest: Bool
    private var values: [Int]
    private var times: [Double]
    private var count = 0

    init(keepsLargest: Bool) {
        self.keepsLargest = keepsLargest
        self.values = Array(repeating: 0, count: Self.entriesMax)
        self.times = Array(repeating: 0, count: Self.entriesMax)
    }

    mutating func add(_ value: Int, atSeconds now: Double) {
        while self.count > 0, self.outdoes(value, self.values[self.count - 1]) { self.count -= 1 }
        if self.count == Self.entriesMax {
            // The oldest is the most extreme one.
            self.times[0] = self.times[1]
            for index in 2..<Self.entriesMax {
                self.values[index - 1] = self.values[index]
                self.times[index - 1] = self.times[index]
            }
            self.count -= 1
        }
        self.values[self.count] = value
        self.times[self.count] = now
        self.count += 1
    }

    /// The extreme of what was added in the last `seconds`; nil where nothing was.
    func extreme(overSeconds seconds: Double, atSeconds now: Double) -> Int? {
        for index in 0..<self.count where self.times[index] >= now - seconds {
            return self.values[index]
        }
        return nil
    }

    private func outdoes(_ new: Int, _ old: Int) -> Bool {
        self.keepsLargest ? new >= old : new <= old
    }
}
