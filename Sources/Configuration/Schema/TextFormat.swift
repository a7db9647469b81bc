import Core

/// What a text must look like.
package enum TextFormat: Sendable, Equatable {
    /// Anything of at most so many bytes; not empty.
    case free(maxBytes: Int)
    /// Anything of at most so many bytes, also nothing.
    case possiblyEmpty(maxBytes: Int)
    /// A DNS-1123 label: lower-case letters, digits, `-`; 63 bytes.
    case label
    /// DNS-1123 labels joined with `.`; 253 bytes.
    case subdomain
    /// A model's name as clients send it, or `*`.
    case modelName
    /// A host name, or `*.` and one.
    case hostPattern
    /// An HTTP field name.
    case headerName
    /// A cookie's name.
    case cookieName
    /// The path of a URL, beginning with `/`.
    case urlPath
    /// A path in the file system.
    case filePath
    case listenAddress
    /// A URL without path or query.
    case endpoint
    case url
    case cron
    case sha256
    case environmentName
    /// A Kubernetes resource name such as `nvidia.com/gpu`, or the key of a label.
    case qualifiedName

    package var typeName: String {
        switch self {
        case .free, .possiblyEmpty: "text"
        case .label, .subdomain: "a name"
        case .modelName: "a model name"
        case .hostPattern: "a host name"
        case .headerName: "a header name"
        case .cookieName: "a cookie name"
        case .urlPath: "a URL path"
        case .filePath: "a file path"
        case .listenAddress: "an address `host:port`"
        case .endpoint, .url: "a URL"
        case .cron: "a cron expression"
        case .sha256: "a SHA-256 hash"
        case .environmentName: "a variable name"
        case .qualifiedName: "a qualified name"
        }
    }

    /// What is wrong with a text.
    package struct Failure: Equatable {
        package var message: String
        package var hint: String
    }

    /// The most bytes that are accepted.
    package var maxBytes: Int {
        switch self {
        case .free(let count), .possiblyEmpty(let count): count
        case .label: 63
        case .subdomain, .hostPattern: 253
        case .modelName, .headerName, .cookieName, .environmentName: 256
        case .qualifiedName: 317
        case .cron: 256
        case .sha256: 64
        case .urlPath, .endpoint, .url: EndpointURL.maxBytes
        case .listenAddress: 320
        case .filePath: 4_096
        }
    }

    /// Nil where `text` is right.
    package func failure(of text: String) -> Failure? {
        if text.utf8.count > self.maxBytes {
            return Failure(
                message: "is \(text.utf8.count) bytes long",
                hint: "the longest allowed is \(self.maxBytes) bytes"
            )
        }
        if text.isEmpty {
            if case .possiblyEmpty = self { return nil }
            return Failure(message: "is empty", hint: "write \(self.typeName)")
        }
        if text.utf8.contains(0) {
            return Failure(message: "holds a NUL byte", hint: "leave it out")
        }
        if case .cron = self { return Self.cronFailure(text) }
        if self.accepts(text) { return nil }
        return Failure(message: "`\(text)` is not \(self.typeName)", hint: self.hint)
    }

    private static func cronFailure(_ text: String) -> Failure? {
        do {
            _ = try CronExpression(text: text)
            return nil
        } catch {
            return Failure(
                message: "`\(text)` \(error.message)",
                hint: "write minute, hour, day of month, month, day of week: `0 8 * * 1-5`"
            )
        }
    }

    private func accepts(_ text: String) -> Bool {
        let bytes = text.utf8
        switch self {
        case .free, .possiblyEmpty, .filePath, .cron: return true
        case .label: return NameText.isLabel(text[...])
        case .subdomain: return NameText.isSubdomain(text)
        case .modelName: return text == "*" || NameText.isModelName(text)
        case .hostPattern:
            let host = text.hasPrefix("*.") ? text.dropFirst(2) : text[...]
            return HostText.isName(host) || HostText.isIPv4(host)
        case .headerName, .cookieName: return bytes.allSatisfy(NameText.isTokenByte)
        case .urlPath:
            return text.hasPrefix("/")
                && bytes.allSatisfy { $0 > 0x20 && $0 < 0x7F && $0 != UInt8(ascii: "#") }
        case .listenAddress: return ListenAddress(text: text) != nil
        case .endpoint:
            guard let url = EndpointURL(text: text) else { return false }
            return url.path.isEmpty || url.path == "/"
        case .url: return EndpointURL(text: text) != nil
        case .sha256: return bytes.count == 64 && bytes.allSatisfy(HostText.isHexDigit)
        case .environmentName: return NameText.isEnvironmentName(text)
        case .qualifiedName: return NameText.isQualifiedName(text)
        }
    }

    private var hint: String {
        switch self {
        case .free, .possiblyEmpty, .filePath, .cron: "write text"
        case .label:
            "use at most 63 lower-case letters, digits and `-`, a letter or digit at both ends"
        case .subdomain:
            "use lower-case letters, digits, `-` and `.`, a letter or digit at both ends"
        case .modelName: "use visible ASCII characters without spaces, quotes or `*`"
        case .hostPattern: "write a host such as `models.example.com` or `*.example.com`"
        case .headerName, .cookieName: "use letters, digits and `-`"
        case .urlPath: "begin with `/` and escape spaces and other special characters with `%`"
        case .listenAddress:
            "write for example `127.0.0.1:8080` or `[::1]:8080`; ports end at 65535"
        case .endpoint: "write `http://host:port` or `https://host:port` without a path"
        case .url: "write `http://host:port/path` or `https://host:port/path`"
        case .sha256: "write 64 hexadecimal digits, as `sha256sum` prints them"
        case .environmentName: "use letters, digits and `_`, not beginning with a digit"
        case .qualifiedName: "write `name` or `prefix.example.com/name`"
        }
    }
}

