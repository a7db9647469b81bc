import Core

/// What an HTTP/2 peer may do only so often, because it costs us more than it costs the peer.
package enum FrameAbuse: UInt8, CaseIterable, Sendable {
    /// Requests that are taken back (CVE-2023-44487).
    case reset
    /// Resets of streams that are over, beyond one for each frame of bodies that was sent: some
    /// clients answer every frame like that which was on its way when they gave up.
    case lateReset
    /// Faults for which we have to end streams (CVE-2025-8671).
    case provokedReset
    /// CONTINUATION frames of one field block (CVE-2024-28182 and its relatives).
    case continuation
    case settings, ping
    /// Frames without content that end nothing.
    case emptyFrame
    case priority
    /// More room than there are frames to fill it.
    case windowUpdate
    /// Frames that could hold only a few of the bytes that wait, for lack of room.
    case tinyWindow
    /// Field blocks that are larger than allowed once they are decoded.
    case largeHead

    /// Stable name for metrics and logs.
    package var label: StaticString {
        switch self {
        case .reset: "reset"
        case .lateReset: "late_reset"
        case .provokedReset: "provoked_reset"
        case .continuation: "continuation"
        case .settings: "settings"
        case .ping: "ping"
        case .emptyFrame: "empty_frame"
        case .priority: "priority"
        case .windowUpdate: "window_update"
        case .tinyWindow: "tiny_window"
        case .largeHead: "large_head"
        }
    }
}

/// Counts what one HTTP/2 peer does too often: a bucket of tokens for each kind.
package struct FrameMeter: Sendable {
    /// A bucket: so many at once, and so many more per second.
    package struct Allowance: Equatable, Sendable {
        package var burst: UInt32
        package var perSecond: UInt32
    }

    /// What each kind is allowed. A browser or a gateway in front stays far below; an attacker is
    /// stopped before a connection costs a millisecond of work per round trip.
    package static func allowance(_ kind: FrameAbuse) -> Allowance {
        switch kind {
        case .reset: Allowance(burst: 200, perSecond: 20)
        case .lateReset: Allowance(burst: 1_000, perSecond: 100)
        case .provokedReset: Allowance(burst: 50, perSecond: 5)
        case .continuation: Allowance(burst: 100, perSecond: 10)
        case .settings: Allowance(burst: 50, perSecond: 2)
        case .ping: Allowance(burst: 100, perSecond: 10)
        case .emptyFrame: Allowance(burst: 100, perSecond: 10)
        case .priority: Allowance(burst: 1_000, perSecond: 100)
        case .windowUpdate: Allowance(burst: 1_000, perSecond: 100)
        case .tinyWindow: Allowance(burst: 1_000, perSecond: 100)
        case .largeHead: Allowance(burst: 20, perSecond: 1)
        }
    }

    private struct Bucket {
        var tokens: UInt32
        var filledAt = Instant.zero
    }

    /// Empty until something is counted: most connections never do any of this.
    private var buckets: [Bucket] = []

    package init() {}

    /// Counts one. False where that is one too many.
    package mutating func take(_ kind: FrameAbuse, now: Instant) -> Bool {
        if self.buckets.isEmpty {
            self.buckets = FrameAbuse.allCases.map {
                Bucket(tokens: Self.allowance($0).burst, filledAt: now)
            }
        }
        let allowance = Self.allowance(kind)
        let index = Int(kind.rawValue)
        self.refill(index, allowance, now: now)
        guard self.buckets[index].tokens > 0 else { return false }
        self.buckets[index].tokens -= 1
        return true
    }

    /// Allows `count` more of a kind, up to its burst: something was done that calls for them.
    package mutating func earn(_ kind: FrameAbuse, _ count: UInt32) {
        if self.buckets.isEmpty { return }
        let index = Int(kind.rawValue)
        let burst = Self.allowance(kind).burst
        self.buckets[index].tokens = min(burst, self.buckets[index].tokens + min(count, burst))
    }

    private mutating func refill(_ index: Int, _ allowance: Allowance, now: Instant) {
        let bucket = self.buckets[index]
        let elapsed = now.nanoseconds(since: bucket.filledAt)
        // A token's time is kept until it is whole.
        let perToken = 1_000_000_000 / UInt64(allowance.perSecond)
        let earned = elapsed / perToken
        if earned == 0 { return }
        self.buckets[index].tokens = UInt32(
            min(UInt64(allowance.burst), UInt64(bucket.tokens) + min(earned, 1 << 31))
        )
        self.buckets[index].filledAt = Instant(
            nanoseconds: bucket.filledAt.nanoseconds + earned * perToken
        )
    }
}
