import Core
import HTTP
import HTTPService

/// What the simulator reads of a request for text.
struct GenerationRequest {
    var model: String?
    var promptTokens = 0
    /// Decides the text: the same for the same prompt.
    var promptHash = TextHash()
    var hasPrompt = false
    var streams = false
    var includesUsage = false
    var maxTokens: Int?
    var minTokens = 0
    var ignoresEnd = false

    /// Reads the body of `/v1/chat/completions`, `/v1/completions` or `/v1/responses`. What it does
    /// not know is checked to be JSON and ignored.
    init(_ bytes: RawSpan, api: GenerationAPI) throws(JSONError) {
        var cursor = JSONCursor()
        try cursor.object(bytes) { (cursor, key) throws(JSONError) in
            do throws(JSONError) {
                try self.readMember(&cursor, bytes, key: bytes.extracting(key), api: api)
            } catch {
                let name = String(decoding: Bytes.array(bytes.extracting(key)), as: UTF8.self)
                throw JSONError(message: "\(name): \(error.message)", offset: error.offset)
            }
        }
        try cursor.end(bytes)
        self.promptTokens = max(1, self.promptTokens)
    }

    private mutating func readMember(
        _ cursor: inout JSONCursor,
        _ bytes: RawSpan,
        key: RawSpan,
        api: GenerationAPI
    ) throws(JSONError) {
        if key.equals("model") {
            self.model = try cursor.string(bytes)
        } else if key.equals(api.promptKey) {
            self.hasPrompt = true
            try self.readPrompt(&cursor, bytes, api: api)
        } else if try cursor.peek(bytes) == .null {
            try cursor.skip(bytes)
        } else if key.equals("stream") {
            self.streams = try cursor.bool(bytes)
        } else if key.equals("stream_options") {
            try self.readStreamOptions(&cursor, bytes)
        } else if key.equals("max_tokens") || key.equals("max_completion_tokens")
            || key.equals("max_output_tokens")
        {
            let value = try Self.count(&cursor, bytes, atLeast: 1)
            self.maxTokens = min(value, self.maxTokens ?? .max)
        } else if key.equals("min_tokens") {
            self.minTokens = try Self.count(&cursor, bytes, atLeast: 0)
        } else if key.equals("ignore_eos") {
            self.ignoresEnd = try cursor.bool(bytes)
        } else if key.equals("n") {
            guard try cursor.integer(bytes) == 1 else {
                throw cursor.error("only one choice at a time is supported")
            }
        } else {
            try cursor.skip(bytes)
        }
    }

    private mutating func readStreamOptions(
        _ cursor: inout JSONCursor,
        _ bytes: RawSpan
    ) throws(JSONError) {
        try cursor.object(bytes) { (cursor, key) throws(JSONError) in
            if bytes.extracting(key).equals("include_usage") {
                self.includesUsage = try cursor.bool(bytes)
            } else {
                try cursor.skip(bytes)
            }
        }
    }

    private static func count(
        _ cursor: inout JSONCursor,
        _ bytes: RawSpan,
        atLeast least: Int
    ) throws(JSONError) -> Int {
        let value = try cursor.integer(bytes)
        guard value >= least && value <= 1_000_000_000 else {
            throw cursor.error("\(value) is not between \(least) and 1000000000")
        }
        return value
    }

    // MARK: Prompts

    private mutating func readPrompt(
        _ cursor: inout JSONCursor,
        _ bytes: RawSpan,
        api: GenerationAPI
    ) throws(JSONError) {
        switch (api, try cursor.peek(bytes)) {
        case (.chat, _): try self.readMessages(&cursor, bytes)
        case (.completions, .array): try self.readTokens(&cursor, bytes)
        case (.responses, .array): try self.readMessages(&cursor, bytes)
        case (.completions, _), (.responses, _): try self.readText(&cursor, bytes)
        }
    }

    /// Four bytes are taken for a token, as English text has them on average.
    private mutating func readText(
        _ cursor: inout JSONCursor,
        _ bytes: RawSpan
    ) throws(JSONError) {
        guard try cursor.peek(bytes) == .string else { throw cursor.error("expected a string") }
        let range = try cursor.skip(bytes)
        self.promptTokens += (range.count - 2 + 3) / 4
        self.promptHash.add(bytes.extracting(range))
    }

    /// A prompt as token numbers, or as a list with one text.
    private mutating func readTokens(
        _ cursor: inout JSONCursor,
        _ bytes: RawSpan
    ) throws(JSONError) {
        var texts = 0
        try cursor.array(bytes) { (cursor) throws(JSONError) in
            if try cursor.peek(bytes) == .number {
                self.promptHash.add(UInt64(bitPattern: Int64(try cursor.integer(bytes))))
                self.promptTokens += 1
            } else {
                texts += 1
                guard texts == 1 else {
                    throw cursor.error("only one prompt at a time is supported")
                }
                try self.readText(&cursor, bytes)
            }
        }
    }

    private mutating func readMessages(
        _ cursor: inout JSONCursor,
        _ bytes: RawSpan
    ) throws(JSONError) {
        var count = 0
        try cursor.array(bytes) { (cursor) throws(JSONError) in
            count += 1
            // What a chat template adds to every message.
            self.promptTokens += 4
            try cursor.object(bytes) { (cursor, key) throws(JSONError) in
                if bytes.extracting(key).equals("content") {
                    try self.readContent(&cursor, bytes)
                } else {
                    try cursor.skip(bytes)
                }
            }
        }
        if count == 0 { throw cursor.error("there must be at least one message") }
    }

