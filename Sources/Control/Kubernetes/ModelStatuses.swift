import Autoscaling
import Clusters
import Configuration
import Core
import HTTPService
import Kubernetes
import Orchestration
import Rollouts

/// What holds of each Model, for its status.
package enum ModelStatuses {
    /// What a status is made of.
    package struct Facts {
        var group: (String) -> GroupStatus?
        var obstruction: (String) -> String?
        var gap: (String) -> EndpointGap?
        var decision: (String) -> ScalingDecision?
        /// What a replica of a model's variant does, in requests per second at the objective.
        var worth: (String, String) -> Double? = { _, _ in nil }
        var rollout: (String) -> RolloutController?
        var gateways: Int
        var gatewaysMissing: Int
    }

    /// The models of a configuration by their keys.
    static func specs(_ configuration: Configuration) -> [ObjectKey: ModelSpec] {
        Dictionary(
            configuration.models.map {
                (ObjectKey(namespace: $0.metadata.namespace, name: $0.name), $0.spec)
            },
            uniquingKeysWith: { first, _ in first }
        )
    }

    /// Why requests do not reach a workload; nil where nothing should be reached.
    static func words(
        _ gap: EndpointGap,
        _ reference: WorkloadReference,
        _ group: GroupStatus?
    ) -> String? {
        guard let group else { return nil }
        switch gap {
        case .serviceMissing:
            return "there is no Service \(reference.name), or it has no selector: gateways find "
                + "the pods of \(reference.kind.rawValue) \(reference.name) through it"
        case .noEndpoint:
            let ready = group.count(.ready)
            if ready == 0 { return nil }
            return "Service \(reference.name) sends to none of \(ready) ready pods: compare its "
                + "selector with their labels"
        }
    }
}

/// The status of one Model.
struct ModelStatus {
    private struct Variant {
        var name: String
        var workload: String
        var weight: Int
        var desired: Int
        var ready: Int
        var starting: Int
        var draining: Int
        var reason: String
        var message: String
        /// Requests cannot reach its pods, however many are ready.
        var isUnreachable = false
        /// Requests per second that a replica does at the objective; nil: not known, or not asked.
        var worth: Double?
        var isPooled = false

        mutating func note(
            _ gap: EndpointGap,
            _ reference: WorkloadReference,
            _ group: GroupStatus?
        ) {
            guard let words = ModelStatuses.words(gap, reference, group) else { return }
            self.reason = gap.rawValue
            self.message = words
            self.isUnreachable = true
        }

        var counts: JSONValue {
            [
                "desired": .integer(self.desired), "ready": .integer(self.ready),
                "starting": .integer(self.starting), "draining": .integer(self.draining),
            ]
        }
    }

    private var generation: Int
    private var live = ""
    private var conditions: [StatusCondition] = []
    private var variants: [Variant] = []
    private var scaling: (desired: Int, reason: String, message: String, isDryRun: Bool)?

    init(
        _ item: ResourceDirectory.Item,
        verdict: ResourceKeeper.Verdict?,
        spec: ModelSpec?,
        _ facts: ModelStatuses.Facts
    ) {
        self.generation = item.generation
        self.conditions.append(.accepted(verdict))
        guard let spec else { return }
        let rollout = facts.rollout(item.key.name)
        self.live = rollout?.status.stable.name ?? spec.live ?? spec.variants.first?.name ?? ""
        let weights = spec.divided(
            spec.variants.enumerated().map { index, variant in
                rollout?.status.traffic.weight(of: variant.name) ?? spec.variantWeights[index]
            },
            ready: spec.variants.map { variant in
                guard case .workload(let reference) = variant.backend else { return 0 }
                return facts.group(reference.group(in: item.key.namespace))?.count(.ready) ?? 0
            },
            keepsScale: true
        ) { facts.worth(item.key.name, $0) }
        var obstructions: [String] = []
        for (variant, weight) in zip(spec.variants, weights) {
            guard case .workload(let reference) = variant.backend else { continue }
            let group = reference.group(in: item.key.namespace)
            if let words = facts.obstruction(group) { obstructions.append(words) }
            var own = Self.variant(variant.name, reference, weight, facts.group(group))
            if let gap = facts.gap(group) { own.note(gap, reference, facts.group(group)) }
            own.isPooled = variant.pool != nil
            if own.isPooled { own.worth = facts.worth(item.key.name, variant.name) }
            self.variants.append(own)
        }
        self.conditions.append(self.ready(spec))
        if let rollout { self.conditions.append(Self.progressing(rollout)) }
        if spec.scaling?.policy != nil {
            self.addScaling(item.key.name, facts, obstructions)
        }
    }

