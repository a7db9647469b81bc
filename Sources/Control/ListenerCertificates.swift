import Configuration
import Core
import EventLoop
import Kubernetes
import Logging
import Proxy
import TLS

/// The certificates of the listeners: reads them, and reads them again when their files change.
///
/// What cannot be used changes nothing: the listener goes on with what it has, and that is logged
/// and counted. Connections keep the certificate that they began with. On the control loop's
/// thread.
package final class ListenerCertificates {
    /// What a listener has, for metrics.
    package struct Facts {
        package var listener: String
        /// In order, the default first: a name, and when it ends in seconds since 1970.
        package var certificates: [(name: String, notAfter: Int64)]
        /// How often its files were read anew and taken, and how often they were no good.
        package var reloads: UInt64
        package var errors: UInt64
    }

    private final class Entry {
        let name: String
        let listener: ListenerSpec
        let spec: TLSSpec
        let security: ListenerSecurity
        var identities: [Identity]
        var authorities: Authorities?
        var reloads: UInt64 = 0
        var errors: UInt64 = 0

        init(_ listener: ListenerSpec, _ spec: TLSSpec, _ parts: Parts, _ context: ServerContext) {
            self.name = listener.name
            self.listener = listener
            self.spec = spec
            self.security = ListenerSecurity(context)
            self.identities = parts.identities
            self.authorities = parts.authorities
        }
    }

    /// What a context is made of.
    private struct Parts {
        var identities: [Identity] = []
        var authorities: Authorities?
    }

    private let loop: EventLoop
    private let logger: Logger
    private let ticketKeys = TicketKeys(random: SecureRandom.bytes)
    private var entries: [Entry] = []
    private var watcher: FileWatcher?
    private var rotation: LoopTimer?

    /// Reads the certificates of all listeners that speak TLS. A file that cannot be used is an
    /// error here: there is nothing to go on with.
    package init(loop: EventLoop, listeners: [ListenerSpec], logger: Logger) throws(TLSError) {
        self.loop = loop
        self.logger = logger
        for listener in listeners {
            guard let spec = listener.tls else { continue }
            do throws(TLSError) {
                var parts = Parts()
                for certificate in spec.certificates {
                    parts.identities.append(try Self.read(certificate))
                }
                parts.authorities = try Self.readAuthorities(spec)
                let context = try self.makeContext(listener, spec, parts)
                self.entries.append(Entry(listener, spec, parts, context))
            } catch {
                throw TLSError("listener `\(listener.name)`: \(error)")
            }
        }
        for entry in self.entries {
            for (identity, spec) in zip(entry.identities, entry.spec.certificates) {
                self.tellValidity(entry, spec, identity)
            }
        }
    }

    package var isEmpty: Bool { self.entries.isEmpty }

    /// What the gateway's listeners show, by their names.
    package var security: [String: ListenerSecurity] {
        Dictionary(uniqueKeysWithValues: self.entries.map { ($0.name, $0.security) })
    }

    package var facts: [Facts] {
        self.entries.map { entry in
            Facts(
                listener: entry.name,
                certificates: entry.identities.map {
                    ($0.names.first ?? "", $0.validity.notAfter)
                },
                reloads: entry.reloads,
                errors: entry.errors
            )
        }
    }

    /// Watches the files, and changes the tickets' keys from time to time.
    package func start() {
        if self.entries.isEmpty { return }
        let files = self.entries.flatMap(\.spec.files)
        self.watcher = FileWatcher(loop: self.loop, paths: files) { [weak self] in self?.reload() }
        let keys = self.ticketKeys
        self.rotation = self.loop.scheduleRepeating(every: TicketKeyRing.period) {
            keys.rotate(random: SecureRandom.bytes)
        }
    }

    package func stop() {
        self.watcher?.stop()
        self.rotation?.cancel()
        self.rotation = nil
    }

    // MARK: Reloading

    /// Reads all files again.
    package func reload() {
        for entry in self.entries { self.reload(entry) }
    }

    private func reload(_ entry: Entry) {
        var parts = Parts(identities: entry.identities, authorities: entry.authorities)
        var hasChanged = false
        for (index, spec) in entry.spec.certificates.enumerated() {
            self.attempt(entry, spec.certificate) { () throws(TLSError) in
                let new = try Self.read(spec)
                if new.isSame(as: parts.identities[index]) { return }
                guard self.takes(new, for: parts.identities[index], entry, spec) else { return }
                parts.identities[index] = new
                hasChanged = true
            }
        }
        self.attempt(entry, entry.spec.clientCA ?? "") { () throws(TLSError) in
            let new = try Self.readAuthorities(entry.spec)
            if new?.isSame(as: parts.authorities) ?? true { return }
            parts.authorities = new
            hasChanged = true
        }
        if !hasChanged { return }
        self.attempt(entry, entry.spec.certificates[0].certificate) { () throws(TLSError) in
            let context = try self.makeContext(entry.listener, entry.spec, parts)
            entry.security.replace(with: context)
            entry.identities = parts.identities
            entry.authorities = parts.authorities
            entry.reloads += 1
            self.logger.info("certificates reloaded", metadata: ["listener": "\(entry.name)"])
        }
    }

    private func takes(
        _ new: Identity,
        for current: Identity,
        _ entry: Entry,
        _ spec: CertificateSpec
    ) -> Bool {
        let decision = CertificateRenewal.decide(
            current: current.validity,
            new: new.validity,
            now: Int64(EventLoop.readWallClock())
        )
        switch decision {
        case .take:
            return true
        case .takeWithWarning:
            self.tellValidity(entry, spec, new)
            return true
        case .keep(let problem):
            self.refuse(entry, spec.certificate, problem)
            return false
        }
    }

    private func attempt(_ entry: Entry, _ file: String, _ body: () throws(TLSError) -> Void) {
        do throws(TLSError) {
            try body()
        } catch {
            self.refuse(entry, file, error.description)
        }
    }

    private func refuse(_ entry: Entry, _ file: String, _ problem: String) {
        entry.errors += 1
        self.logger.error(
            "certificate refused, the old one stays",
            metadata: [
                "listener": "\(entry.name)", "file": "\(file)", "problem": "\(problem)",
            ]
        )
    }

    private func tellValidity(_ entry: Entry, _ spec: CertificateSpec, _ identity: Identity) {
        let now = Int64(EventLoop.readWallClock())
        guard let problem = identity.validity.problem(at: now) else { return }
        self.logger.warning(
            "clients will refuse the certificate",
            metadata: [
                "listener": "\(entry.name)", "file": "\(spec.certificate)",
                "problem": "\(problem)",
            ]
        )
    }

    // MARK: Reading

    private func makeContext(
        _ listener: ListenerSpec,
        _ spec: TLSSpec,
        _ parts: Parts
    ) throws(TLSError) -> ServerContext {
        var options = ServerContext.Options(
            name: listener.name,
            identities: parts.identities,
            ticketKeys: self.ticketKeys
        )
        options.minimumVersion = spec.minimumVersion == .tls13 ? .tls13 : .tls12
        options.usesKernel = spec.kernel
        if !listener.http2.enabled { options.protocols = ["http/1.1"] }
        if let authorities = parts.authorities {
            switch spec.clientCertificate {
            case .required: options.clients = .required(authorities)
            case .optional: options.clients = .optional(authorities)
            }
        }
        return try ServerContext(options)
    }

    private static func read(_ spec: CertificateSpec) throws(TLSError) -> Identity {
        let staple: [UInt8]? =
            if let path = spec.ocspStaple { try self.bytes(path) } else { nil }
        let certificate = try self.bytes(spec.certificate)
        var key = try self.bytes(spec.key)
        defer { Secrets.wipe(&key) }
        do throws(TLSError) {
            return try Identity(certificate: certificate, key: key, staple: staple)
        } catch {
            throw TLSError("\(spec.certificate), \(spec.key): \(error)")
        }
    }

    private static func readAuthorities(_ spec: TLSSpec) throws(TLSError) -> Authorities? {
        guard let path = spec.clientCA else { return nil }
        let bytes = try self.bytes(path)
        do throws(TLSError) {
            return try Authorities(bytes)
        } catch {
            throw TLSError("\(path): \(error)")
        }
    }

    static func bytes(_ path: String) throws(TLSError) -> [UInt8] {
        switch LocalFile.read(path) {
        case .success(let bytes): return bytes
        case .failure(let problem): throw TLSError("cannot read \(path): \(problem.reason)")
        }
    }
}
