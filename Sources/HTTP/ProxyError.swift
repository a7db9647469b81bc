/// What the gateway could not do for a request, and whose fault it was.
///
/// `Kind` maps to the status, the metric label and the words for people here and nowhere else.
package struct ProxyError: Error, Equatable, Sendable {
    package var kind: Kind
    package var source: Source
    package var retryable: Retry
    /// What exactly was wrong, in a stable kebab-case label; the kind's own where nothing is known.
    package var detail: Detail?

    package enum Kind: UInt8, CaseIterable, Sendable {
        // The client's request.
        case badRequest, headersTooLarge, targetTooLong, bodyTooLarge, requestTimeout
        case methodNotAllowed, expectationFailed, notImplemented, versionNotSupported
        case unsupportedCoding
        case notFound, noModel, unknownModel, unknownVariant, ambiguousModel
        case unauthorized, modelForbidden, rateLimited
        case clientGone
        // The gateway's own state.
        case queueFull, queueTimeout, noReplica, tooManyConnections, draining, internalFault
        // The upstream.
        case connectFailed, connectTimeout, firstByteTimeout, upstreamTimeout, streamIdleTimeout
        case upstreamReset, upstreamInvalid, upstreamTruncated
    }

    package enum Source: UInt8, CaseIterable, Sendable {
        case client, upstream, gateway

        /// Stable name for metrics and logs.
        package var label: StaticString {
            switch self {
            case .client: "client"
            case .upstream: "upstream"
            case .gateway: "gateway"
            }
        }
    }

    /// Whether the same request may go to another replica. Beyond this the request itself must
    /// allow it: idempotent or never sent, no response byte passed on, budget left.
    package enum Retry: UInt8, CaseIterable, Sendable {
        case yes, no
        /// Only on a pooled connection that the upstream closed before it read the request.
        case onlyIfReused
    }

    /// The finding behind an error.
    package struct Detail: Equatable, Sendable {
        package var label: StaticString
        package var message: StaticString

        package init(label: StaticString, message: StaticString) {
            self.label = label
            self.message = message
        }

        /// Labels are unique, so they decide.
        package static func == (left: Detail, right: Detail) -> Bool {
            left.label.description == right.label.description
        }
    }

    /// An error of that kind with the source and retry rule that go with it.
    package init(_ kind: Kind, detail: Detail? = nil) {
        self.kind = kind
        self.source = kind.source
        self.retryable = kind.retry
        self.detail = detail
    }

    /// A request that cannot be read.
    package init(_ error: RequestError) {
        let kind: Kind =
            switch error.status {
            case 414: .targetTooLong
            case 417: .expectationFailed
            case 431: .headersTooLarge
            case 501: .notImplemented
            case 505: .versionNotSupported
            default: .badRequest
            }
        self.init(kind, detail: Detail(label: error.label, message: error.message))
    }

    /// A response that cannot be read.
    package init(_ error: ResponseError) {
        self.init(.upstreamInvalid, detail: Detail(label: error.label, message: error.message))
    }

    /// A request body that cannot be read. One that ends early means the client has gone.
    package init(requestBody error: BodyError) {
        let kind: Kind =
            switch error {
            case .bodyTooLarge: .bodyTooLarge
            case .trailersTooLarge, .tooManyTrailers: .headersTooLarge
            case .truncated: .clientGone
            case .invalidChunkSize, .chunkSizeOverflow, .invalidChunkExtension,
                .chunkExtensionsTooLarge, .invalidChunkEnd, .bareLineFeed, .bareCarriageReturn,
                .invalidTrailer:
                .badRequest
            }
        self.init(kind, detail: Detail(label: error.label, message: error.message))
    }

    /// A response body that cannot be read.
    package init(responseBody error: BodyError) {
        let kind: Kind = error == .truncated ? .upstreamTruncated : .upstreamInvalid
        self.init(kind, detail: Detail(label: error.label, message: error.message))
    }

    package var status: UInt16 { self.kind.status }
    /// Stable name of the kind for metrics and logs.
    package var label: StaticString { self.kind.label }
    package var needsRetryAfter: Bool { self.kind.needsRetryAfter }
    /// A sentence for people: the detail's, else the kind's.
    package var message: StaticString { self.detail?.message ?? self.kind.message }
}

