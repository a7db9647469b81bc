import Clusters
import Control
import Core
import GRPC
import HTTP
import Proxy
import Rollouts
import Telemetry

extension MetricsDocument {
    /// Writes all families, for a scraper.
    func write(into buffer: ByteBuffer, format: ExpositionWriter.Format) {
        var writer = ExpositionWriter(into: buffer, format: format)
        self.writeRequests(&writer)
        self.writeTimes(&writer)
        self.writeTokens(&writer)
        self.writeTroubles(&writer)
        self.writeFleet(&writer)
        self.writeGenerative(&writer)
        self.writeConnections(&writer)
        self.writeTLS(&writer)
        self.writeCodings(&writer)
        self.writeHTTP2(&writer)
        self.writeConfiguration(&writer)
        self.writeProcess(&writer)
        writer.end()
    }

    /// Calls `body` with every variant and its labels.
    private func forEachVariant(_ body: (Variant, [ExpositionWriter.Label]) -> Void) {
        for model in self.models {
            for variant in model.variants {
                body(variant, [("model", model.name), ("variant", variant.name)])
            }
        }
    }

    private func forEachModel(_ body: (Model, [ExpositionWriter.Label]) -> Void) {
        for model in self.models { body(model, [("model", model.name)]) }
    }

    // MARK: Requests

    private func writeRequests(_ writer: inout ExpositionWriter) {
        writer.begin(
            "weir_requests_total",
            .counter,
            help: "Requests by the status they were answered with; 499 where the client left first."
        )
        for model in self.models {
            for variant in model.variants {
                self.writeCodes(
                    variant.statistics.requestsByCode,
                    zero: true,
                    model.name,
                    variant.name,
                    &writer
                )
            }
            // Refused, timed out in the queue, …: no variant ever had them.
            self.writeCodes(model.statistics.unrouted, zero: false, model.name, "", &writer)
        }
        self.writeCodes(self.workers.localAnswers, zero: false, "", "", &writer)
        self.writeCalls(&writer)
        writer.begin(
            "weir_in_flight_requests",
            .gauge,
            help: "Requests that a replica is working on."
        )
        self.forEachVariant { variant, labels in
            writer.sample(labels, UInt64(clamping: variant.statistics.inFlight))
        }
        writer.begin("weir_queue_depth", .gauge, help: "Requests that wait for a replica.")
        for model in self.models {
            writer.sample([("model", model.name)], UInt64(clamping: model.queueDepth))
        }
    }

    /// Of variants that have had calls: a status that has not occurred yet is 0 there.
    private func writeCalls(_ writer: inout ExpositionWriter) {
        writer.begin(
            "weir_grpc_calls_total",
            .counter,
            help: "Calls of gRPC by the status they ended with."
        )
        self.forEachVariant { variant, labels in
            let calls = variant.statistics.callsByStatus
            if calls.isEmpty { return }
            for status in GRPCStatus.allCases {
                writer.sample(
                    labels + [("status", status.name.description)],
                    calls[status] ?? 0
                )
            }
        }
    }

    /// With `zero`, code 200 is there even if it never happened.
    private func writeCodes(
        _ codes: [UInt16: UInt64],
        zero: Bool,
        _ model: String,
        _ variant: String,
        _ writer: inout ExpositionWriter
    ) {
        var codes = codes
        if zero { codes[200, default: 0] += 0 }
        for (code, count) in codes.sorted(by: { $0.key < $1.key }) {
            writer.sample([("model", model), ("variant", variant), ("code", "\(code)")], count)
        }
    }

    // MARK: Times

    private func writeTimes(_ writer: inout ExpositionWriter) {
        self.writeTimes(
            "weir_request_duration_seconds",
            \.statistics.duration,
            .requests,
            self.forEachVariant,
            &writer,
            help: "From the first byte of a request to the last of its response."
        )
        self.writeTimes(
            "weir_time_to_first_token_seconds",
            \.statistics.timeToFirstToken,
            .requests,
            self.forEachVariant,
            &writer,
            help: "From the first byte of a request to the first content of its stream."
        )
        self.writeTimes(
            "weir_time_per_output_token_seconds",
            \.statistics.timePerOutputToken,
            .tokens,
            self.forEachVariant,
            &writer,
            help: "Between two tokens of a stream, after the first."
        )
        self.writeTimes(
            "weir_gateway_overhead_seconds",
            \.statistics.overhead,
            .overhead,
            self.forEachModel,
            &writer,
            help: "What the gateway added itself: no waiting for replicas or connections."
        )
        self.writeTimes(
            "weir_queue_wait_seconds",
            \.statistics.queueWait,
            .requests,
            self.forEachModel,
            &writer,
            help: "How long requests waited for a replica that was free."
        )
    }

