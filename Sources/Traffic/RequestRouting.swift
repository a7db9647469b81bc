import HTTP

/// Which API a request speaks; decides the shape of errors.
package enum APIStyle: UInt8, CaseIterable, Sendable {
    case openAI
    /// The Open Inference Protocol, version 2 of KServe's.
    case openInference
    /// KServe's and TensorFlow Serving's first version: `/v1/models/NAME:predict`.
    case kserveV1
    case plain

    /// How the gateway's own errors are written. KServe's V1 has V2's `{"error": "…"}`.
    package var errorStyle: ErrorBody.Style {
        switch self {
        case .openAI: .openAI
        case .openInference, .kserveV1: .openInference
        case .plain: .plain
        }
    }
}

/// What the gateway answers itself, for all models together.
package enum FleetEndpoint: UInt8, CaseIterable, Sendable {
    /// `GET /v1/models`
    case openAIModels
    /// `GET /v2`
    case serverMetadata
    /// `GET /v2/health/live`
    case live
    /// `GET /v2/health/ready`
    case ready
    /// `GET /v2/models`
    case models
    /// `POST /v2/repository/index`
    case repositoryIndex
}

/// Where the model's name is, in the order of preference of the interface.
package enum RoutingTarget: Equatable, Sendable {
    /// The bytes at the range name the model. With percent escapes if `isEncoded`.
    case name(ByteRange, isEncoded: Bool)
    /// The name is the value of `model` in the JSON body.
    case body
    /// Not one model's.
    case fleet(FleetEndpoint)
    /// None of the above: host and path decide, if any model has such a route.
    case hostAndPath
}

package struct RoutingDecision: Equatable, Sendable {
    package enum Operation: UInt8, Sendable {
        /// Computes an answer and changes nothing.
        case inference
        /// Computes an answer and may keep it: `/v1/responses`.
        case storedInference
        /// A model's description.
        case metadata
        /// Whether a model can serve.
        case readiness
        case other
    }

    package var target: RoutingTarget
    package var style: APIStyle
    package var operation: Operation
    /// The request may be sent twice for the effect of once: by its method, or because it is an
    /// inference.
    package var isRepeatable: Bool

    package init(
        target: RoutingTarget,
        style: APIStyle,
        operation: Operation,
        isRepeatable: Bool
    ) {
        self.target = target
        self.style = style
        self.operation = operation
        self.isRepeatable = isRepeatable
    }
}

