import Core
import Curl
import HTTPService

/// Why a call to the API server brought nothing. Texts hold no credentials.
package struct APIError: Error, Sendable, CustomStringConvertible {
    package enum Kind: Error, Sendable {
        /// The server refused.
        case refused(Status)
        /// There was no answer, or no whole one.
        case transport(CurlError)
        /// The credentials could not be had: a file or a plugin; why.
        case credentials(String)
        /// The answer is not what the API promises; why.
        case malformed(String)
        /// Too many calls wait for their turn.
        case overloaded(waitingMax: Int)
        /// No answer within the call's deadline, all tries together.
        case deadlineExceeded(Duration)
        case cancelled
    }

    package var kind: Kind
    /// The call: `GET /api/v1/namespaces/a/pods/b`.
    package var call: String

    package init(_ kind: Kind, call: String) {
        self.kind = kind
        self.call = call
    }

    package var description: String { "\(self.call): \(self.reason)" }

    /// The reason without the call.
    package var reason: String {
        switch self.kind {
        case .refused(let status): "\(status)"
        case .transport(let error): "\(error)"
        case .credentials(let why): why
        case .malformed(let why): "the answer cannot be used: \(why)"
        case .overloaded(let most): "\(most) calls are waiting already"
        case .deadlineExceeded(let time): "no answer within \(time)"
        case .cancelled: "cancelled"
        }
    }

    /// What the server said, where it said something.
    package var status: Status? {
        if case .refused(let status) = self.kind { status } else { nil }
    }

    package var isNotFound: Bool { self.status?.isNotFound ?? false }
    package var isConflict: Bool { self.status?.isConflict ?? false }
    package var isAlreadyExists: Bool { self.status?.isAlreadyExists ?? false }
    package var isCancelled: Bool {
        if case .cancelled = self.kind { true } else { false }
    }

    /// Whether the call cannot have changed anything at the server.
    package var isWithoutEffect: Bool {
        switch self.kind {
        case .refused(let status): status.code < 500
        case .transport(let error): error.isBeforeSending
        case .credentials, .overloaded: true
        case .malformed, .deadlineExceeded, .cancelled: false
        }
    }
}
