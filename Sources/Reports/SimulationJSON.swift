import Core
import HTTPService
import Simulation

/// A comparison as JSON, with every figure of every run.
package enum SimulationJSON {
    package static func write(_ reports: [SimulationReport], to buffer: ByteBuffer) {
        var json = JSONWriter(buffer)
        json.object { json in
            json.member("version", WeirVersion.current)
            json.member(
                "scenarios",
                array: { json in for report in reports { Self.scenario(report, &json) } }
            )
        }
        buffer.append(byte: UInt8(ascii: "\n"))
    }

    private static func scenario(_ report: SimulationReport, _ json: inout JSONWriter) {
        json.object { json in
            json.member("name", report.title)
            json.member("summary", report.summary)
            json.member("target", report.target)
            if let optimum = report.optimum, let seconds = report.optimumSeconds {
                json.member(
                    "optimum",
                    object: { json in
                        json.member("gpuSeconds", seconds)
                        json.member("attainment", optimum.attainment)
                    }
                )
            }
            json.member(
                "policies",
                array: { json in for row in report.rows { Self.policy(row, report, &json) } }
            )
        }
    }

    private static func policy(
        _ row: SimulationReport.Row,
        _ report: SimulationReport,
        _ json: inout JSONWriter
    ) {
        json.object { json in
            json.member("name", row.runs.name)
            json.member("isOwn", row.isOwn)
            Self.figures(row.runs, &json)
            if let optimum = report.optimumSeconds, optimum > 0 {
                json.member("ofOptimum", row.runs.gpuSeconds / optimum)
            }
            if report.isTuned { json.member("reachesTarget", row.hasReached) }
            if let sweep = row.sweep {
                json.member("knob", sweep.knob)
                json.member(
                    "sweep",
                    array: { json in
                        for point in sweep.points {
                            json.object { json in
                                json.member("value", point.value)
                                Self.figures(point.runs, &json)
                            }
                        }
                    }
                )
            }
            json.member(
                "runs",
                array: { json in for run in row.runs.runs { Self.run(run, &json) } }
            )
        }
    }

    private static func figures(_ runs: PolicyRuns, _ json: inout JSONWriter) {
        json.member("gpuSeconds", runs.gpuSeconds)
        if let half = runs.halfWidth({ $0.gpuSeconds }) { json.member("gpuSecondsHalfWidth", half) }
        json.member("attainment", runs.attainment)
        if let half = runs.halfWidth({ $0.attainment }) { json.member("attainmentHalfWidth", half) }
        json.member("startsPerReplicaHour", runs.startsPerReplicaHour)
        json.member("interrupted", runs.interrupted)
    }

    private static func run(_ run: WorldResult, _ json: inout JSONWriter) {
        json.object { json in
            json.member("seconds", run.measured)
            json.member("digest", run.digest)
            json.member("events", run.events)
            json.member(
                "violations",
                object: { json in
                    json.member("budget", run.violations.budget)
                    json.member("lastReplica", run.violations.lastReplica)
                    json.member("earlyKill", run.violations.earlyKill)
                }
            )
            if run.hasCosts { json.member("costSeconds", run.costSeconds) }
            json.member(
                "models",
                array: { json in
                    for model in run.models {
                        Self.model(model, hasVariants: run.hasCosts, &json)
                    }
                }
            )
            if let rollout = run.rollout {
                json.member("rollout", object: { json in Self.rollout(rollout, &json) })
            }
        }
    }

    private static func rollout(_ rollout: RolloutResult, _ json: inout JSONWriter) {
        json.member("canary", rollout.canary)
        json.member("phase", rollout.phase)
        json.member("live", rollout.live)
        json.member("canaryRequests", rollout.canaryRequests)
        json.member("canaryErrors", rollout.canaryErrors)
        if let seconds = rollout.exposedSeconds { json.member("exposedSeconds", seconds) }
        json.member(
            "events",
            array: { json in
                for event in rollout.events {
                    json.object { json in
                        json.member("seconds", event.seconds)
                        json.member("kind", event.kind)
                        json.member("text", event.text)
                    }
                }
            }
        )
    }

    private static func model(
        _ model: ModelResult,
        hasVariants: Bool,
        _ json: inout JSONWriter
    ) {
        json.object { json in
            json.member("name", model.name)
            json.member("arrivals", model.arrivals)
            json.member("completed", model.completed)
            json.member("good", model.good)
            json.member("rejected", model.rejected)
            json.member("timedOut", model.timedOut)
            json.member("crashed", model.crashed)
            json.member("interrupted", model.interrupted)
            json.member("gpuSeconds", model.gpuSeconds)
            if hasVariants {
                json.member("failed", model.failed)
                json.member("served", model.served)
                json.member("costSeconds", model.costSeconds)
            }
            json.member("starts", model.starts)
            json.member("stops", model.stops)
            json.member("takenBack", model.takenBack)
            json.member("peak", model.peak)
            json.member("refused", model.refused)
            for (name, histogram) in [
                ("firstToken", model.firstTokens), ("latency", model.latencies),
                ("wait", model.waits),
            ] {
                json.key(escaping: name)
                json.object { json in
                    json.member("p50", Self.seconds(histogram, 0.5))
                    json.member("p95", Self.seconds(histogram, 0.95))
                    json.member("p99", Self.seconds(histogram, 0.99))
                }
            }
        }
    }

    private static func seconds(_ histogram: LatencyHistogram, _ quantile: Double) -> Double {
        Double(histogram.quantile(quantile) ?? 0) / 1e9
    }
}
