import HTTP
import HTTPService

/// A request that is answered with an error, in whichever API's shape.
struct SimulatorError: Error {
    var status: UInt16
    var message: String
    /// OpenAI's `param`: which part of the request it is about.
    var parameter: String?
    /// OpenAI's `code`.
    var code: String?

    init(status: UInt16, message: String, parameter: String? = nil, code: String? = nil) {
        self.status = status
        self.message = message
        self.parameter = parameter
        self.code = code
    }

    var retryable: Bool { self.status == 429 || self.status == 503 }

    static var loading: SimulatorError {
        SimulatorError(status: 503, message: "the model is still loading", code: "model_loading")
    }

    static func unknownModel(_ name: String, known: [String]) -> SimulatorError {
        SimulatorError(
            status: 404,
            message: "The model `\(name.prefix(200))` does not exist; there are: "
                + known.joined(separator: ", "),
            parameter: "model",
            code: "model_not_found"
        )
    }

    static func badRequest(_ message: String, parameter: String? = nil) -> SimulatorError {
        SimulatorError(status: 400, message: message, parameter: parameter)
    }

    static func badJSON(_ error: JSONError) -> SimulatorError {
        .badRequest("The body is not the JSON that was expected: \(error)")
    }

    static func rejected(_ reason: RejectReason) -> SimulatorError {
        switch reason {
        case .queueFull:
            SimulatorError(status: 503, message: "the queue is full", code: "overloaded")
        case .tooLong:
            SimulatorError(
                status: 400,
                message: "prompt and output together are longer than the model's context",
                code: "context_length_exceeded"
            )
        case .duplicate:
            // IDs are counted up by the server itself.
            preconditionFailure("an ID was used twice")
        }
    }

    private var type: StaticString {
        switch self.status {
        case 429: "rate_limit_error"
        case 500...: "server_error"
        default: "invalid_request_error"
        }
    }

    func write(to json: inout JSONWriter, style: ErrorBody.Style) {
        switch style {
        case .openInference, .plain:
            json.object { $0.member("error", self.message) }
        case .openAI:
            json.object { json in
                json.member(
                    "error",
                    object: { json in
                        json.member("message", self.message)
                        json.member("type", plain: self.type)
                        json.key("param")
                        if let name = self.parameter { json.string(name) } else { json.null() }
                        json.key("code")
                        if let code = self.code { json.string(code) } else { json.null() }
                    }
                )
            }
        }
    }
}
