import Core
import EventLoop

/// What one session ticket is encrypted and signed with (RFC 5077, section 4).
struct TicketKey: Sendable, Equatable {
    static let nameBytes = 16
    static let cipherBytes = 32
    static let macBytes = 32
    static let bytes = nameBytes + cipherBytes + macBytes

    let name: [UInt8]
    let cipher: [UInt8]
    let mac: [UInt8]

    /// - Parameter random: `bytes` of them, from a source that nobody can guess.
    init(random: [UInt8]) {
        precondition(random.count == Self.bytes, "a ticket key takes \(Self.bytes) random bytes")
        self.name = Array(random[..<Self.nameBytes])
        self.cipher = Array(random[Self.nameBytes..<(Self.nameBytes + Self.cipherBytes)])
        self.mac = Array(random[(Self.nameBytes + Self.cipherBytes)...])
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
        guard let index = self.keys.firstIndex(where: { $0.name.elementsEqual(name) }) else {
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
        self.ring = Locked(TicketKeyRing(first: TicketKey(random: random(TicketKey.bytes))))
    }

    package func rotate(random: (Int) -> [UInt8]) {
        let key = TicketKey(random: random(TicketKey.bytes))
        self.ring.withLock { $0.rotate(to: key) }
    }

    var newest: TicketKey { self.ring.withLock { $0.newest } }

    func key(named name: UnsafeRawBufferPointer) -> (key: TicketKey, isOld: Bool)? {
        self.ring.withLock { $0.key(named: name) }
    }
}
