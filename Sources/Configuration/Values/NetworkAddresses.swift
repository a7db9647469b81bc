/// `host:port`, where something listens.
package struct ListenAddress: Sendable, Hashable, CustomStringConvertible {
    /// A name, an IPv4 address, or an IPv6 address without brackets. Empty: every address.
    package var host: String
    /// 0 to 65535; 0 lets the kernel choose.
    package var port: Int

    package init(host: String, port: Int) {
        self.host = host
        self.port = port
    }

    package init?(text: String) {
        guard let (host, port) = HostText.splitHostAndPort(text), let port else { return nil }
        self.init(host: host, port: port)
    }

    package var description: String {
        self.host.utf8.contains(UInt8(ascii: ":"))
            ? "[\(self.host)]:\(self.port)" : "\(self.host):\(self.port)"
    }

    /// Whether only programs on this machine can reach it.
    package var isLoopback: Bool { HostText.isLoopback(self.host) }
}

/// The address of a server: `http://host:port/path?query`, without user information or fragment.
package struct EndpointURL: Sendable, Hashable, CustomStringConvertible {
    package enum Scheme: String, Sendable {
        case http
        case https
    }

    package var scheme: Scheme
    /// A name, an IPv4 address, or an IPv6 address without brackets.
    package var host: String
    /// 1 to 65535; the scheme's own where the text has none.
    package var port: Int
    /// From the first `/`, with the query; empty where the text has none.
    package var path: String

    /// The longest text that is read.
    package static let maxBytes = 2_048

    package init?(text: String) {
        guard text.utf8.count <= Self.maxBytes else { return nil }
        guard text.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else { return nil }
        var rest = text[...]
        if let tail = HostText.dropPrefix("http://", of: rest) {
            self.scheme = .http
            rest = tail
        } else if let tail = HostText.dropPrefix("https://", of: rest) {
            self.scheme = .https
            rest = tail
        } else {
            return nil
        }
        let slash = rest.firstIndex { $0 == "/" || $0 == "?" || $0 == "#" } ?? rest.endIndex
        let path = rest[slash...]
        guard path.isEmpty || path.hasPrefix("/"), !path.contains("#") else { return nil }
        guard
            let (host, port) = HostText.splitHostAndPort(String(rest[..<slash])),
            !host.isEmpty, port != 0
        else { return nil }
        self.host = host
        self.port = port ?? (self.scheme == .http ? 80 : 443)
        self.path = String(path)
    }

    package var description: String {
        "\(self.scheme.rawValue)://\(ListenAddress(host: self.host, port: self.port))\(self.path)"
    }
}

/// Hosts and ports in text.
enum HostText {
    /// Whether only programs on this machine can be reached under it.
    static func isLoopback(_ host: String) -> Bool {
        host == "localhost" || host == "::1" || host.hasPrefix("127.")
    }

    /// `name:80`, `[::1]:80`, `name`; nil for a bad host or a bad port.
    static func splitHostAndPort(_ text: String) -> (host: String, port: Int?)? {
        var host = text[...]
        var portText: Substring?
        if text.hasPrefix("[") {
            guard let close = text.firstIndex(of: "]") else { return nil }
            host = text[text.index(after: text.startIndex)..<close]
            let tail = text[text.index(after: close)...]
            guard tail.isEmpty || tail.hasPrefix(":") else { return nil }
            portText = tail.isEmpty ? nil : tail.dropFirst()
            guard Self.isIPv6(host) else { return nil }
        } else {
            if let colon = text.firstIndex(of: ":") {
                host = text[..<colon]
                portText = text[text.index(after: colon)...]
            }
            guard host.isEmpty || Self.isIPv4(host) || Self.isName(host) else { return nil }
        }
        guard let portText else { return (String(host), nil) }
        guard let port = Self.port(portText) else { return nil }
        return (String(host), port)
    }

    static func port(_ text: Substring) -> Int? {
        guard !text.isEmpty, text.utf8.count <= 5, text.utf8.allSatisfy(Self.isDigit) else {
            return nil
        }
        guard let port = Int(text), port <= 65_535 else { return nil }
        return port
    }

    static func dropPrefix(_ prefix: String, of text: Substring) -> Substring? {
        let head = text.prefix(prefix.utf8.count)
        return head.lowercased() == prefix ? text.dropFirst(prefix.utf8.count) : nil
    }

    static func isIPv4(_ text: Substring) -> Bool {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        return parts.count == 4
            && parts.allSatisfy { part in
                guard !part.isEmpty, part.utf8.count <= 3, part.utf8.allSatisfy(Self.isDigit) else {
                    return false
                }
                if part.utf8.count > 1 && part.hasPrefix("0") { return false }
                return (Int(part) ?? 256) <= 255
            }
    }

    /// RFC 4291 2.2, without zone.
    static func isIPv6(_ text: Substring) -> Bool {
        var groups = text.split(separator: ":", omittingEmptySubsequences: false)
        guard groups.count >= 3, groups.count <= 9, text.utf8.count <= 45 else { return false }
        var count = 0
        if let last = groups.last, last.contains(".") {
            guard Self.isIPv4(last) else { return false }
            groups.removeLast()
            count += 2
        }
        // An empty group at either end belongs to a `::` there and must have an empty neighbour.
        let empty = groups.indices.filter { groups[$0].isEmpty }
        for group in groups where !group.isEmpty {
            guard group.utf8.count <= 4, group.utf8.allSatisfy(Self.isHexDigit) else {
                return false
            }
            count += 1
        }
        if empty.isEmpty { return count == 8 }
        return count <= 7 && text.ranges(of: "::").count == 1 && !text.contains(":::")
            && !(text.hasPrefix(":") && !text.hasPrefix("::"))
            && !(text.hasSuffix(":") && !text.hasSuffix("::"))
    }

    /// A DNS name (RFC 1123) whose last label is not all digits.
    static func isName(_ text: Substring) -> Bool {
        guard !text.isEmpty, text.utf8.count <= 253 else { return false }
        let labels = text.split(separator: ".", omittingEmptySubsequences: false)
        guard labels.allSatisfy({ Self.isLabel($0) }) else { return false }
        return !(labels.last?.utf8.allSatisfy(Self.isDigit) ?? true)
    }

    private static func isLabel(_ label: Substring) -> Bool {
        let bytes = label.utf8
        guard !bytes.isEmpty, bytes.count <= 63 else { return false }
        guard bytes.first != UInt8(ascii: "-"), bytes.last != UInt8(ascii: "-") else {
            return false
        }
        return bytes.allSatisfy { byte in
            Self.isDigit(byte) || Self.isLetter(byte) || byte == UInt8(ascii: "-")
                || byte == UInt8(ascii: "_")
        }
    }

    static func isDigit(_ byte: UInt8) -> Bool { byte >= 48 && byte <= 57 }
    static func isLetter(_ byte: UInt8) -> Bool { (byte | 0x20) >= 97 && (byte | 0x20) <= 122 }
    static func isHexDigit(_ byte: UInt8) -> Bool {
        Self.isDigit(byte) || ((byte | 0x20) >= 97 && (byte | 0x20) <= 102)
    }
}
