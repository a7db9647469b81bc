import Core
import HTTP
import HTTPService
import Traffic

/// Looks into the answers of a rollout's two variants: refusals, empty and truncated answers, JSON
/// that is none, and what should be equal between a request's answer and its copy's.
///
/// The bytes are kept until the answer is complete, `bytesMax` at most; of a longer one nothing is
/// said. Understood are OpenAI's chat, completions and responses, as JSON and as events, and the
/// Open Inference Protocol's JSON; of anything else only whether it is the same.
final class AnswerInspection {
    enum Format {
        case json
        case eventStream
        case other
    }

    struct Findings: Equatable {
        var isRefused = false
        var isTruncated = false
        var isEmpty = false
        /// The request asked for JSON and the text is none.
        var isInvalidJSON = false
        /// The answer itself is not what its content type says.
        var isMalformed = false
        /// Of the outputs, without names and times.
        var hash: UInt64?
    }

    static let bytesMax = 256 << 10

    private let style: APIStyle
    private let format: Format
    private let asksForJSON: Bool
    private var bytes: [UInt8] = []
    private var isCut = false

    init(style: APIStyle, format: Format, asksForJSON: Bool) {
        self.style = style
        self.format = format
        self.asksForJSON = asksForJSON
    }

    func take(_ piece: UnsafeRawBufferPointer) {
        if self.isCut { return }
        if self.bytes.count + piece.count > Self.bytesMax {
            self.isCut = true
            self.bytes = []
            return
        }
        self.bytes.append(contentsOf: piece)
    }

    /// What the complete answer says; nil where it was too long.
    func findings() -> Findings? {
        if self.isCut { return nil }
        switch (self.style, self.format) {
        case (.openAI, .json): return self.completion { Self.readObject($1, into: &$0) }
        case (.openAI, .eventStream): return self.completion(Self.readEvents)
        case (.openInference, .json): return self.inference()
        case (.kserveV1, _), (.plain, _), (.openAI, .other), (.openInference, _):
            var findings = Findings()
            findings.isEmpty = self.bytes.isEmpty
            findings.hash = self.wholeHash
            return findings
        }
    }

    private var wholeHash: UInt64 {
        let bytes = self.bytes
        return ByteHash.hash(bytes.span.bytes)
    }

    // MARK: Requests

    /// Whether a request's body asks for JSON: by `response_format`, or by `text.format` as the
    /// Responses API has it.
    static func asksForJSON(_ bytes: RawSpan) -> Bool {
        var cursor = JSONCursor()
        var isAsked = false
        do throws(JSONError) {
            try cursor.object(bytes) { (cursor, key) throws(JSONError) in
                let isObject = try cursor.peek(bytes) == .object
                if isObject, self.isKey("response_format", bytes, key) {
                    isAsked = try self.isJSONFormat(&cursor, bytes) || isAsked
                } else if isObject, self.isKey("text", bytes, key) {
                    try cursor.object(bytes) { (cursor, key) throws(JSONError) in
                        if self.isKey("format", bytes, key), try cursor.peek(bytes) == .object {
                            isAsked = try self.isJSONFormat(&cursor, bytes) || isAsked
                        } else {
                            try cursor.skip(bytes)
                        }
                    }
                } else {
                    try cursor.skip(bytes)
                }
            }
        } catch {
            // Not ours to judge: the model says what it thinks of it.
            return false
        }
        return isAsked
    }

    private static func isJSONFormat(
        _ cursor: inout JSONCursor,
        _ bytes: RawSpan
    ) throws(JSONError) -> Bool {
        var type = ""
        try cursor.object(bytes) { (cursor, key) throws(JSONError) in
            if self.isKey("type", bytes, key), try cursor.peek(bytes) == .string {
                type = try cursor.string(bytes)
            } else {
                try cursor.skip(bytes)
            }
        }
        return type == "json_object" || type == "json_schema"
    }

    // MARK: OpenAI

    /// What the choices of an answer, or of all its chunks, have said.
    private struct Completion {
        var text: [UInt8] = []
        var hasChoices = false
        var hasToolCalls = false
        var isRefused = false
        var isTruncated = false
        var isMalformed = false
    }

