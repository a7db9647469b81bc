import ArgumentParser
import Glibc
import LoadTest
import Workload

/// What `weir load` sends.
struct RequestFlags: ParsableArguments {
    enum API: String, ExpressibleByArgument, CaseIterable {
        case http, chat, completions, infer
    }

    @Option(help: "Kind of requests: http, chat and completions (OpenAI), infer (Open Inference).")
    var api = API.http
    @Option(help: "Model to ask for.") var model: String?
    @Flag(inversion: .prefixedNo, help: "Ask for streamed answers.") var stream = true
    @Option(help: "Tokens of a prompt: \(LengthDistribution.grammar).") var inputTokens = "128"
    @Option(help: "Tokens of an answer (max_tokens), likewise; 0 leaves it to the server.")
    var outputTokens = "64"
    @Option(help: "Tokens at the beginning of a prompt that others share.")
    var sharedPrefix = 0
    @Option(help: "Different shared beginnings.") var prefixGroups = 1
    @Option(help: "Input tensor of infer requests: \(InferPlan.Tensor.grammar). Repeatable.")
    var inferInput: [String] = []
    @Option(help: "Send the request in this file: a request line, fields, an empty line, a body.")
    var request: String?
    @Option(help: "Method of http requests (default: GET, or POST with a body).")
    var method: String?
    @Option(name: [.customLong("header"), .customShort("H")], help: "Header field 'name: value'.")
    var headers: [String] = []
    @Option(help: "Body of http requests.") var body: String?
    @Option(help: "File with the body of http requests.") var bodyFile: String?

    func kind() throws -> (RequestKind, [HeaderField]) {
        var fields: [HeaderField] = []
        for text in self.headers {
            guard let field = HeaderField(text) else {
                throw ValidationError("--header '\(text)' is no field that can be sent")
            }
            fields.append(field)
        }
        switch self.api {
        case .http: return try self.fixed(fields)
        case .chat: return (.chat(try self.generation()), fields)
        case .completions: return (.completions(try self.generation()), fields)
        case .infer: return (.infer(try self.infer()), fields)
        }
    }

    func words(_ plan: LoadPlan) -> String {
        switch plan.kind {
        case .http(let request): "\(request.methodText) with \(request.body.count) B of body"
        case .chat(let generation), .completions(let generation):
            "\(self.api.rawValue) \(generation.model), \(self.lengths(plan, generation))"
                + (generation.streams ? ", streamed" : "")
        case .infer(let infer): "infer \(infer.model)"
        }
    }

    private func lengths(_ plan: LoadPlan, _ generation: GenerationPlan) -> String {
        if case .trace(.requests) = plan.pattern { return "lengths of the trace" }
        let output = generation.outputTokens.map { "\($0)" } ?? "any number of"
        return "\(generation.inputTokens) tokens in, \(output) out"
    }

    // MARK: Kinds

    private func fixed(_ fields: [HeaderField]) throws -> (RequestKind, [HeaderField]) {
        var request = FixedRequest()
        var fields = fields
        if let path = self.request {
            guard self.body == nil, self.bodyFile == nil, self.method == nil else {
                throw ValidationError("--request brings method and body: leave out the others")
            }
            let file = try RequestFile.read(try LoadFile.read(path))
            return (.http(file.request), file.fields + fields)
        }
        guard self.body == nil || self.bodyFile == nil else {
            throw ValidationError("--body and --body-file exclude each other")
        }
        if let body = self.body { request.body = Array(body.utf8) }
        if let path = self.bodyFile { request.body = try LoadFile.read(path) }
        let method = self.method ?? (self.body == nil && self.bodyFile == nil ? "GET" : "POST")
        guard request.setMethod(method) else {
            throw ValidationError("--method \(method) cannot be sent")
        }
        let isJSON = request.body.first == UInt8(ascii: "{")
        if isJSON, !fields.contains(where: { $0.name.lowercased() == "content-type" }),
            let type = HeaderField(name: "content-type", value: "application/json")
        {
            fields.append(type)
        }
        return (.http(request), fields)
    }

    private func generation() throws -> GenerationPlan {
        guard let model = self.model, !model.isEmpty else {
            throw ValidationError("--api \(self.api.rawValue) needs --model")
        }
        var plan = GenerationPlan(model: model)
        plan.streams = self.stream
        plan.inputTokens = try Self.length(self.inputTokens, "--input-tokens")
        plan.outputTokens =
            self.outputTokens == "0"
            ? nil : try Self.length(self.outputTokens, "--output-tokens")
        guard (0...WorkloadLimits.promptTokensMax).contains(self.sharedPrefix),
            (1...1_000_000).contains(self.prefixGroups)
        else { throw ValidationError("--shared-prefix or --prefix-groups is out of range") }
        plan.sharedPrefixTokens = self.sharedPrefix
        plan.prefixGroups = self.prefixGroups
        return plan
    }

    private static func length(_ text: String, _ option: String) throws -> LengthDistribution {
        guard let length = LengthDistribution(text) else {
            throw ValidationError(
                "\(option) must be \(LengthDistribution.grammar), 1 to "
                    + "\(WorkloadLimits.promptTokensMax), not \(text)"
            )
        }
        return length
    }

    private func infer() throws -> InferPlan {
        guard let model = self.model, !model.isEmpty else {
            throw ValidationError("--api infer needs --model")
        }
        var inputs: [InferPlan.Tensor] = []
        for text in self.inferInput.isEmpty ? ["input:FP32:1x4"] : self.inferInput {
            guard let tensor = InferPlan.Tensor(text) else {
                throw ValidationError("--infer-input must be \(InferPlan.Tensor.grammar)")
            }
            inputs.append(tensor)
        }
        return InferPlan(model: model, inputs: inputs)
    }
}

/// Files that are read whole.
enum LoadFile {
    /// A gigabyte: more is no request and no trace that fits.
    static let bytesMax = 1 << 30

    static func read(_ path: String) throws(LoadError) -> [UInt8] {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            throw LoadError("cannot read \(path): \(String(cString: strerror(errno)))")
        }
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 256 << 10)
        while true {
            let count = Glibc.read(descriptor, &chunk, chunk.count)
            if count < 0 && errno == EINTR { continue }
            guard count >= 0 else {
                throw LoadError("cannot read \(path): \(String(cString: strerror(errno)))")
            }
            if count == 0 { return bytes }
            guard bytes.count + count <= self.bytesMax else {
                throw LoadError("\(path) is larger than \(self.bytesMax) bytes")
            }
            bytes += chunk[..<count]
        }
    }
}
