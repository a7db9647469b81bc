import Configuration
import Core
import EventLoop
import Logging
import TLS

/// How endpoints that speak TLS are asked: one `ClientSecurity` for each name and each set of
/// files, the same one for as long as the configuration asks for it.
///
/// Files are read again when they change. Where they cannot be used, what was read before stays;
/// where nothing was read yet, there is no session, and whoever wants one is told why. Nothing
/// falls back to trusting more. On the control loop's thread.
package final class UpstreamCertificates {
    private struct Key: Hashable {
        let spec: UpstreamTLSSpec
        let name: String
    }

    private struct Entry {
        let security: ClientSecurity
        /// By which round of `begin` it was asked for last.
        var round: Int
    }

    private let loop: EventLoop
    private let logger: Logger
    private var entries: [Key: Entry] = [:]
    /// Of the files of each set, as they were read last; a failure only where they never were.
    private var contexts: [UpstreamTLSSpec: Result<ClientContext, TLSError>] = [:]
    private var round = 0
    private var watched: Set<String> = []
    private var watcher: FileWatcher?

    init(loop: EventLoop, logger: Logger) {
        self.loop = loop
        self.logger = logger
    }

    // MARK: For a configuration

    /// What is not asked for from here to `end` is forgotten.
    func begin() {
        self.round += 1
    }

    /// Nil for an endpoint in plain text.
    func security(of url: EndpointURL, _ spec: UpstreamTLSSpec?) -> ClientSecurity? {
        guard url.scheme == .https else { return nil }
        let spec = spec ?? UpstreamTLSSpec()
        let key = Key(spec: spec, name: spec.serverName ?? url.host)
        if let entry = self.entries[key] {
            self.entries[key]?.round = self.round
            return entry.security
        }
        let security = ClientSecurity(name: key.name, self.context(spec))
        self.entries[key] = Entry(security: security, round: self.round)
        return security
    }

    func end() {
        self.entries = self.entries.filter { $0.value.round == self.round }
        let used = Set(self.entries.keys.map(\.spec))
        self.contexts = self.contexts.filter { used.contains($0.key) }
        let files = Set(used.flatMap(\.files))
        if files == self.watched { return }
        self.watched = files
        self.watcher?.stop()
        self.watcher = nil
        if files.isEmpty { return }
        self.watcher = FileWatcher(loop: self.loop, paths: files.sorted()) { [weak self] in
            self?.reload()
        }
    }

    func stop() {
        self.watcher?.stop()
        self.watcher = nil
    }

    // MARK: Files

    /// Reads all files again.
    package func reload() {
        for spec in self.contexts.keys where !spec.files.isEmpty {
            switch Self.read(spec) {
            case .success(let context):
                self.contexts[spec] = .success(context)
                for (key, entry) in self.entries where key.spec == spec {
                    entry.security.replace(with: .success(context))
                }
                self.logger.info(
                    "certificates of endpoints reloaded",
                    metadata: ["files": "\(spec.files)"]
                )
            case .failure(let error):
                self.tell(error)
            }
        }
    }

    private func context(_ spec: UpstreamTLSSpec) -> Result<ClientContext, TLSError> {
        if let context = self.contexts[spec] { return context }
        let context = Self.read(spec)
        if case .failure(let error) = context { self.tell(error) }
        self.contexts[spec] = context
        return context
    }

    private func tell(_ error: TLSError) {
        self.logger.error(
            "certificates for endpoints cannot be used",
            metadata: ["problem": "\(error)"]
        )
    }

    private static func read(_ spec: UpstreamTLSSpec) -> Result<ClientContext, TLSError> {
        Result { () throws(TLSError) in
            var options = ClientContext.Options()
            if spec.insecureSkipVerify {
                options.trust = .anybody
            } else if let path = spec.authority {
                options.trust = .authorities(try self.authorities(path))
            }
            if let certificate = spec.certificate, let key = spec.key {
                options.identity = try self.identity(certificate, key)
            }
            return try ClientContext(options)
        }
    }

    private static func authorities(_ path: String) throws(TLSError) -> Authorities {
        let bytes = try ListenerCertificates.bytes(path)
        do throws(TLSError) {
            return try Authorities(bytes)
        } catch {
            throw TLSError("\(path): \(error)")
        }
    }

    private static func identity(
        _ certificate: String,
        _ key: String
    ) throws(TLSError) -> Identity {
        let bytes = try ListenerCertificates.bytes(certificate)
        var keyBytes = try ListenerCertificates.bytes(key)
        defer { Secrets.wipe(&keyBytes) }
        do throws(TLSError) {
            return try Identity(certificate: bytes, key: keyBytes)
        } catch {
            throw TLSError("\(certificate), \(key): \(error)")
        }
    }
}
