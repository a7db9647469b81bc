import HTTPService

/// What the API server says when it refuses (`kind: Status`).
package struct Status: Sendable, Hashable, CustomStringConvertible {
    /// One reason among several, and which field it is about.
    package struct Cause: Sendable, Hashable {
        package var reason: String
        package var message: String
        package var field: String

        package init(reason: String, message: String, field: String) {
            self.reason = reason
            self.message = message
            self.field = field
        }
    }

    /// The HTTP status, also where the body names none.
    package var code: Int
    /// `NotFound`, `Conflict`, `AlreadyExists`, `Expired`, …; may be empty.
    package var reason: String
    package var message: String
    package var causes: [Cause] = []
    /// What it is about, as the server names it.
    package var kind = ""
    package var name = ""
    /// How long the server asks to wait, from the body or the field `Retry-After`.
    package var retryAfter: Duration?

    package init(code: Int, reason: String = "", message: String = "") {
        self.code = code
        self.reason = reason
        self.message = message
    }

    /// Longer waits than this are cut to it.
    static let retryAfterMax = Duration.seconds(3_600)
    static let causesMax = 100
    static let messageBytesMax = 4_096

    /// Reads a `Status` object; nil where it is something else.
    package init?(_ value: JSONValue) {
        guard value["kind"].string == "Status" else { return nil }
        let details = value["details"]
        self.init(
            code: value["code"].integer ?? 0,
            reason: value["reason"].string ?? "",
            message: Self.clip(value["message"].string ?? "")
        )
        self.kind = details["kind"].string ?? ""
        self.name = details["name"].string ?? ""
        self.causes = details["causes"].elements.prefix(Self.causesMax).map { cause in
            Cause(
                reason: cause["reason"].string ?? "",
                message: Self.clip(cause["message"].string ?? ""),
                field: cause["field"].string ?? ""
            )
        }
        if let seconds = details["retryAfterSeconds"].integer, seconds > 0 {
            self.retryAfter = Self.wait(seconds)
        }
    }

    /// Reads an HTTP answer that is no success. A body that is no `Status` becomes the message.
    package init(code: UInt16, body: [UInt8], retryAfter: String?) {
        if let value = try? JSONValue(body), let status = Status(value) {
            self = status
        } else {
            let words = String(decoding: body.prefix(512), as: UTF8.self)
                .split(whereSeparator: \.isWhitespace).joined(separator: " ")
            self.init(code: Int(code), message: words)
        }
        self.code = Int(code)
        if let seconds = retryAfter.flatMap(Int.init), seconds >= 0 {
            self.retryAfter = Self.wait(seconds)
        }
    }

    package var description: String {
        let words = self.message.isEmpty ? "no reason given" : self.message
        let reason = self.reason.isEmpty ? "" : " \(self.reason)"
        let causes = self.causes.prefix(5).map { cause in
            cause.field.isEmpty ? cause.message : "\(cause.field): \(cause.message)"
        }
        let all =
            causes.isEmpty || self.message.contains(causes[0])
            ? "" : " (\(causes.joined(separator: "; ")))"
        return "\(self.code)\(reason): \(words)\(all)"
    }

    /// Whether one of the causes has this reason.
    package func hasCause(_ reason: String) -> Bool {
        self.causes.contains { $0.reason == reason }
    }

    private static func wait(_ seconds: Int) -> Duration {
        min(.seconds(min(seconds, 1 << 30)), self.retryAfterMax)
    }

    private static func clip(_ text: String) -> String {
        text.utf8.count <= self.messageBytesMax
            ? text : String(decoding: text.utf8.prefix(self.messageBytesMax), as: UTF8.self) + "…"
    }
}

extension Status {
    package var isNotFound: Bool { self.code == 404 }
    /// Somebody else has written since; or, for apply, owns a field.
    package var isConflict: Bool { self.code == 409 && self.reason != "AlreadyExists" }
    package var isAlreadyExists: Bool { self.code == 409 && self.reason == "AlreadyExists" }
    /// The version asked for is not kept any more.
    package var isExpired: Bool {
        self.code == 410 || self.reason == "Expired" || self.reason == "Gone"
    }
    /// The version asked for is newer than what that server has seen.
    package var isTooLargeVersion: Bool {
        self.hasCause("ResourceVersionTooLarge")
            || (self.code == 504 || self.code == 400)
                && self.message.contains("Too large resource version")
    }
    package var isTooManyRequests: Bool { self.code == 429 }
    package var isUnauthorized: Bool { self.code == 401 }
    package var isForbidden: Bool { self.code == 403 }
    /// What was sent breaks the schema or a rule.
    package var isInvalid: Bool { self.code == 422 || self.code == 400 }
    /// Another manager owns a field that was applied.
    package var isFieldManagerConflict: Bool {
        self.code == 409 && self.hasCause("FieldManagerConflict")
    }
}
