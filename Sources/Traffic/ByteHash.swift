/// Hashes of bytes that are the same in every worker, process and run.
///
/// Words are folded in by a full 64×64-bit multiplication whose halves are xored, and the result is
/// finished with SplitMix64's mixer. Not for secrets, and an attacker who knows this code can make
/// keys collide: use it where that costs him only his own affinity, or where the keys come from the
/// configuration.
package enum ByteHash {
    /// The hash of `bytes`; another `seed` gives an independent hash.
    package static func hash(_ bytes: RawSpan, seed: UInt64 = 0) -> UInt64 {
        let count = bytes.byteCount
        var state = seed ^ 0x9E37_79B9_7F4A_7C15
        var index = 0
        while index &+ 8 <= count {
            state = Self.fold(state, bytes.word(at: index))
            index &+= 8
        }
        var tail: UInt64 = 0
        var shift: UInt64 = 0
        while index < count {
            tail |= UInt64(bytes.byte(unchecked: index)) &<< shift
            shift &+= 8
            index &+= 1
        }
        state = Self.fold(state, tail ^ UInt64(truncatingIfNeeded: count) &<< 56)
        return Self.mix(state)
    }

    /// One hash from two, the order counting.
    @inlinable
    package static func combine(_ first: UInt64, _ second: UInt64) -> UInt64 {
        Self.mix(first &+ 0x9E37_79B9_7F4A_7C15 &+ second &* 0xD6E8_FEB8_6659_FD93)
    }

    /// SplitMix64's finaliser: a bijection in which every input bit moves every output bit.
    @inlinable
    package static func mix(_ value: UInt64) -> UInt64 {
        var mixed = value
        mixed = (mixed ^ (mixed &>> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed &>> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed &>> 31)
    }

    /// Both operands are first xored with odd constants: a zero must not wipe the state out.
    @inline(__always)
    static func fold(_ state: UInt64, _ word: UInt64) -> UInt64 {
        let product = (state ^ 0xA076_1D64_78BD_642F)
            .multipliedFullWidth(by: word ^ 0xE703_7ED1_A0B4_28DB)
        return product.high ^ product.low ^ state.byteSwapped
    }
}