    /// True while a rollout runs, or where the live variant is the one that was asked for.
    private static func progressing(_ rollout: RolloutController) -> StatusCondition {
        let phase = rollout.status.phase
        let word = phase.rawValue
        return StatusCondition(
            type: "Progressing",
            isTrue: phase != .rolledBack && phase != .paused,
            reason: word.prefix(1).uppercased() + word.dropFirst(),
            message: String(
                RolloutWords.reason(rollout.status, rollout.machine.spec.plan).prefix(4_000)
            )
        )
    }

    private static func variant(
        _ name: String,
        _ reference: WorkloadReference,
        _ weight: Int,
        _ group: GroupStatus?
    ) -> Variant {
        var variant = Variant(
            name: name,
            workload: "\(reference.kind.rawValue)/\(reference.name)",
            weight: weight,
            desired: group?.desired ?? 0,
            ready: 0,
            starting: 0,
            draining: 0,
            reason: group == nil ? "WorkloadMissing" : "",
            message: group == nil ? "there is no \(reference.kind.rawValue) \(reference.name)" : ""
        )
        for replica in group?.replicas ?? [] {
            if replica.isLeaving {
                variant.draining += 1
            } else if replica.state == .ready {
                variant.ready += 1
            } else {
                variant.starting += 1
            }
            guard let trouble = replica.trouble, variant.reason.isEmpty else { continue }
            variant.reason = Self.reason(trouble)
            variant.message = replica.message
        }
        return variant
    }

    private static func reason(_ trouble: StartTrouble) -> String {
        switch trouble {
        case .cannotStart: "CannotStart"
        case .crashes: "CrashLoop"
        case .tooSlow: "StartTimeout"
        case .noRoom: "Unschedulable"
        case .refusedByQuota: "QuotaExceeded"
        }
    }

    private func ready(_ spec: ModelSpec) -> StatusCondition {
        let serving = self.variants.filter { $0.weight > 0 }
        let hasFixed = spec.variants.contains {
            if case .endpoints = $0.backend { true } else { false }
        }
        let ready = serving.reduce(0) { $0 + ($1.isUnreachable ? 0 : $1.ready) }
        let desired = serving.reduce(0) { $0 + $1.desired }
        let stuck = serving.first {
            !$0.reason.isEmpty && ($0.ready == 0 || $0.isUnreachable)
        }
        if let stuck {
            return StatusCondition(
                type: "Ready",
                isTrue: false,
                reason: stuck.reason,
                message: "variant \(stuck.name): \(stuck.message)"
            )
        }
        if ready > 0 || hasFixed {
            return StatusCondition(type: "Ready", isTrue: true, reason: "Serving", message: "")
        }
        if desired == 0 {
            return StatusCondition(
                type: "Ready",
                isTrue: true,
                reason: "ScaledToZero",
                message: "the first request starts a replica"
            )
        }
        return StatusCondition(
            type: "Ready",
            isTrue: false,
            reason: "NoReplicaReady",
            message: "none of \(desired) replicas is ready yet"
        )
    }

