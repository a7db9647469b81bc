/// Regular expressions (RE2) for the formats of texts, as a cluster checks them.
///
/// What they leave to Weir itself: an IPv6 address within its brackets, and whether the ranges of a
/// cron expression run forwards.
enum TextPattern {
    private static let label = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
    private static let subdomain = "\(label)(\\.\(label))*"
    private static let hostLabel = "[A-Za-z0-9_]([-A-Za-z0-9_]{0,61}[A-Za-z0-9_])?"
    /// The last label of a name is no number.
    private static let lastHostLabel =
        "([0-9]*[A-Za-z_]([-A-Za-z0-9_]*[A-Za-z0-9_])?|[0-9]+-[-A-Za-z0-9_]*[A-Za-z0-9_])"
    private static let hostName = "(\(hostLabel)\\.)*\(lastHostLabel)"
    private static let octet = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
    private static let address = "\(octet)(\\.\(octet)){3}"
    private static let port =
        "(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})"
    private static let server =
        "[Hh][Tt][Tt][Pp][Ss]?://(\(hostName)|\(address)|\\[[0-9A-Fa-f:.]{2,45}\\])(:\(port))?"

    /// Anchored at both ends; nil where any text will do.
    static func pattern(of format: TextFormat) -> String? {
        switch format {
        case .free, .possiblyEmpty, .filePath: nil
        case .label: "^\(label)$"
        case .subdomain: "^\(subdomain)$"
        case .modelName: #"^(\*|[!#-&()+-\[\]-~]+)$"#
        case .hostPattern: "^(\\*\\.)?(\(hostName)|\(address))$"
        case .headerName, .cookieName: "^[-!#$%&'*+.^_`|~0-9A-Za-z]+$"
        case .urlPath: #"^/[!"$-~]*$"#
        case .listenAddress: "^.*:[0-9]{1,5}$"
        case .endpoint: "^\(server)/?$"
        case .url: "^\(server)(/[!\"$-~]*)?$"
        case .cron: Self.cron
        case .sha256: "^[0-9A-Fa-f]{64}$"
        case .environmentName: "^[A-Za-z_][A-Za-z0-9_]*$"
        case .qualifiedName:
            "^(\(subdomain)/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
        }
    }

    private static let cron: String = {
        let months = "(?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
        let days = "(?i:sun|mon|tue|wed|thu|fri|sat)"
        let fields = [
            "0{0,2}[0-9]|0?[1-5][0-9]", "0{0,2}[0-9]|0?(1[0-9]|2[0-3])",
            "0{0,2}[1-9]|0?([12][0-9]|3[01])", "0{0,2}[1-9]|0?1[0-2]|\(months)",
            "0{0,2}[0-7]|\(days)",
        ].map { value in
            let item = "(\\*|(\(value))(-(\(value)))?)(/(0{0,2}[1-9]|0?([1-5][0-9]|60)))?"
            return "\(item)(,\(item))*"
        }
        return "^[ \\t]*\(fields.joined(separator: "[ \\t]+"))[ \\t]*$"
    }()

    static let duration = "(0|([0-9]+(\\.[0-9]+)?(h|m|s|ms|us|µs|ns))+)"

    static func percent(_ range: ClosedRange<Percent>) -> [String] {
        let lower = "\(range.lowerBound)".dropLast()
        let upper = "\(range.upperBound)".dropLast()
        var patterns = ["^[0-9]+(\\.[0-9]{1,4}0*)?%$", "^\(DecimalPattern.atMost("\(upper)"))%$"]
        if range.lowerBound > .zero { patterns.append("^\(DecimalPattern.atLeast("\(lower)"))%$") }
        return patterns
    }

    /// - Parameter range: from 0.
    static func bytes(_ range: ClosedRange<Int>) -> [String] {
        precondition(range.lowerBound == 0, "a size with a lower bound needs a pattern for it")
        let units = SizeText.units.filter { $0.bytes > 1 }
        let bounds = units.map { unit in
            // Exact where the unit divides the bound; else what is left of a unit is not allowed.
            "\(DecimalPattern.atMost(String(range.upperBound / unit.bytes)))\(unit.name)"
        }
        let bare = "\(DecimalPattern.atMost(String(range.upperBound)))B?"
        let names = units.map(\.name).joined(separator: "|")
        return [
            // There are no parts of a byte.
            "^([0-9]+(\\.0+)?B?|\(DecimalPattern.form)(\(names)))$",
            "^(\(([bare] + bounds).joined(separator: "|")))$",
        ]
    }
}
