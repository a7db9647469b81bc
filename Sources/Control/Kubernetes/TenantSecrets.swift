import Configuration
import Core
import Digests
import EventLoop
import Kubernetes
import Traffic

// Design note
//
// The keys of tenants that are in Secrets, for the gateway of a cluster.
//
//   Tenants name Secrets ─▶ TenantSecrets: one GET for each, in turns ─▶ KeyBook ─▶ hashes
//
// Each Secret is read by its name, so that `get` on these names is all the right it takes: who may
// list or watch Secrets of a namespace may read all of them. A key that was replaced is known
// within `period`. Only hashes are kept. While a Secret cannot be read (no server, no right) its
// last keys stay good; one that is gone, or has no key any more, opens nothing from then on.
//
// Limits: one repeated read per `pauseMin` on the whole; with more Secrets than fit into `period`
// each is read less often. Those that are named for the first time are read at once, `underWayMax`
// at a time and as fast as the client's own limit lets them. One that could not be read is asked
// for again in its turn; a gateway that has just started waits for three such tries.

/// What was read of the Secrets that tenants name.
struct KeyBook {
    struct Reference: Hashable {
        var secret: ObjectKey
        var entry: String
    }

    /// Keys in one entry: one on each line, the old and the new one while they are exchanged.
    static let keysMax = 16
    /// So often a Secret may fail to be read, until the gateway goes on without it.
    static let failuresMax = 3

    private var references: [ObjectKey: Set<String>] = [:]
    private var digests: [Reference: [KeyDigest]] = [:]
    private var problems: [Reference: KeyProblem] = [:]
    /// Those that the server said something of, and those that it may not tell.
    private var tried: Set<ObjectKey> = []
    /// Of those that are not tried yet.
    private var failures: [ObjectKey: Int] = [:]

    /// The Secrets that are named, in the order of their names.
    var secrets: [ObjectKey] { self.references.keys.sorted() }

    /// Whether of each of them is known what it holds, or that it cannot be had.
    var isComplete: Bool { self.references.keys.allSatisfy(self.tried.contains) }

    /// Whether it has neither been read nor failed to be.
    func isNew(_ secret: ObjectKey) -> Bool {
        !self.tried.contains(secret) && self.failures[secret] == nil
    }

    func keys(_ reference: Reference) -> [KeyDigest] { self.digests[reference] ?? [] }

    func problem(_ reference: Reference) -> KeyProblem? { self.problems[reference] }

    mutating func want(_ references: Set<Reference>) {
        let new = Dictionary(grouping: references, by: \.secret).mapValues { Set($0.map(\.entry)) }
        // Another entry of a Secret that was read already: it is read again.
        for (secret, entries) in new where self.references[secret] != entries {
            self.tried.remove(secret)
        }
        self.references = new
        self.digests = self.digests.filter { references.contains($0.key) }
        self.problems = self.problems.filter { references.contains($0.key) }
        self.tried = self.tried.filter { new[$0] != nil }
        self.failures = self.failures.filter { new[$0.key] != nil }
    }

    enum Answer {
        case secret(KubernetesObject)
        case notFound
        case forbidden
        case failed(String)

        var isFailure: Bool {
            if case .failed = self { true } else { false }
        }
    }

    /// - Returns: whether anything is known otherwise than before.
    mutating func take(_ answer: Answer, of secret: ObjectKey) -> Bool {
        guard let entries = self.references[secret] else { return false }
        if answer.isFailure, !self.tried.contains(secret) {
            self.failures[secret, default: 0] += 1
        }
        if self.failures[secret, default: 0] >= Self.failuresMax || !answer.isFailure {
            self.tried.insert(secret)
            self.failures[secret] = nil
        }
        var hasChanged = false
        for entry in entries {
            let reference = Reference(secret: secret, entry: entry)
            let (keys, problem) = self.finding(answer, reference)
            if keys != self.digests[reference] ?? [] || problem != self.problems[reference] {
                hasChanged = true
            }
            self.digests[reference] = keys
            self.problems[reference] = problem
        }
        return hasChanged
    }

    private func finding(
        _ answer: Answer,
        _ reference: Reference
    ) -> (keys: [KeyDigest], problem: KeyProblem?) {
        let name = "Secret \(reference.secret)"
        let known = self.keys(reference)
        switch answer {
        case .notFound:
            return ([], KeyProblem(reason: "SecretMissing", message: "\(name) does not exist"))
        case .forbidden:
            let message =
                "gateways may not read \(name): give their service account `get` on it by a Role "
                + "that names it"
            return (known, KeyProblem(reason: "SecretForbidden", message: message))
        case .failed(let why):
            let message = "\(name) cannot be read (\(why)); the keys known before stay good"
            return (known, KeyProblem(reason: "SecretUnreadable", message: message))
        case .secret(let object):
            let entry = "entry `\(reference.entry)` of \(name)"
            switch SecretEntry(reference.entry, of: object) {
            case .missing:
                let message = "\(name) has no entry `\(reference.entry)`"
                return ([], KeyProblem(reason: "SecretInvalid", message: message))
            case .malformed:
                return ([], KeyProblem(reason: "SecretInvalid", message: "\(entry) is no base64"))
            case .bytes(let bytes):
                if let keys = Self.keys(bytes) { return (keys, nil) }
                let message =
                    "\(entry) holds no key: a key is 1 to \(PresentedKey.bytesMax) visible ASCII "
                    + "characters on a line of its own, and there are at most \(Self.keysMax)"
                return ([], KeyProblem(reason: "SecretInvalid", message: message))
            }
        }
    }

