import Core
import EventLoop
import HTTP
import HTTPService

/// The OpenAI API.
extension Simulator {
    /// Answers if the path is one of this API's.
    func routeOpenAI(_ request: borrowing HTTPRequest, _ response: ResponseWriter) -> Bool {
        if request.hasPath("/v1/chat/completions") {
            self.post(request, response) { self.generate(.chat, $0, $1) }
        } else if request.hasPath("/v1/completions") {
            self.post(request, response) { self.generate(.completions, $0, $1) }
        } else if request.hasPath("/v1/responses") {
            self.post(request, response) { self.generate(.responses, $0, $1) }
        } else if request.hasPath("/v1/embeddings") {
            self.post(request, response) { self.embed($0, $1) }
        } else if request.hasPath("/v1/models") {
            self.get(request, response) { self.listModels($0) }
        } else {
            return false
        }
        return true
    }

    func post(
        _ request: borrowing HTTPRequest,
        _ response: ResponseWriter,
        _ serve: (borrowing HTTPRequest, ResponseWriter) -> Void
    ) {
        if request.method == .post {
            serve(request, response)
        } else {
            response.methodNotAllowed(allow: "POST")
        }
    }

    func get(
        _ request: borrowing HTTPRequest,
        _ response: ResponseWriter,
        _ serve: (ResponseWriter) -> Void
    ) {
        if request.method == .get || request.method == .head {
            serve(response)
        } else {
            response.methodNotAllowed(allow: "GET, HEAD")
        }
    }

    // MARK: Models

    private func listModels(_ response: ResponseWriter) {
        response.respond(fields: self.addReplica) { json in
            json.object { json in
                json.member("object", plain: "list")
                json.member(
                    "data",
                    array: { json in
                        for name in self.options.models { self.writeModel(name, to: &json) }
                    }
                )
            }
        }
    }

    /// One model by name, as `/v1/models/NAME` asks for it.
    func describeModel(_ name: String, _ response: ResponseWriter) {
        guard self.serves(name) else {
            let error = SimulatorError.unknownModel(name, known: self.options.models)
            return self.fail(response, error, style: .openAI)
        }
        response.respond(fields: self.addReplica) { self.writeModel(name, to: &$0) }
    }

    private func writeModel(_ name: String, to json: inout JSONWriter) {
        json.object { json in
            json.member("id", name)
            json.member("object", plain: "model")
            json.member("created", 0)
            json.member("owned_by", plain: "weir")
            json.member("max_model_len", self.options.batching.cacheTokens)
        }
    }

    // MARK: Text

    private func generate(
        _ api: GenerationAPI,
        _ request: borrowing HTTPRequest,
        _ response: ResponseWriter
    ) {
        do throws(SimulatorError) {
            let wanted = try self.read(request) { (bytes) throws(JSONError) in
                try GenerationRequest(bytes, api: api)
            }
            let model = try self.check(model: wanted.model)
            guard wanted.hasPrompt else {
                let name = api.promptKey.description
                throw .badRequest("you must provide `\(name)`", parameter: name)
            }
            let context = self.options.batching.cacheTokens
            // What is asked for counts, not what would come of it: as vLLM has it.
            guard wanted.promptTokens + (wanted.maxTokens ?? 1) <= context else {
                throw .rejected(.tooLong)
            }
            self.meetFate(response, style: .openAI) { fate in
                self.begin(api, wanted, model: model, response, fate: fate)
            }
        } catch {
            self.fail(response, error, style: .openAI)
        }
    }

    private func begin(
        _ api: GenerationAPI,
        _ wanted: GenerationRequest,
        model: String,
        _ response: ResponseWriter,
        fate: Fate
    ) {
        let room = self.options.batching.cacheTokens - wanted.promptTokens
        let limit = wanted.maxTokens ?? room
        let natural = max(self.drawOutputTokens(), wanted.minTokens)
        let output = wanted.ignoresEnd ? limit : min(natural, limit)
        let sequence = SequenceRequest(
            id: self.nextID(),
            promptTokens: wanted.promptTokens,
            outputTokens: output
        )
        let identity = AnswerIdentity(
            id: "\(api.idPrefix)\(self.replica)-\(sequence.id.rawValue)",
            created: Int(EventLoop.readWallClock()),
            model: model
        )
        let generation = TextGeneration(
            response: response,
            sequence: sequence,
            request: wanted,
            api: api,
            identity: identity,
            truncates: fate.truncates,
            finishReason: natural > limit || wanted.ignoresEnd ? .length : .stop
        )
        self.start(generation)
    }

    // MARK: Embeddings

    /// Numbers in one answer: about 20 MiB of text.
    private static let embeddingNumbersMax = 1 << 20

    private func embed(_ request: borrowing HTTPRequest, _ response: ResponseWriter) {
        do throws(SimulatorError) {
            let wanted = try self.read(request) { (bytes) throws(JSONError) in
                try EmbeddingRequest(bytes)
            }
            let model = try self.check(model: wanted.model)
            guard wanted.hasInput, !wanted.inputs.isEmpty else {
                throw .badRequest("you must provide `input`", parameter: "input")
            }
            let size = wanted.size ?? self.options.embeddingSize
            guard (1...ModelSimulatorOptions.embeddingSizeMax).contains(size) else {
                let most = ModelSimulatorOptions.embeddingSizeMax
                throw .badRequest("`dimensions` must be 1 to \(most)", parameter: "dimensions")
            }
            guard size * wanted.inputs.count <= Self.embeddingNumbersMax else {
                throw .badRequest("that are too many inputs at once", parameter: "input")
            }
            self.meetFate(response, style: .openAI) { fate in
                let generation = EmbeddingGeneration(
                    response: response,
                    id: self.nextID(),
                    model: model,
                    request: wanted,
                    size: size,
                    truncates: fate.truncates
                )
                self.start(generation)
            }
        } catch {
            self.fail(response, error, style: .openAI)
        }
    }

    // MARK: Checks

    /// Reads the content as JSON.
    func read<Value>(
        _ request: borrowing HTTPRequest,
        _ parse: (RawSpan) throws(JSONError) -> Value
    ) throws(SimulatorError) -> Value {
        do throws(JSONError) {
            return try request.withBody(parse)
        } catch {
            throw .badJSON(error)
        }
    }

    private func check(model: String?) throws(SimulatorError) -> String {
        guard let model else {
            throw .badRequest("you must provide a `model` parameter", parameter: "model")
        }
        guard self.serves(model) else {
            throw .unknownModel(model, known: self.options.models)
        }
        return model
    }
}