    /// One histogram of everything that `each` comes to.
    private func writeTimes<Subject>(
        _ name: StaticString,
        _ histogram: KeyPath<Subject, LatencyHistogram>,
        _ boundaries: HistogramBoundaries,
        _ each: (_ body: (Subject, [ExpositionWriter.Label]) -> Void) -> Void,
        _ writer: inout ExpositionWriter,
        help: StaticString
    ) {
        writer.begin(name, .histogram, help: help)
        each { subject, labels in
            writer.sample(labels, subject[keyPath: histogram], boundaries)
        }
    }

    private func writeTokens(_ writer: inout ExpositionWriter) {
        writer.begin("weir_tokens_total", .counter, help: "Tokens that replicas reported as used.")
        self.forEachVariant { variant, labels in
            writer.sample(labels + [("type", "input")], variant.statistics.inputTokens)
            writer.sample(labels + [("type", "output")], variant.statistics.outputTokens)
        }
    }

    // MARK: Troubles

    private func writeTroubles(_ writer: inout ExpositionWriter) {
        writer.begin(
            "weir_upstream_errors_total",
            .counter,
            help: "Tries at a replica that failed."
        )
        self.forEachVariant { variant, labels in
            for kind in UpstreamErrorKind.allCases {
                let count = variant.statistics.upstreamErrors[kind] ?? 0
                writer.sample(labels + [("kind", kind.rawValue)], count)
            }
        }
        writer.begin("weir_retries_total", .counter, help: "What became of second tries.")
        for model in self.models {
            for outcome in RetryOutcome.allCases {
                writer.sample(
                    [("model", model.name), ("outcome", outcome.rawValue)],
                    model.statistics.retries[outcome] ?? 0
                )
            }
        }
        writer.begin(
            "weir_outlier_ejections_total",
            .counter,
            help: "How often a replica was left out for failing."
        )
        self.forEachVariant { writer.sample($1, $0.statistics.ejections) }
        writer.begin(
            "weir_mirrored_requests_total",
            .counter,
            help: "Copies of requests: sent, or dropped because too many were under way."
        )
        self.forEachVariant { variant, labels in
            writer.sample(labels + [("outcome", "sent")], variant.statistics.mirrored)
            writer.sample(labels + [("outcome", "dropped")], variant.statistics.mirrorDropped)
        }
    }

    // MARK: The fleet

    private func writeFleet(_ writer: inout ExpositionWriter) {
        writer.begin(
            "weir_replicas",
            .gauge,
            help: "Replicas wanted, and those there are by state."
        )
        self.forEachReplicas { replicas, labels in
            writer.sample(labels + [("state", "desired")], UInt64(clamping: replicas.desired))
            for state in ReplicaState.allCases {
                let count = UInt64(clamping: replicas.states[state] ?? 0)
                writer.sample(labels + [("state", state.rawValue)], count)
            }
        }
        writer.begin(
            "weir_cold_start_seconds",
            .histogram,
            help: "From a replica's start to its readiness."
        )
        self.forEachReplicas { writer.sample($1, $0.coldStarts, .coldStarts) }
        writer.begin(
            "weir_rollout_weight_percent",
            .gauge,
            help: "A variant's share of the requests."
        )
        self.forEachReplicas { writer.sample($1, $0.weightPercent) }
        writer.begin(
            "weir_rollout_verdicts_total",
            .counter,
            help: "Rollouts that passed or failed, and steps that were inconclusive."
        )
        for model in self.models {
            guard let verdicts = model.verdicts else { continue }
            for verdict in [Verdict.pass, .fail, .inconclusive] {
                writer.sample(
                    [("model", model.name), ("verdict", verdict.rawValue)],
                    verdicts[verdict] ?? 0
                )
            }
        }
        self.writeDecisions(&writer)
    }

