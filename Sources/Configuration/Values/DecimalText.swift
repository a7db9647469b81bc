/// An unsigned decimal number as it stands in a text, exact: `mantissa` / 10^`scale`.
struct DecimalText: Equatable {
    var mantissa: Int
    var scale: Int

    /// Digits with at most one point, digits on both of its sides, at most 18 in all.
    init?(_ text: Substring.UTF8View) {
        var mantissa = 0
        var scale = 0
        var digits = 0
        var seenPoint = false
        for byte in text {
            if byte == UInt8(ascii: ".") {
                if seenPoint || digits == 0 { return nil }
                seenPoint = true
                continue
            }
            guard byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9"), digits < 18 else {
                return nil
            }
            mantissa = mantissa * 10 + Int(byte - UInt8(ascii: "0"))
            digits += 1
            if seenPoint { scale += 1 }
        }
        if digits == 0 || (seenPoint && scale == 0) { return nil }
        self.mantissa = mantissa
        self.scale = scale
    }

    /// The number times `unit`; nil where that is no whole number or does not fit.
    func times(_ unit: Int) -> Int? {
        var divisor = 1
        for _ in 0..<self.scale { divisor *= 10 }
        let (high, low) = self.mantissa.multipliedFullWidth(by: unit)
        if high < 0 || high >= divisor { return nil }
        let (quotient, remainder) = divisor.dividingFullWidth((high, low))
        return remainder == 0 ? quotient : nil
    }

    /// Splits `10s` into its number and its unit.
    static func split(_ text: Substring.UTF8View) -> (
        number: Substring.UTF8View, rest: Substring.UTF8View
    ) {
        let end =
            text.firstIndex { byte in
                !(byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9")
                    || byte == UInt8(ascii: "."))
            } ?? text.endIndex
        return (text[..<end], text[end...])
    }
}
