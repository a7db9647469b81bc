/// Numbers as people read them; the standard library's own text of a `Double` has up to 17 digits.
enum Decimal {
    /// With about three digits that matter: `0.0123`, `4.56`, `78.9`, `1234`.
    static func text(_ value: Double) -> String {
        guard value.isFinite else { return value.isNaN ? "unknown" : "endless" }
        let size = abs(value)
        let digits = size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3
        return self.text(value, digits: digits)
    }

    static func text(_ value: Double, digits: Int) -> String {
        let size = abs(value)
        guard size < 1e15 else { return "\(value)" }
        var scale: UInt64 = 1
        for _ in 0..<digits { scale *= 10 }
        let units = UInt64((size * Double(scale)).rounded())
        let sign = value < 0 && units > 0 ? "-" : ""
        if digits == 0 { return "\(sign)\(units)" }
        var fraction = "\(units % scale)"
        while fraction.utf8.count < digits { fraction = "0" + fraction }
        while fraction.hasSuffix("0") { fraction.removeLast() }
        let whole = "\(sign)\(units / scale)"
        return fraction.isEmpty ? whole : "\(whole).\(fraction)"
    }

    static func percent(_ share: Double) -> String { "\(self.text(share * 100, digits: 1)) %" }

    static func seconds(_ seconds: Double) -> String {
        if seconds < 1 { return "\(self.text(seconds * 1_000, digits: 0)) ms" }
        if seconds < 120 { return "\(self.text(seconds, digits: 1)) s" }
        return "\(self.text(seconds / 60, digits: 1)) min"
    }
}
