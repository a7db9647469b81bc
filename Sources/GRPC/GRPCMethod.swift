/// What a call's path says: `/package.Service/Method`.
package enum GRPCMethod: Equatable, Sendable {
    /// `grpc.health.v1.Health`, which the gateway answers for its models.
    case health(Health)
    /// A method of `inference.GRPCInferenceService` that is about no model; the gateway answers it.
    case fleet(Fleet)
    /// One that names its model in field 1 of its first message.
    case model(Model)
    /// Anything else: nothing is known of its messages.
    case other

    package enum Health: UInt8, CaseIterable, Sendable {
        case check, watch
    }

    package enum Fleet: UInt8, CaseIterable, Sendable {
        case serverLive, serverReady, serverMetadata, repositoryIndex
    }

    package enum Model: UInt8, CaseIterable, Sendable {
        /// Computes an answer and changes nothing.
        case infer
        /// The same, for each message of a stream.
        case streamInfer
        /// What a model is and has done.
        case metadata
        /// Whether a model can serve.
        case ready
    }

    /// `path` is the request's, without a query, which calls do not have.
    package init(path: RawSpan) {
        if let method = path.dropping("/inference.GRPCInferenceService/") {
            self = Self.inference(method)
        } else if let method = path.dropping("/grpc.health.v1.Health/") {
            self = Self.health(method)
        } else {
            self = .other
        }
    }

    /// Asks how the gateway or one of its models does, and for nothing else.
    package var isProbe: Bool {
        switch self {
        case .health, .fleet(.serverLive), .fleet(.serverReady): true
        case .fleet(.serverMetadata), .fleet(.repositoryIndex), .model, .other: false
        }
    }

    private static func health(_ method: RawSpan) -> GRPCMethod {
        if method.matches("Check") { return .health(.check) }
        return method.matches("Watch") ? .health(.watch) : .other
    }

    /// Loading and unloading, shared memory and settings have other messages, and are about a
    /// single server: they go where the head says.
    private static func inference(_ method: RawSpan) -> GRPCMethod {
        if method.matches("ModelInfer") { return .model(.infer) }
        if method.matches("ModelStreamInfer") { return .model(.streamInfer) }
        if method.matches("ModelReady") { return .model(.ready) }
        if method.matches("ModelMetadata") || method.matches("ModelConfig")
            || method.matches("ModelStatistics")
        {
            return .model(.metadata)
        }
        if method.matches("ServerLive") { return .fleet(.serverLive) }
        if method.matches("ServerReady") { return .fleet(.serverReady) }
        if method.matches("ServerMetadata") { return .fleet(.serverMetadata) }
        return method.matches("RepositoryIndex") ? .fleet(.repositoryIndex) : .other
    }

    /// Whether `path` can be a call's: two segments that are not empty.
    package static func isPath(_ path: RawSpan) -> Bool {
        guard path.byteCount >= 4, path.byte(at: 0) == UInt8(ascii: "/") else { return false }
        let slashes = (1..<path.byteCount).filter { path.byte(at: $0) == UInt8(ascii: "/") }
        return slashes.count == 1 && slashes[0] > 1 && slashes[0] < path.byteCount - 1
    }

    /// Whether a content type is gRPC's: `application/grpc`, alone or with `+proto` and the like.
    /// That of gRPC-Web (`application/grpc-web`) is another protocol's.
    package static func isContentType(_ value: RawSpan) -> Bool {
        let literal: StaticString = "application/grpc"
        let count = literal.utf8CodeUnitCount
        guard value.byteCount >= count else { return false }
        for index in 0..<count {
            let byte = value.byte(at: index)
            let folded = byte &- 0x41 < 26 ? byte | 0x20 : byte
            // Sound: the index is below the literal's own count.
            if unsafe folded != literal.utf8Start[index] { return false }
        }
        if value.byteCount == count { return true }
        let next = value.byte(at: count)
        return next == UInt8(ascii: "+") || next == UInt8(ascii: ";")
    }
}
