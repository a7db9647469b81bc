import Clusters
import Configuration
import Core
import EventLoop
import HTTPService
import Kubernetes
import Orchestration
import Traffic

/// Asks every gateway of a cluster what it knows of its tenants, and tells each its parts of their
/// limits (`ShareLedger`). On the control loop's thread.
final class TenantChannel {
    /// What is wrong with a tenant's keys has changed; nil where nothing is any more.
    var onKeys: (KeyProblem?, _ tenant: ObjectKey) -> Void = { _, _ in }

    private let polls: GatewayPolls
    /// By the gateways' identities.
    private var reports: [String: TenantReport] = [:]
    private var asking: [String: HTTPFetch] = [:]
    private var ledger: ShareLedger
    /// What was told last of each tenant's keys.
    private var told: [ObjectKey: KeyProblem] = [:]

    init(_ polls: GatewayPolls) {
        self.polls = polls
        self.ledger = Self.ledger(polls.loop)
    }

    /// Generations go on from those of the last leader: by the clock, and by what gateways say.
    private static func ledger(_ loop: EventLoop) -> ShareLedger {
        ShareLedger(
            generation: Int(EventLoop.readWallClock() * 1_000),
            at: loop.refreshNow()
        )
    }

    /// Another process has led meanwhile.
    func forget() {
        for fetch in self.asking.values { fetch.cancel() }
        self.asking = [:]
        self.reports = [:]
        self.told = [:]
        self.ledger = Self.ledger(self.polls.loop)
    }

    /// About once a second.
    func tick(_ configuration: Configuration) {
        let present = Set(self.polls.roll.gateways.map(\.endpoint.identity))
        self.reports = self.reports.filter { present.contains($0.key) }
        if configuration.tenants.isEmpty {
            self.told = [:]
            return
        }
        let now = self.polls.loop.refreshNow()
        self.ledger.adopt(Self.limits(configuration))
        self.ledger.roll(present, at: now)
        let messages = self.ledger.messages(at: now) { self.asking[$0] == nil }
        for gateway in self.polls.roll.gateways {
            self.ask(gateway, messages[gateway.endpoint.identity])
        }
        self.tellOfKeys(configuration)
    }

    /// Over all gateways that have answered, by `namespace/name`.
    var known: [String: TenantReport.Tenant] { TenantReport.merged(Array(self.reports.values)) }

    private static func limits(_ configuration: Configuration) -> [ShareLedger.Limit: Double] {
        var limits: [ShareLedger.Limit: Double] = [:]
        for tenant in configuration.tenants {
            let own = tenant.spec.limits
            for (kind, limit) in [
                (ShareLedger.Limit.Kind.requests, own.requestsPerSecond),
                (.tokens, own.tokensPerMinute), (.concurrency, own.concurrency),
            ] {
                guard let limit else { continue }
                limits[ShareLedger.Limit(tenant.key, kind)] = Double(limit)
            }
        }
        return limits
    }

    /// - Parameter message: what to tell it; nil only asks.
    private func ask(_ gateway: GatewayRoll.Gateway, _ message: ShareLedger.Message?) {
        let identity = gateway.endpoint.identity
        guard self.asking[identity] == nil,
            var request = self.polls.request(gateway, "/api/v1/tenants")
        else { return }
        request.bodyBytesMax = GatewayPolls.answerBytesMax
        if let message { self.polls.put(message.value.bytes, in: &request) }
        self.asking[identity] = HTTPFetch.start(request, on: self.polls.loop) {
            [weak self] result in
            guard let self, self.asking.removeValue(forKey: identity) != nil else { return }
            // What is wrong with a gateway that cannot be reached, the question about its load
            // tells; of what it was told that told nothing.
            guard case .success(let response) = result else {
                if message != nil, case .failure(let error) = result {
                    self.polls.onProblem(
                        gateway.endpoint.name,
                        "it was not told its parts of limits: \(error)"
                    )
                }
                return
            }
            guard response.status == 200 else {
                let hint =
                    [401, 403].contains(response.status) ? ": give --gateway-token-file" : ""
                return self.polls.onProblem(
                    gateway.endpoint.name,
                    "it takes no parts of limits (\(response.status))\(hint)"
                )
            }
            do throws(JSONError) {
                self.take(try TenantReport(response.body), from: identity)
            } catch {
                self.polls.onProblem(
                    gateway.endpoint.name,
                    "what it knows of tenants cannot be read: \(error)"
                )
            }
        }
    }

    private func take(_ report: TenantReport, from identity: String) {
        self.reports[identity] = report
        var limits: [ShareLedger.Limit: ShareLedger.Report] = [:]
        for tenant in report.tenants {
            for (kind, own) in tenant.limits?.reports ?? [:] {
                limits[ShareLedger.Limit(tenant.name, kind)] = own
            }
        }
        self.ledger.heard(
            identity,
            run: report.run,
            generation: report.generation,
            fallback: report.fallback,
            limits,
            at: self.polls.loop.refreshNow()
        )
    }

    private func tellOfKeys(_ configuration: Configuration) {
        let known = self.known
        var present: Set<ObjectKey> = []
        for tenant in configuration.tenants {
            let key = ObjectKey(namespace: tenant.metadata.namespace, name: tenant.name)
            present.insert(key)
            guard let report = known[tenant.key] else { continue }
            let problem = report.problems.first
            if problem == self.told[key] { continue }
            self.told[key] = problem
            self.onKeys(problem, key)
        }
        self.told = self.told.filter { present.contains($0.key) }
    }
}
