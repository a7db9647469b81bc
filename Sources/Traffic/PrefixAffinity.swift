/// The keys under which a prompt may be placed, from its beginning to its depths. Small enough to
/// keep with a request until it is sent, and sent again.
package struct PrefixKeys: Equatable, Sendable {
    /// Base, 32, 64, 128 and 256 blocks.
    package static let countMax = 5

    @usableFromInline var storage = InlineArray<5, UInt64>(repeating: 0)
    /// At least 1.
    package let count: Int

    /// Nil for a request without a prompt.
    package init?(_ prompt: PromptHash, salt: UInt64) {
        let filled = min(prompt.blocks.count, PrefixAffinity.baseDepthMax)
        let depth = filled == 0 ? 0 : 1 &<< (Int.bitWidth - 1 - filled.leadingZeroBitCount)
        guard let base = prompt.key(depth: depth) else { return nil }
        self.storage[0] = ByteHash.combine(base, salt)
        var count = 1
        var deeper = PrefixAffinity.baseDepthMax * 2
        while count < Self.countMax, deeper <= prompt.blocks.count {
            self.storage[count] = ByteHash.combine(prompt.blocks[deeper - 1], salt)
            count += 1
            deeper *= 2
        }
        self.count = count
    }

    @inlinable
    package subscript(index: Int) -> UInt64 { self.storage[index] }

    package static func == (left: PrefixKeys, right: PrefixKeys) -> Bool {
        left.count == right.count && (0..<left.count).allSatisfy { left[$0] == right[$0] }
    }
}

/// Sends prompts that begin alike to the same endpoint, whose prefix cache then spares it the work.
///
/// The prompt's first blocks have chained hashes (`PromptHash`), and one of them becomes the key of
/// consistent hashing with bounded load. Which one matters: a deep one tells every prompt apart and
/// shares nothing, a shallow one puts everybody with the same system prompt into one place. So
/// there is a ladder:
///
/// 1. The base is the largest power of two of blocks that the prompt fills, at most `baseDepthMax`:
///    1, 2, 4, 8 or 16 blocks, up to 1 KiB or some 256 tokens. A conversation that grows keeps it
///    while its length stays between two powers, and for good once it is longer than 1 KiB.
/// 2. While the base's endpoint is below the bound, it is taken. If it is not, the prefix is too
///    hot for one endpoint, and the key of 32 blocks is asked for its first choice, then that of
///    64, 128 and 256, as far as the prompt goes. What all share spreads out, but each conversation
///    keeps a place of its own.
/// 3. The last key of the prompt takes the first endpoint of its order that is below the bound.
///
/// Nothing is shared between workers or gateways, and nothing is remembered: all compute the same
/// from the prompt and the loads. A memory of prefixes per worker was tried in its place, on a
/// made-up trace of 300 conversations over 8 endpoints; share of prompt blocks found in a cache:
///
///                                       by load   base only   ladder   memory, 1 and 4 workers
///     one system prompt of 2 KiB         40 %       41 %       56 %       56 %     46 %
///     20 system prompts of 2 KiB         37 %       64 %       65 %       75 %     63 %
///     20 system prompts of 512 B         21 %       68 %       68 %       67 %     38 %
///     none                                9 %       55 %       54 %       58 %     53 %
///
/// It is better where one worker sees all requests and worse where workers' memories disagree, so
/// it was left out.
///
/// The floor lets some requests meet on one endpoint before the mean counts at all.
package struct PrefixAffinity: Sendable {
    package static let baseDepthMax = 16
    package static let loadFloorDefault = 4

    package let hashing: ConsistentHash
    /// Keeps the same prompt from favouring the same endpoints in every model.
    package let salt: UInt64

    package init(
        salt: UInt64,
        loadPercent: Int = ConsistentHash.loadPercentDefault,
        loadFloor: Int = loadFloorDefault
    ) {
        self.salt = salt
        self.hashing = ConsistentHash(loadPercent: loadPercent, loadFloor: loadFloor)
    }

    /// The keys of a prompt; nil for a request without one, which is better balanced by load.
    package func keys(_ prompt: PromptHash) -> PrefixKeys? {
        PrefixKeys(prompt, salt: self.salt)
    }

    @inlinable
    package func pick(
        _ keys: PrefixKeys,
        _ endpoints: borrowing some BalancedEndpoints
    ) -> BalancerChoice {
        let cap = self.hashing.loadCap(endpoints)
        for index in 0..<(keys.count - 1) {
            let first = ConsistentHash.home(keyHash: keys[index], endpoints)
            if first < 0 { return .none }
            let load = endpoints.inFlight(first)
            if load < cap, load < endpoints.limit(first) { return .free(first) }
        }
        return self.hashing.pick(keyHash: keys[keys.count - 1], cap: cap, endpoints)
    }
}
