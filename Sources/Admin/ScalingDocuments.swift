import Autoscaling
import Clusters
import Configuration
import Control
import Core
import HTTPService
import Rollouts

/// `GET /api/v1/models/NAME/explain`: why a model has the replicas and the weights it has.
struct ExplainDocument {
    let control: ControlPlane
    let model: ModelResource

    /// Nil where there is no such model.
    init?(_ control: ControlPlane, _ name: String) {
        guard let model = control.configuration.models.first(where: { $0.name == name }) else {
            return nil
        }
        self.control = control
        self.model = model
    }

    func write(to writer: inout JSONWriter) {
        let scaling = self.control.scaling
        let plan = scaling.flatMap { loop in
            loop.plan.index(of: self.model.name).map { loop.plan.models[$0] }
        }
        writer.object {
            $0.member("model", self.model.name)
            $0.member("scaled", plan != nil)
            $0.optional("policy", plan?.policyName)
            $0.member("dryRun", plan?.setup.policy.isDryRun ?? false)
            $0.optional("why", plan == nil ? Self.whyNot(self.model) : nil)
            $0.member("queueDepth", self.control.queueDepth(of: self.model.name))
            $0.member("whyWeights", self.whyWeights)
            let latest = scaling?.latest(of: self.model.name)
            $0.optional("decision", latest?.number)
            $0.optional("decidedAt", latest?.wallSeconds)
            $0.list("variants") { writer in
                let spec = self.model.spec
                for (variant, weight) in zip(spec.variants, self.control.weights(of: self.model)) {
                    self.write(variant, weight, latest?.variant(named: variant.name), &writer)
                }
            }
            $0.list("changes") { writer in
                for change in self.changes { ScalingDocuments.write(change, &writer) }
            }
        }
    }

    private var changes: [ScalingChange] {
        self.control.scaling?.history.changes.filter { $0.model == self.model.name } ?? []
    }

    /// Why each variant has the share it has.
    private var whyWeights: String {
        guard let pool = self.model.spec.servingPool(stable: self.control.live(of: self.model))
        else { return self.whyShares }
        let spec = self.model.spec
        let names = spec.variants.filter { $0.pool == pool }.map(\.name)
        return self.whyShares + "; \(names.joined(separator: ", ")) are interchangeable (pool "
            + "\(pool)) and divide their share by what their ready replicas can do"
    }

    private var whyShares: String {
        if let controller = self.control.rollouts?.controller(of: self.model.name) {
            return RolloutWords.reason(controller.status, controller.machine.spec.plan)
        }
        if !self.model.spec.weights.isEmpty { return "the configuration's `weights` say so" }
        return self.model.spec.live.map { "the configuration names \($0) as `live`" }
            ?? "no variant is named as `live`"
    }

    private static func whyNot(_ model: ModelResource) -> String {
        if model.spec.scaling?.policy == nil {
            return "the model names no ScalingPolicy: replicas stay as they were set"
        }
        return "no variant can be scaled: none has a workload here"
    }

    private func write(
        _ variant: VariantSpec,
        _ weight: Int,
        _ decision: VariantDecision?,
        _ writer: inout JSONWriter
    ) {
        let group = self.control.groupStatus(self.model.name, variant)
        writer.object {
            $0.member("name", variant.name)
            $0.member("weight", weight)
            $0.record("replicas") { writer in
                writer.member("desired", group?.desired ?? 0)
                writer.member("ready", group?.count(.ready) ?? 0)
            }
            let stuck = group?.replicas.first { $0.trouble != nil }
            $0.optional("notComing", stuck?.message)
            let name = self.control.groupName(self.model.name, variant)
            $0.optional("obstruction", self.control.obstruction(ofGroup: name))
            if let decision {
                $0.record("decision") { ScalingDocuments.write(decision, &$0) }
            } else {
                $0.memberNull("decision")
            }
        }
    }
}

/// `GET /api/v1/decisions`: the last changes of all models, the latest last.
struct DecisionsDocument {
    let control: ControlPlane

    init(_ control: ControlPlane) { self.control = control }

    func write(to writer: inout JSONWriter) {
        writer.object {
            $0.list("decisions") { writer in
                for change in self.control.scaling?.history.changes ?? [] {
                    ScalingDocuments.write(change, &writer)
                }
            }
        }
    }
}

/// Decisions as JSON: numbers in full, words beside them. What is not known is null.
enum ScalingDocuments {
    static func write(_ change: ScalingChange, _ writer: inout JSONWriter) {
        writer.object {
            $0.member("time", change.wallSeconds)
            $0.member("model", change.model)
            $0.member("variant", change.variant)
            $0.member("deployment", change.group)
            $0.member("from", change.from)
            $0.member("to", change.to)
            $0.member("direction", change.direction.rawValue)
            $0.member("reason", change.reason.rawValue)
            $0.member("text", change.text)
            $0.member("dryRun", change.isDryRun)
        }
    }

    static func write(_ decision: VariantDecision, _ writer: inout JSONWriter) {
        writer.member("previous", decision.previous)
        writer.member("desired", decision.desired)
        writer.member("outcome", decision.outcome.rawValue)
        writer.member("text", ScalingWords.reason(decision))
        writer.optional("trafficShare", decision.trafficShare)
        writer.record("inputs") { Self.write(decision.inputs, &$0) }
        writer.list("recommendations") { writer in
            let winner = ScalingWords.winner(decision)
            for recommendation in decision.recommendations {
                writer.object {
                    $0.member("target", Self.name(recommendation))
                    $0.optional("replicas", recommendation.replicas)
                    $0.member("won", recommendation == winner)
                    $0.member("text", recommendation.reason.text)
                }
            }
        }
        writer.list("constraints") { writer in
            for constraint in decision.constraints {
                writer.object {
                    $0.member("before", constraint.before)
                    $0.member("after", constraint.after)
                    $0.member("text", constraint.kind.text)
                }
            }
        }
    }

    /// What recommends, in a word.
    private static func name(_ recommendation: Recommendation) -> String {
        switch recommendation.reason {
        case .perReplica(let kind, _, _), .utilization(let kind, _, _, _), .unknown(let kind, _):
            kind.rawValue
        case .queueWait: ScalingGoalKind.queueWait.rawValue
        case .objective, .objectiveStanding, .objectiveLearning, .objectiveOutOfReach, .mix:
            ScalingGoalKind.objective.rawValue
        case .schedule, .scheduleOff: ScalingGoalKind.schedule.rawValue
        case .requestWaiting: "request"
        case .minimum: "minimum"
        }
    }

    private static func write(_ inputs: DecisionInputs, _ writer: inout JSONWriter) {
        writer.optional("ready", inputs.ready)
        writer.optional("starting", inputs.starting)
        writer.optional("draining", inputs.draining)
        writer.optional("stuck", inputs.stuck)
        writer.optional("inFlight", inputs.inFlight)
        writer.optional("queued", inputs.queued)
        writer.optional("requestsPerSecond", inputs.arrivalRate)
        writer.optional("burstRequestsPerSecond", inputs.burstRate)
        writer.optional("forecastRequestsPerSecond", inputs.forecastRate)
        writer.optional("forecastHorizonSeconds", inputs.forecastHorizonSeconds)
        writer.optional("forecastMethod", inputs.forecastMethod?.rawValue)
        writer.optional("capacityRequestsPerSecond", inputs.capacityRate)
        writer.optional("attainment", inputs.attainment)
        writer.member("coldStartSeconds", inputs.coldStartSeconds)
        writer.member("coldStartsMeasured", inputs.coldStartsMeasured)
        writer.member("drainSeconds", inputs.drainSeconds)
    }
}
