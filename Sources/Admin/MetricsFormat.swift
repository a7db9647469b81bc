import Telemetry

extension ExpositionWriter.Format {
    /// The format a scraper asks for by `Accept` (RFC 9110, section 12.5.1): OpenMetrics where it
    /// is named and weighs no less than plain text, else the format everybody reads.
    init(accept: String?) {
        var openMetrics = 0.0
        var text = 0.0
        for range in (accept ?? "").split(separator: ",") {
            let parts = range.split(separator: ";").map { Self.trimmed($0) }
            guard let type = parts.first else { continue }
            let weight = Self.weight(parts.dropFirst())
            switch type {
            case "application/openmetrics-text": openMetrics = max(openMetrics, weight)
            case "text/plain", "text/*": text = max(text, weight)
            default: break
            }
        }
        self = openMetrics > 0 && openMetrics >= text ? .openMetrics : .text
    }

    /// The value of `q`; 1 without one, 0 for one that is no number.
    private static func weight(_ parameters: ArraySlice<String>) -> Double {
        for parameter in parameters where parameter.hasPrefix("q=") {
            guard let weight = Double(parameter.dropFirst(2)), weight.isFinite else { return 0 }
            return min(max(weight, 0), 1)
        }
        return 1
    }

    private static func trimmed(_ text: Substring) -> String {
        String(text.split { $0 == " " || $0 == "\t" }.joined(separator: " ")).lowercased()
    }
}
