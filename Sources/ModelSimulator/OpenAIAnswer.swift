import Core
import HTTPService

/// Writes answers in OpenAI's shapes. The text is nonsense made of words, one per token.
struct OpenAIAnswer {
    let identity: AnswerIdentity
    let hash: TextHash

    typealias Event = (StaticString, (inout JSONWriter) -> Void)

    // MARK: Text

    private static let words: [StaticString] = [
        "water", "stone", "river", "weir", "gate", "flow", "bank", "reed", "mill", "wheel", "tide",
        "spring", "bridge", "valley", "meadow", "heron", "otter", "trout", "willow", "alder",
        "mist",
        "rain", "cloud", "pool", "channel", "delta", "source", "mouth", "current", "eddy", "ford",
        "sluice",
    ]

    /// The token of that index; all but the first start with a space.
    private func word(_ index: Int) -> StaticString {
        var random = RandomSource(seed: self.hash.value &+ UInt64(index))
        return Self.words[Int(random.next() % UInt64(Self.words.count))]
    }

    func appendToken(_ index: Int, to text: inout String) {
        if index > 0 { text += " " }
        text += "\(self.word(index))"
    }

    func text(tokens: Int) -> String {
        var text = ""
        for index in 0..<tokens { self.appendToken(index, to: &text) }
        return text
    }

    private func token(_ index: Int) -> String {
        var text = ""
        self.appendToken(index, to: &text)
        return text
    }

    // MARK: Whole answers

    func whole(
        _ api: GenerationAPI,
        tokens: Int,
        finishReason: FinishReason,
        usage: Usage,
        to json: inout JSONWriter
    ) {
        let text = self.text(tokens: tokens)
        switch api {
        case .chat:
            self.envelope("chat.completion", &json) { json in
                self.choice(&json, reason: finishReason) { json in
                    json.member("message", object: { Self.message(&$0, text) })
                }
                Self.usage(usage, to: &json)
            }
        case .completions:
            self.envelope("text_completion", &json) { json in
                self.choice(&json, reason: finishReason) { $0.member("text", text) }
                Self.usage(usage, to: &json)
            }
        case .responses:
            self.response(&json, isDone: true, reason: finishReason, text: text, usage: usage)
        }
    }

    /// A fixed chat completion with a text of `textBytes`.
    static func instant(model: String, textBytes: Int) -> [UInt8] {
        let identity = AnswerIdentity(id: "chatcmpl-0", created: 0, model: model)
        let answer = OpenAIAnswer(identity: identity, hash: TextHash())
        let text = String(repeating: "x", count: textBytes)
        let buffer = ByteBuffer(capacity: textBytes + 512)
        var json = JSONWriter(buffer)
        answer.envelope("chat.completion", &json) { json in
            answer.choice(&json, reason: .stop) { json in
                json.member("message", object: { Self.message(&$0, text) })
            }
            Self.usage(Usage(promptTokens: 1, completionTokens: (textBytes + 3) / 4), to: &json)
        }
        return Bytes.array(buffer.readable)
    }

    // MARK: Chunks

    func chatChunk(_ content: ChunkContent, usage: ChunkUsage, to json: inout JSONWriter) {
        self.chunk("chat.completion.chunk", content, usage: usage, to: &json) { json in
            json.member(
                "delta",
                object: { json in
                    switch content {
                    case .role:
                        json.member("role", plain: "assistant")
                        json.member("content", plain: "")
                    case .content(let index): json.member("content", self.token(index))
                    case .finish, .usage: break
                    }
                }
            )
        }
    }

    func completionChunk(_ content: ChunkContent, usage: ChunkUsage, to json: inout JSONWriter) {
        self.chunk("text_completion", content, usage: usage, to: &json) { json in
            if case .content(let index) = content {
                json.member("text", self.token(index))
            } else {
                json.member("text", plain: "")
            }
        }
    }

    private func chunk(
        _ object: StaticString,
        _ content: ChunkContent,
        usage: ChunkUsage,
        to json: inout JSONWriter,
        body: (inout JSONWriter) -> Void
    ) {
        self.envelope(object, &json) { json in
            if case .usage = content {
                json.member("choices", array: { _ in })
            } else if case .finish(let reason) = content {
                self.choice(&json, reason: reason, body)
            } else {
                self.choice(&json, reason: nil, body)
            }
            switch usage {
            case .absent: break
            case .null: json.memberNull("usage")
            case .value(let usage): Self.usage(usage, to: &json)
            }
        }
    }

    // MARK: Responses

    func responseOpening(usage: Usage) -> [Event] {
        let itemID = self.itemID
        return [
            ("response.created", { self.responseEvent("response.created", 0, usage, to: &$0) }),
            (
                "response.in_progress",
                { self.responseEvent("response.in_progress", 1, usage, to: &$0) }
            ),
            (
                "response.output_item.added",
                { json in
                    Self.event("response.output_item.added", 2, &json) { json in
                        json.member("output_index", 0)
                        json.member("item", object: { self.item(&$0, isDone: false, text: nil) })
                    }
                }
            ),
            (
                "response.content_part.added",
                { json in
                    Self.event("response.content_part.added", 3, &json) { json in
                        Self.place(itemID, &json)
                        json.member("part", object: { Self.part(&$0, "") })
                    }
                }
            ),
        ]
    }

    func responseDelta(_ index: Int, to json: inout JSONWriter) {
        Self.event("response.output_text.delta", 4 + index, &json) { json in
            Self.place(self.itemID, &json)
            json.member("delta", self.token(index))
            json.member("logprobs", array: { _ in })
        }
    }