extension ProxyError.Kind {
    /// The status of the response. 499 is for the log alone: nobody is there to read it.
    package var status: UInt16 {
        switch self {
        case .badRequest, .noModel, .unknownVariant: 400
        case .unauthorized: 401
        case .modelForbidden: 403
        case .notFound, .unknownModel: 404
        case .methodNotAllowed: 405
        case .requestTimeout: 408
        case .bodyTooLarge, .ambiguousModel: 413
        case .targetTooLong: 414
        case .unsupportedCoding: 415
        case .expectationFailed: 417
        case .queueFull, .rateLimited: 429
        case .headersTooLarge: 431
        case .clientGone: 499
        case .internalFault: 500
        case .notImplemented: 501
        case .connectFailed, .upstreamReset, .upstreamInvalid, .upstreamTruncated: 502
        case .queueTimeout, .noReplica, .tooManyConnections, .draining: 503
        case .connectTimeout, .firstByteTimeout, .upstreamTimeout, .streamIdleTimeout: 504
        case .versionNotSupported: 505
        }
    }

    /// Whether the response says when to come back (RFC 9110, section 10.2.3).
    package var needsRetryAfter: Bool {
        switch self {
        case .queueFull, .queueTimeout, .noReplica, .tooManyConnections, .draining, .rateLimited:
            true
        case .unauthorized, .modelForbidden, .badRequest, .headersTooLarge, .targetTooLong,
            .bodyTooLarge, .requestTimeout,
            .methodNotAllowed, .expectationFailed, .notImplemented, .versionNotSupported,
            .unsupportedCoding, .notFound,
            .noModel, .unknownModel, .unknownVariant, .ambiguousModel, .clientGone, .internalFault,
            .connectFailed, .connectTimeout, .firstByteTimeout, .upstreamTimeout,
            .streamIdleTimeout, .upstreamReset, .upstreamInvalid, .upstreamTruncated:
            false
        }
    }

    /// Whose fault it usually is.
    package var source: ProxyError.Source {
        switch self {
        case .badRequest, .headersTooLarge, .targetTooLong, .bodyTooLarge, .requestTimeout,
            .methodNotAllowed, .expectationFailed, .notImplemented, .versionNotSupported,
            .unsupportedCoding, .notFound,
            .noModel, .unknownModel, .unknownVariant, .ambiguousModel, .unauthorized,
            .modelForbidden, .rateLimited, .clientGone:
            .client
        case .queueFull, .queueTimeout, .noReplica, .tooManyConnections, .draining, .internalFault:
            .gateway
        case .connectFailed, .connectTimeout, .firstByteTimeout, .upstreamTimeout,
            .streamIdleTimeout, .upstreamReset, .upstreamInvalid, .upstreamTruncated:
            .upstream
        }
    }

    /// Only a request that no upstream saw may be sent again without knowing what it does.
    package var retry: ProxyError.Retry {
        switch self {
        case .connectFailed, .connectTimeout: .yes
        case .upstreamReset: .onlyIfReused
        case .badRequest, .headersTooLarge, .targetTooLong, .bodyTooLarge, .requestTimeout,
            .methodNotAllowed, .expectationFailed, .notImplemented, .versionNotSupported,
            .unsupportedCoding, .notFound,
            .noModel, .unknownModel, .unknownVariant, .ambiguousModel, .unauthorized,
            .modelForbidden, .rateLimited, .clientGone, .queueFull, .queueTimeout, .noReplica,
            .tooManyConnections, .draining, .internalFault,
            .firstByteTimeout, .upstreamTimeout, .streamIdleTimeout, .upstreamInvalid,
            .upstreamTruncated:
            .no
        }
    }

