/// Which of several certificates a client gets that asks for a name (RFC 6066, section 3).
///
/// An exact name comes before a wildcard, and among equals the first certificate wins. A wildcard
/// stands for exactly one label, the leftmost (RFC 9525, section 6.3).
package struct ServerNames: Sendable {
    private var exact: [String: Int] = [:]
    /// By what follows the `*`, its dot included.
    private var wildcards: [String: Int] = [:]

    /// - Parameter names: of each certificate, in order.
    package init(_ names: [[String]]) {
        for (index, names) in names.enumerated() {
            for name in names.map(Self.normalized) {
                if name.hasPrefix("*.") {
                    let suffix = String(name.dropFirst())
                    if self.wildcards[suffix] == nil { self.wildcards[suffix] = index }
                } else if self.exact[name] == nil {
                    self.exact[name] = index
                }
            }
        }
    }

    /// The index of the certificate for a name; the first one where none has it.
    package func certificate(for name: String) -> Int {
        let name = Self.normalized(name)
        if let index = self.exact[name] { return index }
        guard let dot = name.firstIndex(of: "."), dot != name.startIndex else { return 0 }
        return self.wildcards[String(name[dot...])] ?? 0
    }

    /// Names are compared without regard to case, and to the dot of the root behind them.
    private static func normalized(_ name: String) -> String {
        let name = name.lowercased()
        return name.hasSuffix(".") ? String(name.dropLast()) : name
    }
}
