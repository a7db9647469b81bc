import Admin
import ArgumentParser
import EventLoop
import HTTP
import HTTPService

/// How commands name the Weir they talk to.
struct AdminOptions: ParsableArguments {
    @Option(
        name: .customLong("admin"),
        help: "Admin address of the running Weir; else $WEIR_ADMIN, else 127.0.0.1:9901."
    )
    var address: String?

    static let defaultAddress = "127.0.0.1:9901"

    /// The address as given, and as the kernel wants it.
    /// - Throws: a usage error for what is no numeric address.
    func client() throws -> AdminClient {
        var text = self.address ?? ""
        if text.isEmpty { text = Output.environment()["WEIR_ADMIN"] ?? "" }
        if text.isEmpty { text = Self.defaultAddress }
        if text.hasPrefix("http://") { text = String(text.dropFirst("http://".utf8.count)) }
        if text.hasSuffix("/") { text = String(text.dropLast()) }
        guard let address = SocketAddress(text), address.port > 0 else {
            throw ValidationError(
                "`\(text)` is no admin address: give one such as \(Self.defaultAddress)"
            )
        }
        return AdminClient(address: address)
    }
}

/// How commands that write name it, with the token it may ask for.
struct AdminWriteOptions: ParsableArguments {
    @Option(
        help: "File with the admin token, for admin addresses that are not loopback.",
        completion: .file()
    )
    var tokenFile: String?

    @OptionGroup var admin: AdminOptions

    func client() throws -> AdminClient { try self.admin.client() }

    func token() throws(AdminClientError) -> String? {
        guard let path = self.tokenFile else { return nil }
        do {
            return String(decoding: try TokenFile.read(path), as: UTF8.self)
        } catch {
            throw AdminClientError(description: error.description)
        }
    }
}

/// Names from the configuration, as commands take them.
enum ResourceName {
    /// Nothing that means something in a path.
    /// - Throws: a usage error that calls it a `kind`.
    static func check(_ name: String, _ kind: String) throws {
        let isName = name.utf8.allSatisfy { byte in
            (0x61...0x7A).contains(byte) || (0x41...0x5A).contains(byte)
                || (0x30...0x39).contains(byte) || "-._".utf8.contains(byte)
        }
        guard isName, !name.isEmpty, name.utf8.count <= 253 else {
            throw ValidationError("`\(name)` is no name of a \(kind)")
        }
    }
}

/// What a running Weir could not be asked, or refused: said to people.
struct AdminClientError: Error, CustomStringConvertible {
    let description: String
    /// Nobody answered: a Weir that restarts may a moment later.
    var isSilence = false
}

/// Asks the admin API of a running Weir.
struct AdminClient {
    let address: SocketAddress

    func get(_ path: String) throws -> JSONValue {
        try self.send(FetchRequest(address: self.address, target: path))
    }

    /// Sends JSON. `token` is needed where the admin address is not loopback.
    func put(_ path: String, json: String, token: String?) throws -> JSONValue {
        try self.write(.put, path, json, token)
    }

    /// The same, for what is done and not set.
    func post(_ path: String, json: String, token: String?) throws -> JSONValue {
        try self.write(.post, path, json, token)
    }

    private func write(_ method: HTTPMethod, _ path: String, _ json: String, _ token: String?)
        throws -> JSONValue
    {
        var request = FetchRequest(address: self.address, target: path)
        request.method = method
        request.fields = [("Content-Type", "application/json")]
        if let token { request.fields.append(("Authorization", "Bearer \(token)")) }
        request.body = Array(json.utf8)
        return try self.send(request)
    }

    private func send(_ request: FetchRequest) throws -> JSONValue {
        let response: FetchResponse
        do throws(FetchError) {
            response = try HTTPFetch.wait(for: request)
        } catch {
            throw AdminClientError(description: self.advice(error), isSilence: error.isSilence)
        }
        let document = try? JSONValue(response.body)
        guard (200..<300).contains(response.status) else {
            if case .string(let reason)? = document?["error"] {
                throw AdminClientError(description: "\(self.address) refused: \(reason)")
            }
            throw AdminClientError(
                description: "\(self.address) answered with status \(response.status): "
                    + "is this Weir's admin address?"
            )
        }
        guard let document else {
            throw AdminClientError(
                description: "\(self.address) did not answer with JSON: "
                    + "is this Weir's admin address?"
            )
        }
        return document
    }

    private func advice(_ error: FetchError) -> String {
        switch error {
        case .cannotConnect, .connectionFailed:
            "no Weir answers at \(self.address) (\(error)): "
                + "start `weir run`, or name its admin address with --admin or WEIR_ADMIN"
        case .invalidRequest: "this cannot be asked: \(error)"
        case .timedOut, .invalidResponse, .truncated, .tooLarge, .cancelled:
            "\(self.address) did not answer properly (\(error)): is this Weir's admin address?"
        }
    }
}

extension FetchError {
    fileprivate var isSilence: Bool {
        switch self {
        case .cannotConnect, .connectionFailed, .timedOut, .truncated: true
        case .invalidRequest, .invalidResponse, .tooLarge, .cancelled: false
        }
    }
}
