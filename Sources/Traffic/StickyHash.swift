/// Gives every key (a user, a session) the same variant as long as the weights allow.
///
/// Weighted rendezvous hashing: each variant draws from the key and its own identity a number that
/// is exponentially distributed with its weight as rate, and the smallest wins. Variant *v* gets
/// the share `weight(v) / sum` of all keys; when a weight grows, keys move to that variant only;
/// when one shrinks, keys leave that variant only. A canary going from 5 to 25 % keeps the users it
/// had.
package struct StickyHash: Sendable {
    private let identities: [UInt64]
    private let weights: [Int]
    private let salt: UInt64

    /// `identities` are stable hashes of the variants' names, so that adding a variant does not
    /// move the keys of others. `salt`, a hash of the model's name, keeps the same users from being
    /// first in line for every model's canary.
    package init(identities: [UInt64], weights: [Int], salt: UInt64) {
        precondition(identities.count == weights.count, "one weight per variant")
        for weight in weights { precondition(weight >= 0, "a weight of \(weight)") }
        self.identities = identities
        self.weights = weights
        self.salt = salt
    }

    /// The variant of a key among those `eligible`, or nil where none of positive weight is.
    package func pick(_ key: RawSpan, where eligible: (Int) -> Bool = { _ in true }) -> Int? {
        self.pick(keyHash: ByteHash.hash(key), where: eligible)
    }

    /// The variant of a key of which only the hash, the same for all models, is known.
    package func pick(keyHash: UInt64, where eligible: (Int) -> Bool = { _ in true }) -> Int? {
        let salted = ByteHash.combine(keyHash, self.salt)
        var best: Int?
        var bestScore = Double.infinity
        for index in self.weights.indices where self.weights[index] > 0 {
            guard eligible(index) else { continue }
            let drawn = ByteHash.combine(salted, self.identities[index])
            let score = Self.exponential(drawn) / Double(self.weights[index])
            if score < bestScore || best == nil {
                best = index
                bestScore = score
            }
        }
        return best
    }

    /// A uniform 64-bit number as an exponentially distributed one: -ln of it as a fraction in (0,
    /// 1).
    static func exponential(_ uniform: UInt64) -> Double {
        let fraction = (Double(uniform &>> 12) + 0.5) * 0x1p-52
        return -Self.naturalLogarithm(fraction)
    }

    /// ln of a positive normal number, to about 1e-12: the exponent by table, the significand, in
    /// 1..<2, by the series of 2·artanh((m−1)/(m+1)). The standard library has no logarithm, and
    /// the C library's may differ between machines while gateways have to agree.
    static func naturalLogarithm(_ value: Double) -> Double {
        let significand = value.significand
        let ratio = (significand - 1) / (significand + 1)
        let square = ratio * ratio
        var sum = 0.0
        var denominator = 23.0
        while denominator > 0 {
            sum = sum * square + 1 / denominator
            denominator -= 2
        }
        return 2 * ratio * sum + Double(value.exponent) * 0.693_147_180_559_945_3
    }
}
