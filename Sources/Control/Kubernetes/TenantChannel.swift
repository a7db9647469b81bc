import Clusters
import Configuration
import HTTPService
import Kubernetes
import Orchestration

/// Asks every gateway of a cluster what it knows of its tenants. On the control loop's thread.
final class TenantChannel {
    /// What is wrong with a tenant's keys has changed; nil where nothing is any more.
    var onKeys: (KeyProblem?, _ tenant: ObjectKey) -> Void = { _, _ in }

    private let polls: GatewayPolls
    /// By the gateways' identities.
    private var reports: [String: TenantReport] = [:]
    private var asking: [String: HTTPFetch] = [:]
    /// What was told last of each tenant's keys.
    private var told: [ObjectKey: KeyProblem] = [:]

    init(_ polls: GatewayPolls) {
        self.polls = polls
    }

    /// Another process has led meanwhile.
    func forget() {
        for fetch in self.asking.values { fetch.cancel() }
        self.asking = [:]
        self.reports = [:]
        self.told = [:]
    }

    /// About once a second.
    func tick(_ configuration: Configuration) {
        let present = Set(self.polls.roll.gateways.map(\.endpoint.identity))
        self.reports = self.reports.filter { present.contains($0.key) }
        if configuration.tenants.isEmpty {
            self.told = [:]
            return
        }
        for gateway in self.polls.roll.gateways { self.ask(gateway) }
        self.tellOfKeys(configuration)
    }

    /// Over all gateways that have answered, by `namespace/name`.
    var known: [String: TenantReport.Tenant] { TenantReport.merged(Array(self.reports.values)) }

    private func ask(_ gateway: GatewayRoll.Gateway) {
        let identity = gateway.endpoint.identity
        guard self.asking[identity] == nil,
            var request = self.polls.request(gateway, "/api/v1/tenants")
        else { return }
        request.bodyBytesMax = GatewayPolls.answerBytesMax
        self.asking[identity] = HTTPFetch.start(request, on: self.polls.loop) {
            [weak self] result in
            guard let self, self.asking.removeValue(forKey: identity) != nil else { return }
            // What is wrong with the gateway, the question about its load tells.
            guard case .success(let response) = result, response.status == 200 else { return }
            do throws(JSONError) {
                self.reports[identity] = try TenantReport(response.body)
            } catch {
                self.polls.onProblem(
                    gateway.endpoint.name,
                    "what it knows of tenants cannot be read: \(error)"
                )
            }
        }
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
