import Core
import Curl
import EventLoop

/// What a request carries to say who we are.
struct Credential {
    var fields: [(name: String, value: String)] = []
    /// In place of the configured client certificate.
    var certificate: CurlMaterial?
    var key: CurlMaterial?
    /// Another number means that it was had anew.
    var generation = 0
}

/// Keeps the credential of one cluster, and gets a new one where that is needed.
///
/// Tokens in files are read again after `tokenAge`; while that fails, the old one is kept. Plugins
/// run once however many requests wait, and again shortly before what they gave expires. On the
/// loop's thread.
final class CredentialSource {
    typealias Completion = (Result<Credential, FileProblem>) -> Void

    /// Files are read again after a minute, with ten seconds' leeway.
    static let tokenAge = Duration.seconds(50)
    /// A credential is renewed that long before it expires.
    static let expiryLeeway = 10.0
    static let tokenBytesMax = 1 << 20

    private let authentication: Authentication
    private let surroundings: AccessSurroundings
    private let loop: EventLoop
    private let wallClock: () -> Double
    private var current: Credential?
    private var readAt = Instant.zero
    /// Seconds since 1970.
    private var expiration: Double?
    private var generation = 0
    private var waiting: [Completion] = []
    private var isRunning = false

    init(
        _ authentication: Authentication,
        surroundings: AccessSurroundings,
        loop: EventLoop,
        wallClock: @escaping () -> Double
    ) {
        self.authentication = authentication
        self.surroundings = surroundings
        self.loop = loop
        self.wallClock = wallClock
    }

    /// Hands out the credential, at once where it is there.
    func get(_ completion: @escaping Completion) {
        switch self.authentication {
        case .none: completion(.success(Credential()))
        case .token(let token): completion(.success(Self.bearer(token, generation: 0)))
        case .basic(let user, let password):
            let text = Base64.text(Array("\(user):\(password)".utf8))
            let field = (name: "Authorization", value: "Basic \(text)")
            completion(.success(Credential(fields: [field])))
        case .tokenFile(let path): completion(self.fromFile(path))
        case .plugin(let plugin): self.fromPlugin(plugin, completion)
        }
    }

    /// The server did not take the credential of that generation: whether another try is worth it.
    func reject(generation: Int) -> Bool {
        switch self.authentication {
        case .none, .token, .basic: return false
        case .tokenFile, .plugin:
            // Others may have noticed before.
            if self.current?.generation == generation { self.current = nil }
            return true
        }
    }

    // MARK: Files

    private func fromFile(_ path: String) -> Result<Credential, FileProblem> {
        let now = self.loop.now
        if let current = self.current, now - self.readAt < Self.tokenAge {
            return .success(current)
        }
        let token: String
        switch self.surroundings.read(path) {
        case .success(let bytes):
            token = String(decoding: bytes, as: UTF8.self).trimmed
            guard !token.isEmpty, token.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else {
                return self.keepOld(FileProblem(reason: "\(path): the file holds no token"))
            }
        case .failure(let problem):
            return self.keepOld(FileProblem(reason: "\(path): \(problem.reason)"))
        }
        self.generation += 1
        let credential = Self.bearer(token, generation: self.generation)
        self.current = credential
        self.readAt = now
        return .success(credential)
    }

    private func keepOld(_ problem: FileProblem) -> Result<Credential, FileProblem> {
        if let current = self.current { return .success(current) }
        return .failure(problem)
    }

    private static func bearer(_ token: String, generation: Int) -> Credential {
        Credential(
            fields: [(name: "Authorization", value: "Bearer \(token)")],
            generation: generation
        )
    }

    // MARK: Plugins

    private func fromPlugin(_ plugin: ExecPlugin, _ completion: @escaping Completion) {
        if let current = self.current,
            self.expiration.map({ self.wallClock() < $0 - Self.expiryLeeway }) ?? true
        {
            return completion(.success(current))
        }
        self.waiting.append(completion)
        if self.isRunning { return }
        self.isRunning = true
        PluginRun.start(
            plugin,
            environment: self.surroundings.environment,
            loop: self.loop
        ) { result in
            self.isRunning = false
            let credential = result.flatMap { self.take($0, plugin) }
            let waiting = self.waiting
            self.waiting = []
            for completion in waiting { completion(credential) }
        }
    }

    private func take(_ output: [UInt8], _ plugin: ExecPlugin) -> Result<Credential, FileProblem> {
        let answer: ExecCredential
        do throws(FileProblem) {
            answer = try ExecCredential(output, version: plugin.version)
        } catch {
            return .failure(
                FileProblem(
                    reason: "the credential plugin `\(plugin.command)`: \(error.reason)"
                )
            )
        }
        self.generation += 1
        var credential = Credential(generation: self.generation)
        if let token = answer.token {
            guard token.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else {
                return .failure(
                    FileProblem(reason: "the credential plugin `\(plugin.command)` gives no token")
                )
            }
            credential = Self.bearer(token, generation: self.generation)
        }
        credential.certificate = answer.certificate.map { .data(Array($0.utf8)) }
        credential.key = answer.key.map { .data(Array($0.utf8)) }
        self.current = credential
        self.expiration = answer.expiration
        return .success(credential)
    }
}

/// RFC 4648, section 4.
enum Base64 {
    static func text(_ bytes: [UInt8]) -> String {
        let digits = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
        var result: [UInt8] = []
        for start in stride(from: 0, to: bytes.count, by: 3) {
            let group = bytes[start..<min(start + 3, bytes.count)]
            let bits = group.enumerated().reduce(0) { $0 | Int($1.element) << (16 - 8 * $1.offset) }
            for index in 0..<4 {
                let isPadding = index > group.count
                result.append(
                    isPadding ? UInt8(ascii: "=") : digits[bits >> (18 - 6 * index) & 63]
                )
            }
        }
        return String(decoding: result, as: UTF8.self)
    }
}
