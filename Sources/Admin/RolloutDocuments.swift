import Configuration
import Control
import Core
import HTTPService
import Rollouts

/// `GET /api/v1/rollouts`: the models that have rollouts, each with where it stands.
struct RolloutsDocument {
    let control: ControlPlane

    init(_ control: ControlPlane) { self.control = control }

    func write(to writer: inout JSONWriter) {
        writer.object {
            $0.list("rollouts") { writer in
                for model in self.control.configuration.models {
                    guard let controller = self.control.rollouts?.controller(of: model.name) else {
                        continue
                    }
                    writer.object { RolloutDocument.writeSummary(controller, &$0) }
                }
            }
        }
    }
}

/// `GET /api/v1/rollouts/NAME`: all that is known of a model's rollout, and its history.
struct RolloutDocument {
    let controller: RolloutController
    let kept: [Int]

    /// Nil where the model has no rollouts.
    init?(_ control: ControlPlane, _ model: String) {
        guard let controller = control.rollouts?.controller(of: model) else { return nil }
        self.controller = controller
        self.kept =
            control.rolloutStore?.rollouts(of: model, upTo: controller.status.rollout) ?? []
    }

    func write(to writer: inout JSONWriter) {
        let status = self.controller.status
        writer.object {
            Self.writeSummary(self.controller, &$0)
            $0.list("steps") { writer in
                for step in self.controller.machine.spec.plan?.steps ?? [] {
                    writer.string(Self.text(step))
                }
            }
            $0.list("metrics") { writer in
                for report in status.reports { Self.write(report, &writer) }
            }
            $0.list("retiring") { writer in
                for variant in status.retiring { writer.string(variant.name) }
            }
            $0.list("history") { writer in
                for record in status.records { Self.write(record, &writer) }
            }
            $0.list("timelines") { writer in
                for number in self.kept { writer.integer(number) }
            }
        }
    }

    static func writeSummary(_ controller: RolloutController, _ writer: inout JSONWriter) {
        let status = controller.status
        let plan = controller.machine.spec.plan
        writer.member("model", controller.model)
        writer.member("state", RolloutWords.state(status))
        writer.member("phase", status.phase.rawValue)
        writer.member("rollout", status.rollout)
        writer.member("stable", status.stable.name)
        writer.optional("canary", status.canary?.name)
        writer.optional("rejected", status.rejected?.name)
        writer.optional("next", status.next?.name)
        writer.member("configured", status.specLive.name)
        writer.member("step", status.step + 1)
        writer.member("stepCount", plan?.steps.count ?? 0)
        writer.member("stage", status.stage.rawValue)
        writer.optional("pause", status.pause?.rawValue)
        writer.member("waitsForSomebody", RolloutWords.waitsForSomebody(status, plan))
        writer.member("weight", status.traffic.weight(of: status.canary?.name ?? ""))
        writer.member("heldSeconds", Double(status.heldMilliseconds) / 1_000)
        writer.member("message", status.message)
        writer.member("reason", RolloutWords.reason(status, plan))
        writer.record("weights") { writer in
            for weight in status.traffic.weights {
                writer.key(escaping: weight.variant)
                writer.integer(weight.percent)
            }
        }
        let route = status.traffic.headerRoute
        writer.optional("headerRoute", route.map { "\($0.name): \($0.value)" })
        writer.member("mirrorPercent", status.traffic.mirrorPercent)
        writer.member("isAcknowledged", status.isAcknowledged)
    }

    static func write(_ report: MetricReport, _ writer: inout JSONWriter) {
        writer.object {
            $0.member("name", report.name)
            $0.member("verdict", report.verdict.rawValue)
            $0.member("evidence", report.evidence)
            $0.member("threshold", report.threshold)
            $0.optional("stable", report.stable)
            $0.optional("canary", report.canary)
            $0.member("stableRequests", report.stableRequests)
            $0.member("canaryRequests", report.canaryRequests)
            $0.member("dispersion", report.dispersion)
            $0.member("dryRun", report.isDryRun)
            $0.member("reason", report.reason)
        }
    }

    static func write(_ record: RolloutRecord, _ writer: inout JSONWriter) {
        writer.object {
            $0.member("id", record.id)
            $0.member("rollout", record.rollout)
            $0.member("time", Double(record.at) / 1_000)
            $0.member("event", record.kind.rawValue)
            $0.member("message", record.message)
            $0.member("step", record.step + 1)
            $0.member("weight", record.weight)
            $0.member("stable", record.stable.name)
            $0.optional("canary", record.canary?.name)
            $0.list("metrics") { writer in
                for report in record.reports { Self.write(report, &writer) }
            }
        }
    }

