import Core
import Signals

/// Metrics as text. The input's first byte chooses the format.
///
/// Where the bytes lie makes no difference; lines are read each by itself; of a cut exposition the
/// samples of its whole lines are read and no others; what was read reads the same once it was
/// written canonically. What is made of it keeps its ranges, and the other readers of the module
/// take anything.
enum ExpositionInvariants {
    static var seeds: [[UInt8]] {
        [
            "0# TYPE a gauge\na{b=\"c\\\\\\\"\\n\"} 12 1700\n# EOF\n",
            "1a_total 5 1.5 # {x=\"y\"} 1 2\n# EOF",
            "0vllm:num_requests_running{engine=\"0\"} 8.0\nvllm:kv_cache_usage_perc 0.5\n",
            "0vllm:time_to_first_token_seconds_bucket{le=\"+Inf\"} 3\n"
                + "vllm:time_to_first_token_seconds_count 3\n",
            "0sglang:num_running_reqs{tp_rank=\"1\"} 1\nsglang:token_usage NaN\n",
            "0nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=\"fraction\"} 0.3\n",
            "0DCGM_FI_DEV_GPU_UTIL{gpu=\"0\",UUID=\"GPU-a\",pod=\"p\"} 97\n",
            "0{\"a.b\",\"c d\"=\"e\"} -Inf\n", "0a{b=\"c\",} 1\r\n\n a 1", "0a 1e400\na 0x1p3\n",
            "0TEXT named_metrics.kv_cache_usage_perc=0.4, cpu_utilization=1",
            "0JSON {\"named_metrics\": {\"kv_cache_usage_perc\": 0.4}}",
        ].map { Array($0.utf8) }
    }

    static func violation(_ bytes: [UInt8]) -> String? {
        guard let first = bytes.first else { return nil }
        let format: ExpositionParser.Format = first & 1 == 0 ? .text : .openMetrics
        let body = Array(bytes.dropFirst())
        let whole = Seen(body.span.bytes, format)
        let padded = Array("9\"}".utf8) + body + Array("\"} 9\n".utf8)
        let inside = padded.span.bytes.extracting(3..<(3 + body.count))
        if Seen(inside, format) != whole { return "depends on where it lies" }
        if let violation = Self.compareLines(body, whole, format) { return violation }
        let cut = body.count / 2
        let half = Seen(body.span.bytes.extracting(0..<cut), format)
        guard half.samples == Array(whole.samples.prefix(half.samples.count)) else {
            return "\(half.samples) of the first half"
        }
        let again = Seen(Array(whole.canonical.utf8).span.bytes, format)
        if again.samples != whole.samples { return "\(whole.samples) became \(again.samples)" }
        return Self.meaning(body, format)
    }

    private static func compareLines(
        _ body: [UInt8],
        _ whole: Seen,
        _ format: ExpositionParser.Format
    ) -> String? {
        var samples: [Seen.Sample] = []
        for line in body.split(separator: 10, omittingEmptySubsequences: false).dropLast() {
            let seen = Seen((Array(line) + [10]).span.bytes, format)
            guard seen.samples.count + seen.malformed <= 1 else { return "two of one line" }
            samples += seen.samples
        }
        return samples == whole.samples ? nil : "line by line \(samples), at once \(whole.samples)"
    }

    private static func meaning(_ body: [UInt8], _ format: ExpositionParser.Format) -> String? {
        if let metrics = try? ServerMetrics.read(body.span.bytes, format: format) {
            let shares = [metrics.kvCacheUse, metrics.prefixHitRate, metrics.gpuUse]
            for case .some(let share) in shares where !(0...1).contains(share) {
                return "a share of \(share)"
            }
            let numbers = [metrics.running, metrics.waiting, metrics.promptTokensTotal]
            for case .some(let number) in numbers where !(number >= 0) {
                return "a number of \(number)"
            }
            for case .some(let histogram) in [metrics.timeToFirstToken, metrics.latency] {
                _ = histogram.quantile(0.95)
                _ = histogram.recorded(since: histogram)
                let bounds = histogram.buckets.map(\.bound)
                guard zip(bounds, bounds.dropFirst()).allSatisfy({ $0 < $1 }) else {
                    return "bounds out of order"
                }
            }
        }
        for reading in GPUReading.read(body.span.bytes, format: format) {
            if let use = reading.use, !(0...1).contains(use) { return "a GPU's use of \(use)" }
        }
        if let report = LoadReport(body.text) {
            guard report.values.values.allSatisfy(\.isFinite) else { return "\(report)" }
        }
        return nil
    }

    private struct Seen: Equatable {
        struct Sample: Equatable {
            var name: String
            var labels: [[String]]
            /// Bits, so that NaN equals itself.
            var value: UInt64
            var time: Double?
        }

        var samples: [Sample] = []
        var malformed = 0

        init(_ bytes: RawSpan, _ format: ExpositionParser.Format) {
            var parser = ExpositionParser(format: format)
            while let sample = parser.next(bytes) {
                let labels = parser.labels.map { label in
                    [bytes.extracting(label.name).array.text, parser.value(of: label, bytes)]
                }
                let value = sample.value.isNaN ? Double.nan : sample.value
                self.samples.append(
                    Sample(
                        name: bytes.extracting(sample.name).array.text,
                        labels: labels,
                        value: value.bitPattern,
                        time: sample.timestamp.map { format == .text ? $0 * 1_000 : $0 }
                    )
                )
            }
            self.malformed = parser.malformed
        }

        /// Names in quotes, as they may have been.
        var canonical: String {
            self.samples.map { sample in
                let labels = sample.labels.map { "\"\($0[0])\"=\"\(Self.escape($0[1]))\"" }
                let value = Double(bitPattern: sample.value)
                let number = value.isNaN ? "NaN" : value.isInfinite ? "\(value)" : "\(value)"
                let time = sample.time.map { " \($0)" } ?? ""
                let inside = (["\"\(sample.name)\""] + labels).joined(separator: ",")
                return "{\(inside)} \(number)\(time)\n"
            }.joined()
        }

        private static func escape(_ value: String) -> String {
            value.unicodeScalars.map { scalar in
                switch scalar {
                case "\\": "\\\\"
                case "\"": "\\\""
                case "\n": "\\n"
                default: String(scalar)
                }
            }.joined()
        }
    }
}