/// Finds out from a request's head which model it is for, or where else to look.
///
/// Order: the `x-weir-model` header, the `x-gateway-model-name` header, the path, the body, host
/// and path. A header wins over a fleet endpoint too: `GET /v1/models` with `x-weir-model: m` asks
/// m's own server. An empty header counts as absent.
package enum RequestRouting {
    /// All ranges are of `bytes`, the request's head; `path` has no query.
    package static func decide(
        _ bytes: RawSpan,
        path: ByteRange,
        method: HTTPMethod,
        weirModel: ByteRange?,
        gatewayModelName: ByteRange?
    ) -> RoutingDecision {
        var decision = Self.byPath(bytes, path, method)
        if let weirModel, weirModel.count > 0 {
            decision.target = .name(weirModel, isEncoded: false)
        } else if let gatewayModelName, gatewayModelName.count > 0 {
            decision.target = .name(gatewayModelName, isEncoded: false)
        }
        decision.isRepeatable = method.isIdempotent || decision.operation == .inference
        return decision
    }

    private static func byPath(
        _ bytes: RawSpan,
        _ path: ByteRange,
        _ method: HTTPMethod
    ) -> RoutingDecision {
        let path = Self.withoutFinalSlash(bytes, path)
        let count = Int(path.count)
        guard count >= 3, bytes.byte(at: Int(path.start)) == UInt8(ascii: "/"),
            bytes.byte(at: Int(path.start) + 1) == UInt8(ascii: "v"),
            count == 3 || bytes.byte(at: Int(path.start) + 3) == UInt8(ascii: "/")
        else { return Self.elsewhere(.plain) }
        switch bytes.byte(at: Int(path.start) + 2) {
        case UInt8(ascii: "1"): return Self.version1(bytes, path, method)
        case UInt8(ascii: "2"): return Self.version2(bytes, path, method)
        default: return Self.elsewhere(.plain)
        }
    }

    // MARK: /v1

    private static func version1(
        _ bytes: RawSpan,
        _ path: ByteRange,
        _ method: HTTPMethod
    ) -> RoutingDecision {
        // By far the most frequent; the general way finds the same.
        if method == .post, bytes.equals("/v1/chat/completions", path) {
            return Self.decision(.body, .openAI, .inference)
        }
        if let model = ModelPath(bytes, path: path) {
            let name = RoutingTarget.name(model.name, isEncoded: model.isEncoded)
            if model.rest.count > 0 {
                return Self.decision(name, .kserveV1, .inference)
            }
            return Self.decision(name, .openAI, Self.isRead(method) ? .metadata : .other)
        }
        if bytes.equals("/v1/models", path), Self.isRead(method) {
            return Self.decision(.fleet(.openAIModels), .openAI, .metadata)
        }
        guard method == .post else { return Self.elsewhere(.openAI) }
        if bytes.equals("/v1/responses", path) {
            return Self.decision(.body, .openAI, .storedInference)
        }
        return Self.takesModelInBody(bytes, path)
            ? Self.decision(.body, .openAI, .inference) : Self.elsewhere(.openAI)
    }

    /// The calls of OpenAI's API, and of servers that extend it, that take JSON with `model` and
    /// only compute. The length decides which literal can fit.
    private static func takesModelInBody(_ bytes: RawSpan, _ path: ByteRange) -> Bool {
        switch path.count {
        case 9: bytes.equals("/v1/score", path)
        case 10: bytes.equals("/v1/rerank", path)
        case 11: bytes.equals("/v1/pooling", path)
        case 12: bytes.equals("/v1/messages", path) || bytes.equals("/v1/classify", path)
        case 14: bytes.equals("/v1/embeddings", path)
        case 15: bytes.equals("/v1/completions", path) || bytes.equals("/v1/moderations", path)
        case 16: bytes.equals("/v1/audio/speech", path)
        case 20: bytes.equals("/v1/chat/completions", path)
        case 22: bytes.equals("/v1/images/generations", path)
        default: false
        }
    }

    // MARK: /v2

    private static func version2(
        _ bytes: RawSpan,
        _ path: ByteRange,
        _ method: HTTPMethod
    ) -> RoutingDecision {
        if let model = ModelPath(bytes, path: path) {
            return Self.decision(
                .name(model.name, isEncoded: model.isEncoded),
                .openInference,
                Self.operation(bytes, model.rest, method)
            )
        }
        if let endpoint = Self.fleetEndpoint(bytes, path, method) {
            let isHealth = endpoint == .live || endpoint == .ready
            return Self.decision(
                .fleet(endpoint),
                .openInference,
                isHealth ? .readiness : .metadata
            )
        }
        return Self.elsewhere(.openInference)
    }

    private static func fleetEndpoint(
        _ bytes: RawSpan,
        _ path: ByteRange,
        _ method: HTTPMethod
    ) -> FleetEndpoint? {
        if method == .post {
            return bytes.equals("/v2/repository/index", path) ? .repositoryIndex : nil
        }
        guard Self.isRead(method) else { return nil }
        if bytes.equals("/v2", path) { return .serverMetadata }
        if bytes.equals("/v2/models", path) { return .models }
        if bytes.equals("/v2/health/live", path) { return .live }
        return bytes.equals("/v2/health/ready", path) ? .ready : nil
    }

    /// What is asked of a model: the last segment says it, a version may stand before it.
    private static func operation(
        _ bytes: RawSpan,
        _ rest: ByteRange,
        _ method: HTTPMethod
    ) -> RoutingDecision.Operation {
        let verb = Self.withoutVersion(bytes, rest)
        if method == .post {
            let isInference =
                bytes.equals("/infer", verb) || bytes.equals("/generate", verb)
                || bytes.equals("/generate_stream", verb)
            return isInference ? .inference : .other
        }
        guard Self.isRead(method) else { return .other }
        return bytes.equals("/ready", verb) ? .readiness : .metadata
    }

    private static func withoutVersion(_ bytes: RawSpan, _ rest: ByteRange) -> ByteRange {
        guard rest.count > 10,
            bytes.equals("/versions/", ByteRange(start: rest.start, count: 10))
        else { return rest }
        var index = Int(rest.start) + 10
        while index < Int(rest.end), bytes.byte(at: index) != UInt8(ascii: "/") { index += 1 }
        return ByteRange(start: UInt32(index), count: rest.end - UInt32(index))
    }

    // MARK: Parts

    /// One slash at the end makes no difference: clients of `…/v1/models/` mean `…/v1/models`.
    private static func withoutFinalSlash(_ bytes: RawSpan, _ path: ByteRange) -> ByteRange {
        guard path.count > 1, bytes.byte(at: Int(path.end) - 1) == UInt8(ascii: "/") else {
            return path
        }
        return ByteRange(start: path.start, count: path.count - 1)
    }

    private static func isRead(_ method: HTTPMethod) -> Bool {
        method == .get || method == .head
    }

    private static func elsewhere(_ style: APIStyle) -> RoutingDecision {
        Self.decision(.hostAndPath, style, .other)
    }

    /// Whether the request is repeatable is filled in where all is known.
    private static func decision(
        _ target: RoutingTarget,
        _ style: APIStyle,
        _ operation: RoutingDecision.Operation
    ) -> RoutingDecision {
        RoutingDecision(target: target, style: style, operation: operation, isRepeatable: false)
    }
}
