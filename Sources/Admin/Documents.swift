import Autoscaling
import Clusters
import Configuration
import Control
import Core
import EventLoop
import HTTPService
import Proxy
import Rollouts
import Synchronization

// What the JSON API says. Names are camelCase, times are seconds; what is not known is null.

/// `GET /api/v1/models`
struct ModelsDocument {
    let control: ControlPlane

    init(_ control: ControlPlane) { self.control = control }

    func write(to writer: inout JSONWriter) {
        writer.object {
            $0.list("models") { writer in
                for model in self.control.configuration.models { self.write(model, &writer) }
            }
        }
    }

    private func write(_ model: ModelResource, _ writer: inout JSONWriter) {
        writer.object {
            $0.member("name", model.name)
            $0.member("protocol", model.spec.protocol.rawValue)
            $0.list("aliases") { writer in
                for alias in model.spec.aliases { writer.string(alias) }
            }
            $0.optional("live", self.control.live(of: model))
            self.writeRollout(model.name, &$0)
            $0.member("queueDepth", self.control.queueDepth(of: model.name))
            let plan = self.plan(of: model.name)
            if let plan {
                $0.record("scaling") { writer in
                    writer.member("policy", plan.policyName)
                    writer.member("dryRun", plan.setup.policy.isDryRun)
                }
            } else {
                $0.memberNull("scaling")
            }
            $0.list("variants") { writer in
                for (variant, weight) in zip(model.spec.variants, self.control.weights(of: model)) {
                    self.write(variant, weight, of: model, &writer)
                }
            }
        }
    }

    /// Null where the model has no rollouts.
    private func writeRollout(_ model: String, _ writer: inout JSONWriter) {
        guard let controller = self.control.rollouts?.controller(of: model) else {
            return writer.memberNull("rollout")
        }
        let status = controller.status
        writer.record("rollout") { writer in
            writer.member("state", RolloutWords.state(status))
            writer.optional("canary", status.canary?.name)
            writer.member(
                "reason",
                RolloutWords.reason(status, controller.machine.spec.plan)
            )
        }
    }

    private func plan(of model: String) -> ScalingPlan.Model? {
        guard let plan = self.control.scaling?.plan else { return nil }
        return plan.index(of: model).map { plan.models[$0] }
    }

    /// Why the variant has as many replicas as it has; nil where it is not scaled.
    private func reason(_ variant: String, of model: String) -> String? {
        self.control.scaling?.latest(of: model)?.variant(named: variant)
            .map(ScalingWords.reason)
    }

    private func write(
        _ variant: VariantSpec,
        _ weight: Int,
        of model: ModelResource,
        _ writer: inout JSONWriter
    ) {
        let group = self.control.groupStatus(model.name, variant)
        writer.object {
            $0.member("name", variant.name)
            $0.member("weight", weight)
            switch variant.backend {
            case .workload(let reference):
                $0.record("workload") { writer in
                    writer.member("kind", reference.kind.rawValue)
                    writer.member("name", reference.name)
                }
            case .endpoints(let urls):
                $0.list("endpoints") { writer in
                    for url in urls { writer.string("\(url)") }
                }
            }
            $0.member("replicas", object: { Self.writeCounts(group, &$0) })
            $0.member("states", object: { Self.writeStates(group, &$0) })
            $0.optional("coldStartSeconds", group?.coldStarts.median?.secondsAsDouble)
            $0.optional("scalingReason", self.reason(variant.name, of: model.name))
        }
    }

    static func writeCounts(_ group: GroupStatus?, _ writer: inout JSONWriter) {
        writer.member("desired", group?.desired ?? 0)
        writer.member("ready", group?.count(.ready) ?? 0)
    }

    /// How many replicas are in which state.
    static func writeStates(_ group: GroupStatus?, _ writer: inout JSONWriter) {
        for state in ReplicaState.allCases {
            writer.key(escaping: state.rawValue)
            writer.integer(group?.count(state) ?? 0)
        }
    }
}

/// `GET /api/v1/deployments`
struct DeploymentsDocument {
    let control: ControlPlane

    init(_ control: ControlPlane) { self.control = control }

    func write(to writer: inout JSONWriter) {
        writer.object {
            $0.list("deployments") { writer in
                for group in self.control.processes?.groups ?? [] {
                    writer.object {
                        $0.member("name", group.name)
                        $0.member("replicas", object: { ModelsDocument.writeCounts(group, &$0) })
                        $0.member("states", object: { ModelsDocument.writeStates(group, &$0) })
                        $0.optional("coldStartSeconds", group.coldStarts.median?.secondsAsDouble)
                    }
                }
            }
        }
    }
}