    func responseClosing(tokens: Int, finishReason: FinishReason, usage: Usage) -> [Event] {
        let text = self.text(tokens: tokens)
        let first = 4 + tokens
        let itemID = self.itemID
        let last: StaticString =
            finishReason == .length ? "response.incomplete" : "response.completed"
        return [
            (
                "response.output_text.done",
                { json in
                    Self.event("response.output_text.done", first, &json) { json in
                        Self.place(itemID, &json)
                        json.member("text", text)
                        json.member("logprobs", array: { _ in })
                    }
                }
            ),
            (
                "response.content_part.done",
                { json in
                    Self.event("response.content_part.done", first + 1, &json) { json in
                        Self.place(itemID, &json)
                        json.member("part", object: { Self.part(&$0, text) })
                    }
                }
            ),
            (
                "response.output_item.done",
                { json in
                    Self.event("response.output_item.done", first + 2, &json) { json in
                        json.member("output_index", 0)
                        json.member("item", object: { self.item(&$0, isDone: true, text: text) })
                    }
                }
            ),
            (
                last,
                { json in
                    Self.event(last, first + 3, &json) { json in
                        json.key("response")
                        self.response(
                            &json,
                            isDone: true,
                            reason: finishReason,
                            text: text,
                            usage: usage
                        )
                    }
                }
            ),
        ]
    }

    private var itemID: String { "msg_\(self.identity.id)" }

    private func responseEvent(
        _ type: StaticString,
        _ number: Int,
        _ usage: Usage,
        to json: inout JSONWriter
    ) {
        Self.event(type, number, &json) { json in
            json.key("response")
            self.response(&json, isDone: false, reason: .stop, text: "", usage: usage)
        }
    }

    private static func event(
        _ type: StaticString,
        _ number: Int,
        _ json: inout JSONWriter,
        _ body: (inout JSONWriter) -> Void
    ) {
        json.object { json in
            json.member("type", plain: type)
            json.member("sequence_number", number)
            body(&json)
        }
    }

    private static func place(_ itemID: String, _ json: inout JSONWriter) {
        json.member("item_id", itemID)
        json.member("output_index", 0)
        json.member("content_index", 0)
    }

    private static func part(_ json: inout JSONWriter, _ text: String) {
        json.member("type", plain: "output_text")
        json.member("text", text)
        json.member("annotations", array: { _ in })
        json.member("logprobs", array: { _ in })
    }

    private func item(_ json: inout JSONWriter, isDone: Bool, text: String?) {
        json.member("id", self.itemID)
        json.member("type", plain: "message")
        json.member("status", plain: isDone ? "completed" : "in_progress")
        json.member("role", plain: "assistant")
        json.member(
            "content",
            array: { json in
                if let text { json.object { Self.part(&$0, text) } }
            }
        )
    }

    private func response(
        _ json: inout JSONWriter,
        isDone: Bool,
        reason: FinishReason,
        text: String,
        usage: Usage
    ) {
        let isShort = isDone && reason == .length
        let status: StaticString = isDone ? (isShort ? "incomplete" : "completed") : "in_progress"
        json.object { json in
            json.member("id", self.identity.id)
            json.member("object", plain: "response")
            json.member("created_at", self.identity.created)
            json.member("status", plain: status)
            json.memberNull("error")
            json.key("incomplete_details")
            if isShort {
                json.object { $0.member("reason", plain: "max_output_tokens") }
            } else {
                json.null()
            }
            json.memberNull("instructions")
            json.member("metadata", object: { _ in })
            json.member("model", self.identity.model)
            json.member(
                "output",
                array: { json in
                    if isDone { json.object { self.item(&$0, isDone: true, text: text) } }
                }
            )
            json.member("parallel_tool_calls", false)
            json.member("tool_choice", plain: "auto")
            json.member("tools", array: { _ in })
            json.key("usage")
            if isDone { Self.responseUsage(usage, to: &json) } else { json.null() }
        }
    }

    private static func responseUsage(_ usage: Usage, to json: inout JSONWriter) {
        json.object { json in
            json.member("input_tokens", usage.promptTokens)
            json.member("input_tokens_details", object: { $0.member("cached_tokens", 0) })
            json.member("output_tokens", usage.completionTokens)
            json.member("output_tokens_details", object: { $0.member("reasoning_tokens", 0) })
            json.member("total_tokens", usage.promptTokens + usage.completionTokens)
        }
    }

    // MARK: Parts

    private func envelope(
        _ object: StaticString,
        _ json: inout JSONWriter,
        _ body: (inout JSONWriter) -> Void
    ) {
        json.object { json in
            json.member("id", self.identity.id)
            json.member("object", plain: object)
            json.member("created", self.identity.created)
            json.member("model", self.identity.model)
            body(&json)
        }
    }

    private func choice(
        _ json: inout JSONWriter,
        reason: FinishReason?,
        _ body: (inout JSONWriter) -> Void
    ) {
        json.member(
            "choices",
            array: { json in
                json.object { json in
                    json.member("index", 0)
                    body(&json)
                    json.memberNull("logprobs")
                    json.key("finish_reason")
                    if let reason { json.string(reason.rawValue) } else { json.null() }
                }
            }
        )
    }

    private static func message(_ json: inout JSONWriter, _ text: String) {
        json.member("role", plain: "assistant")
        json.member("content", text)
        json.memberNull("refusal")
    }

    private static func usage(_ usage: Usage, to json: inout JSONWriter) {
        json.member(
            "usage",
            object: { json in
                json.member("prompt_tokens", usage.promptTokens)
                json.member("completion_tokens", usage.completionTokens)
                json.member("total_tokens", usage.promptTokens + usage.completionTokens)
            }
        )
    }
}
