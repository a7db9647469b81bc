import Core

/// Prompts of a given number of tokens, made of short common words.
///
/// Each word has four letters, and with the space before it is one token of the usual vocabularies;
/// so the number of tokens is close to right without a tokenizer, and a prompt is copied out of one
/// text rather than composed. The first words of every prompt are drawn one by one, so that no two
/// prompts share a beginning unless they are meant to.
package struct PromptText: Sendable {
    /// Bytes of a word and its space.
    package static let wordBytes = 5
    /// Words that are drawn one by one: 128⁸ beginnings.
    private static let ownWords = 8
    private static let textWords = 65_536

    private static let words: [StaticString] = [
        "able", "acid", "also", "area", "army", "atom", "away", "baby", "back", "ball", "band",
        "bank", "base", "bath", "bear", "beat", "bell", "best", "bird", "blue", "boat", "body",
        "bone", "book", "born", "both", "bowl", "busy", "cake", "call", "calm", "camp", "card",
        "care", "case", "cash", "cell", "city", "club", "coal", "coat", "code", "cold", "come",
        "cook", "cool", "copy", "core", "corn", "cost", "crew", "crop", "dark", "data", "date",
        "days", "deal", "deep", "deer", "desk", "door", "down", "draw", "dust", "duty", "each",
        "east", "easy", "edge", "even", "ever", "face", "fact", "fair", "fall", "farm", "fast",
        "feel", "file", "film", "find", "fine", "fire", "fish", "five", "flat", "flow", "food",
        "foot", "form", "four", "free", "from", "full", "game", "gate", "gift", "girl", "give",
        "goal", "gold", "good", "gray", "grow", "half", "hall", "hand", "hard", "head", "hear",
        "heat", "help", "here", "high", "hill", "hold", "home", "hope", "hour", "idea", "iron",
        "item", "join", "jump", "just", "keep", "kind", "king",
    ]

    private let text: [UInt8]

    package init() {
        var random = RandomSource(seed: 0x7765_6972)
        var text: [UInt8] = []
        text.reserveCapacity(Self.textWords * Self.wordBytes)
        for _ in 0..<Self.textWords { text += Self.word(&random) }
        self.text = text
    }

    /// Appends `tokens` words that belong to `seed`: the same for the same seed.
    package func append(tokens: Int, seed: UInt64, to buffer: ByteBuffer) {
        var random = RandomSource(seed: seed)
        let own = min(tokens, Self.ownWords)
        for _ in 0..<own { buffer.append(Self.word(&random)) }
        var rest = tokens - own
        var position = Int(random.next() % UInt64(Self.textWords))
        while rest > 0 {
            let count = min(rest, Self.textWords - position)
            let bytes = self.text.span.bytes
            buffer.append(
                bytes.extracting(
                    (position * Self.wordBytes)..<((position + count) * Self.wordBytes)
                )
            )
            rest -= count
            position = 0
        }
    }

    private static func word(_ random: inout RandomSource) -> [UInt8] {
        let word = self.words[Int(random.next() % UInt64(self.words.count))]
        return word.withUTF8Buffer { Array($0) } + [0x20]
    }
}
