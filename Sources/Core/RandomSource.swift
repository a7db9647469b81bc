/// A small seeded generator: the same seed gives the same sequence everywhere.
///
/// SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014).
/// Not for secrets.
package struct RandomSource: RandomNumberGenerator, Sendable {
    private var state: UInt64

    package init(seed: UInt64) {
        self.state = seed
    }

    package mutating func next() -> UInt64 {
        self.state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = self.state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }

    /// A double in [0, 1) with 53 random bits.
    package mutating func nextUnit() -> Double {
        Double(self.next() >> 11) * 0x1p-53
    }

    /// A generator for an independent stream, derived from this one.
    package mutating func split() -> RandomSource {
        RandomSource(seed: self.next())
    }
}
