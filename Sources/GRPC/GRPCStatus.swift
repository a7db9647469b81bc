import HTTP

/// The status of a call (`statuscodes.md` of the gRPC project); the raw value is what `grpc-status`
/// carries.
package enum GRPCStatus: UInt8, CaseIterable, Sendable {
    case ok = 0
    case cancelled = 1
    case unknown = 2
    case invalidArgument = 3
    case deadlineExceeded = 4
    case notFound = 5
    case alreadyExists = 6
    case permissionDenied = 7
    case resourceExhausted = 8
    case failedPrecondition = 9
    case aborted = 10
    case outOfRange = 11
    case unimplemented = 12
    case `internal` = 13
    case unavailable = 14
    case dataLoss = 15
    case unauthenticated = 16

    /// As the gRPC project spells it: for logs and metrics.
    package var name: StaticString {
        switch self {
        case .ok: "OK"
        case .cancelled: "CANCELLED"
        case .unknown: "UNKNOWN"
        case .invalidArgument: "INVALID_ARGUMENT"
        case .deadlineExceeded: "DEADLINE_EXCEEDED"
        case .notFound: "NOT_FOUND"
        case .alreadyExists: "ALREADY_EXISTS"
        case .permissionDenied: "PERMISSION_DENIED"
        case .resourceExhausted: "RESOURCE_EXHAUSTED"
        case .failedPrecondition: "FAILED_PRECONDITION"
        case .aborted: "ABORTED"
        case .outOfRange: "OUT_OF_RANGE"
        case .unimplemented: "UNIMPLEMENTED"
        case .internal: "INTERNAL"
        case .unavailable: "UNAVAILABLE"
        case .dataLoss: "DATA_LOSS"
        case .unauthenticated: "UNAUTHENTICATED"
        }
    }

    /// The number as it stands in a field. A number that no status has is `unknown`, as clients
    /// take it; nil where it is no number of at most three digits.
    package init?(field value: RawSpan) {
        guard (1...3).contains(value.byteCount) else { return nil }
        var number = 0
        for index in 0..<value.byteCount {
            let digit = value.byte(at: index) &- UInt8(ascii: "0")
            guard digit < 10 else { return nil }
            number = number * 10 + Int(digit)
        }
        self = UInt8(exactly: number).flatMap(GRPCStatus.init(rawValue:)) ?? .unknown
    }

    /// The status among fields in lines, as they are in a head or behind a body. One that cannot be
    /// read is `unknown`; nil where there is none.
    package init?(lines: [UInt8]) {
        let name = Array("grpc-status".utf8)
        var found: GRPCStatus?
        for line in lines.split(separator: UInt8(ascii: "\n")) {
            guard let colon = line.firstIndex(of: UInt8(ascii: ":")),
                line[..<colon].count == name.count
            else { continue }
            // Letters in lower case; what else becomes another byte is in no name.
            guard line[..<colon].map({ $0 | 0x20 }) == name else { continue }
            let value = line[line.index(after: colon)...].filter { $0 > UInt8(ascii: " ") }
            // Sound: a byte has no padding to expose.
            found = unsafe GRPCStatus(field: value.span.bytes) ?? .unknown
        }
        guard let found else { return nil }
        self = found
    }

    /// What a client makes of an answer that is not gRPC's (`http-grpc-status-mapping.md`); of 200
    /// without a status too, which is `unknown`.
    package init(httpStatus status: UInt16) {
        self =
            switch status {
            case 400: .internal
            case 401: .unauthenticated
            case 403: .permissionDenied
            case 404: .unimplemented
            case 429, 502, 503, 504: .unavailable
            default: .unknown
            }
    }

    /// What the end of a stream by `RST_STREAM` means (`PROTOCOL-HTTP2.md`, "Errors"), by the code
    /// of RFC 9113, section 7.
    package init(resetCode code: UInt32) {
        self =
            switch code {
            case 0x5: .unknown  // STREAM_CLOSED: no stream to be told on
            case 0x7: .unavailable  // REFUSED_STREAM
            case 0x8: .cancelled  // CANCEL
            case 0xB: .resourceExhausted  // ENHANCE_YOUR_CALM
            case 0xC: .permissionDenied  // INADEQUATE_SECURITY
            case 0x0...0x4, 0x6, 0x9, 0xA: .internal
            default: .unknown
            }
    }

    /// What the gateway's own failure is to a client of gRPC. Clients that send calls again do so
    /// for `unavailable`: so that is what passes by itself.
    package init(_ kind: ProxyError.Kind) {
        self =
            switch kind {
            case .badRequest, .targetTooLong, .expectationFailed, .noModel, .unknownVariant,
                .ambiguousModel:
                .invalidArgument
            case .unknownModel: .notFound
            case .notFound, .methodNotAllowed, .notImplemented, .versionNotSupported,
                .unsupportedCoding:
                .unimplemented
            case .unauthorized: .unauthenticated
            case .modelForbidden: .permissionDenied
            case .headersTooLarge, .bodyTooLarge, .rateLimited, .queueFull: .resourceExhausted
            case .clientGone: .cancelled
            case .requestTimeout, .firstByteTimeout, .upstreamTimeout, .streamIdleTimeout:
                .deadlineExceeded
            case .queueTimeout, .noReplica, .tooManyConnections, .draining, .connectFailed,
                .connectTimeout, .upstreamReset, .upstreamTruncated:
                .unavailable
            case .upstreamInvalid, .internalFault: .internal
            }
    }

    /// The HTTP status that a call which ended so is counted under, so that error rates mean the
    /// same for both protocols: as `google.rpc.Code` has it, but that a method which is not there
    /// is nobody's failure, as a path that is not there is none.
    package var httpStatus: UInt16 {
        switch self {
        case .ok: 200
        case .cancelled: 499
        case .invalidArgument, .failedPrecondition, .outOfRange: 400
        case .deadlineExceeded: 504
        case .notFound, .unimplemented: 404
        case .alreadyExists, .aborted: 409
        case .permissionDenied: 403
        case .resourceExhausted: 429
        case .unavailable: 503
        case .unauthenticated: 401
        case .unknown, .internal, .dataLoss: 500
        }
    }
}