    private mutating func addScaling(
        _ model: String,
        _ facts: ModelStatuses.Facts,
        _ obstructions: [String]
    ) {
        if let words = obstructions.first {
            self.conditions.append(
                StatusCondition(
                    type: "ScalingActive",
                    isTrue: false,
                    reason: "Obstructed",
                    message: words
                )
            )
        } else if facts.gateways == 0 || facts.gatewaysMissing * 2 >= facts.gateways {
            self.conditions.append(
                StatusCondition(
                    type: "ScalingActive",
                    isTrue: false,
                    reason: "GatewaysMissing",
                    message:
                        "\(facts.gatewaysMissing) of \(facts.gateways) gateways do not answer: "
                        + "the replicas stay as they are"
                )
            )
        } else {
            let standIn = facts.decision(model)?.standIn
            self.conditions.append(
                StatusCondition(
                    type: "ScalingActive",
                    isTrue: true,
                    reason: standIn == nil ? "Active" : "StandIn",
                    message: standIn.map { "variant \($0.variant) \($0.why)" } ?? ""
                )
            )
        }
        guard let decision = facts.decision(model),
            let own = decision.variants.first(where: { $0.outcome != .hold })
                ?? decision.variants.first
        else { return }
        self.scaling = (
            decision.variants.reduce(0) { $0 + $1.desired }, ScalingReason(own).rawValue,
            ScalingWords.reason(own), own.isDryRun
        )
    }

    // MARK: Writing

    func draft(old: JSONValue, wallTime: Double) -> StatusWriter.Draft {
        StatusWriter.Draft(
            significant: self.significant,
            value: { self.value(old: old, wallTime: wallTime) }
        )
    }

    /// Everything whose change is worth a write.
    var significant: String {
        var parts = ["\(self.generation) \(self.live)"]
        for condition in self.conditions {
            parts.append("\(condition.type) \(condition.isTrue) \(condition.reason)")
        }
        for variant in self.variants {
            parts.append(
                "\(variant.name) \(variant.weight) \(variant.desired) \(variant.ready) "
                    + "\(variant.starting) \(variant.draining) \(variant.reason)"
                    + (variant.worth.map { " \($0)" } ?? "")
            )
        }
        if let scaling { parts.append("\(scaling.desired)") }
        return parts.joined(separator: "|")
    }

    func value(old: JSONValue, wallTime: Double) -> JSONValue {
        var status: JSONValue = [
            "observedGeneration": .integer(self.generation),
            "conditions": .array(
                self.conditions.map {
                    $0.value(old: old, generation: self.generation, wallTime: wallTime)
                }
            ),
        ]
        if self.live.isEmpty { return status }
        status["live"] = .string(self.live)
        status["variants"] = .array(
            self.variants.map { variant in
                var value: JSONValue = [
                    "name": .string(variant.name), "workload": .string(variant.workload),
                    "weight": .integer(max(0, min(100, variant.weight))),
                    "replicas": variant.counts,
                ]
                // A controller that has just begun has learned nothing yet; what was holds.
                if let worth = variant.worth {
                    value["requestsPerReplica"] = .string("\(worth)")
                } else if let known = PoolWorths.text(of: variant.name, in: old), variant.isPooled {
                    value["requestsPerReplica"] = .string(known)
                }
                if !variant.reason.isEmpty {
                    value["reason"] = .string(variant.reason)
                    value["message"] = .string(String(variant.message.prefix(4_000)))
                }
                return value
            }
        )
        status["replicas"] = self.total
        if let scaling {
            status["scaling"] = [
                "desired": .integer(scaling.desired), "reason": .string(scaling.reason),
                "message": .string(String(scaling.message.prefix(4_000))),
                "dryRun": .bool(scaling.isDryRun),
            ]
        }
        return status
    }

    private var total: JSONValue {
        let desired = self.variants.reduce(0) { $0 + $1.desired }
        let ready = self.variants.reduce(0) { $0 + $1.ready }
        return [
            "summary": .string("\(ready)/\(desired)"), "desired": .integer(desired),
            "ready": .integer(ready),
            "starting": .integer(self.variants.reduce(0) { $0 + $1.starting }),
            "draining": .integer(self.variants.reduce(0) { $0 + $1.draining }),
        ]
    }
}
