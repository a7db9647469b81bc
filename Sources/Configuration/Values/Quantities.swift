import Core

/// Durations as Go and Kubernetes write them, exact to the nanosecond.
package enum DurationText {
    /// The longest duration that is accepted: ten years.
    package static let maximum = Duration.seconds(10 * 365 * 86_400)

    private static let units: [(name: String, nanoseconds: Int)] = [
        ("h", 3_600_000_000_000), ("m", 60_000_000_000), ("s", 1_000_000_000),
        ("ms", 1_000_000), ("us", 1_000), ("µs", 1_000), ("ns", 1),
    ]

    /// Reads `250ms`, `1.5s`, `1h30m`, `0`; nil for anything else, also for negative ones.
    package static func parse(_ text: String) -> Duration? {
        if text == "0" { return .zero }
        var rest = text[...].utf8
        var total = 0
        guard !rest.isEmpty, rest.count <= 64 else { return nil }
        while !rest.isEmpty {
            let (number, tail) = DecimalText.split(rest)
            let unitEnd = tail.firstIndex { $0 >= 48 && $0 <= 57 } ?? tail.endIndex
            let unitText = String(tail[..<unitEnd]) ?? ""
            guard
                let decimal = DecimalText(number),
                let unit = Self.units.first(where: { $0.name == unitText }),
                let nanoseconds = decimal.times(unit.nanoseconds)
            else { return nil }
            let (sum, overflow) = total.addingReportingOverflow(nanoseconds)
            if overflow { return nil }
            total = sum
            rest = tail[unitEnd...]
        }
        let duration = Duration.nanoseconds(total)
        return duration <= Self.maximum ? duration : nil
    }

    /// Writes it so that `parse` gives the same back: `1m30s`, `250ms`, `0s`.
    package static func format(_ duration: Duration) -> String {
        var rest = Int(duration.nanosecondsClamped)
        if rest <= 0 { return "0s" }
        var text = ""
        for unit in Self.units where unit.name != "µs" && rest >= unit.nanoseconds {
            text += "\(rest / unit.nanoseconds)\(unit.name)"
            rest %= unit.nanoseconds
        }
        return text
    }
}

/// Sizes in bytes, with binary (`KiB`, `Ki`) and decimal (`k`, `kB`) units.
package enum SizeText {
    static let units: [(name: String, bytes: Int)] = [
        ("", 1), ("B", 1),
        ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40),
        ("Ki", 1 << 10), ("Mi", 1 << 20), ("Gi", 1 << 30), ("Ti", 1 << 40),
        ("k", 1_000), ("M", 1_000_000), ("G", 1_000_000_000), ("T", 1_000_000_000_000),
        ("kB", 1_000), ("MB", 1_000_000), ("GB", 1_000_000_000), ("TB", 1_000_000_000_000),
    ]

    /// Reads `64KiB`, `1.5GiB`, `10M`, `4096`; nil for anything else or parts of a byte.
    package static func parse(_ text: String) -> Int? {
        let (number, unitText) = DecimalText.split(text[...].utf8)
        guard
            let decimal = DecimalText(number),
            let name = String(unitText),
            let unit = Self.units.first(where: { $0.name == name })
        else { return nil }
        return decimal.times(unit.bytes)
    }

    /// Writes it with the largest binary unit that divides it: `32KiB`, `1000`.
    package static func format(_ bytes: Int) -> String {
        for unit in ["TiB", "GiB", "MiB", "KiB"] {
            guard let size = Self.units.first(where: { $0.name == unit })?.bytes else { continue }
            if bytes >= size && bytes % size == 0 { return "\(bytes / size)\(unit)" }
        }
        return String(bytes)
    }
}

/// A duration, or that Weir should find it out (`auto`), or that the feature is off (`off`).
package enum DurationSetting: Sendable, Hashable {
    case automatic
    case off
    case fixed(Duration)
}
