import HTTP
import Proxy
import Telemetry

extension MetricsDocument {
    /// HTTP/2 with clients; all zero where nobody speaks it.
    func writeHTTP2(_ writer: inout ExpositionWriter) {
        let http2 = self.workers.http2
        writer.counter(
            "weir_http2_connections_total",
            http2.connections,
            help: "Connections of clients that speak HTTP/2."
        )
        writer.counter(
            "weir_http2_streams_total",
            http2.streams,
            help: "Streams that clients have begun."
        )
        writer.begin(
            "weir_http2_refused_streams_total",
            .counter,
            help: "Streams refused because the limit of connections was reached."
        )
        writer.sample([], http2.refusals)
        writer.begin(
            "weir_http2_abuse_total",
            .counter,
            help: "Connections ended because their clients did too much of something."
        )
        for kind in FrameAbuse.allCases {
            writer.sample([("kind", kind.label.description)], http2.abuses[kind] ?? 0)
        }
        writer.counter(
            "weir_http2_silent_connections_total",
            http2.silences,
            help: "Connections ended because their clients did not answer a PING."
        )
    }
}
