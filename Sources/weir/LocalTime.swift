import Glibc

/// A time of day for people, as clocks here show it.
enum LocalTime {
    /// `2026-03-29 14:05:09`, or a dash for what is unknown.
    /// - Parameter seconds: since 1970.
    static func text(_ seconds: Double?) -> String {
        guard let seconds, seconds > 0, seconds < 1e11 else { return "-" }
        var time = time_t(seconds)
        var local = tm()
        guard localtime_r(&time, &local) != nil else { return "-" }
        let date = [Int(local.tm_year) + 1_900, Int(local.tm_mon) + 1, Int(local.tm_mday)]
        let clock = [Int(local.tm_hour), Int(local.tm_min), Int(local.tm_sec)]
        return date.map(Self.padded).joined(separator: "-") + " "
            + clock.map(Self.padded).joined(separator: ":")
    }

    private static func padded(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }
}
