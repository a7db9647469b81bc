import Core
import HTTP
import HTTPService

/// One request for text (or for embeddings) while the engine works on it.
class Generation {
    let response: ResponseWriter
    let sequence: SequenceRequest
    let streams: Bool
    let truncates: Bool
    /// Why it will end once all output is there.
    let finishReason: FinishReason
    var submittedAt = Instant.zero
    var admittedAt: Instant?
    var lastTokenAt: Instant?

    init(
        response: ResponseWriter,
        sequence: SequenceRequest,
        streams: Bool,
        truncates: Bool,
        finishReason: FinishReason
    ) {
        self.response = response
        self.sequence = sequence
        self.streams = streams
        self.truncates = truncates
        self.finishReason = finishReason
    }

    /// The engine took it: a stream sends its head.
    func begin(fields: (ByteBuffer) -> Void) {
        guard self.streams else { return }
        self.response.writeHead(
            contentType: "text/event-stream; charset=utf-8",
            fields: { buffer in
                ResponseFields.add("Cache-Control", "no-cache", to: buffer)
                fields(buffer)
            }
        )
        self.response.flushHead()
    }

    /// An output token is there.
    func token(_ index: Int) {}

    /// All is there, for a stream.
    func finishStream() {}

    /// All is there, for an answer in one piece.
    func wholeAnswer() -> [UInt8] { [] }
}

/// Embeddings: the engine reads the inputs, and nothing is generated.
final class EmbeddingGeneration: Generation {
    private let model: String
    private let request: EmbeddingRequest
    private let size: Int

    init(
        response: ResponseWriter,
        id: SequenceID,
        model: String,
        request: EmbeddingRequest,
        size: Int,
        truncates: Bool
    ) {
        self.model = model
        self.request = request
        self.size = size
        super.init(
            response: response,
            sequence: SequenceRequest(id: id, promptTokens: request.promptTokens, outputTokens: 0),
            streams: false,
            truncates: truncates,
            finishReason: .stop
        )
    }

    override func wholeAnswer() -> [UInt8] {
        let buffer = ByteBuffer(capacity: 256 + self.request.inputs.count * self.size * 12)
        var json = JSONWriter(buffer)
        json.object { json in
            json.member("object", plain: "list")
            json.member(
                "data",
                array: { json in
                    for (index, input) in self.request.inputs.enumerated() {
                        self.write(input, index: index, to: &json)
                    }
                }
            )
            json.member("model", self.model)
            json.member(
                "usage",
                object: { json in
                    json.member("prompt_tokens", self.request.promptTokens)
                    json.member("total_tokens", self.request.promptTokens)
                }
            )
        }
        return Bytes.array(buffer.readable)
    }

    private func write(_ input: TextHash, index: Int, to json: inout JSONWriter) {
        let vector = Embedding.vector(of: input, size: self.size)
        json.object { json in
            json.member("object", plain: "embedding")
            json.member("index", index)
            json.key("embedding")
            if self.request.isBase64 {
                json.string(Embedding.base64(vector))
            } else {
                json.array { json in
                    for number in vector { json.number(Double(number)) }
                }
            }
        }
    }
}

/// Vectors that look like embeddings: of length one, equal for equal texts.
enum Embedding {
    static func vector(of text: TextHash, size: Int) -> [Float] {
        var random = RandomSource(seed: text.value)
        let raw = (0..<size).map { _ in random.nextNormal() }
        let length = raw.reduce(0) { $0 + $1 * $1 }.squareRoot()
        return raw.map { Float($0 / max(length, 1e-9)) }
    }

    /// Little-endian single-precision numbers in base 64 (RFC 4648, section 4).
    static func base64(_ vector: [Float]) -> String {
        let bytes = vector.flatMap { number -> [UInt8] in
            let bits = number.bitPattern
            return [0, 8, 16, 24].map { UInt8(truncatingIfNeeded: bits >> $0) }
        }
        return Self.base64(bytes)
    }

    static func base64(_ bytes: [UInt8]) -> String {
        let alphabet = Array(
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8
        )
        var text: [UInt8] = []
        text.reserveCapacity((bytes.count + 2) / 3 * 4)
        for start in stride(from: 0, to: bytes.count, by: 3) {
            let group = bytes[start..<min(start + 3, bytes.count)]
            let bits = group.reduce(UInt32(0)) { $0 << 8 | UInt32($1) } << (8 * (3 - group.count))
            for index in 0..<4 {
                let isPadding = index > group.count
                let sextet = Int(bits >> (18 - 6 * index) & 63)
                text.append(isPadding ? UInt8(ascii: "=") : alphabet[sextet])
            }
        }
        return String(decoding: text, as: UTF8.self)
    }
}
