/// How far the rate has left its forecast: what may come again unforeseen.
///
/// The highest rate there was is no measure of that. A day's peak is reached in hours, and whoever
/// follows the forecast is ready for it; replicas are missing only for what comes sooner than a
/// start takes. So the difference of rate and forecast is kept, at most so far, in either
/// direction: what falls at once may rise at once. Over a quarter of a minute for bursts, and over
/// a cold start, as what is missed until replicas are ready is their product.
struct Surprises: Sendable {
    private static let burstSeconds = 15.0
    /// Half of what forecasters keep.
    private static let secondsMax = 1_800.0
    /// What comes next may exceed all before by so much, after one cold start; by the square root
    /// of their number less.
    private static let unseen = 2.0

    /// Requests per second, over bursts and over cold starts; 0 where nothing is known.
    private(set) var most = SIMD2<Double>.zero
    /// How long each of them lasts.
    private(set) var seconds = SIMD2<Double>(repeating: Self.burstSeconds)
    /// Whether a cold start was foretold and came.
    private(set) var isKnown = false
    private var watched = 0.0

    /// A bucket of the forecaster has ended.
    /// - Parameter fading: what is left of older values.
    mutating func add(
        _ forecaster: borrowing Forecaster,
        coldStartSeconds: Double,
        fading: Double
    ) {
        self.watched += Forecaster.bucketSeconds
        let longest = min(Self.secondsMax, max(Self.burstSeconds, coldStartSeconds))
        self.seconds = SIMD2(Self.burstSeconds, longest)
        self.most *= fading
        for scale in 0..<2 {
            let buckets = Int((self.seconds[scale] / Forecaster.bucketSeconds).rounded())
            guard let error = forecaster.meanError(buckets: buckets) else { continue }
            self.most[scale] = max(self.most[scale], abs(error))
            if scale == 1 { self.isKnown = true }
        }
    }

    /// Rates that may come unforeseen where `rate` is expected, over bursts and over cold starts.
    /// - Parameter highest: the highest rate there was: no more than that.
    func rates(from rate: Double, highest: Double) -> SIMD2<Double> {
        let limit = SIMD2(repeating: highest)
        if !self.isKnown { return limit }
        let starts = max(1, self.watched / self.seconds[1])
        let rise = self.most * (1 + Self.unseen / starts.squareRoot())
        return (SIMD2(repeating: rate) + rise).clamped(lowerBound: .zero, upperBound: limit)
    }
}