    /// One key per line; nil where there is none, or something else.
    static func keys(_ bytes: [UInt8]) -> [KeyDigest]? {
        let lines = bytes.split { $0 == 0x0A || $0 == 0x0D }.map(Self.trimmed)
            .filter { !$0.isEmpty }
        guard (1...self.keysMax).contains(lines.count) else { return nil }
        var keys: [KeyDigest] = []
        for line in lines {
            let key = Array(line)
            guard PresentedKey.isKey(key.span.bytes),
                let digest = KeyDigest(Digests.sha256(key).span.bytes)
            else { return nil }
            keys.append(digest)
        }
        return keys
    }

    private static func trimmed(_ line: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        let isSpace: (UInt8) -> Bool = { $0 == 0x20 || $0 == 0x09 }
        var line = line.drop(while: isSpace)
        while let last = line.last, isSpace(last) { line.removeLast() }
        return line
    }
}

/// See the design note above. On the control loop's thread.
package final class TenantSecrets {
    /// Between two reads, of any of them.
    static let pauseMin = Duration.milliseconds(100)
    static let underWayMax = 8
    package static let standardPeriod = Duration.seconds(10)

    /// Keys, or what is wrong with them, are others than before.
    var onChange: () -> Void = {}
    private(set) var book = KeyBook()
    private let client: KubernetesClient
    private let period: Duration
    private var timer: LoopTimer?
    private var pause = Duration.zero
    private var turn: ObjectKey?
    /// Not read yet since they were named, in turns.
    private var waiting: [ObjectKey] = []
    private var underWay: [ObjectKey: APIHandle] = [:]
    private var isTelling = false

    /// - Parameter period: within which each Secret is read again, where there are not too many.
    init(_ client: KubernetesClient, period: Duration) {
        self.client = client
        self.period = period
    }

    deinit { self.timer?.cancel() }

    func stop() {
        self.timer?.cancel()
        self.timer = nil
        self.pause = .zero
        self.waiting = []
        for handle in self.underWay.values { handle.cancel() }
        self.underWay = [:]
    }

    /// Goes by what the tenants name now; those that are new are read at once.
    func follow(_ configuration: Configuration) {
        var references: Set<KeyBook.Reference> = []
        for tenant in configuration.tenants {
            for key in tenant.spec.keys {
                guard let reference = tenant.reference(key) else { continue }
                references.insert(reference)
            }
        }
        self.book.want(references)
        let secrets = self.book.secrets
        self.waiting = secrets.reversed().filter(self.book.isNew)
        self.readWaiting()
        self.readRepeatedly(secrets.count)
    }

    /// The timer goes on where the pause is the same: changes of the configuration, however many,
    /// must not put reading off.
    private func readRepeatedly(_ count: Int) {
        let pause = count == 0 ? .zero : max(Self.pauseMin, self.period / count)
        if pause == self.pause { return }
        self.pause = pause
        self.timer?.cancel()
        self.timer = nil
        if count == 0 { return }
        self.timer = self.client.loop.scheduleRepeating(every: pause) { [weak self] in
            self?.readNext()
        }
    }

    private func readWaiting() {
        while self.underWay.count < Self.underWayMax, let secret = self.waiting.popLast() {
            self.read(secret)
        }
    }

    private func readNext() {
        let secrets = self.book.secrets
        let later = secrets.first { key in self.turn.map { key > $0 } ?? true }
        guard let next = later ?? secrets.first else { return }
        self.turn = next
        self.read(next)
    }

    private func read(_ secret: ObjectKey) {
        guard self.underWay[secret] == nil, self.underWay.count < Self.underWayMax else { return }
        self.underWay[secret] = self.client.get(.secrets, secret) { [weak self] result in
            guard let self, self.underWay.removeValue(forKey: secret) != nil else { return }
            let answer: KeyBook.Answer
            switch result {
            case .success(let object): answer = .secret(object)
            case .failure(let error) where error.isCancelled: return
            case .failure(let error) where error.isNotFound: answer = .notFound
            case .failure(let error) where error.status?.code == 403: answer = .forbidden
            case .failure(let error): answer = .failed(Self.words(error))
            }
            if self.book.take(answer, of: secret) { self.tellSoon() }
            self.readWaiting()
        }
    }

    /// Once for all that is read in a turn of the loop.
    private func tellSoon() {
        if self.isTelling { return }
        self.isTelling = true
        let bound = LoopBound(Weak(self), loop: self.client.loop)
        self.client.loop.post {
            guard let secrets = bound.value.object else { return }
            secrets.isTelling = false
            secrets.onChange()
        }
    }

    /// Of a body that cannot be used nothing may be told: it holds the keys.
    private static func words(_ error: APIError) -> String {
        if case .malformed = error.kind { return "the answer cannot be used" }
        return error.reason
    }

    // MARK: What is known of a tenant

    func keys(_ tenant: TenantResource) -> [KeyDigest] {
        tenant.spec.keys.flatMap { key in
            tenant.reference(key).map(self.book.keys) ?? []
        }
    }

    /// With the keys that are not in a Secret.
    func report(_ tenant: TenantResource) -> TenantReport.Tenant {
        let references = tenant.spec.keys.compactMap(tenant.reference)
        return TenantReport.Tenant(
            name: tenant.key,
            keys: tenant.spec.keys.count - references.count + self.keys(tenant).count,
            problems: references.compactMap(self.book.problem)
        )
    }
}

extension TenantResource {
    /// Where a key of the tenant is, if it is in a Secret: in the tenant's own namespace.
    func reference(_ key: TenantKey) -> KeyBook.Reference? {
        guard case .secret(let name, let entry) = key else { return nil }
        return KeyBook.Reference(
            secret: ObjectKey(namespace: self.metadata.namespace, name: name),
            entry: entry
        )
    }
}