    /// A step as the policy writes it.
    static func text(_ step: RolloutStep) -> String {
        func seconds(_ duration: Duration) -> String { "\(duration.secondsAsDouble) s" }
        switch step {
        case .weight(let weight, let hold): return "weight \(weight) %, watched \(seconds(hold))"
        case .pause(nil): return "pause"
        case .pause(.some(let duration)): return "wait \(seconds(duration))"
        case .canaryReplicas(.replicas(let count)): return "canary has \(count) replicas"
        case .canaryReplicas(.share(let share)): return "canary has replicas for \(share) %"
        case .canaryReplicas(.matchWeight): return "canary has replicas for its weight"
        case .headerRoute(.some(let route)): return "header \(route.name): \(route.value)"
        case .headerRoute(nil): return "no header route"
        case .mirror(let percent, let hold): return "mirror \(percent) %, \(seconds(hold))"
        case .analysis(let hold): return "watch \(seconds(hold))"
        }
    }
}

/// `GET /api/v1/rollouts/NAME/timeline`: what a rollout looked like.
enum TimelineDocument {
    static func write(_ timeline: RolloutTimeline, to writer: inout JSONWriter) {
        writer.object {
            $0.member("model", timeline.model)
            $0.member("rollout", timeline.rollout)
            $0.member("stable", timeline.stable.name)
            $0.member("canary", timeline.canary.name)
            $0.member("startedAt", Double(timeline.startedAt) / 1_000)
            $0.list("metrics") { writer in
                for metric in timeline.metrics {
                    writer.object {
                        $0.member("name", metric.name)
                        $0.member("threshold", metric.threshold)
                    }
                }
            }
            $0.list("points") { writer in
                for point in timeline.points { Self.write(point, &writer) }
            }
            $0.list("history") { writer in
                for record in timeline.records { RolloutDocument.write(record, &writer) }
            }
        }
    }

    private static func write(_ point: RolloutTimeline.Point, _ writer: inout JSONWriter) {
        writer.object {
            $0.member("time", Double(point.at) / 1_000)
            $0.member("weight", point.weight)
            $0.record("stable") { Self.write(point.stable, &$0) }
            $0.record("canary") { Self.write(point.canary, &$0) }
            $0.list("values") { writer in
                for value in point.values {
                    writer.object {
                        $0.member("evidence", value.evidence)
                        $0.optional("stable", value.stable)
                        $0.optional("canary", value.canary)
                    }
                }
            }
        }
    }

    private static func write(_ arm: RolloutTimeline.Arm, _ writer: inout JSONWriter) {
        writer.member("ready", arm.ready)
        writer.member("requests", arm.requests)
        writer.member("errors", arm.errors)
        writer.optional("p50", arm.p50)
        writer.optional("p95", arm.p95)
    }
}

/// `{"variant": "v2"}`
enum LiveRequest {
    static func parse(_ bytes: RawSpan) throws(JSONError) -> String {
        var cursor = JSONCursor()
        var variant: String?
        try cursor.object(bytes) { (cursor, key) throws(JSONError) in
            guard bytes.extracting(key).withUnsafeBytes({ $0.elementsEqual("variant".utf8) }) else {
                throw cursor.error("the one field here is `variant`, not another")
            }
            guard variant == nil else { throw cursor.error("`variant` is given twice") }
            variant = try cursor.string(bytes)
        }
        try cursor.end(bytes)
        guard let variant, !variant.isEmpty else { throw cursor.error("`variant` is missing") }
        return variant
    }
}

/// Nothing, or `{"full": true}`
enum PromoteRequest {
    static func parse(_ bytes: RawSpan) throws(JSONError) -> Bool {
        if bytes.byteCount == 0 { return false }
        var cursor = JSONCursor()
        var isFull = false
        try cursor.object(bytes) { (cursor, key) throws(JSONError) in
            guard bytes.extracting(key).withUnsafeBytes({ $0.elementsEqual("full".utf8) }) else {
                throw cursor.error("the one field here is `full`, not another")
            }
            isFull = try cursor.bool(bytes)
        }
        try cursor.end(bytes)
        return isFull
    }
}
