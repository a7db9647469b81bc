import Core

// The few functions that a deterministic, dependency-free model needs. A C library's versions
// differ in the last digit between releases, which would make golden timelines differ too.

/// `e` to the power of `value`, within a few units in the last place between -700 and 700; beyond
/// that it saturates.
package func exponential(_ value: Double) -> Double {
    let clamped = min(max(value, -700), 700)
    // value = k·ln 2 + rest with |rest| ≤ ln 2 / 2; ln 2 in two parts keeps the rest exact.
    let k = (clamped * 1.4426950408889634).rounded()
    let rest = (clamped - k * 0.693147180369123816490) - k * 1.90821492927058770002e-10
    var term = 1.0
    var sum = 1.0
    for index in 1...14 {
        term *= rest / Double(index)
        sum += term
    }
    return sum * Double(sign: .plus, exponent: Int(k), significand: 1)
}

/// The natural logarithm of a finite `value` above zero.
package func naturalLogarithm(_ value: Double) -> Double {
    precondition(value > 0 && value.isFinite, "the logarithm of \(value)")
    var exponent = Double(value.exponent)
    var significand = value.significand
    if significand > 1.4142135623730951 {
        significand /= 2
        exponent += 1
    }
    // ln s = 2·artanh((s − 1)/(s + 1)), |argument| < 0.172: 2·Σ x^(2n+1)/(2n+1).
    let x = (significand - 1) / (significand + 1)
    let square = x * x
    var power = x
    var sum = 0.0
    for index in 0..<12 {
        sum += power / Double(2 * index + 1)
        power *= square
    }
    return exponent * 0.6931471805599453 + 2 * sum
}

extension RandomSource {
    /// A standard normal variate (Marsaglia's polar method; the second one is not kept, so that the
    /// generator's state alone decides what comes next).
    package mutating func nextNormal() -> Double {
        // Each round succeeds with probability π/4; the bound is never met in practice.
        for _ in 0..<256 {
            let u = self.nextUnit() * 2 - 1
            let v = self.nextUnit() * 2 - 1
            let square = u * u + v * v
            if square > 0 && square < 1 {
                return u * (-2 * naturalLogarithm(square) / square).squareRoot()
            }
        }
        return 0
    }

    /// A log-normal factor with median 1.
    package mutating func nextLogNormal(sigma: Double) -> Double {
        exponential(sigma * self.nextNormal())
    }
}
