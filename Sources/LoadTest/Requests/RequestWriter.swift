import Core
import HTTP
import Workload

/// Writes the requests of a run as they go on the wire. One per thread.
///
/// What request number n says depends on the seed and n alone, not on threads or timing.
package final class RequestWriter {
    /// What was asked for, to be kept with the answer.
    package struct Written: Equatable, Sendable {
        /// Tokens of the prompt by construction; 0 where there is no prompt.
        package var inputTokens: UInt32 = 0
    }

    package let kind: RequestKind
    package let method: HTTPMethod
    private let seed: UInt64
    private let trace: RequestTrace?
    private let text: PromptText
    /// Per target: the whole request where it never changes, else its head up to Content-Length.
    private var fronts: [[UInt8]] = []
    private let isFixed: Bool
    private let body = ByteBuffer(capacity: 4 << 10)

    package init(
        _ kind: RequestKind,
        targets: [TargetURL],
        fields: [HeaderField],
        keepsConnections: Bool = true,
        seed: UInt64,
        trace: RequestTrace?,
        text: PromptText
    ) {
        self.kind = kind
        self.seed = seed
        self.trace = trace
        self.text = text
        if case .http(let request) = kind {
            self.method = request.method
            self.isFixed = true
        } else {
            self.method = .post
            self.isFixed = false
        }
        self.fronts = targets.map { Self.front(kind, $0, fields, keepsConnections) }
    }

    /// Appends the request that belongs to an arrival.
    package func write(_ arrival: Arrival, target: Int, to buffer: ByteBuffer) -> Written {
        let front = self.fronts[target]
        buffer.append(front)
        if self.isFixed { return Written() }
        self.body.removeAll()
        let written = self.writeBody(arrival)
        buffer.append(decimal: UInt64(self.body.count))
        buffer.append("\r\n\r\n" as StaticString)
        let body = self.body
        buffer.append(body.readable)
        return written
    }

    // MARK: Heads

    private static func front(
        _ kind: RequestKind,
        _ target: TargetURL,
        _ fields: [HeaderField],
        _ keepsConnections: Bool
    ) -> [UInt8] {
        var method = "POST"
        var path = target.path
        switch kind {
        case .http(let request):
            method = request.methodText
            path = request.target ?? path
        case .chat: if path.count <= 1 { path = "/v1/chat/completions" }
        case .completions: if path.count <= 1 { path = "/v1/completions" }
        case .infer(let plan):
            if path.count <= 1 { path = "/v2/models/\(Self.percentEncoded(plan.model))/infer" }
        }
        var head = "\(method) \(path.isEmpty ? "/" : path) HTTP/1.1\r\n"
        let names = Set(fields.map { $0.name.lowercased() })
        if !names.contains("host") { head += "host: \(target.authority)\r\n" }
        if !names.contains("user-agent") {
            head += "user-agent: weir-load/\(WeirVersion.current)\r\n"
        }
        for field in fields { head += "\(field.name): \(field.value)\r\n" }
        if !keepsConnections { head += "connection: close\r\n" }
        guard case .http(let request) = kind else {
            if !names.contains("content-type") { head += "content-type: application/json\r\n" }
            return Array((head + "content-length: ").utf8)
        }
        let needsLength = !request.body.isEmpty || !request.method.isSafe
        if needsLength { head += "content-length: \(request.body.count)\r\n" }
        return Array((head + "\r\n").utf8) + request.body
    }

    private static func percentEncoded(_ text: String) -> String {
        var result = ""
        for byte in text.utf8 {
            let isPlain =
                (0x30...0x39).contains(byte) || (0x61...0x7A).contains(byte | 0x20)
                || "-._~:".utf8.contains(byte)
            if isPlain {
                result.unicodeScalars.append(Unicode.Scalar(byte))
            } else {
                let digits = String(byte, radix: 16, uppercase: true)
                result += "%" + (digits.count == 1 ? "0" + digits : digits)
            }
        }
        return result
    }

    // MARK: Bodies

    private func writeBody(_ arrival: Arrival) -> Written {
        // Two steps of the generator keep neighbouring indices apart.
        var random = RandomSource(seed: self.seed &+ UInt64(arrival.index) &* 0x9E37_79B9_7F4A_7C15)
        random = RandomSource(seed: random.next())
        switch self.kind {
        case .http: preconditionFailure("a fixed request has no body of its own")
        case .chat(let plan): return self.writeGeneration(plan, arrival, isChat: true, &random)
        case .completions(let plan):
            return self.writeGeneration(plan, arrival, isChat: false, &random)
        case .infer(let plan):
            self.writeInfer(plan, &random)
            return Written()
        }
    }

    private func writeGeneration(
        _ plan: GenerationPlan,
        _ arrival: Arrival,
        isChat: Bool,
        _ random: inout RandomSource
    ) -> Written {
        let traced = arrival.traceIndex.flatMap { self.trace?.requests[$0] }
        let input = traced.map { max(1, Int($0.inputTokens)) } ?? plan.inputTokens.sample(&random)
        let output =
            traced.map { max(1, Int($0.outputTokens)) } ?? plan.outputTokens?.sample(&random)
        self.body.append("{\"model\":" as StaticString)
        self.body.append(jsonString: plan.model)
        if let output {
            self.body.append(",\"max_tokens\":" as StaticString)
            self.body.append(decimal: UInt64(output))
            if plan.ignoresEndOfText { self.body.append(",\"ignore_eos\":true" as StaticString) }
        }
        if plan.streams {
            self.body.append(
                ",\"stream\":true,\"stream_options\":{\"include_usage\":true}" as StaticString
            )
        }
        self.body.append(
            isChat
                ? ",\"messages\":[{\"role\":\"user\",\"content\":\""
                : ",\"prompt\":\""
                    as StaticString
        )
        self.writePrompt(input, plan, traced, &random)
        self.body.append(isChat ? "\"}]}" : "\"}" as StaticString)
        return Written(inputTokens: UInt32(clamping: input))
    }

    /// Blocks of the trace, or a shared beginning, and then words of its own.
    private func writePrompt(
        _ tokens: Int,
        _ plan: GenerationPlan,
        _ traced: TraceRequest?,
        _ random: inout RandomSource
    ) {
        var rest = tokens
        if let traced, !traced.blocks.isEmpty, let trace = self.trace {
            for block in trace.blocks[Int(traced.blocks.lowerBound)..<Int(traced.blocks.upperBound)]
            {
                let count = min(rest, RequestTrace.blockTokens)
                if count == 0 { break }
                self.text.append(
                    tokens: count,
                    seed: self.seed ^ block &* 0xBF58_476D_1CE4_E5B9,
                    to: self.body
                )
                rest -= count
            }
        } else if plan.sharedPrefixTokens > 0 {
            let group = random.next() % UInt64(plan.prefixGroups)
            let count = min(rest, plan.sharedPrefixTokens)
            self.text.append(tokens: count, seed: self.seed ^ (group &+ 1) << 32, to: self.body)
            rest -= count
        }
        if rest > 0 { self.text.append(tokens: rest, seed: random.next(), to: self.body) }
    }

    private func writeInfer(_ plan: InferPlan, _ random: inout RandomSource) {
        self.body.append("{\"inputs\":[" as StaticString)
        for (index, tensor) in plan.inputs.enumerated() {
            if index > 0 { self.body.append(byte: UInt8(ascii: ",")) }
            self.body.append("{\"name\":" as StaticString)
            self.body.append(jsonString: tensor.name)
            self.body.append(",\"shape\":[" as StaticString)
            for (position, dimension) in tensor.shape.enumerated() {
                if position > 0 { self.body.append(byte: UInt8(ascii: ",")) }
                self.body.append(decimal: UInt64(dimension))
            }
            self.body.append("],\"datatype\":\"" as StaticString)
            self.body.append(tensor.dataType.rawValue)
            self.body.append("\",\"data\":[" as StaticString)
            for element in 0..<tensor.count {
                if element > 0 { self.body.append(byte: UInt8(ascii: ",")) }
                self.writeElement(tensor.dataType, &random)
            }
            self.body.append("]}" as StaticString)
        }
        self.body.append("]}" as StaticString)
    }

    /// Floating point from 0 to 1 with three places, integers from 0 to 255.
    private func writeElement(_ type: InferPlan.DataType, _ random: inout RandomSource) {
        let bits = random.next()
        switch type {
        case .fp32, .fp64:
            self.body.append("0." as StaticString)
            self.body.append(decimal: 100 + bits % 900)
        case .int32, .int64, .uint8: self.body.append(decimal: bits % 256)
        case .bool: self.body.append(bits & 1 == 0 ? "false" : "true" as StaticString)
        }
    }
}
