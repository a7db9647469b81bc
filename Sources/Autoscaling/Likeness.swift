/// The correlation of two series, in which old values count less and less: constant in size.
struct Likeness: Sendable {
    private var count = 0.0
    private var sums = SIMD2<Double>.zero
    private var squares = SIMD2<Double>.zero
    private var product = 0.0

    /// - Parameter fading: what is left of older values.
    mutating func add(_ left: Double, _ right: Double, fading: Double) {
        let both = SIMD2(left, right)
        self.count = self.count * fading + 1
        self.sums = self.sums * fading + both
        self.squares = self.squares * fading + both * both
        self.product = self.product * fading + left * right
    }

    /// -1 to 1; 0 where either hardly changes, or nothing is known.
    var correlation: Double {
        guard self.count > 1 else { return 0 }
        let means = self.sums / self.count
        let variances = self.squares / self.count - means * means
        let least = 1e-9 * max(means[0] * means[0], means[1] * means[1], 1e-3)
        guard variances[0] > least, variances[1] > least else { return 0 }
        let shared = self.product / self.count - means[0] * means[1]
        return min(1, max(-1, shared / (variances[0] * variances[1]).squareRoot()))
    }
}
