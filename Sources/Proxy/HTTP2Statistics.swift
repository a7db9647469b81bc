import HTTP

/// What there was of HTTP/2 with clients.
package struct HTTP2Statistics: Sendable, Equatable {
    package var connections: UInt64 = 0
    package var streams: UInt64 = 0
    /// Those that were refused because the limit of connections was reached.
    package var refusals: UInt64 = 0
    /// Connections that were ended because their clients did too much of something.
    package var abuses: [FrameAbuse: UInt64] = [:]
    /// Connections whose clients did not answer a PING.
    package var silences: UInt64 = 0

    package init() {}

    mutating func merge(_ other: HTTP2Statistics) {
        self.connections += other.connections
        self.streams += other.streams
        self.refusals += other.refusals
        self.abuses.merge(other.abuses, uniquingKeysWith: +)
        self.silences += other.silences
    }
}
