import EventLoop
import Glibc
import HTTP
import HTTPService

/// Decides who may talk to the admin port.
struct AdminAccess {
    /// The fields of a request that matter here, as they were sent.
    struct Fields {
        var host: String?
        var origin: String?
        var fetchSite: String?
        var contentType: String?
        var authorization: String?
        var hasBody = false
    }

    /// Why a request is not answered.
    struct Refusal: Equatable {
        var status: UInt16
        var message: String

        func answer(_ response: ResponseWriter) {
            guard self.status == 401 else {
                return response.refuse(status: self.status, self.message)
            }
            response.respond(
                status: 401,
                // RFC 9110, section 11.6.1: a 401 says how to authenticate.
                fields: { ResponseFields.add("WWW-Authenticate", "Bearer", to: $0) },
                json: { $0.object { $0.member("error", self.message) } }
            )
        }
    }

    /// Whether the port is reachable from this machine alone.
    let isLoopback: Bool
    let tokenFile: String?

    /// Nil: go on.
    func refusal(_ fields: Fields, isWrite: Bool) -> Refusal? {
        if self.isLoopback, !Self.isLocal(authority: fields.host) {
            return Refusal(
                status: 403,
                message: "the Host is not this machine's: use the address the admin port listens on"
            )
        }
        guard isWrite else { return nil }
        return self.foreignPage(fields) ?? Self.wrongContent(fields) ?? self.missingToken(fields)
    }

    /// Refuses a request without the right token; none is needed on loopback.
    func missingToken(_ fields: Fields) -> Refusal? {
        if self.isLoopback { return nil }
        guard let tokenFile = self.tokenFile else {
            return Refusal(
                status: 403,
                message: "not on this address without a token: set `spec.admin.tokenFile`"
            )
        }
        let token: [UInt8]
        do throws(SystemError) {
            token = try TokenFile.read(tokenFile)
        } catch {
            return Refusal(status: 503, message: "the token cannot be read: \(error.reason)")
        }
        guard let given = Self.bearer(fields.authorization) else {
            return Refusal(status: 401, message: "send `Authorization: Bearer TOKEN`")
        }
        return TokenFile.areEqual(given, token)
            ? nil : Refusal(status: 401, message: "the token is not the right one")
    }

    /// A page of another site in a browser: it names itself in `Origin`, and the browser tells what
    /// it is in `Sec-Fetch-Site` (W3C Fetch Metadata). Programs send neither.
    private func foreignPage(_ fields: Fields) -> Refusal? {
        let isSameOrigin = fields.origin.map { $0 == "http://\(fields.host ?? "")" } ?? true
        let isSameSite = fields.fetchSite.map { $0 == "same-origin" || $0 == "none" } ?? true
        return isSameOrigin && isSameSite
            ? nil : Refusal(status: 403, message: "pages of other sites may not write")
    }

    /// Content must be JSON, which a form on another site cannot send. Without content, nothing has
    /// to be said about it.
    private static func wrongContent(_ fields: Fields) -> Refusal? {
        guard fields.hasBody || fields.contentType != nil else { return nil }
        let type = (fields.contentType ?? "").prefix { $0 != ";" }.lowercased()
        return type.drop { $0 == " " }.prefix { $0 != " " } == "application/json"
            ? nil : Refusal(status: 415, message: "content must be application/json")
    }

    /// Whether `Host` names this machine by a loopback address or as `localhost`. Any other name
    /// may have been made to resolve to loopback by somebody else (DNS rebinding).
    static func isLocal(authority: String?) -> Bool {
        guard let authority else { return false }
        let lower = authority.lowercased()
        if let address = SocketAddress(lower) { return address.isLoopback }
        return SocketAddress(host: lower, port: 0)?.isLoopback ?? false
    }

    /// The token of `Bearer TOKEN` (RFC 6750, section 2.1); the scheme's case does not matter.
    private static func bearer(_ authorization: String?) -> [UInt8]? {
        guard let parts = authorization?.split(separator: " "), parts.count == 2,
            parts[0].lowercased() == "bearer"
        else { return nil }
        return Array(parts[1].utf8)
    }
}

extension AdminAccess.Fields {
    init(_ request: borrowing HTTPRequest) {
        self.init(
            host: request.field(.host),
            origin: request.field(.origin),
            fetchSite: request.field(named: "sec-fetch-site"),
            contentType: request.field(.contentType),
            authorization: request.field(.authorization),
            hasBody: request.bodyBytes > 0
        )
    }
}

/// The file that holds the admin token, white space around it aside.
package enum TokenFile {
    /// - Throws: when it cannot be read, is no plain file, too long or empty.
    package static func read(_ path: String) throws(SystemError) -> [UInt8] {
        let operation = "read the token in \(path)"
        // Not blocking: a named pipe in its place must not stop the control loop.
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { throw SystemError(operation, code: errno) }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw SystemError(operation, code: errno) }
        guard status.st_mode & S_IFMT == S_IFREG else { throw SystemError(operation, code: EINVAL) }
        var bytes = [UInt8](repeating: 0, count: AdminLimits.tokenBytesMax + 1)
        let count = bytes.withUnsafeMutableBytes {
            Glibc.read(descriptor, $0.baseAddress, $0.count)
        }
        guard count >= 0 else { throw SystemError(operation, code: errno) }
        guard count <= AdminLimits.tokenBytesMax else { throw SystemError(operation, code: EFBIG) }
        let token = self.trimmed(bytes.prefix(count))
        guard !token.isEmpty else { throw SystemError(operation, code: ENODATA) }
        return token
    }

    private static func trimmed(_ bytes: ArraySlice<UInt8>) -> [UInt8] {
        let isSpace: (UInt8) -> Bool = { $0 == 0x20 || (0x09...0x0D).contains($0) }
        return Array(Array(bytes.drop(while: isSpace).reversed()).drop(while: isSpace).reversed())
    }

    /// Compares in a time that depends on the lengths alone, so that a token cannot be guessed byte
    /// by byte.
    static func areEqual(_ given: [UInt8], _ token: [UInt8]) -> Bool {
        precondition(!token.isEmpty, "an empty token would let everybody in")
        var difference = UInt64(given.count ^ token.count)
        for index in given.indices {
            difference |= UInt64(given[index] ^ token[index % token.count])
        }
        return difference == 0
    }
}
