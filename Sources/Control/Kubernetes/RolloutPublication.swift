import Core
import Foundation
import HTTPService
import Kubernetes
import Proxy
import Rollouts

/// What a controller writes into `status.rollout` of a Model, and reads there: how its rollout
/// goes, for people; what gateways go by; and all that another controller needs to go on.
enum RolloutPublication {
    /// What gateways go by.
    struct Traffic: Equatable {
        /// What is measured while a rollout runs.
        struct Trial: Equatable {
            var number: Int
            var inspectsAnswers: Bool
            var repeatsStable: Bool
            var consecutiveErrors: Int
        }

        var plan: TrafficPlan
        var canary: String?
        var trial: Trial?
    }

    /// Entries of the history that are kept in a cluster, where objects must stay small.
    static let recordsMax = 40
    /// Of those, the last ones keep what they rest on.
    static let evidenceMax = 8
    static let checkpointBytesMax = 480_000
    private static let textMax = 4_000

    // MARK: Writing

    /// - Returns: nil where the status is larger than an object may be.
    static func value(_ status: RolloutStatus, _ spec: RolloutSpec) -> JSONValue? {
        guard let checkpoint = self.checkpoint(status) else { return nil }
        var value: JSONValue = [
            "number": .integer(status.rollout),
            "phase": .string(self.capitalized(status.phase.rawValue)),
            "stable": self.reference(status.stable),
            "step": .integer(status.step), "steps": .integer(spec.plan?.steps.count ?? 0),
            "stage": .string(self.capitalized(status.stage.rawValue)),
            "weight": .integer(status.traffic.weight(of: status.canary?.name ?? "")),
            "acknowledged": .bool(status.isAcknowledged),
            "held": .string("\(status.heldMilliseconds / 1_000)s"),
            "message": .string(self.short(RolloutWords.reason(status, spec.plan))),
            "inPlace": .bool(status.isInPlace),
            "metrics": .array(status.reports.map(self.metric)),
            "history": .array(status.records.suffix(self.recordsMax).map(self.record)),
            "traffic": self.value(self.traffic(of: status, spec)),
            "checkpoint": .string(checkpoint),
        ]
        if let canary = status.canary { value["canary"] = self.reference(canary) }
        if let rejected = status.rejected { value["rejected"] = self.reference(rejected) }
        if let pause = status.pause {
            value["pauseReason"] = .string(self.capitalized(pause.rawValue))
        }
        if let variant = status.templateRollback {
            value["templateRollback"] = self.reference(variant)
        }
        if let first = status.records.first(where: { $0.rollout == status.rollout }) {
            value["startTime"] = .string(WallTime.plain(Double(first.at) / 1_000))
        }
        if let last = status.records.last {
            value["lastTransitionTime"] = .string(WallTime.plain(Double(last.at) / 1_000))
        }
        return value
    }

    static func traffic(of status: RolloutStatus, _ spec: RolloutSpec) -> Traffic {
        var traffic = Traffic(plan: status.traffic)
        if !status.isInPlace { traffic.canary = status.canary?.name }
        if status.isRunning, let plan = spec.plan {
            traffic.trial = Traffic.Trial(
                number: status.rollout,
                inspectsAnswers: plan.inspectsAnswers,
                repeatsStable: plan.comparesAnswers,
                consecutiveErrors: plan.guardrails.consecutiveErrors
            )
        }
        return traffic
    }

    private static func capitalized(_ word: String) -> String {
        word.prefix(1).uppercased() + word.dropFirst()
    }

    private static func short(_ text: String) -> String { String(text.prefix(self.textMax)) }

    private static func reference(_ variant: VariantReference) -> JSONValue {
        var value: JSONValue = ["name": .string(variant.name)]
        if !variant.revision.isEmpty { value["revision"] = .string(variant.revision) }
        return value
    }

    private static func metric(_ report: MetricReport) -> JSONValue {
        var value: JSONValue = [
            "name": .string(report.name),
            "verdict": .string(self.capitalized(report.verdict.rawValue)),
            "evidence": .string(MetricReport.text(evidence: report.evidence)),
            "threshold": .string(MetricReport.text(evidence: report.threshold)),
            "stableRequests": .integer(report.stableRequests),
            "canaryRequests": .integer(report.canaryRequests),
            "reason": .string(String(report.reason.prefix(1_000))),
            "dryRun": .bool(report.isDryRun),
        ]
        if let stable = report.stable { value["stable"] = .string("\(stable)") }
        if let canary = report.canary { value["canary"] = .string("\(canary)") }
        return value
    }