/// Rules for names.
enum NameText {
    static func isLowerOrDigit(_ byte: UInt8) -> Bool {
        (byte >= 97 && byte <= 122) || HostText.isDigit(byte)
    }

    /// RFC 1123 label in lower case.
    static func isLabel(_ text: Substring) -> Bool {
        let bytes = text.utf8
        guard let first = bytes.first, let last = bytes.last, bytes.count <= 63 else {
            return false
        }
        return Self.isLowerOrDigit(first) && Self.isLowerOrDigit(last)
            && bytes.allSatisfy { Self.isLowerOrDigit($0) || $0 == UInt8(ascii: "-") }
    }

    static func isSubdomain(_ text: String) -> Bool {
        text.utf8.count <= 253
            && text.split(separator: ".", omittingEmptySubsequences: false).allSatisfy(Self.isLabel)
    }

    static func isModelName(_ text: String) -> Bool {
        text.utf8.allSatisfy { byte in
            byte > 0x20 && byte < 0x7F && byte != UInt8(ascii: "\"") && byte != UInt8(ascii: "*")
                && byte != UInt8(ascii: "'") && byte != UInt8(ascii: "\\")
        }
    }

    /// RFC 9110 5.6.2.
    static func isTokenByte(_ byte: UInt8) -> Bool {
        if HostText.isDigit(byte) || HostText.isLetter(byte) { return true }
        switch byte {
        case 0x21, 0x23, 0x24, 0x25, 0x26, 0x27, 0x2A, 0x2B, 0x2D, 0x2E, 0x5E, 0x5F, 0x60, 0x7C,
            0x7E:
            return true
        default: return false
        }
    }

    static func isEnvironmentName(_ text: String) -> Bool {
        guard let first = text.utf8.first, !HostText.isDigit(first) else { return false }
        return text.utf8.allSatisfy {
            HostText.isLetter($0) || HostText.isDigit($0) || $0 == UInt8(ascii: "_")
        }
    }

    /// `[subdomain/]name`, the name of letters, digits, `-`, `_`, `.` with letters or digits
    /// around.
    static func isQualifiedName(_ text: String) -> Bool {
        var name = text[...]
        if let slash = text.firstIndex(of: "/") {
            guard Self.isSubdomain(String(text[..<slash])) else { return false }
            name = text[text.index(after: slash)...]
        }
        let bytes = name.utf8
        guard let first = bytes.first, let last = bytes.last, bytes.count <= 63 else {
            return false
        }
        let isEnd = { (byte: UInt8) in HostText.isLetter(byte) || HostText.isDigit(byte) }
        return isEnd(first) && isEnd(last)
            && bytes.allSatisfy {
                isEnd($0) || $0 == UInt8(ascii: "-") || $0 == UInt8(ascii: "_")
                    || $0 == UInt8(ascii: ".")
            }
    }
}
