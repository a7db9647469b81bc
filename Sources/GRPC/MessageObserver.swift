import Core

/// Watches the messages of one direction of a call as their bytes pass, in any pieces, and keeps
/// none of them: when the first one ended, and how many there were.
///
/// A message is a byte that says whether it is compressed, its length in four bytes, and as many
/// bytes (`PROTOCOL-HTTP2.md`, "Length-Prefixed-Message"). What breaks that form is noted and ends
/// the watching; it is the peer's business to complain.
package struct MessageObserver: Sendable {
    /// Bytes of a message's prefix.
    package static let prefixBytes = 5

    /// Complete messages.
    package private(set) var messages: UInt64 = 0
    /// When the piece with the end of the first message passed.
    package private(set) var firstMessageAt: Instant?
    /// The first byte of a message was neither 0 nor 1.
    package private(set) var isMalformed = false
    /// A message that has begun has not ended.
    package var isInsideMessage: Bool { self.prefixCount > 0 }

    /// Bytes of the prefix that have come; `prefixBytes` inside the message's own bytes.
    private var prefixCount = 0
    private var length: UInt32 = 0
    private var remaining: UInt64 = 0

    package init() {}

    /// Starts anew for another call.
    package mutating func reset() { self = MessageObserver() }

    package mutating func observe(_ bytes: RawSpan, now: Instant) {
        if self.isMalformed { return }
        var offset = 0
        while offset < bytes.byteCount {
            if self.prefixCount < Self.prefixBytes {
                self.takePrefix(bytes.byte(at: offset))
                if self.isMalformed { return }
                offset += 1
            } else {
                let count = min(self.remaining, UInt64(bytes.byteCount - offset))
                self.remaining -= count
                offset += Int(count)
            }
            if self.prefixCount == Self.prefixBytes, self.remaining == 0 { self.messageEnded(now) }
        }
    }

    private mutating func takePrefix(_ byte: UInt8) {
        if self.prefixCount == 0 {
            if byte > 1 { self.isMalformed = true }
            self.length = 0
        } else {
            self.length = self.length << 8 | UInt32(byte)
        }
        self.prefixCount += 1
        if self.prefixCount == Self.prefixBytes { self.remaining = UInt64(self.length) }
    }

    private mutating func messageEnded(_ now: Instant) {
        self.prefixCount = 0
        self.messages += 1
        if self.firstMessageAt == nil { self.firstMessageAt = now }
    }
}
