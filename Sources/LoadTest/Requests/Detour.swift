/// Connects to another place than a URL says; the URL's name stays in the request, and is what a
/// certificate is checked for. What curl calls `--connect-to`.
package struct Detour: Equatable, Sendable {
    /// Which URLs it is for; nil for any host, any port.
    package let host: String?
    package let port: UInt16?
    /// Where to connect to instead; nil leaves it as it is.
    package let toHost: String?
    package let toPort: UInt16?

    /// What `init` reads.
    package static let grammar = "HOST:PORT:TOHOST:TOPORT"

    /// Reads `HOST:PORT:TOHOST:TOPORT`; each may be empty, IPv6 addresses stand in brackets. Nil
    /// for anything else, and for what would lead nowhere.
    package init?(_ text: String) {
        guard let parts = Self.split(text), parts.count == 4 else { return nil }
        guard let port = Self.port(parts[1]), let toPort = Self.port(parts[3]),
            let host = Self.host(parts[0]), let toHost = Self.host(parts[2])
        else { return nil }
        (self.host, self.port) = (host, port)
        (self.toHost, self.toPort) = (toHost, toPort)
        if self.toHost == nil && self.toPort == nil { return nil }
    }

    func isMeant(for url: TargetURL) -> Bool {
        (self.host ?? url.host).lowercased() == url.host.lowercased()
            && (self.port ?? url.port) == url.port
    }

    /// Colons in brackets separate nothing.
    private static func split(_ text: String) -> [Substring]? {
        var parts: [Substring] = []
        var rest = text[...]
        while true {
            var end = rest.firstIndex(of: ":") ?? rest.endIndex
            if rest.hasPrefix("[") {
                guard let bracket = rest.firstIndex(of: "]") else { return nil }
                end = rest.index(after: bracket)
                guard end == rest.endIndex || rest[end] == ":" else { return nil }
            }
            parts.append(rest[..<end])
            if end == rest.endIndex { return parts }
            rest = rest[rest.index(after: end)...]
        }
    }

    /// Nil inside for an empty one; nil outside for one that cannot be.
    private static func port(_ text: Substring) -> UInt16?? {
        if text.isEmpty { return .some(nil) }
        guard let port = UInt16(text), port > 0 else { return nil }
        return port
    }

    private static func host(_ text: Substring) -> String?? {
        if text.isEmpty { return .some(nil) }
        var bare = text
        if text.hasPrefix("[") { bare = text.dropFirst().dropLast() }
        guard !bare.isEmpty, bare.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else { return nil }
        return String(bare)
    }
}
