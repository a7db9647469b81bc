import HTTP
import Proxy
import Telemetry

extension MetricsDocument {
    /// Content codings; all zero where nobody uses them.
    func writeCodings(_ writer: inout ExpositionWriter) {
        let coding = self.workers.coding
        writer.begin(
            "weir_coded_requests_total",
            .counter,
            help: "Requests with a Content-Encoding, by what became of them."
        )
        for outcome in CodingStatistics.RequestOutcome.allCases {
            writer.sample([("outcome", outcome.rawValue)], coding.requests[outcome] ?? 0)
        }
        writer.begin(
            "weir_compressed_answers_total",
            .counter,
            help: "Answers that the gateway compressed."
        )
        for kind in ContentCoding.allCases {
            writer.sample([("coding", kind.name.description)], coding.answers[kind] ?? 0)
        }
        writer.begin(
            "weir_compression_bytes_total",
            .counter,
            help: "Bytes of compressed answers, as they came and as they went."
        )
        writer.sample([("form", "plain")], coding.plainBytes)
        writer.sample([("form", "coded")], coding.codedBytes)
        writer.counter(
            "weir_compression_skipped_total",
            coding.skipped,
            help: "Answers that were not compressed because too many others were."
        )
        writer.counter(
            "weir_unreadable_answers_total",
            coding.unreadable,
            help: "Answers that came compressed and could not be looked into."
        )
    }
}
