import CPlatform
import Core
import Glibc

/// Hands out TCP ports to processes that are about to be started.
///
/// A port is only of use once its process has bound it, and between our choice and that moment
/// somebody else could take it. Four things narrow that down:
///
/// 1. The range lies below the kernel's ephemeral ports, so no outgoing connection is ever given
///    one of them (`defaultRange` and `ip_local_port_range` do not overlap).
/// 2. A lease holds an abstract Unix socket named after the port, for the whole life of the
///    replica. The kernel gives a name out once per network namespace, which is the port's scope as
///    well, and takes it back when the holder dies: several Weirs never choose the same port, and a
///    killed one leaves no stale lock behind.
/// 3. The lease binds the port itself, on all addresses and without SO_REUSEADDR, so that a port in
///    any use at all is passed over, and lets go only right before the process is started.
/// 4. Ports are taken in turn, so one that was just given back is the last to come again.
///
/// What remains: a program that is not a Weir may bind the very port between our letting go and the
/// replica's own bind. The replica then fails to bind and ends, and its next start gets other
/// ports. If it does not end, and the stranger answers the readiness path, the stranger is taken
/// for the replica. Who listens is not checked on purpose: with `docker run -p $(PORT):80` it is
/// rightly somebody else.
package final class PortAllocator {
    /// Above the registered services that people know, below Linux' ephemeral ports (32768…).
    package static let defaultRange: ClosedRange<UInt16> = 20_000...31_999

    private let range: ClosedRange<UInt16>
    private var next: UInt16

    /// - Parameter random: chooses where in the range to begin.
    package init(range: ClosedRange<UInt16> = defaultRange, random: inout RandomSource) {
        precondition(range.lowerBound > 0, "port 0 cannot be given out")
        self.range = range
        self.next = range.lowerBound + UInt16(random.next() % UInt64(range.count))
    }

    /// One port per name, all or none.
    package func lease(_ names: [String]) throws(ClusterError) -> PortLease {
        let lease = PortLease()
        for name in names {
            guard let held = self.holdNext() else {
                lease.release()
                throw ClusterError(
                    "no free port is left in \(self.range.lowerBound)…\(self.range.upperBound): "
                        + "stop what uses them, or give a larger range"
                )
            }
            lease.add(held, name: name)
        }
        return lease
    }

    /// Tries each port of the range once, from where it last stopped.
    private func holdNext() -> HeldPort? {
        for _ in 0..<self.range.count {
            let port = self.next
            self.next = port == self.range.upperBound ? self.range.lowerBound : port + 1
            if let held = HeldPort(port) { return held }
        }
        return nil
    }
}

/// The ports of one replica. Explicitly released; idempotent.
package final class PortLease {
    private var held: [(name: String, port: HeldPort)] = []

    fileprivate init() {}

    deinit {
        assert(self.held.isEmpty, "ports were dropped without being released")
    }

    fileprivate func add(_ port: HeldPort, name: String) {
        self.held.append((name, port))
    }

    package var ports: [String: UInt16] {
        Dictionary(uniqueKeysWithValues: self.held.map { ($0.name, $0.port.number) })
    }

    /// Lets go of the ports so that the replica can bind them. The names stay taken.
    package func unbind() {
        for index in self.held.indices { self.held[index].port.unbind() }
    }

    package func release() {
        for index in self.held.indices { self.held[index].port.release() }
        self.held.removeAll()
    }
}

/// One port, taken twice over: by name among Weirs and by bind among everybody.
private struct HeldPort {
    let number: UInt16
    private var name: Int32
    private var binding: Int32

    /// Nil when anybody has it.
    init?(_ number: UInt16) {
        let name = bindName(of: number)
        guard name >= 0 else { return nil }
        let binding = bindEverywhere(number)
        guard binding >= 0 else {
            close(name)
            return nil
        }
        self.number = number
        self.name = name
        self.binding = binding
    }

    mutating func unbind() {
        if self.binding >= 0 { close(self.binding) }
        self.binding = -1
    }

    mutating func release() {
        self.unbind()
        if self.name >= 0 { close(self.name) }
        self.name = -1
    }
}

/// An abstract Unix socket (unix(7)) that stands for the port; -1 when it is taken.
private func bindName(of port: UInt16) -> Int32 {
    let descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { return -1 }
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let name = [0] + Array("weir/port/\(port)".utf8)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: name) }
    let length = MemoryLayout<sa_family_t>.size + name.count
    return bound(descriptor, &address, length)
}

/// A socket bound to the port on all addresses of both families, or of IPv4 alone where the machine
/// has no IPv6; -1 when the port is in use.
private func bindEverywhere(_ port: UInt16) -> Int32 {
    let flags = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
    let dual = socket(AF_INET6, flags, 0)
    if dual >= 0 {
        var no: Int32 = 0
        setsockopt(dual, Int32(IPPROTO_IPV6), IPV6_V6ONLY, &no, socklen_t(MemoryLayout<Int32>.size))
        var address = sockaddr_in6()
        address.sin6_family = sa_family_t(AF_INET6)
        address.sin6_port = port.bigEndian
        let result = bound(dual, &address, MemoryLayout<sockaddr_in6>.size)
        if result >= 0 || errno == EADDRINUSE { return result }
    }
    let plain = socket(AF_INET, flags, 0)
    guard plain >= 0 else { return -1 }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    return bound(plain, &address, MemoryLayout<sockaddr_in>.size)
}

/// The descriptor after a successful bind; else -1 with errno, and the descriptor closed.
private func bound<Address>(_ descriptor: Int32, _ address: inout Address, _ length: Int) -> Int32 {
    let result = withUnsafePointer(to: &address) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            bind(descriptor, $0, socklen_t(length))
        }
    }
    if result == 0 { return descriptor }
    let code = errno
    close(descriptor)
    errno = code
    return -1
}