    /// Stable name for metrics and logs.
    package var label: StaticString {
        switch self {
        case .badRequest: "bad-request"
        case .headersTooLarge: "headers-too-large"
        case .targetTooLong: "target-too-long"
        case .bodyTooLarge: "body-too-large"
        case .requestTimeout: "request-timeout"
        case .methodNotAllowed: "method-not-allowed"
        case .expectationFailed: "expectation-failed"
        case .notImplemented: "not-implemented"
        case .versionNotSupported: "version-not-supported"
        case .unsupportedCoding: "unsupported-content-coding"
        case .notFound: "not-found"
        case .noModel: "no-model"
        case .unknownModel: "unknown-model"
        case .unknownVariant: "unknown-variant"
        case .ambiguousModel: "ambiguous-model"
        case .unauthorized: "unauthorized"
        case .modelForbidden: "model-forbidden"
        case .rateLimited: "rate-limited"
        case .clientGone: "client-gone"
        case .queueFull: "queue-full"
        case .queueTimeout: "queue-timeout"
        case .noReplica: "no-replica"
        case .tooManyConnections: "too-many-connections"
        case .draining: "draining"
        case .internalFault: "internal"
        case .connectFailed: "connect-failed"
        case .connectTimeout: "connect-timeout"
        case .firstByteTimeout: "first-byte-timeout"
        case .upstreamTimeout: "upstream-timeout"
        case .streamIdleTimeout: "stream-idle-timeout"
        case .upstreamReset: "upstream-reset"
        case .upstreamInvalid: "upstream-invalid"
        case .upstreamTruncated: "upstream-truncated"
        }
    }

    /// A sentence for people, with what to do where that is known.
    package var message: StaticString {
        switch self {
        case .badRequest: "The request is malformed."
        case .headersTooLarge: "The header section is larger than allowed."
        case .targetTooLong: "The request target is longer than allowed."
        case .bodyTooLarge: "The request body is larger than allowed."
        case .requestTimeout: "The request did not arrive in time."
        case .methodNotAllowed: "The method is not allowed here."
        case .expectationFailed: "The only expectation supported is 100-continue."
        case .notImplemented: "The request needs something that is not supported."
        case .versionNotSupported: "The HTTP version is not supported."
        case .unsupportedCoding:
            "The body has a Content-Encoding that cannot be read here: use zstd or gzip."
        case .notFound: "There is nothing at this path."
        case .noModel: "The request names no model: set \"model\" in the body or x-weir-model."
        case .unknownModel: "There is no such model."
        case .unknownVariant: "The model has no such variant."
        case .ambiguousModel:
            "The body is too large to look for the model in: name it in x-weir-model or the path."
        case .unauthorized:
            "An API key is needed: send it as `Authorization: Bearer KEY` or in x-api-key."
        case .modelForbidden: "The API key does not allow this model."
        case .rateLimited: "A limit of the API key is reached: try again later."
        case .clientGone: "The client closed the connection."
        case .queueFull: "Too many requests are waiting for this model: try again later."
        case .queueTimeout: "No replica became free in time: try again later."
        case .noReplica: "The model has no replica that is ready: try again later."
        case .tooManyConnections: "Too many connections are open: try again later."
        case .draining: "The gateway is shutting down: try again."
        case .internalFault: "The gateway failed."
        case .connectFailed: "The model server cannot be reached."
        case .connectTimeout: "The model server did not accept the connection in time."
        case .firstByteTimeout: "The model server did not begin to answer in time."
        case .upstreamTimeout: "The model server did not finish in time."
        case .streamIdleTimeout: "The model server stopped sending."
        case .upstreamReset: "The model server closed the connection before it answered."
        case .upstreamInvalid: "The model server's answer is not valid HTTP."
        case .upstreamTruncated: "The model server's answer ended early."
        }
    }
}
