import HTTP
import Proxy
import Telemetry

extension MetricsDocument {
    /// HTTP/2 with clients; all zero where nobody speaks it.
    func writeHTTP2(_ writer: inout ExpositionWriter) {
        let http2 = self.workers.http2
        writer.begin(
            "weir_http2_connections_total",
            .counter,
            help: "Connections of clients that speak HTTP/2."
        )
        writer.sample([], http2.connections)
        writer.begin(
            "weir_http2_streams_total",
            .counter,
            help: "Streams that clients have begun."
        )
        writer.sample([], http2.streams)
        writer.begin(
            "weir_http2_abuse_total",
            .counter,
            help: "Connections ended because their clients did too much of something."
        )
        for kind in FrameAbuse.allCases {
            writer.sample([("kind", kind.label.description)], http2.abuses[kind] ?? 0)
        }
        writer.begin(
            "weir_http2_silent_connections_total",
            .counter,
            help: "Connections ended because their clients did not answer a PING."
        )
        writer.sample([], http2.silences)
    }
}
