import Core

/// `grpc.health.v1.Health` (`health-checking.md` of the gRPC project), by which clients and probes
/// ask whether a service can be called.
package enum HealthCheck {
    /// `HealthCheckResponse.ServingStatus`.
    package enum Status: UInt8, CaseIterable, Sendable {
        case unknown = 0
        case serving = 1
        case notServing = 2
        /// In answers to `Watch` alone; `Check` fails with `notFound` instead.
        case serviceUnknown = 3
    }

    /// The path of the question that is answered once.
    package static let checkPath: StaticString = "/grpc.health.v1.Health/Check"

    /// Appends the framed `HealthCheckRequest`; an empty name asks for the server as a whole.
    package static func writeRequest(service: String, into output: ByteBuffer) {
        ProtobufWriter.message(into: output) { message in
            if !service.isEmpty { message.text(1, service) }
        }
    }

    /// What a framed `HealthCheckResponse` says, from its first byte on; nil where that is not
    /// (yet) all of one that is not compressed.
    package static func read(_ bytes: RawSpan) -> Status? {
        guard bytes.byteCount >= 5, bytes.byte(at: 0) == 0 else { return nil }
        let count = (1..<5).reduce(0) { $0 << 8 | Int(bytes.byte(at: $1)) }
        guard bytes.byteCount >= 5 + count else { return nil }
        // Protobuf leaves out what is 0. Fields that are not known are behind the first.
        if count == 0 { return .unknown }
        guard count >= 2, bytes.byte(at: 5) == 1 << 3 else { return nil }
        return Status(rawValue: bytes.byte(at: 6)) ?? .unknown
    }

    /// Longest body of a request that is looked at.
    package static let requestBytesMax = 4096

    /// Appends the framed `HealthCheckResponse`.
    package static func write(_ status: Status, into output: ByteBuffer) {
        ProtobufWriter.message(into: output) { message in
            // Protobuf leaves out what is 0.
            if status != .unknown { message.varint(1, UInt64(status.rawValue)) }
        }
    }
}

/// Answers of `inference.GRPCInferenceService` that are about the gateway as a whole; messages of
/// the Open Inference Protocol and its model repository extension.
package enum InferenceAnswers {
    /// `ServerLiveResponse` and `ServerReadyResponse`: field 1.
    package static func writeFlag(_ value: Bool, into output: ByteBuffer) {
        ProtobufWriter.message(into: output) { message in
            if value { message.varint(1, 1) }
        }
    }

    /// `ServerMetadataResponse`.
    package static func writeMetadata(
        name: String,
        version: String,
        extensions: [String],
        into output: ByteBuffer
    ) {
        ProtobufWriter.message(into: output) { message in
            message.text(1, name)
            message.text(2, version)
            for text in extensions { message.text(3, text) }
        }
    }

    /// A model of `RepositoryIndexResponse`.
    package struct IndexEntry: Equatable, Sendable {
        package var name: String
        package var isReady: Bool
        /// Why it is not ready; empty where it is.
        package var reason: String

        package init(name: String, isReady: Bool, reason: String) {
            self.name = name
            self.isReady = isReady
            self.reason = reason
        }
    }

    /// `RepositoryIndexResponse`.
    package static func writeIndex(_ entries: [IndexEntry], into output: ByteBuffer) {
        ProtobufWriter.message(into: output) { message in
            for entry in entries {
                message.nested(1) { model in
                    model.text(1, entry.name)
                    model.text(3, entry.isReady ? "READY" : "UNAVAILABLE")
                    if !entry.reason.isEmpty { model.text(4, entry.reason) }
                }
            }
        }
    }
}
