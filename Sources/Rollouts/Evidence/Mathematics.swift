/// The few functions the statistics need, on top of the standard library's own `_log` and `_exp`:
/// a pure module imports no C library.
package enum Mathematics {
    package static func log(_ value: Double) -> Double { _log(value) }
    package static func exp(_ value: Double) -> Double { _exp(value) }

    /// ln Γ(x) for x > 0, to about 1e-12: Stirling's series after shifting x above 10
    /// (Abramowitz and Stegun, 6.1.41 and 6.1.15).
    package static func logGamma(_ value: Double) -> Double {
        precondition(value > 0, "ln Γ of \(value)")
        var shifted = value
        var product = 1.0
        while shifted < 10 {
            product *= shifted
            shifted += 1
        }
        let inverse = 1 / shifted
        let square = inverse * inverse
        let series =
            inverse * (1.0 / 12 - square * (1.0 / 360 - square * (1.0 / 1_260 - square / 1_680)))
        return (shifted - 0.5) * self.log(shifted) - shifted + self.halfLogTwoPi + series
            - self.log(product)
    }

    private static let halfLogTwoPi = 0.918_938_533_204_672_8

    /// ln B(a, b) for a, b > 0.
    package static func logBeta(_ first: Double, _ second: Double) -> Double {
        self.logGamma(first) + self.logGamma(second) - self.logGamma(first + second)
    }
}
