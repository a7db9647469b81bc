/// Spans of time as people write them: `250us`, `250ms`, `1.5s`, `5m`, `2h`, or 0.
package enum TimeText {
    private static let units: [(suffix: String, seconds: Double)] = [
        ("ns", 1e-9), ("us", 1e-6), ("ms", 1e-3), ("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400),
    ]

    /// Seconds; nil for what is no span of time from 0 to `WorkloadLimits.durationMaxSeconds`.
    package static func seconds(_ text: some StringProtocol) -> Double? {
        if text == "0" { return 0 }
        for unit in self.units where text.hasSuffix(unit.suffix) {
            guard let value = Double(text.dropLast(unit.suffix.count)) else { continue }
            let seconds = value * unit.seconds
            return (0...WorkloadLimits.durationMaxSeconds).contains(seconds) ? seconds : nil
        }
        return nil
    }

    /// Three or four figures with a unit that suits: `1.23ms`.
    package static func short(nanoseconds: Double) -> String {
        switch nanoseconds.magnitude {
        case ..<1_000: DecimalText.fixed(nanoseconds, places: 0) + "ns"
        case ..<1_000_000: DecimalText.figures(nanoseconds / 1e3) + "us"
        case ..<1_000_000_000: DecimalText.figures(nanoseconds / 1e6) + "ms"
        default: DecimalText.figures(nanoseconds / 1e9) + "s"
        }
    }
}

/// Decimal numbers with a fixed look.
package enum DecimalText {
    /// With so many places, rounded; 0 to 9 places.
    package static func fixed(_ value: Double, places: Int) -> String {
        guard value.isFinite, value.magnitude < 1e15 else { return "\(value)" }
        precondition((0...9).contains(places), "\(places) places")
        let scale = (0..<places).reduce(1.0) { scale, _ in scale * 10 }
        let scaled = (value.magnitude * scale).rounded()
        let isNegative = value < 0 && scaled > 0
        guard scaled < 9e18 else { return "\(value)" }
        let digits = String(UInt64(scaled))
        let padded = String(repeating: "0", count: max(0, places + 1 - digits.count)) + digits
        let sign = isNegative ? "-" : ""
        if places == 0 { return sign + padded }
        return sign + padded.dropLast(places) + "." + padded.suffix(places)
    }

    /// About three significant figures.
    package static func figures(_ value: Double) -> String {
        switch value.magnitude {
        case 99.95...: self.fixed(value, places: 0)
        case 9.995...: self.fixed(value, places: 1)
        default: self.fixed(value, places: 2)
        }
    }
}