    private func writeDecisions(_ writer: inout ExpositionWriter) {
        writer.begin(
            "weir_scaling_decisions_total",
            .counter,
            help: "Changes of the number of replicas that were wanted, by what they came of."
        )
        for model in self.models {
            let sorted = model.decisions.sorted {
                ($0.key.direction.rawValue, $0.key.reason.rawValue)
                    < ($1.key.direction.rawValue, $1.key.reason.rawValue)
            }
            for (kind, count) in sorted {
                writer.sample(
                    [
                        ("model", model.name), ("direction", kind.direction.rawValue),
                        ("reason", kind.reason.rawValue),
                    ],
                    count
                )
            }
        }
    }

    private func forEachReplicas(_ body: (Replicas, [ExpositionWriter.Label]) -> Void) {
        self.forEachVariant { variant, labels in
            if let replicas = variant.replicas { body(replicas, labels) }
        }
    }

    // MARK: Generative models

    /// The same under the names of OpenTelemetry's conventions for generative AI, as a collector
    /// would write them for Prometheus.
    private func writeGenerative(_ writer: inout ExpositionWriter) {
        self.writeTimes(
            "gen_ai_server_request_duration_seconds",
            \.statistics.duration,
            .requests,
            self.forEachGenerative,
            &writer,
            help: "As weir_request_duration_seconds."
        )
        self.writeTimes(
            "gen_ai_server_time_to_first_token_seconds",
            \.statistics.timeToFirstToken,
            .requests,
            self.forEachGenerative,
            &writer,
            help: "As weir_time_to_first_token_seconds."
        )
        self.writeTimes(
            "gen_ai_server_time_per_output_token_seconds",
            \.statistics.timePerOutputToken,
            .tokens,
            self.forEachGenerative,
            &writer,
            help: "As weir_time_per_output_token_seconds."
        )
        writer.begin("gen_ai_client_token_usage_total", .counter, help: "As weir_tokens_total.")
        self.forEachGenerative { variant, labels in
            writer.sample(
                labels + [("gen_ai_token_type", "input")],
                variant.statistics.inputTokens
            )
            writer.sample(
                labels + [("gen_ai_token_type", "output")],
                variant.statistics.outputTokens
            )
        }
    }

    private func forEachGenerative(_ body: (Variant, [ExpositionWriter.Label]) -> Void) {
        for model in self.models where model.isGenerative {
            for variant in model.variants {
                body(variant, [("gen_ai_request_model", model.name), ("variant", variant.name)])
            }
        }
    }
}

// MARK: Weir itself

extension MetricsDocument {
    private func writeConnections(_ writer: inout ExpositionWriter) {
        let workers = self.workers
        let idle = min(workers.upstreamConnectionsIdle, workers.upstreamConnections)
        writer.begin("weir_connections", .gauge, help: "Connections open now.")
        writer.sample(
            [("side", "client"), ("state", "open")],
            UInt64(clamping: workers.clientConnections)
        )
        writer.sample(
            [("side", "upstream"), ("state", "active")],
            UInt64(clamping: workers.upstreamConnections - idle)
        )
        writer.sample([("side", "upstream"), ("state", "idle")], UInt64(clamping: idle))
        writer.begin(
            "weir_connections_opened_total",
            .counter,
            help: "Connections accepted and opened."
        )
        writer.sample([("side", "client")], workers.clientConnectionsAccepted)
        writer.sample([("side", "upstream")], workers.upstreamConnectionsOpened)
        writer.counter(
            "weir_connections_refused_total",
            workers.clientConnectionsRefused,
            help: "Client connections beyond the limit, answered 503."
        )
        writer.counter(
            "weir_accept_errors_total",
            workers.acceptErrors,
            help: "Times that accepting a connection failed, for want of descriptors or memory."
        )
        writer.begin(
            "weir_bad_requests_total",
            .counter,
            help: "Requests that could not be understood."
        )
        for (reason, count) in self.badRequests.sorted(by: { $0.key < $1.key }) {
            writer.sample([("reason", reason)], count)
        }
        writer.begin(
            "weir_network_bytes_total",
            .counter,
            help: "Bytes read and written, towards clients and replicas together."
        )
        writer.sample([("direction", "read")], workers.bytesRead)
        writer.sample([("direction", "written")], workers.bytesWritten)
    }

