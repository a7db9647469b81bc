import Control
import Proxy
import TLS
import Telemetry

extension MetricsDocument {
    /// Handshakes and certificates; all zero, or absent, where nobody speaks TLS.
    func writeTLS(_ writer: inout ExpositionWriter) {
        let tls = self.workers.tls
        writer.begin(
            "weir_tls_handshakes_total",
            .counter,
            help: "TLS sessions agreed on with clients and replicas."
        )
        self.writeHandshakes(tls.handshakes, side: "client", &writer)
        self.writeHandshakes(tls.upstreamHandshakes, side: "upstream", &writer)
        writer.begin(
            "weir_tls_handshake_failures_total",
            .counter,
            help: "TLS sessions that did not come about."
        )
        for (side, failures) in [("client", tls.failures), ("upstream", tls.upstreamFailures)] {
            for kind in TLSFailure.Kind.allCases {
                writer.sample([("side", side), ("reason", kind.rawValue)], failures[kind] ?? 0)
            }
        }
        writer.counter(
            "weir_tls_kernel_sessions_total",
            tls.kernelSessions,
            help: "TLS sessions with clients in which the kernel encrypts what is sent."
        )
        self.writeCertificates(&writer)
    }

    private func writeHandshakes(
        _ counts: [TLSStatistics.Key: UInt64],
        side: String,
        _ writer: inout ExpositionWriter
    ) {
        for version in TLSVersion.allCases {
            for isResumed in [false, true] {
                let key = TLSStatistics.Key(version: version, isResumed: isResumed)
                writer.sample(
                    [
                        ("side", side), ("version", version.rawValue),
                        ("resumed", isResumed ? "true" : "false"),
                    ],
                    counts[key] ?? 0
                )
            }
        }
    }

    private func writeCertificates(_ writer: inout ExpositionWriter) {
        writer.begin(
            "weir_tls_certificate_expiry_timestamp_seconds",
            .gauge,
            help: "When a listener's certificate ends, in seconds since 1970."
        )
        for facts in self.certificates {
            for (index, certificate) in facts.certificates.enumerated() {
                writer.sample(
                    [
                        ("listener", facts.listener), ("certificate", "\(index)"),
                        ("name", certificate.name),
                    ],
                    UInt64(clamping: certificate.notAfter)
                )
            }
        }
        writer.begin(
            "weir_tls_reloads_total",
            .counter,
            help: "Times that a listener's files were read anew, and what became of them."
        )
        for facts in self.certificates {
            writer.sample([("listener", facts.listener), ("outcome", "taken")], facts.reloads)
            writer.sample([("listener", facts.listener), ("outcome", "refused")], facts.errors)
        }
    }
}
