/// What one call of a head parser found.
package enum ParseStep<Failure: Error & Sendable>: Sendable {
    /// The head is fine so far and not finished: call again with the same bytes and more.
    case needMore
    /// The head is complete and takes this many bytes; the body or the next message follows.
    case complete(byteCount: Int)
    /// The bytes are no acceptable head, whatever follows. Calling again gives the same answer.
    case invalid(Failure)
}

/// The bounds of a head.
package struct HeadLimits: Equatable, Sendable {
    /// Bytes from the first byte to the empty line, both included.
    package var maxHeadBytes: Int
    /// Field lines.
    package var maxFields: Int
    /// Bytes of a request target.
    package var maxTargetBytes: Int

    /// The largest `maxHeadBytes`: offsets are 32 bits wide, and a head is never this large.
    package static let maxHeadBytesCeiling = 1 << 24

    /// Defaults: 32 KiB, 100 fields, and a target of 8 KiB or as much as the head may have.
    package init(
        maxHeadBytes: Int = 32 * 1024,
        maxFields: Int = 100,
        maxTargetBytes: Int? = nil
    ) {
        precondition(
            maxHeadBytes > 0 && maxHeadBytes <= Self.maxHeadBytesCeiling,
            "a head of \(maxHeadBytes) bytes at most"
        )
        precondition(maxFields > 0, "\(maxFields) fields at most")
        self.maxHeadBytes = maxHeadBytes
        self.maxFields = maxFields
        self.maxTargetBytes = min(maxTargetBytes ?? 8 * 1024, maxHeadBytes)
    }
}

/// What can be wrong with the field section of a request or a response, or with its framing.
package enum HeadError: Error, Equatable, Sendable, CaseIterable {
    case headTooLarge, tooManyFields
    case bareCarriageReturn, bareLineFeed, obsoleteFolding
    case emptyFieldName, invalidFieldName, whitespaceBeforeColon, invalidFieldValue
    case invalidContentLength, duplicateContentLength, contentLengthWithTransferEncoding
    case invalidTransferEncoding, unsupportedTransferCoding, transferEncodingInHTTP10
    case invalidConnection, tooManyConnectionOptions

    /// Stable name for metrics and logs.
    package var label: StaticString {
        switch self {
        case .headTooLarge: "head-too-large"
        case .tooManyFields: "too-many-fields"
        case .bareCarriageReturn: "bare-cr"
        case .bareLineFeed: "bare-lf"
        case .obsoleteFolding: "obs-fold"
        case .emptyFieldName: "empty-field-name"
        case .invalidFieldName: "invalid-field-name"
        case .whitespaceBeforeColon: "whitespace-before-colon"
        case .invalidFieldValue: "invalid-field-value"
        case .invalidContentLength: "invalid-content-length"
        case .duplicateContentLength: "duplicate-content-length"
        case .contentLengthWithTransferEncoding: "content-length-with-transfer-encoding"
        case .invalidTransferEncoding: "invalid-transfer-encoding"
        case .unsupportedTransferCoding: "unsupported-transfer-coding"
        case .transferEncodingInHTTP10: "transfer-encoding-in-http10"
        case .invalidConnection: "invalid-connection"
        case .tooManyConnectionOptions: "too-many-connection-options"
        }
    }

    /// A sentence for people.
    package var message: StaticString {
        switch self {
        case .headTooLarge: "The header section is larger than allowed."
        case .tooManyFields: "There are more header fields than allowed."
        case .bareCarriageReturn: "A carriage return is not followed by a line feed."
        case .bareLineFeed: "A line feed is not preceded by a carriage return."
        case .obsoleteFolding: "A header line starts with whitespace."
        case .emptyFieldName: "A header field has no name."
        case .invalidFieldName: "A header field name has a byte that is not allowed."
        case .whitespaceBeforeColon:
            "There is whitespace between a header field name and its colon."
        case .invalidFieldValue: "A header field value has a control byte."
        case .invalidContentLength: "Content-Length is not one decimal number."
        case .duplicateContentLength: "There is more than one Content-Length."
        case .contentLengthWithTransferEncoding:
            "There are both a Content-Length and a Transfer-Encoding."
        case .invalidTransferEncoding: "Transfer-Encoding does not end in a single chunked."
        case .unsupportedTransferCoding: "The only transfer coding supported is chunked."
        case .transferEncodingInHTTP10: "HTTP/1.0 has no Transfer-Encoding."
        case .invalidConnection: "Connection is not a list of tokens."
        case .tooManyConnectionOptions: "Connection has more options than allowed."
        }
    }

    /// The status for the sender of a request with this fault.
    var status: UInt16 {
        switch self {
        case .headTooLarge, .tooManyFields: 431
        // RFC 9112, section 6.1: a coding that is not understood is 501.
        case .unsupportedTransferCoding: 501
        case .bareCarriageReturn, .bareLineFeed, .obsoleteFolding, .emptyFieldName,
            .invalidFieldName, .whitespaceBeforeColon, .invalidFieldValue, .invalidContentLength,
            .duplicateContentLength, .contentLengthWithTransferEncoding, .invalidTransferEncoding,
            .transferEncodingInHTTP10, .invalidConnection, .tooManyConnectionOptions:
            400
        }
    }
}