    private func completion(_ read: (inout Completion, RawSpan) -> Void) -> Findings {
        var completion = Completion()
        let bytes = self.bytes
        read(&completion, bytes.span.bytes)
        var findings = Findings()
        findings.isMalformed = completion.isMalformed
        guard completion.hasChoices, !completion.isMalformed else {
            findings.hash = self.wholeHash
            return findings
        }
        findings.isRefused = completion.isRefused
        findings.isTruncated = completion.isTruncated
        let isSilent = completion.text.isEmpty && !completion.hasToolCalls
        findings.isEmpty = isSilent && !completion.isRefused
        findings.isInvalidJSON =
            self.asksForJSON && !completion.isRefused && !completion.hasToolCalls
            && !Self.isJSON(completion.text.span.bytes)
        findings.hash = ByteHash.hash(completion.text.span.bytes)
        return findings
    }

    private static func readEvents(_ completion: inout Completion, _ bytes: RawSpan) {
        var start = 0
        while start < bytes.byteCount {
            var end = start
            while end < bytes.byteCount, !Self.isLineEnd(bytes, end) { end += 1 }
            let line = bytes.extracting(start..<end)
            start = end + 1
            guard line.hasPrefix("data:") else { continue }
            var data = line.extracting(5..<line.byteCount)
            if data.hasPrefix(" ") { data = data.extracting(1..<data.byteCount) }
            if data.byteCount == 0 || data.equals("[DONE]") { continue }
            Self.readObject(data, into: &completion)
        }
    }

    private static func isLineEnd(_ bytes: RawSpan, _ index: Int) -> Bool {
        let byte = bytes.unsafeLoad(fromByteOffset: index, as: UInt8.self)
        return byte == UInt8(ascii: "\n") || byte == UInt8(ascii: "\r")
    }

    private static func readObject(_ bytes: RawSpan, into completion: inout Completion) {
        var cursor = JSONCursor()
        do throws(JSONError) {
            try self.readFields(&cursor, bytes, into: &completion)
            try cursor.end(bytes)
        } catch {
            completion.isMalformed = true
        }
    }

    private static func readFields(
        _ cursor: inout JSONCursor,
        _ bytes: RawSpan,
        into completion: inout Completion
    ) throws(JSONError) {
        try cursor.object(bytes) { (cursor, key) throws(JSONError) in
            switch try cursor.peek(bytes) {
            case .array where self.isKey("choices", bytes, key):
                completion.hasChoices = true
                try cursor.array(bytes) { (cursor) throws(JSONError) in
                    try self.readChoice(&cursor, bytes, into: &completion)
                }
            case .array where self.isKey("output", bytes, key):
                completion.hasChoices = true
                try cursor.array(bytes) { (cursor) throws(JSONError) in
                    try self.readOutput(&cursor, bytes, into: &completion)
                }
            case .object where self.isKey("incomplete_details", bytes, key):
                try self.readIncompleteness(&cursor, bytes, into: &completion)
            case .object where self.isKey("response", bytes, key):
                // The last event of a stream has all; what came before says the same in pieces.
                completion.text = []
                try self.readFields(&cursor, bytes, into: &completion)
            case .object, .array, .string, .number, .bool, .null: try cursor.skip(bytes)
            }
        }
    }

    private static func readChoice(
        _ cursor: inout JSONCursor,
        _ bytes: RawSpan,
        into completion: inout Completion
    ) throws(JSONError) {
        try cursor.objectOrSkip(bytes) { (cursor, key) throws(JSONError) in
            let kind = try cursor.peek(bytes)
            switch kind {
            case .string where self.isKey("text", bytes, key):
                completion.text += Array(try cursor.string(bytes).utf8)
            case .string where self.isKey("finish_reason", bytes, key):
                switch try cursor.string(bytes) {
                case "length": completion.isTruncated = true
                case "content_filter": completion.isRefused = true
                default: break
                }
            case .object
            where self.isKey("message", bytes, key) || self.isKey("delta", bytes, key):
                try self.readMessage(&cursor, bytes, into: &completion)
            case .object, .array, .string, .number, .bool, .null: try cursor.skip(bytes)
            }
        }
    }

