import Core

/// The body of an error response, in the shape the client's API has for errors.
package enum ErrorBody {
    package enum Style: UInt8, CaseIterable, Sendable {
        /// `{"error": {"message": …, "type": …, "param": …, "code": …}}`
        case openAI
        /// `{"error": "…"}`, of the Open Inference Protocol (V2).
        case openInference
        /// A line of text.
        case plain

        package var contentType: StaticString {
            switch self {
            case .openAI, .openInference: "application/json"
            case .plain: "text/plain; charset=utf-8"
            }
        }
    }

    /// Longest message in UTF-8 bytes; a longer one is cut. Names from requests end up in messages.
    package static let maxMessageBytes = 4096

    /// Appends the body. `message` replaces the error's own sentence where more is known; whatever
    /// it holds is escaped.
    package static func write(
        _ error: ProxyError,
        style: Style,
        message: String? = nil,
        into buffer: ByteBuffer
    ) {
        let text = message ?? error.message.description
        switch style {
        case .openAI:
            buffer.append("{\"error\":{\"message\":")
            JSONText.write(text, maxBytes: self.maxMessageBytes, into: buffer)
            buffer.append(",\"type\":\"")
            buffer.append(error.openAIType)
            buffer.append(error.isAboutModel ? "\",\"param\":\"model\",\"code\":\"" : Self.noParam)
            buffer.append(error.openAICode)
            buffer.append("\"}}\n")
        case .openInference:
            buffer.append("{\"error\":")
            JSONText.write(text, maxBytes: self.maxMessageBytes, into: buffer)
            buffer.append("}\n")
        case .plain:
            self.writePlain(text, into: buffer)
            buffer.append("\n")
        }
    }

    private static let noParam: StaticString = "\",\"param\":null,\"code\":\""

    /// Text for a terminal: control characters, which could drive it, become spaces.
    private static func writePlain(_ text: String, into buffer: ByteBuffer) {
        for byte in text.utf8.prefix(self.maxMessageBytes) {
            buffer.append(byte: byte < 0x20 || byte == ASCII.delete ? ASCII.space : byte)
        }
    }
}

extension ProxyError {
    /// The `type` of OpenAI's errors, which its clients turn into exception classes.
    fileprivate var openAIType: StaticString {
        switch self.kind.status {
        case 400, 401, 403, 404, 405, 408, 413, 414, 417, 431, 499, 501, 505:
            "invalid_request_error"
        case 429: "rate_limit_error"
        case 503: "service_unavailable_error"
        case 504: "timeout_error"
        default: "server_error"
        }
    }

    /// The `code`: OpenAI's own where there is one, else the label.
    fileprivate var openAICode: StaticString {
        switch self.kind {
        case .unknownModel: "model_not_found"
        case .unauthorized: "invalid_api_key"
        case .modelForbidden: "model_not_allowed"
        case .rateLimited: "rate_limit_exceeded"
        default: self.detail?.label ?? self.label  // One code of theirs is all that applies.
        }
    }

    fileprivate var isAboutModel: Bool {
        switch self.kind {
        case .noModel, .unknownModel, .ambiguousModel, .modelForbidden: true
        default: false  // The others are not about one parameter.
        }
    }
}

/// JSON strings (RFC 8259, section 7).
package enum JSONText {
    /// Appends `text` as a JSON string with its quotes, cut after `maxBytes` of UTF-8 at the last
    /// whole character that fits.
    package static func write(_ text: String, maxBytes: Int = .max, into buffer: ByteBuffer) {
        if text.utf8.count <= maxBytes { return buffer.append(jsonString: text) }
        var shown = ""
        var left = maxBytes
        for scalar in text.unicodeScalars {
            left -= scalar.utf8.count
            if left < 0 { break }
            shown.unicodeScalars.append(scalar)
        }
        buffer.append(jsonString: shown)
    }
}
