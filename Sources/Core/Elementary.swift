// The few functions that a deterministic, dependency-free model needs. A C library's versions
// differ in the last digit between releases, which would make golden timelines differ too.

/// `e` to the power of `value`, within a few units in the last place between -700 and 700; beyond
/// that it saturates.
package func exponential(_ value: Double) -> Double {
    let clamped = min(max(value, -700), 700)
    // value = k·ln 2 + rest with |rest| ≤ ln 2 / 2; ln 2 in two parts keeps the rest exact.
    // Adding 1.5·2^52 rounds to a whole number; without SSE 4.1 `rounded` is a call.
    let k = (clamped * 1.4426950408889634 + 0x1.8p52) - 0x1.8p52
    let rest = (clamped - k * 0.693147180369123816490) - k * 1.90821492927058770002e-10
    // Σ rest^n/n! in fours (Estrin's scheme), which do not wait for each other.
    let square = rest * rest
    let fourth = square * square
    let low = (1 + rest) + square * (0.5 + rest * 0.16666666666666666)
    let middle =
        (0.041666666666666664 + rest * 0.008333333333333333)
        + square * (0.001388888888888889 + rest * 0.0001984126984126984)
    let high =
        (2.48015873015873e-05 + rest * 2.7557319223985893e-06)
        + square * (2.755731922398588e-07 + rest * 2.505210838544172e-08)
    let rear =
        (2.08767569878681e-09 + rest * 1.6059043836821613e-10) + square * 1.1470745597729725e-11
    let sum = (low + fourth * middle) + (fourth * fourth) * (high + fourth * rear)
    // 2^k by its bits: |k| ≤ 1010.
    return sum * Double(bitPattern: UInt64(Int(k) + 1_023) << 52)
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
    var sum = 0.08695652173913043
    sum = sum * square + 0.09523809523809523
    sum = sum * square + 0.10526315789473684
    sum = sum * square + 0.11764705882352941
    sum = sum * square + 0.13333333333333333
    sum = sum * square + 0.15384615384615385
    sum = sum * square + 0.18181818181818182
    sum = sum * square + 0.2222222222222222
    sum = sum * square + 0.2857142857142857
    sum = sum * square + 0.4
    sum = sum * square + 0.6666666666666666
    sum = sum * square + 2
    return exponent * 0.6931471805599453 + x * sum
}
