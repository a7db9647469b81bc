// Design note
//
// What others say of the load, read from text: metrics of model servers and GPU exporters in the
// Prometheus text format or OpenMetrics, and load reports in response headers (ORCA). Pure: bytes
// in, values out.
//
//   ExpositionParser ──lines──▸ ServerMetrics  one model server, whichever of those known
//                     └──────▸ GPUReading      one GPU of a DCGM exporter
//   ServerTracker: two ServerMetrics one after the other ──▸ rates, quantiles, resets seen
//   LoadReport: the value of an `endpoint-load-metrics` field
//
// Everything that was not said is nil. Nothing is made up: a metric that is absent, negative, no
// number or beyond its range is unknown, not zero.
//
// A module of its own beside Autoscaling, as none of its decisions need to know how a value was
// written, and what reads text from outside is fuzzed by itself.
//
// Limits: `ExpositionParser.Limits`, `BucketHistogram.bucketsMax`, `GPUReading.countMax`,
// `LoadReport.bytesMax`. It does not store series over time; that is what Prometheus is for.

extension RawSpan {
    /// The byte at an index, checked.
    func byte(at index: Int) -> UInt8 {
        // Sound: bounds-checked, and every bit pattern is a byte.
        unsafe self.unsafeLoad(fromByteOffset: index, as: UInt8.self)
    }

    /// Whether the bytes of a range are exactly those of a text.
    func holds(_ range: Range<Int>, _ text: String) -> Bool {
        let utf8 = text.utf8
        guard utf8.count == range.count else { return false }
        var index = range.lowerBound
        for byte in utf8 {
            if self.byte(at: index) != byte { return false }
            index += 1
        }
        return true
    }

    func string(_ range: Range<Int>) -> String {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(range.count)
        for index in range { bytes.append(self.byte(at: index)) }
        return String(decoding: bytes, as: UTF8.self)
    }
}
