import COpenSSL
import Core
import EventLoop
import Glibc

/// What one session ticket is encrypted and signed with (RFC 5077, section 4).
///
/// It has a page of its own, which core files leave out and which is wiped at the end.
final class TicketKey: @unchecked Sendable {
    // @unchecked: nothing changes between `init` and `deinit`.

    static let nameBytes = 16
    static let cipherBytes = 32
    static let macBytes = 32
    static let bytes = nameBytes + cipherBytes + macBytes

    private let memory: UnsafeMutableRawPointer

    /// - Parameter random: `bytes` of them, from a source that nobody can guess. Wiped.
    init(random: inout [UInt8]) {
        precondition(random.count == Self.bytes, "a ticket key takes \(Self.bytes) random bytes")
        let flags = MAP_PRIVATE | MAP_ANONYMOUS
        let memory = mmap(nil, Self.bytes, PROT_READ | PROT_WRITE, flags, -1, 0)
        guard let memory, memory != MAP_FAILED else { preconditionFailure("out of memory") }
        // An old kernel does not know it: then the page is like any other.
        _ = madvise(memory, Self.bytes, MADV_DONTDUMP)
        memory.copyMemory(from: random, byteCount: Self.bytes)
        self.memory = memory
        Secrets.wipe(&random)
    }

    deinit {
        OPENSSL_cleanse(self.memory, Self.bytes)
        munmap(self.memory, Self.bytes)
    }

    struct Parts {
        let name: UnsafeRawBufferPointer
        let cipher: UnsafeRawBufferPointer
        let mac: UnsafeRawBufferPointer
    }

    /// The parts are good during the call.
    func withParts<Result>(_ body: (Parts) -> Result) -> Result {
        withExtendedLifetime(self) {
            let cipher = self.memory + Self.nameBytes
            let mac = cipher + Self.cipherBytes
            return body(
                Parts(
                    name: UnsafeRawBufferPointer(start: self.memory, count: Self.nameBytes),
                    cipher: UnsafeRawBufferPointer(start: cipher, count: Self.cipherBytes),
                    mac: UnsafeRawBufferPointer(start: mac, count: Self.macBytes)
                )
            )
        }
    }

    /// Whether tickets name it like that.
    func isNamed(_ name: some Sequence<UInt8>) -> Bool {
        self.withParts { $0.name.elementsEqual(name) }
    }
}

/// Whoever prints one, or something that holds one, sees nothing of it.
extension TicketKey: CustomStringConvertible, CustomReflectable {
    var description: String { "a ticket key" }
    var customMirror: Mirror { Mirror(self, children: []) }
}

/// The keys of tickets by age. The newest one makes tickets; older ones are still read, so that a
/// ticket is good for at least `keptMax - 1` periods. What an older key protected is gone for good
/// once it has left.
package struct TicketKeyRing: Sendable {
    /// How often a new key comes.
    package static let period = Duration.seconds(3_600)
    /// Keys at once.
    static let keptMax = 3

    /// The newest one first; never empty.
    private(set) var keys: [TicketKey]

    init(first: TicketKey) {
        self.keys = [first]
    }

    var newest: TicketKey { self.keys[0] }

    mutating func rotate(to key: TicketKey) {
        self.keys.insert(key, at: 0)
        if self.keys.count > Self.keptMax { self.keys.removeLast() }
    }

    /// The key of a ticket, and whether the client should get a new ticket.
    func key(named name: some Collection<UInt8>) -> (key: TicketKey, isOld: Bool)? {
        guard let index = self.keys.firstIndex(where: { $0.isNamed(name) }) else {
            return nil
        }
        return (self.keys[index], index > 0)
    }
}

/// The ring as all workers and listeners share it: whichever of them a client comes back to reads
/// its ticket. Locked for handshakes alone.
package final class TicketKeys: Sendable {
    private let ring: Locked<TicketKeyRing>

    /// - Parameter random: gives so many bytes that nobody can guess.
    package init(random: (Int) -> [UInt8]) {
        self.ring = Locked(TicketKeyRing(first: Self.key(random)))
    }

    package func rotate(random: (Int) -> [UInt8]) {
        let key = Self.key(random)
        self.ring.withLock { $0.rotate(to: key) }
    }

    private static func key(_ random: (Int) -> [UInt8]) -> TicketKey {
        var bytes = random(TicketKey.bytes)
        return TicketKey(random: &bytes)
    }

    var newest: TicketKey { self.ring.withLock { $0.newest } }

    func key(named name: UnsafeRawBufferPointer) -> (key: TicketKey, isOld: Bool)? {
        self.ring.withLock { $0.key(named: name) }
    }
}