/// Why bytes are not a request that the gateway accepts. After any of these the connection closes:
/// where the next request would start is unknown.
package enum RequestError: Error, Equatable, Sendable {
    case head(HeadError)
    case invalidRequestLine, invalidMethod, methodTooLong
    case invalidTarget, targetTooLong
    case invalidVersion, unsupportedVersion
    /// The client speaks HTTP/2 with prior knowledge (RFC 9113, section 3.4). Reported when the
    /// first line, `PRI * HTTP/2.0`, has been read: nothing was consumed.
    case http2Preface
    case missingHost, duplicateHost, invalidHost
    case unknownExpectation

    /// The status to answer with.
    package var status: UInt16 {
        switch self {
        case .head(let error): error.status
        case .invalidRequestLine, .invalidMethod, .invalidTarget, .invalidVersion, .missingHost,
            .duplicateHost, .invalidHost:
            400
        case .targetTooLong: 414
        case .unknownExpectation: 417
        case .methodTooLong: 501
        case .unsupportedVersion, .http2Preface: 505
        }
    }

    /// Stable name for metrics and logs.
    package var label: StaticString {
        switch self {
        case .head(let error): error.label
        case .invalidRequestLine: "invalid-request-line"
        case .invalidMethod: "invalid-method"
        case .methodTooLong: "method-too-long"
        case .invalidTarget: "invalid-target"
        case .targetTooLong: "target-too-long"
        case .invalidVersion: "invalid-version"
        case .unsupportedVersion: "unsupported-version"
        case .http2Preface: "http2-preface"
        case .missingHost: "missing-host"
        case .duplicateHost: "duplicate-host"
        case .invalidHost: "invalid-host"
        case .unknownExpectation: "unknown-expectation"
        }
    }

    /// A sentence for people.
    package var message: StaticString {
        switch self {
        case .head(let error): error.message
        case .invalidRequestLine: "The request line is not METHOD TARGET HTTP/1.1."
        case .invalidMethod: "The request method is not a token."
        case .methodTooLong: "The request method is longer than any that is known."
        case .invalidTarget: "The request target is malformed or does not suit the method."
        case .targetTooLong: "The request target is longer than allowed."
        case .invalidVersion: "The HTTP version is malformed."
        case .unsupportedVersion: "Only HTTP/1.0 and HTTP/1.1 are supported here."
        case .http2Preface: "HTTP/2 is not supported here."
        case .missingHost: "The Host header field is missing."
        case .duplicateHost: "There is more than one Host header field."
        case .invalidHost: "The Host header field is not a host with an optional port."
        case .unknownExpectation: "The only expectation supported is 100-continue."
        }
    }
}

