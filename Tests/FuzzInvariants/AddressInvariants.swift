import Configuration
import EventLoop
import Glibc

/// Numeric addresses: what `SocketAddress` reads, it writes so that it reads the same, and
/// `ListenAddress`, which shares no code with it, reads too.
enum AddressInvariants {
    static let seeds: [[UInt8]] = [
        "127.0.0.1:8080", "[::1]:8080", "localhost:80", "0.0.0.0:0", "255.255.255.255:65535",
        "[::ffff:1.2.3.4]:1", "[2001:db8::a:0:1]:443", "[1:2:3:4:5:6:7:8]:9", "::1:80", "[::]:0",
        "127.1:80", "1.2.3.04:5", "1.2.3.4:+5", "1.2.3.4:65536", "[127.0.0.1]:80", "1.2.3.4",
        "[::1]", "[fe80::1%lo]:80", "127.0.0.1\u{0}x:80", ":80", "[]:1", "[::1:80", "::1]:80",
    ].map { Array($0.utf8) }

    static func violation(_ bytes: [UInt8]) -> String? {
        let text = bytes.text
        let listen = ListenAddress(text: text)
        if let host = SocketAddress(host: text, port: 1) {
            guard SocketAddress(host: host.host, port: 1) == host else { return "the host changed" }
            guard text.utf8.allSatisfy({ $0 > 32 && $0 < 127 }) else { return "a host of \(bytes)" }
        }
        guard let address = SocketAddress(text) else {
            let numeric = listen.flatMap { SocketAddress(host: $0.host, port: UInt16($0.port)) }
            return numeric.map { "the address \($0) is refused" }
        }
        guard SocketAddress(address.description) == address else {
            return "\(address) reads as another address"
        }
        guard SocketAddress(host: address.host, port: address.port) == address else {
            return "the host of \(address) reads as another one"
        }
        guard Self.throughKernelForm(address) == address else { return "the kernel's form differs" }
        guard address.isIPv6 == (address.octets == nil) else { return "octets of \(address)" }
        // Leading zeros: at most five digits there, any number here.
        guard let listen else {
            return Self.hasLongPort(text) ? nil : "\(text) is no address to listen on"
        }
        let same = SocketAddress(host: listen.host, port: UInt16(listen.port))
        return same == address ? nil : "\(address), but \(listen) to listen on"
    }

    private static func hasLongPort(_ text: String) -> Bool {
        text.utf8.reversed().prefix { $0 != UInt8(ascii: ":") }.count > 5
    }

    private static func throughKernelForm(_ address: SocketAddress) -> SocketAddress? {
        address.withSockaddr { pointer, length in
            var storage = sockaddr_storage()
            withUnsafeMutableBytes(of: &storage) {
                $0.copyMemory(from: UnsafeRawBufferPointer(start: pointer, count: Int(length)))
            }
            return SocketAddress(storage: storage)
        }
    }
}
