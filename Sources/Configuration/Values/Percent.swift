/// A share, exact to a millionth of the whole: `5%`, `99.9%`, `0.01%`.
package struct Percent: Sendable, Hashable, Comparable {
    /// The share in millionths: 1 000 000 is 100 %.
    package var millionths: Int

    package init(millionths: Int) {
        self.millionths = millionths
    }

    package static let zero = Percent(millionths: 0)
    package static let whole = Percent(millionths: 1_000_000)

    /// The share as a fraction: 0.05 for `5%`.
    package var fraction: Double { Double(self.millionths) / 1_000_000 }

    package static func < (left: Percent, right: Percent) -> Bool {
        left.millionths < right.millionths
    }

    /// Reads `5%` or `99.9%`; nil for anything else or more than four digits after the point.
    package init?(text: String) {
        guard text.utf8.last == UInt8(ascii: "%") else { return nil }
        guard
            let number = DecimalText(text.dropLast().utf8),
            let millionths = number.times(10_000),
            millionths <= 1_000_000_000
        else { return nil }
        self.millionths = millionths
    }
}

extension Percent: CustomStringConvertible {
    package var description: String {
        let whole = self.millionths / 10_000
        let rest = self.millionths % 10_000
        if rest == 0 { return "\(whole)%" }
        var digits = String(10_000 + rest).dropFirst()
        while digits.hasSuffix("0") { digits = digits.dropLast() }
        return "\(whole).\(digits)%"
    }
}