/// Why bytes are not a response that the gateway accepts. The client gets 502 for each.
package enum ResponseError: Error, Equatable, Sendable {
    case head(HeadError)
    case invalidStatusLine, invalidVersion, invalidStatus, invalidReason

    /// The status the client gets instead.
    package var status: UInt16 { 502 }

    /// Stable name for metrics and logs.
    package var label: StaticString {
        switch self {
        case .head(let error): error.label
        case .invalidStatusLine: "invalid-status-line"
        case .invalidVersion: "invalid-version"
        case .invalidStatus: "invalid-status"
        case .invalidReason: "invalid-reason"
        }
    }

    /// A sentence for people, about the upstream's response.
    package var message: StaticString {
        switch self {
        case .head(let error): error.message
        case .invalidStatusLine: "The status line is not HTTP/1.1 STATUS REASON."
        case .invalidVersion: "The response is not HTTP/1.0 or HTTP/1.1."
        case .invalidStatus: "The status is not a number from 100 to 599."
        case .invalidReason: "The reason phrase has a control byte."
        }
    }
}

/// Why a body cannot be decoded. Its end is unknown then: the connection closes.
package enum BodyError: Error, Equatable, Sendable, CaseIterable {
    case invalidChunkSize, chunkSizeOverflow, invalidChunkExtension, chunkExtensionsTooLarge
    case invalidChunkEnd, bareLineFeed, bareCarriageReturn
    case invalidTrailer, trailersTooLarge, tooManyTrailers
    case bodyTooLarge
    /// The peer closed before the end that the framing promised.
    case truncated

    /// The status if the body was a request's; a response's is 502 before its head went out.
    package var status: UInt16 {
        switch self {
        case .bodyTooLarge: 413
        case .trailersTooLarge, .tooManyTrailers: 431
        case .invalidChunkSize, .chunkSizeOverflow, .invalidChunkExtension,
            .chunkExtensionsTooLarge, .invalidChunkEnd, .bareLineFeed, .bareCarriageReturn,
            .invalidTrailer, .truncated:
            400
        }
    }

    /// Stable name for metrics and logs.
    package var label: StaticString {
        switch self {
        case .invalidChunkSize: "invalid-chunk-size"
        case .chunkSizeOverflow: "chunk-size-overflow"
        case .invalidChunkExtension: "invalid-chunk-extension"
        case .chunkExtensionsTooLarge: "chunk-extensions-too-large"
        case .invalidChunkEnd: "invalid-chunk-end"
        case .bareLineFeed: "bare-lf"
        case .bareCarriageReturn: "bare-cr"
        case .invalidTrailer: "invalid-trailer"
        case .trailersTooLarge: "trailers-too-large"
        case .tooManyTrailers: "too-many-trailers"
        case .bodyTooLarge: "body-too-large"
        case .truncated: "truncated"
        }
    }

    /// A sentence for people.
    package var message: StaticString {
        switch self {
        case .invalidChunkSize: "A chunk size is not a hexadecimal number."
        case .chunkSizeOverflow: "A chunk size is too large to be true."
        case .invalidChunkExtension: "A chunk extension is malformed."
        case .chunkExtensionsTooLarge: "There are more chunk extensions than allowed."
        case .invalidChunkEnd: "A chunk is longer than its size."
        case .bareLineFeed: "A line feed is not preceded by a carriage return."
        case .bareCarriageReturn: "A carriage return is not followed by a line feed."
        case .invalidTrailer: "A trailer field is malformed."
        case .trailersTooLarge: "The trailer section is larger than allowed."
        case .tooManyTrailers: "There are more trailer fields than allowed."
        case .bodyTooLarge: "The body is larger than allowed."
        case .truncated: "The body ended early."
        }
    }
}
