import EventLoop
import Glibc
import HTTP

/// Where requests go: an `http://` or `https://` URL, taken apart.
package struct TargetURL: Hashable, Sendable, CustomStringConvertible {
    package let isSecure: Bool
    package let host: String
    package let port: UInt16
    /// Path and query; empty where the URL has none.
    package let path: String
    /// What the Host field says.
    package let authority: String

    /// Reads `http[s]://host[:port][/path][?query]`; without a scheme `http://` is meant.
    package init(_ text: String) throws(LoadError) {
        var rest = text[...]
        var isSecure = false
        if let scheme = text.firstRange(of: "://") {
            let name = text[..<scheme.lowerBound].lowercased()
            isSecure = name == "https"
            guard isSecure || name == "http" else {
                throw LoadError(
                    "\(text): \(name) is no scheme to send load to: give an http:// or https:// URL"
                )
            }
            rest = text[scheme.upperBound...]
        }
        if let fragment = rest.firstIndex(of: "#") { rest = rest[..<fragment] }
        let slash = rest.firstIndex { $0 == "/" || $0 == "?" } ?? rest.endIndex
        let authority = rest[..<slash]
        let path = rest[slash...]
        guard path.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else {
            throw LoadError("\(text): the path has characters that must be percent-encoded")
        }
        let standardPort: UInt16 = isSecure ? 443 : 80
        guard let (host, port) = Self.split(authority, standardPort: standardPort) else {
            throw LoadError(
                "\(text): no host and port to connect to: expected "
                    + "\(isSecure ? "https" : "http")://HOST[:PORT]/"
            )
        }
        self.isSecure = isSecure
        self.host = host
        self.port = port
        self.path = path.hasPrefix("?") ? "/" + path : String(path)
        self.authority = port == standardPort ? String(authority.prefixUpToPort) : String(authority)
    }

    package var description: String {
        "\(self.isSecure ? "https" : "http")://\(self.authority)\(self.path)"
    }

    private static func split(
        _ authority: Substring,
        standardPort: UInt16
    ) -> (String, UInt16)? {
        let host = authority.prefixUpToPort
        let portText = authority[host.endIndex...].dropFirst()
        let port: UInt16? = portText.isEmpty ? standardPort : UInt16(portText)
        var bare = host
        if bare.hasPrefix("[") && bare.hasSuffix("]") { bare = bare.dropFirst().dropLast() }
        guard let port, port > 0, !bare.isEmpty, !authority.hasSuffix(":"),
            bare.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F && $0 != UInt8(ascii: "@") })
        else { return nil }
        return (String(bare), port)
    }

    /// Looks up where to connect to; blocks while the system's resolver does.
    /// - Parameter detours: the first one that is meant for this URL holds.
    package func resolve(_ detours: [Detour] = []) throws(LoadError) -> SocketAddress {
        let detour = detours.first { $0.isMeant(for: self) }
        return try Self.resolve(detour?.toHost ?? self.host, detour?.toPort ?? self.port)
    }

    private static func resolve(_ name: String, _ port: UInt16) throws(LoadError) -> SocketAddress {
        if let address = SocketAddress(host: name, port: port) { return address }
        var hints = addrinfo()
        hints.ai_family = AF_UNSPEC
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        let code = getaddrinfo(name, nil, &hints, &list)
        guard code == 0, let first = list else {
            throw LoadError("\(name) has no address: \(String(cString: gai_strerror(code)))")
        }
        defer { freeaddrinfo(list) }
        var text = [CChar](repeating: 0, count: Int(NI_MAXHOST))
        let info = first.pointee
        getnameinfo(
            info.ai_addr,
            info.ai_addrlen,
            &text,
            socklen_t(text.count),
            nil,
            0,
            NI_NUMERICHOST
        )
        let host = String(
            decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) },
            as: UTF8.self
        )
        guard let address = SocketAddress(host: host, port: port) else {
            throw LoadError("\(name) has no address that can be used: \(host)")
        }
        return address
    }
}

extension Substring {
    /// A host without its port; an IPv6 address in brackets has colons of its own.
    fileprivate var prefixUpToPort: Substring {
        if self.hasPrefix("["), let bracket = self.firstIndex(of: "]") { return self[...bracket] }
        return self.prefix { $0 != ":" }
    }
}
