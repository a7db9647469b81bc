/// Sends prompts that begin alike to the same endpoint, whose prefix cache then spares it the work.
///
/// The prompt's first blocks have chained hashes (`PromptHash`). One of them becomes the key of
/// consistent hashing with bounded load. Which one matters: a deep one tells every prompt apart and
/// shares nothing, a shallow one puts everybody with the same system prompt into one place. Chosen is
/// the largest power of two of blocks that the prompt fills, at most `depthMax`: 1, 2, 4, 8 or 16
/// blocks, that is up to 1 KiB or some 256 tokens. A conversation that grows keeps its key while its
/// length stays between two powers, and for good once it is longer than 1 KiB.
///
/// Nothing is shared between workers or gateways, and nothing is remembered: all compute the same
/// order of endpoints from the key alone. Under load, the bound spills a hot prefix to the second
/// endpoint of that order, then the third: as few endpoints as can carry it hold it in their caches.
/// The floor lets some requests meet on one endpoint before the mean counts at all.
package struct PrefixAffinity: Sendable {
    package static let depthMax = 16
    package static let loadFloorDefault = 4

    package let hashing: ConsistentHash
    /// Keeps the same prompt from favouring the same endpoint numbers in every model.
    package let salt: UInt64

    package init(
        salt: UInt64,
        loadPercent: Int = ConsistentHash.loadPercentDefault,
        loadFloor: Int = loadFloorDefault
    ) {
        self.salt = salt
        self.hashing = ConsistentHash(loadPercent: loadPercent, loadFloor: loadFloor)
    }

    /// The key of a prompt, for `pick(keyHash:)`; nil for a request without one, which is better
    /// balanced by load.
    package func key(_ prompt: PromptHash) -> UInt64? {
        let blocks = min(prompt.blocks.count, Self.depthMax)
        let depth = blocks == 0 ? 0 : 1 &<< (Int.bitWidth - 1 - blocks.leadingZeroBitCount)
        guard let hash = prompt.key(depth: depth) else { return nil }
        return ByteHash.combine(hash, self.salt)
    }

    @inlinable
    package func pick(
        keyHash: UInt64,
        _ endpoints: borrowing some BalancedEndpoints
    ) -> BalancerChoice {
        self.hashing.pick(keyHash: keyHash, endpoints)
    }
}
