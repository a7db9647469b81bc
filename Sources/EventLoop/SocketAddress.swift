import Core
import Glibc

/// An IPv4 or IPv6 address with a port, numeric: it is never looked up.
package struct SocketAddress: Hashable, Sendable, CustomStringConvertible {
    /// The address in network order; the first four bytes count for IPv4.
    private let high: UInt64
    private let low: UInt64
    package let isIPv6: Bool
    package let port: UInt16

    /// Parses `127.0.0.1:8080`, `[::1]:8080` or `localhost:8080`; nil for anything else.
    package init?(_ text: String) {
        guard let colon = text.lastIndex(of: ":") else { return nil }
        let host = text[..<colon]
        let digits = text[text.index(after: colon)...]
        // Without brackets nobody can tell an address's last group from a port; `+80` is no port.
        guard !host.contains(":") || host.hasPrefix("["),
            digits.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }),
            let port = UInt16(digits)
        else { return nil }
        self.init(host: String(host), port: port)
    }

    /// A numeric host, with or without brackets for IPv6, or `localhost`.
    package init?(host: String, port: UInt16) {
        // The C library would read no further than a NUL.
        if host.utf8.contains(0) { return nil }
        var host = host == "localhost" ? "127.0.0.1" : host
        if host.hasPrefix("["), host.hasSuffix("]") {
            host = String(host.dropFirst().dropLast())
            guard host.contains(":") else { return nil }
        }
        self.port = port
        var four = in_addr()
        if inet_pton(AF_INET, host, &four) == 1 {
            self.high = UInt64(four.s_addr)
            self.low = 0
            self.isIPv6 = false
            return
        }
        var six = in6_addr()
        guard inet_pton(AF_INET6, host, &six) == 1 else { return nil }
        (self.high, self.low) = withUnsafeBytes(of: &six) {
            (
                $0.loadUnaligned(as: UInt64.self),
                $0.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
            )
        }
        self.isIPv6 = true
    }

    /// What the kernel filled in: the local or the remote end of a socket. Nil for other families.
    package init?(storage: sockaddr_storage) {
        var storage = storage
        switch Int32(storage.ss_family) {
        case AF_INET:
            let four = withUnsafeBytes(of: &storage) { $0.loadUnaligned(as: sockaddr_in.self) }
            self.high = UInt64(four.sin_addr.s_addr)
            self.low = 0
            self.isIPv6 = false
            self.port = UInt16(bigEndian: four.sin_port)
        case AF_INET6:
            var six = withUnsafeBytes(of: &storage) { $0.loadUnaligned(as: sockaddr_in6.self) }
            (self.high, self.low) = withUnsafeBytes(of: &six.sin6_addr) {
                (
                    $0.loadUnaligned(as: UInt64.self),
                    $0.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
                )
            }
            self.isIPv6 = true
            self.port = UInt16(bigEndian: six.sin6_port)
        default:
            return nil
        }
    }

    /// Calls `body` with the address as the kernel wants it.
    package func withSockaddr<Result>(
        _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result
    ) -> Result {
        if self.isIPv6 {
            var six = sockaddr_in6()
            six.sin6_family = sa_family_t(AF_INET6)
            six.sin6_port = self.port.bigEndian
            withUnsafeMutableBytes(of: &six.sin6_addr) {
                $0.storeBytes(of: self.high, as: UInt64.self)
                $0.storeBytes(of: self.low, toByteOffset: 8, as: UInt64.self)
            }
            return withUnsafePointer(to: &six) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    body($0, socklen_t(MemoryLayout<sockaddr_in6>.size))
                }
            }
        }
        var four = sockaddr_in()
        four.sin_family = sa_family_t(AF_INET)
        four.sin_port = self.port.bigEndian
        four.sin_addr.s_addr = UInt32(truncatingIfNeeded: self.high)
        return withUnsafePointer(to: &four) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
    }

    /// The four octets of an IPv4 address, first octet in the lowest byte; nil for IPv6.
    package var octets: UInt32? {
        self.isIPv6 ? nil : UInt32(truncatingIfNeeded: self.high)
    }

    /// The same for the same host whatever the port, on every machine; well spread.
    package var hostHash: UInt64 {
        var mixer = RandomSource(seed: self.high &* 31 &+ self.low)
        return mixer.next()
    }

    /// Whether only this machine can reach it (127.0.0.0/8 or ::1).
    package var isLoopback: Bool {
        if !self.isIPv6 { return UInt8(truncatingIfNeeded: self.high) == 127 }
        return self.high == 0 && self.low == UInt64(1).bigEndian
    }

    /// The host without port and brackets.
    package var host: String {
        var buffer = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
        if self.isIPv6 {
            var six = in6_addr()
            withUnsafeMutableBytes(of: &six) {
                $0.storeBytes(of: self.high, as: UInt64.self)
                $0.storeBytes(of: self.low, toByteOffset: 8, as: UInt64.self)
            }
            inet_ntop(AF_INET6, &six, &buffer, socklen_t(buffer.count))
        } else {
            var four = in_addr(s_addr: UInt32(truncatingIfNeeded: self.high))
            inet_ntop(AF_INET, &four, &buffer, socklen_t(buffer.count))
        }
        return String(
            decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) },
            as: UTF8.self
        )
    }

    package var description: String {
        self.isIPv6 ? "[\(self.host)]:\(self.port)" : "\(self.host):\(self.port)"
    }
}
