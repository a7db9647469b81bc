import Core
import HTTP
import HTTPService

/// The Open Inference Protocol, version 2, over HTTP.
extension Simulator {
    /// Answers if the path is one of this API's.
    func routeOpenInference(_ request: borrowing HTTPRequest, _ response: ResponseWriter) -> Bool {
        if request.hasPath("/v2") || request.hasPath("/v2/") {
            self.get(request, response) { self.describeServer($0) }
        } else if request.hasPath("/v2/health/live") {
            self.get(request, response) { self.answerHealth($0, isWell: true) }
        } else if request.hasPath("/v2/health/ready") {
            self.get(request, response) { self.answerHealth($0, isWell: self.isReady) }
        } else if let path = request.modelPath {
            return self.routeModel(path.api, path.name, path.rest, request, response)
        } else {
            return false
        }
        return true
    }

    private func routeModel(
        _ api: ModelPath.API,
        _ name: String,
        _ rest: String,
        _ request: borrowing HTTPRequest,
        _ response: ResponseWriter
    ) -> Bool {
        if api == .v1 {
            guard rest.isEmpty else { return false }
            self.get(request, response) { self.describeModel(name, $0) }
            return true
        }
        guard let action = Self.action(rest) else { return false }
        guard self.serves(name) else {
            let error = SimulatorError.unknownModel(name, known: self.options.models)
            self.fail(response, error, style: .openInference)
            return true
        }
        switch action {
        case .describe: self.get(request, response) { self.describeTensors(name, $0) }
        case .ready:
            self.get(request, response) { self.answerHealth($0, isWell: self.isReady) }
        case .infer: self.post(request, response) { self.infer(name, $0, $1) }
        }
        return true
    }

    private enum ModelAction { case describe, ready, infer }

    /// What follows the model's name; a version in between is taken and ignored: there is one.
    private static func action(_ rest: String) -> ModelAction? {
        var parts = rest.split(separator: "/", omittingEmptySubsequences: true)[...]
        if parts.first == "versions", parts.count >= 2 { parts = parts.dropFirst(2) }
        switch parts.count {
        case 0: return .describe
        case 1 where parts.first == "ready": return .ready
        case 1 where parts.first == "infer": return .infer
        default: return nil
        }
    }

    // MARK: Metadata

    private func describeServer(_ response: ResponseWriter) {
        response.respond(fields: self.addReplica) { json in
            json.object { json in
                json.member("name", plain: "weir-model-simulator")
                json.member("version", plain: "1")
                json.member("extensions", array: { $0.string(plain: "binary_tensor_data") })
            }
        }
    }

    private func describeTensors(_ name: String, _ response: ResponseWriter) {
        func tensor(_ name: StaticString, _ json: inout JSONWriter) {
            json.object { json in
                json.member("name", plain: name)
                json.member("datatype", plain: "FP32")
                json.member(
                    "shape",
                    array: { json in
                        json.integer(-1)
                        json.integer(-1)
                    }
                )
            }
        }
        response.respond(fields: self.addReplica) { json in
            json.object { json in
                json.member("name", name)
                json.member("versions", array: { $0.string(plain: "1") })
                json.member("platform", plain: "weir-model-simulator")
                json.member("inputs", array: { tensor("input", &$0) })
                json.member("outputs", array: { tensor("output", &$0) })
            }
        }
    }

    // MARK: Inference

    private func infer(
        _ model: String,
        _ request: borrowing HTTPRequest,
        _ response: ResponseWriter
    ) {
        do throws(SimulatorError) {
            let jsonBytes = try Self.jsonBytes(request)
            // The answer is made now: the request's bytes are gone when its time has come.
            let inference = try self.read(request) { (bytes) throws(JSONError) in
                Inference(
                    id: self.nextID(),
                    response: response,
                    model: model,
                    request: try InferRequest(bytes, jsonBytes: jsonBytes),
                    bytes: bytes
                )
            }
            self.meetFate(response, style: .openInference) { fate in
                inference.truncates = fate.truncates
                self.start(inference)
            }
        } catch {
            self.fail(response, error, style: .openInference)
        }
    }

    private static func jsonBytes(
        _ request: borrowing HTTPRequest
    ) throws(SimulatorError) -> Int? {
        guard let text = request.field(named: "inference-header-content-length") else { return nil }
        guard let count = Int(text), count >= 0 else {
            throw .badRequest("Inference-Header-Content-Length is not a number")
        }
        return count
    }
}