    /// With a zero for whatever may be wrong with a head or a body.
    private var badRequests: [String: UInt64] {
        var counts: [String: UInt64] = [:]
        for error in HeadError.allCases { counts["\(error.label)"] = 0 }
        for error in BodyError.allCases { counts["\(error.label)"] = 0 }
        return counts.merging(self.workers.refusedRequests, uniquingKeysWith: +)
    }

    private func writeConfiguration(_ writer: inout ExpositionWriter) {
        writer.gauge(
            "weir_config_generation",
            self.configurationGeneration,
            help: "Rises with every configuration that was accepted."
        )
        writer.counter(
            "weir_config_errors_total",
            self.configurationErrors,
            help: "Configurations that were refused."
        )
        self.writeTenants(&writer)
        self.writeRecorder(&writer)
        writer.begin("weir_build_info", .gauge, help: "Always 1; the labels tell which Weir it is.")
        writer.sample([("version", WeirVersion.current)], UInt64(1))
    }

    /// Tenants that have labels of their own; all others are told together.
    private static let tenantsMax = 200

    private func writeTenants(_ writer: inout ExpositionWriter) {
        if self.tenants.isEmpty { return }
        var told = Array(self.tenants.prefix(Self.tenantsMax))
        if self.tenants.count > Self.tenantsMax {
            var others = TenantShared.Statistics()
            for (_, each) in self.tenants.dropFirst(Self.tenantsMax) {
                others.outcomes.merge(each.outcomes, uniquingKeysWith: +)
                others.inFlight += each.inFlight
                others.inputTokens += each.inputTokens
                others.outputTokens += each.outputTokens
            }
            // No resource can have such a name.
            told.append(("_others", others))
        }
        if let age = self.sharesAge {
            writer.begin(
                "weir_tenant_limits_age_seconds",
                .gauge,
                help: "Since a controller told this gateway its parts of tenants' limits."
            )
            writer.sample([], age)
        }
        writer.begin(
            "weir_tenant_requests_total",
            .counter,
            help: "Requests by tenant, and whether they were admitted."
        )
        for (name, each) in told {
            for outcome in TenantShared.Outcome.allCases {
                writer.sample(
                    [("tenant", name), ("outcome", outcome.rawValue)],
                    each.outcomes[outcome] ?? 0
                )
            }
        }
        writer.begin("weir_tenant_tokens_total", .counter, help: "Tokens by tenant, as counted.")
        for (name, each) in told {
            writer.sample([("tenant", name), ("type", "input")], each.inputTokens)
            writer.sample([("tenant", name), ("type", "output")], each.outputTokens)
        }
        writer.begin("weir_tenant_in_flight_requests", .gauge, help: "Requests now, by tenant.")
        for (name, each) in told {
            writer.sample([("tenant", name)], UInt64(clamping: each.inFlight))
        }
    }

    private func writeRecorder(_ writer: inout ExpositionWriter) {
        writer.begin(
            "weir_recorder_requests_total",
            .counter,
            help: "Requests that the recorder wrote, and those it lost to a slow or full disk."
        )
        writer.sample([("outcome", "written")], self.recorder.written)
        writer.sample([("outcome", "dropped")], self.recorder.dropped)
        writer.counter(
            "weir_recorder_written_bytes_total",
            self.recorder.bytes,
            help: "Bytes of recordings, compressed."
        )
    }

    private func writeProcess(_ writer: inout ExpositionWriter) {
        let process = self.process
        writer.begin(
            "process_cpu_seconds_total",
            .counter,
            help: "Processor time used, user and system."
        )
        writer.sample([], process.cpuSeconds)
        writer.gauge(
            "process_resident_memory_bytes",
            process.residentBytes,
            help: "Resident memory."
        )
        writer.gauge("process_virtual_memory_bytes", process.virtualBytes, help: "Address space.")
        writer.gauge("process_open_fds", process.openDescriptors, help: "Open descriptors.")
        writer.gauge("process_max_fds", process.maxDescriptors, help: "Descriptors at most.")
        writer.gauge("process_threads", process.threads, help: "Threads.")
        writer.begin(
            "process_start_time_seconds",
            .gauge,
            help: "When it started, in seconds since 1970."
        )
        writer.sample([], process.startTime)
    }
}