    private static func record(_ record: RolloutRecord) -> JSONValue {
        [
            "id": .integer(record.id), "rollout": .integer(record.rollout),
            "time": .string(WallTime.plain(Double(record.at) / 1_000)),
            "kind": .string(self.capitalized(record.kind.rawValue)),
            "message": .string(self.short(record.message)), "step": .integer(record.step),
            "weight": .integer(record.weight),
        ]
    }

    private static func value(_ traffic: Traffic) -> JSONValue {
        let plan = traffic.plan
        var value: JSONValue = [
            "generation": .integer(plan.generation),
            "weights": .array(
                plan.weights.map {
                    ["name": .string($0.variant), "percent": .integer($0.percent)]
                }
            ),
        ]
        if let canary = traffic.canary { value["canary"] = .string(canary) }
        if let route = plan.headerRoute {
            value["header"] = ["name": .string(route.name), "value": .string(route.value)]
        }
        if let to = plan.mirrorTo {
            value["mirror"] = ["to": .string(to), "percent": .integer(plan.mirrorPercent)]
        }
        if let trial = traffic.trial {
            value["trial"] = [
                "number": .integer(trial.number),
                "inspectsAnswers": .bool(trial.inspectsAnswers),
                "repeatsStable": .bool(trial.repeatsStable),
                "consecutiveErrors": .integer(trial.consecutiveErrors),
            ]
        }
        return value
    }

    // MARK: Reading

    /// What gateways go by; nil where nothing, or nothing that makes sense, is written.
    static func traffic(in value: JSONValue) -> Traffic? {
        let traffic = value["traffic"]
        guard let generation = traffic["generation"].integer else { return nil }
        let weights = traffic["weights"].elements.compactMap { weight -> VariantWeight? in
            guard let name = weight["name"].string, let percent = weight["percent"].integer,
                (1...100).contains(percent)
            else { return nil }
            return VariantWeight(name, percent)
        }
        guard weights.reduce(0, { $0 + $1.percent }) == 100 else { return nil }
        var plan = TrafficPlan(generation: generation, weights: weights)
        if let name = traffic["header"]["name"].string, !name.isEmpty,
            let value = traffic["header"]["value"].string
        {
            plan.headerRoute = HeaderRoute(name: name.lowercased(), value: value)
        }
        if let to = traffic["mirror"]["to"].string,
            let percent = traffic["mirror"]["percent"].integer, (1...100).contains(percent)
        {
            plan.mirrorTo = to
            plan.mirrorPercent = percent
        }
        var result = Traffic(plan: plan, canary: traffic["canary"].string)
        let trial = traffic["trial"]
        if let number = trial["number"].integer {
            result.trial = Traffic.Trial(
                number: number,
                inspectsAnswers: trial["inspectsAnswers"].bool ?? false,
                repeatsStable: trial["repeatsStable"].bool ?? false,
                consecutiveErrors: max(0, trial["consecutiveErrors"].integer ?? 0)
            )
        }
        return result
    }

    /// The status that another controller left; nil where there is none.
    /// - Throws: where it cannot be read.
    static func status(in value: JSONValue) throws -> RolloutStatus? {
        guard let text = value["checkpoint"].string else { return nil }
        return try Self.decoder.decode(RolloutStatus.self, from: Data(text.utf8))
    }

    // MARK: The checkpoint

    private static func checkpoint(_ status: RolloutStatus) -> String? {
        var small = status
        small.records = Array(status.records.suffix(self.recordsMax))
        for index in small.records.indices.dropLast(self.evidenceMax) {
            small.records[index].reports = []
        }
        // What there are very many of goes before what a rollout cannot go on without.
        for _ in 0..<self.recordsMax {
            guard let data = try? Self.encoder.encode(small) else { return nil }
            if data.count <= self.checkpointBytesMax {
                return String(decoding: data, as: UTF8.self)
            }
            guard !small.records.isEmpty else { return nil }
            small.records.removeFirst((small.records.count + 1) / 2)
        }
        return nil
    }

    private static var encoder: JSONEncoder {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        encoder.nonConformingFloatEncodingStrategy = .convertToString(
            positiveInfinity: "inf",
            negativeInfinity: "-inf",
            nan: "nan"
        )
        return encoder
    }

    private static var decoder: JSONDecoder {
        let decoder = JSONDecoder()
        decoder.nonConformingFloatDecodingStrategy = .convertFromString(
            positiveInfinity: "inf",
            negativeInfinity: "-inf",
            nan: "nan"
        )
        return decoder
    }
}