    private mutating func readContent(
        _ cursor: inout JSONCursor,
        _ bytes: RawSpan
    ) throws(JSONError) {
        switch try cursor.peek(bytes) {
        case .string: try self.readText(&cursor, bytes)
        case .null: try cursor.skip(bytes)
        case .array:
            try cursor.array(bytes) { (cursor) throws(JSONError) in
                try cursor.object(bytes) { (cursor, key) throws(JSONError) in
                    let isText = bytes.extracting(key).equals("text")
                    if try cursor.peek(bytes) == .string && isText {
                        try self.readText(&cursor, bytes)
                    } else {
                        try cursor.skip(bytes)
                    }
                }
            }
        case .object, .number, .bool:
            throw cursor.error("expected a string or an array of parts")
        }
    }
}

/// The three ways to ask for text.
enum GenerationAPI {
    case chat
    case completions
    case responses

    var promptKey: StaticString {
        switch self {
        case .chat: "messages"
        case .completions: "prompt"
        case .responses: "input"
        }
    }

    var idPrefix: StaticString {
        switch self {
        case .chat: "chatcmpl-"
        case .completions: "cmpl-"
        case .responses: "resp_"
        }
    }
}

/// What the simulator reads of a request for embeddings.
struct EmbeddingRequest {
    /// Inputs in one request at most, as OpenAI has it.
    static let inputsMax = 2_048

    var model: String?
    var inputs: [TextHash] = []
    var promptTokens = 0
    var isBase64 = false
    var size: Int?
    var hasInput = false

    init(_ bytes: RawSpan) throws(JSONError) {
        var cursor = JSONCursor()
        try cursor.object(bytes) { (cursor, key) throws(JSONError) in
            let key = bytes.extracting(key)
            if key.equals("model") {
                self.model = try cursor.string(bytes)
            } else if key.equals("input") {
                self.hasInput = true
                try self.readInput(&cursor, bytes)
            } else if try cursor.peek(bytes) == .null {
                try cursor.skip(bytes)
            } else if key.equals("encoding_format") {
                self.isBase64 = try cursor.string(bytes) == "base64"
            } else if key.equals("dimensions") {
                self.size = try cursor.integer(bytes)
            } else {
                try cursor.skip(bytes)
            }
        }
        try cursor.end(bytes)
    }

    /// A text, texts, one text's token numbers, or several texts' token numbers.
    private mutating func readInput(
        _ cursor: inout JSONCursor,
        _ bytes: RawSpan
    ) throws(JSONError) {
        guard try cursor.peek(bytes) == .array else { return try self.add(&cursor, bytes) }
        var tokens = TextHash()
        var tokenCount = 0
        try cursor.array(bytes) { (cursor) throws(JSONError) in
            if try cursor.peek(bytes) == .number {
                tokens.add(UInt64(bitPattern: Int64(try cursor.integer(bytes))))
                tokenCount += 1
            } else {
                guard self.inputs.count < Self.inputsMax else {
                    throw cursor.error("more than \(Self.inputsMax) inputs")
                }
                try self.add(&cursor, bytes)
            }
        }
        if tokenCount > 0 {
            self.inputs.append(tokens)
            self.promptTokens += tokenCount
        }
    }

    private mutating func add(_ cursor: inout JSONCursor, _ bytes: RawSpan) throws(JSONError) {
        var hash = TextHash()
        switch try cursor.peek(bytes) {
        case .string:
            let range = try cursor.skip(bytes)
            self.promptTokens += max(1, (range.count - 2 + 3) / 4)
            hash.add(bytes.extracting(range))
        case .array:
            try cursor.array(bytes) { (cursor) throws(JSONError) in
                hash.add(UInt64(bitPattern: Int64(try cursor.integer(bytes))))
                self.promptTokens += 1
            }
        case .object, .number, .bool, .null:
            throw cursor.error("expected a text or token numbers")
        }
        self.inputs.append(hash)
    }
}

/// FNV-1a, 64 bits: tells texts apart; not for secrets.
struct TextHash: Hashable {
    private(set) var value: UInt64 = 0xCBF2_9CE4_8422_2325

    mutating func add(_ bytes: RawSpan) {
        for index in 0..<bytes.byteCount {
            self.add(byte: bytes.unsafeLoad(fromByteOffset: index, as: UInt8.self))
        }
    }

    mutating func add(_ number: UInt64) {
        for shift in stride(from: 0, to: 64, by: 8) {
            self.add(byte: UInt8(truncatingIfNeeded: number >> UInt64(shift)))
        }
    }

    private mutating func add(byte: UInt8) {
        self.value = (self.value ^ UInt64(byte)) &* 0x0000_0100_0000_01B3
    }
}

/// Copies of bytes.
enum Bytes {
    static func array(_ bytes: RawSpan) -> [UInt8] {
        bytes.withUnsafeBytes { Array($0) }
    }

    static func array(of buffer: ByteBuffer) -> [UInt8] {
        Self.array(buffer.readable)
    }
}
