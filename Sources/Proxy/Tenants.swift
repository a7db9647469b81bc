import Core
import Digests
import EventLoop
import HTTP
import Synchronization
import Traffic

/// What all workers share of one tenant; survives snapshots.
///
/// Threads: all from any. The meter's mutex is held for a few additions, once when a request is
/// admitted and once when it ends.
package final class TenantShared: Sendable {
    package let name: String
    private let meter: Locked<TenantMeter>
    private let counts = Locked<[Outcome: UInt64]>([:])
    private let inputTokens = Atomic<UInt64>(0)
    private let outputTokens = Atomic<UInt64>(0)

    /// How a request of a tenant was met.
    package enum Outcome: String, CaseIterable, Sendable {
        case admitted
        case forbidden = "forbidden-model"
        case requests = "requests-limit"
        case tokens = "tokens-limit"
        case concurrency = "concurrency-limit"
        case shed
    }

    /// - Parameter share: of the quota, this gateway's part.
    package init(
        _ name: String,
        _ quota: TenantQuota,
        share: TenantShare = .whole,
        now: Instant
    ) {
        self.name = name
        self.meter = Locked(TenantMeter(quota, share: share, now: now))
    }

    package func update(_ quota: TenantQuota, share: TenantShare = .whole, now: Instant) {
        self.meter.withLock {
            $0.take(share, now: now)
            $0.update(quota, now: now)
        }
    }

    package func take(_ share: TenantShare, now: Instant) {
        self.meter.withLock { $0.take(share, now: now) }
    }

    /// What the gateway's part of the limits is, and what was asked for lately.
    package func use(now: Instant) -> (TenantQuota, TenantShare, TenantDemand) {
        self.meter.withLock { ($0.quota, $0.share, $0.lately(now: now)) }
    }

    /// What was counted since the start, with zeros for what may happen.
    package struct Statistics: Sendable {
        package var outcomes: [Outcome: UInt64] = [:]
        package var inFlight = 0
        package var inputTokens: UInt64 = 0
        package var outputTokens: UInt64 = 0

        package init() {}
    }

    package var statistics: Statistics {
        var statistics = Statistics()
        statistics.outcomes = self.counts.withLock { $0 }
        statistics.inFlight = self.meter.withLock { $0.inFlight }
        statistics.inputTokens = self.inputTokens.load(ordering: .relaxed)
        statistics.outputTokens = self.outputTokens.load(ordering: .relaxed)
        return statistics
    }

    var expectedAnswerTokens: Int { self.meter.withLock { $0.expectedAnswerTokens } }

    /// Asks for admission; what is left of the limits afterwards.
    func request(tokens: Int, now: Instant) -> (TenantMeter.OnRequest, RateReadings) {
        let answer = self.meter.withLock { meter in
            let outcome = meter.request(tokens: tokens, now: now)
            let readings = RateReadings(
                requests: meter.requestReading(now: now),
                tokens: meter.tokenReading(now: now)
            )
            return (outcome, readings)
        }
        switch answer.0 {
        case .admitted: self.count(.admitted)
        case .refused(.requests, _): self.count(.requests)
        case .refused(.tokens, _): self.count(.tokens)
        case .refused(.concurrency, _): self.count(.concurrency)
        }
        return answer
    }

    func ended(charged: Int, cost: TenantCost, now: Instant) {
        self.meter.withLock {
            $0.ended(charged: charged, cost: cost.total, answer: cost.answer, now: now)
        }
        self.inputTokens.add(UInt64(clamping: cost.counted.input), ordering: .relaxed)
        self.outputTokens.add(UInt64(clamping: cost.counted.output), ordering: .relaxed)
    }

    func count(_ outcome: Outcome) {
        self.counts.withLock { $0[outcome, default: 0] += 1 }
    }
}

/// What is left of a tenant's limits, as it is told to the client.
struct RateReadings: Sendable {
    var requests: TenantMeter.Reading?
    var tokens: TenantMeter.Reading?
}

/// What a request did cost its tenant, in tokens.
struct TenantCost {
    var total = 0
    /// Of these, the answer's, where somebody counted them.
    var answer: Int?
    /// What was counted rather than estimated.
    var counted = (input: 0, output: 0)
}

/// A tenant as a snapshot has it.
package final class TenantRoute: Sendable {
    package let name: String
    let priority: Int
    /// Names of models; nil allows all.
    let models: Set<[UInt8]>?
    package let shared: TenantShared
    /// Stands for the tenant where its name need not be told.
    let hash: UInt64

    package init(name: String, priority: Int, models: [String], shared: TenantShared) {
        self.name = name
        self.priority = priority
        self.models = models.isEmpty ? nil : Set(models.map { Array($0.utf8) })
        self.shared = shared
        var text = name
        // Never 0, which stands for no tenant.
        self.hash = text.withUTF8 { ByteHash.hash(UnsafeRawBufferPointer($0).bytes) } | 1
    }

    func mayUse(_ model: ModelRoute) -> Bool {
        self.models?.contains(model.nameBytes) ?? true
    }
}

/// The tenants of a snapshot, by their keys. Where there is one, every request needs a key.
package struct TenantDirectory: Sendable {
    package private(set) var tenants: [TenantRoute] = []
    private var keys = TenantKeys()
    /// Replicas are sent the credentials of requests.
    let forwardsCredentials: Bool

    package init(forwardsCredentials: Bool = false) {
        self.forwardsCredentials = forwardsCredentials
    }

    /// Keys that another tenant has already are left out.
    /// - Returns: the names of those tenants.
    package mutating func add(_ tenant: TenantRoute, keys: [KeyDigest]) -> Set<String> {
        var owners: Set<String> = []
        for key in keys {
            if self.keys.add(key, tenant: self.tenants.count) { continue }
            if let owner = self.keys.tenant(of: key) { owners.insert(self.tenants[owner].name) }
        }
        self.tenants.append(tenant)
        return owners
    }

    enum Finding {
        case tenant(TenantRoute)
        case noKey
        case unknownKey
    }

    /// Whose request it is: by `Authorization: Bearer`, else by `x-api-key`.
    func find(_ head: RequestHead, _ bytes: RawSpan) -> Finding {
        var found = Finding.noKey
        if let field = head.first(.authorization) {
            let value = bytes.slice(field.valueRange)
            if let range = PresentedKey.bearer(value) {
                found = self.find(value.extracting(range))
            } else {
                found = .unknownKey
            }
            if case .tenant = found { return found }
        }
        guard let field = head.first(.apiKey) else { return found }
        let value = bytes.slice(field.valueRange)
        return PresentedKey.isKey(value) ? self.find(value) : .unknownKey
    }

    private func find(_ key: RawSpan) -> Finding {
        let digest = key.withUnsafeBytes { Digests.sha256($0) }
        guard let digest = KeyDigest(digest.span.bytes),
            let index = self.keys.tenant(of: digest)
        else { return .unknownKey }
        return .tenant(self.tenants[index])
    }
}