/// `GET /api/v1/replicas`
struct ReplicasDocument {
    let control: ControlPlane
    private let owners: [String: (model: String, variant: String)]

    init(_ control: ControlPlane) {
        self.control = control
        var owners: [String: (model: String, variant: String)] = [:]
        for model in control.configuration.models {
            for variant in model.spec.variants {
                let group = control.groupName(model.name, variant)
                if owners[group] == nil { owners[group] = (model.name, variant.name) }
            }
        }
        self.owners = owners
    }

    func write(to writer: inout JSONWriter) {
        writer.object {
            $0.list("replicas") { writer in
                for group in self.control.processes?.groups ?? [] {
                    for replica in group.replicas { self.write(replica, group.name, &writer) }
                }
                for group in self.control.endpoints.groups {
                    for replica in group.replicas { self.write(replica, nil, &writer) }
                }
            }
        }
    }

    private func write(
        _ replica: ReplicaStatus,
        _ deployment: String?,
        _ writer: inout JSONWriter
    ) {
        let owner = self.owners[replica.id.group]
        writer.object {
            $0.member("id", replica.id.description)
            $0.optional("model", owner?.model)
            $0.optional("variant", owner?.variant)
            $0.optional("deployment", deployment)
            $0.member("state", replica.state.rawValue)
            $0.member("stateSeconds", self.control.loop.now.seconds(since: replica.since))
            $0.optional("address", replica.address.map { "\($0)" })
            $0.record("ports") { writer in
                for (name, port) in replica.namedPorts.sorted(by: { $0.key < $1.key }) {
                    writer.key(escaping: name)
                    writer.integer(port)
                }
            }
            $0.optional("pid", replica.pid)
            $0.member("restarts", replica.restarts)
            $0.member("revision", replica.revision)
            $0.optional("coldStartSeconds", replica.coldStart?.secondsAsDouble)
            $0.member("inFlight", self.control.inFlight(at: replica))
            $0.member("message", replica.message)
            $0.optional("lastExit", replica.lastExit)
        }
    }
}

/// `GET /api/v1/snapshot`: what the workers route by.
struct SnapshotDocument {
    let control: ControlPlane

    init(_ control: ControlPlane) { self.control = control }

    func write(to writer: inout JSONWriter) {
        writer.object {
            $0.member("configuration", self.control.configurationGeneration)
            $0.member("generation", self.control.generation)
            $0.member("acknowledged", self.control.gateway?.acknowledgedGeneration ?? 0)
            $0.list("models") { writer in
                for case let model? in self.control.snapshot?.models ?? [] {
                    self.write(model, &writer)
                }
            }
        }
    }

    private func write(_ model: ModelRoute, _ writer: inout JSONWriter) {
        writer.object {
            $0.member("name", model.name)
            $0.list("variants") { writer in
                for variant in model.variants {
                    writer.object {
                        $0.member("name", variant.name)
                        $0.member("weight", variant.weight)
                        $0.list("endpoints") { writer in
                            for endpoint in variant.endpoints { self.write(endpoint, &writer) }
                        }
                    }
                }
            }
        }
    }

    private func write(_ endpoint: Endpoint, _ writer: inout JSONWriter) {
        writer.object {
            $0.member("name", endpoint.name)
            $0.member("address", "\(endpoint.address)")
            $0.member("inFlight", endpoint.inFlight.load(ordering: .relaxed))
            let limit = endpoint.limit.load(ordering: .relaxed)
            $0.optional("limit", limit == .max ? nil : limit)
            $0.member("ejected", endpoint.isEjected(at: self.control.loop.now))
        }
    }
}

extension JSONWriter {
    mutating func record(_ name: StaticString, _ body: (inout JSONWriter) -> Void) {
        self.member(name, object: body)
    }

    mutating func list(_ name: StaticString, _ body: (inout JSONWriter) -> Void) {
        self.member(name, array: body)
    }

    mutating func optional(_ name: StaticString, _ value: String?) {
        if let value { self.member(name, value) } else { self.memberNull(name) }
    }

    mutating func optional(_ name: StaticString, _ value: (some BinaryInteger)?) {
        if let value { self.member(name, value) } else { self.memberNull(name) }
    }

    mutating func optional(_ name: StaticString, _ value: Double?) {
        if let value { self.member(name, value) } else { self.memberNull(name) }
    }
}
