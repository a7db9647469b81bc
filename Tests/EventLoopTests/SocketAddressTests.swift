import EventLoop
import Glibc
import Testing

@Suite struct SocketAddressTests {
    @Test(arguments: [
        ("127.0.0.1:8080", "127.0.0.1:8080"), ("0.0.0.0:0", "0.0.0.0:0"),
        ("localhost:80", "127.0.0.1:80"), ("[::1]:65535", "[::1]:65535"),
        ("[0:0:0:0:0:0:0:1]:1", "[::1]:1"), ("[::]:9", "[::]:9"),
        ("[2001:db8::a:b]:443", "[2001:db8::a:b]:443"),
        ("[::ffff:10.0.0.1]:1", "[::ffff:10.0.0.1]:1"),
        ("255.255.255.255:00080", "255.255.255.255:80"),
    ])
    func addressesAreRead(text: String, description: String) throws {
        let address = try #require(SocketAddress(text))
        #expect("\(address)" == description)
        #expect(SocketAddress(description) == address)
        #expect(SocketAddress(host: address.host, port: address.port) == address)
    }

    @Test(arguments: [
        "", ":", ":80", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1",
        "127.0.0.1:+80", "127.0.0.1: 80", "127.0.0.1:80 ", "127.0.0.1:0x50", "127.0.0.1:八",
        "127.0.0:80", "127.0.0.256:80", "127.0.0.01:80", "127.0.0.1.:80", " 127.0.0.1:80",
        "::1:80", "[::1]", "[::1]:", "[::1:80", "::1]:80", "[]:80", "[127.0.0.1]:80", "[[::1]]:80",
        "[fe80::1%eth0]:80", "[12345::]:80", "example.com:80", "127.0.0.1\0:80", "[::1]\0:80",
    ])
    func everythingElseIsRefused(text: String) {
        #expect(SocketAddress(text) == nil)
    }

    @Test func hostsMayComeWithoutBrackets() {
        #expect(SocketAddress(host: "::1", port: 5)?.description == "[::1]:5")
        #expect(SocketAddress(host: "[::1]", port: 5) == SocketAddress(host: "::1", port: 5))
        #expect(SocketAddress(host: "127.0.0.1\0.example", port: 5) == nil)
    }

    @Test(arguments: [
        ("127.0.0.1", true), ("127.255.0.9", true), ("128.0.0.1", false), ("10.0.0.127", false),
        ("0.0.0.0", false), ("::1", true), ("::", false), ("::2", false), ("1::1", false),
        ("fe80::1", false), ("100::", false),
    ])
    func loopbackIsKnown(host: String, isLoopback: Bool) throws {
        let address = try #require(SocketAddress(host: host, port: 1))
        #expect(address.isLoopback == isLoopback)
    }

    @Test func octetsAreThoseOfIPv4() throws {
        let four = try #require(SocketAddress("1.2.3.4:5"))
        #expect(four.octets == 0x0403_0201)
        #expect(SocketAddress("[::1]:5")?.octets == nil)
    }

    @Test func theHashIsTheHosts() throws {
        let one = try #require(SocketAddress("10.0.0.1:1"))
        let other = try #require(SocketAddress("10.0.0.1:2"))
        #expect(one != other)
        #expect(one.hostHash == other.hostHash)
        let hashes = try (0..<200).map { try #require(SocketAddress("10.0.0.\($0):1")).hostHash }
        #expect(Set(hashes).count == 200)
        #expect(Set(hashes.map { $0 % 16 }).count == 16, "spread over few buckets as well")
    }

    @Test(arguments: ["127.0.0.1:8080", "[2001:db8::1]:443"])
    func theKernelsFormIsTheSame(text: String) throws {
        let address = try #require(SocketAddress(text))
        let copy = address.withSockaddr { pointer, length in
            var storage = sockaddr_storage()
            withUnsafeMutableBytes(of: &storage) {
                $0.copyMemory(from: .init(start: pointer, count: Int(length)))
            }
            return SocketAddress(storage: storage)
        }
        #expect(copy == address)
        #expect(SocketAddress(storage: sockaddr_storage()) == nil, "of no family")
    }
}
