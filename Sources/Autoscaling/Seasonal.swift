/// What the rate was at this time yesterday and a week ago, as a floor under the forecast.
///
/// Ten-minute means of one week. Each of the two is believed only while it earns it: while over the
/// last days the forecast with it as a floor has had a smaller loss than the forecast without. The
/// loss counts a missing request nine times as much as a superfluous one (the pinball loss of the
/// 90 % quantile). As such a loss likes any floor a little, it must also be plainly smaller than
/// with yesterday's rate at a time that has nothing to do with this one.
struct Seasonal: Sendable {
    static let slotSeconds = 600.0
    static let dayCount = 144
    static let weekCount = 7 * dayCount
    /// Half a day of comparisons must be there.
    static let comparisonsMin = 72
    private static let missWeight = 0.9
    private static let betterThanPlacebo = 0.8

    /// Mean rates by slot of the week; negative where nothing is known. Empty before the first.
    private var rates: [Float] = []
    private var slot: Int?
    private var arrivals = 0.0
    private var covered = 0.0
    /// The forecast for the present slot, as it was when it began.
    private var forecast = 0.0
    private var plainLoss = SIMD2<Double>.zero
    private var floorLoss = SIMD2<Double>.zero
    private var placeboLoss = SIMD2<Double>.zero
    private var comparisons = SIMD2<Int>.zero

    mutating func add(
        arrivals: Double,
        seconds: Double,
        forecast: Double,
        atSeconds now: Double
    ) {
        let number = Int(now / Self.slotSeconds)
        if let slot, number > slot {
            // A slot seen for less than half of it says little.
            if self.covered >= Self.slotSeconds / 2 { self.close(slot) }
            if !self.rates.isEmpty {
                // What lies in a gap is not known.
                for missed in (slot + 1)..<min(number, slot + 1 + Self.weekCount)
                where missed < number {
                    self.rates[missed % Self.weekCount] = -1
                }
            }
        }
        if self.slot != number {
            self.slot = number
            self.forecast = forecast
            self.arrivals = 0
            self.covered = 0
        }
        self.arrivals += arrivals
        self.covered += seconds
    }

    private mutating func close(_ slot: Int) {
        let rate = self.arrivals / self.covered
        if self.rates.isEmpty { self.rates = Array(repeating: -1, count: Self.weekCount) }
        let past = self.past(slot)
        // A little more than six hours later, of the same days.
        let placebo = self.past(slot + 37)
        for index in 0..<2 where past[index] >= 0 {
            let factor = 1 - 0.693 / Double(2 * Self.dayCount)
            let floor = max(self.forecast, past[index])
            self.plainLoss[index] =
                self.plainLoss[index] * factor + Self.loss(rate, self.forecast)
            self.floorLoss[index] = self.floorLoss[index] * factor + Self.loss(rate, floor)
            let other = max(self.forecast, placebo[index])
            self.placeboLoss[index] = self.placeboLoss[index] * factor + Self.loss(rate, other)
            self.comparisons[index] = min(self.comparisons[index] + 1, 1 << 30)
        }
        self.rates[slot % Self.weekCount] = Float(rate)
    }

    /// Yesterday's and last week's rates at a slot that has not been written since.
    private func past(_ slot: Int) -> SIMD2<Double> {
        if self.rates.isEmpty { return SIMD2(repeating: -1) }
        let day = (slot - Self.dayCount + Self.weekCount) % Self.weekCount
        return SIMD2(Double(self.rates[day]), Double(self.rates[slot % Self.weekCount]))
    }

    private static func loss(_ actual: Double, _ forecast: Double) -> Double {
        let error = actual - forecast
        return error > 0 ? Self.missWeight * error : (Self.missWeight - 1) * error
    }

    /// Whether yesterday's, or last week's, rate has earned belief.
    var isBelieved: (day: Bool, week: Bool) { (self.earned(0), self.earned(1)) }

    private func earned(_ index: Int) -> Bool {
        self.comparisons[index] >= Self.comparisonsMin
            && self.floorLoss[index] < self.plainLoss[index]
            && self.floorLoss[index] < Self.betterThanPlacebo * self.placeboLoss[index]
    }

    /// The least to expect at `seconds`; 0 where nothing is believed.
    func floor(atSeconds seconds: Double) -> Double {
        let past = self.past(Int(seconds / Self.slotSeconds))
        return max(self.earned(0) ? past[0] : 0, self.earned(1) ? past[1] : 0, 0)
    }
}
