import Core
import HTTP
import HTTPService

/// Text for `/v1/chat/completions` and `/v1/completions`, whole or as server-sent events.
final class TextGeneration: Generation {
    private let api: GenerationAPI
    private let identity: AnswerIdentity
    private let hash: TextHash
    private let includesUsage: Bool
    private var generated = 0
    /// One event at a time is written here.
    private let scratch = ByteBuffer(capacity: 512)

    init(
        response: ResponseWriter,
        sequence: SequenceRequest,
        request: GenerationRequest,
        api: GenerationAPI,
        identity: AnswerIdentity,
        truncates: Bool,
        finishReason: FinishReason
    ) {
        self.api = api
        self.identity = identity
        self.hash = request.promptHash
        self.includesUsage = request.includesUsage
        super.init(
            response: response,
            sequence: sequence,
            streams: request.streams,
            truncates: truncates,
            finishReason: finishReason
        )
    }

    private var usage: Usage {
        Usage(promptTokens: self.sequence.promptTokens, completionTokens: self.generated)
    }

    override func token(_ index: Int) {
        self.generated += 1
        guard self.streams else { return }
        let answer = OpenAIAnswer(identity: self.identity, hash: self.hash)
        if index == 0 { self.openStream(answer) }
        switch self.api {
        case .chat:
            self.event { answer.chatChunk(.content(index), usage: self.nullUsage, to: &$0) }
        case .completions:
            self.event { answer.completionChunk(.content(index), usage: self.nullUsage, to: &$0) }
        case .responses:
            self.event("response.output_text.delta") { answer.responseDelta(index, to: &$0) }
        }
        self.send()
    }

    override func finishStream() {
        let answer = OpenAIAnswer(identity: self.identity, hash: self.hash)
        if self.api == .responses {
            self.closeResponse(answer)
        } else {
            self.closeCompletion(answer)
            self.scratch.append("data: [DONE]\n\n" as StaticString)
        }
        self.send()
        self.response.end()
    }

    override func wholeAnswer() -> [UInt8] {
        let answer = OpenAIAnswer(identity: self.identity, hash: self.hash)
        var json = JSONWriter(self.scratch)
        answer.whole(
            self.api,
            tokens: self.generated,
            finishReason: self.finishReason,
            usage: self.usage,
            to: &json
        )
        return Bytes.array(of: self.scratch)
    }

    // MARK: Streams

    /// With `include_usage` every chunk has the member, and the last one a value.
    private var nullUsage: ChunkUsage { self.includesUsage ? .null : .absent }

    private func openStream(_ answer: OpenAIAnswer) {
        switch self.api {
        case .chat: self.event { answer.chatChunk(.role, usage: self.nullUsage, to: &$0) }
        case .completions: break
        case .responses:
            for (name, body) in answer.responseOpening(usage: self.usage) {
                self.event(name, body)
            }
        }
    }

    private func closeCompletion(_ answer: OpenAIAnswer) {
        let isChat = self.api == .chat
        let reason = self.finishReason
        self.event { json in
            if isChat {
                answer.chatChunk(.finish(reason), usage: self.nullUsage, to: &json)
            } else {
                answer.completionChunk(.finish(reason), usage: self.nullUsage, to: &json)
            }
        }
        guard self.includesUsage else { return }
        let usage = ChunkUsage.value(self.usage)
        self.event { json in
            if isChat {
                answer.chatChunk(.usage, usage: usage, to: &json)
            } else {
                answer.completionChunk(.usage, usage: usage, to: &json)
            }
        }
    }

    private func closeResponse(_ answer: OpenAIAnswer) {
        let closing = answer.responseClosing(
            tokens: self.generated,
            finishReason: self.finishReason,
            usage: self.usage
        )
        for (name, body) in closing { self.event(name, body) }
    }

    private func event(_ name: StaticString? = nil, _ body: (inout JSONWriter) -> Void) {
        if let name {
            self.scratch.append("event: " as StaticString)
            self.scratch.append(name)
            self.scratch.append("\n" as StaticString)
        }
        self.scratch.append("data: " as StaticString)
        var json = JSONWriter(self.scratch)
        body(&json)
        self.scratch.append("\n\n" as StaticString)
    }

    /// A client too slow for its tokens is bounded by the connection's unsent bytes.
    private func send() {
        let scratch = self.scratch
        self.response.write(scratch.readable)
        self.scratch.removeAll()
    }
}

/// What every part of an answer repeats.
struct AnswerIdentity {
    var id: String
    /// Seconds since 1970.
    var created: Int
    var model: String
}

struct Usage {
    var promptTokens: Int
    var completionTokens: Int
}

enum ChunkUsage {
    case absent
    case null
    case value(Usage)
}

enum ChunkContent {
    case role
    case content(Int)
    case finish(FinishReason)
    /// No choices: the chunk is for its usage.
    case usage
}