    private static func readMessage(
        _ cursor: inout JSONCursor,
        _ bytes: RawSpan,
        into completion: inout Completion
    ) throws(JSONError) {
        try cursor.object(bytes) { (cursor, key) throws(JSONError) in
            let kind = try cursor.peek(bytes)
            switch kind {
            case .string where self.isKey("content", bytes, key):
                completion.text += Array(try cursor.string(bytes).utf8)
            case .string where self.isKey("refusal", bytes, key):
                if try !cursor.string(bytes).isEmpty { completion.isRefused = true }
            case .array where self.isKey("tool_calls", bytes, key):
                try cursor.array(bytes) { (cursor) throws(JSONError) in
                    completion.hasToolCalls = true
                    try cursor.skip(bytes)
                }
            case .object where self.isKey("function_call", bytes, key):
                completion.hasToolCalls = true
                try cursor.skip(bytes)
            case .object, .array, .string, .number, .bool, .null: try cursor.skip(bytes)
            }
        }
    }

    // MARK: OpenAI's Responses

    /// One item of `output`: a message, or a call of a tool.
    private static func readOutput(
        _ cursor: inout JSONCursor,
        _ bytes: RawSpan,
        into completion: inout Completion
    ) throws(JSONError) {
        try cursor.objectOrSkip(bytes) { (cursor, key) throws(JSONError) in
            switch try cursor.peek(bytes) {
            case .string where self.isKey("type", bytes, key):
                if try cursor.string(bytes).hasSuffix("_call") { completion.hasToolCalls = true }
            case .array where self.isKey("content", bytes, key):
                try cursor.array(bytes) { (cursor) throws(JSONError) in
                    try self.readPart(&cursor, bytes, into: &completion)
                }
            case .object, .array, .string, .number, .bool, .null: try cursor.skip(bytes)
            }
        }
    }

    /// `{"type": "output_text", "text": …}` or `{"type": "refusal", "refusal": …}`
    private static func readPart(
        _ cursor: inout JSONCursor,
        _ bytes: RawSpan,
        into completion: inout Completion
    ) throws(JSONError) {
        try cursor.objectOrSkip(bytes) { (cursor, key) throws(JSONError) in
            let isText = try cursor.peek(bytes) == .string
            if isText, self.isKey("text", bytes, key) {
                completion.text += Array(try cursor.string(bytes).utf8)
            } else if isText, self.isKey("refusal", bytes, key) {
                if try !cursor.string(bytes).isEmpty { completion.isRefused = true }
            } else {
                try cursor.skip(bytes)
            }
        }
    }

    /// `{"reason": "max_output_tokens"}`
    private static func readIncompleteness(
        _ cursor: inout JSONCursor,
        _ bytes: RawSpan,
        into completion: inout Completion
    ) throws(JSONError) {
        try cursor.object(bytes) { (cursor, key) throws(JSONError) in
            guard self.isKey("reason", bytes, key), try cursor.peek(bytes) == .string else {
                try cursor.skip(bytes)
                return
            }
            switch try cursor.string(bytes) {
            case "max_output_tokens": completion.isTruncated = true
            case "content_filter": completion.isRefused = true
            default: break
            }
        }
    }

    // MARK: Open Inference

    private func inference() -> Findings {
        let all = self.bytes
        let bytes = all.span.bytes
        var findings = Findings()
        var cursor = JSONCursor()
        var outputs: Range<Int>?
        var count = 0
        do throws(JSONError) {
            try cursor.object(bytes) { (cursor, key) throws(JSONError) in
                guard Self.isKey("outputs", bytes, key), try cursor.peek(bytes) == .array else {
                    try cursor.skip(bytes)
                    return
                }
                let start = cursor.offset
                try cursor.array(bytes) { (cursor) throws(JSONError) in
                    count += 1
                    try cursor.skip(bytes)
                }
                outputs = start..<cursor.offset
            }
            try cursor.end(bytes)
        } catch {
            findings.isMalformed = true
            return findings
        }
        findings.isEmpty = count == 0
        findings.hash = outputs.map { ByteHash.hash(bytes.extracting($0)) }
        return findings
    }

    // MARK: JSON

    /// Whether the bytes are one JSON value and nothing else.
    private static func isJSON(_ bytes: RawSpan) -> Bool {
        var cursor = JSONCursor()
        do throws(JSONError) {
            try cursor.skip(bytes)
            try cursor.end(bytes)
            return true
        } catch {
            return false
        }
    }

    private static func isKey(_ name: StaticString, _ bytes: RawSpan, _ key: Range<Int>) -> Bool {
        bytes.extracting(key).equals(name)
    }
}
