/// The streams whose end came from the peer and which are over: the last few of them.
///
/// Heads that a peer sends on those are its fault (RFC 9113, section 5.1). On streams that we have
/// ended they are not: they may have been on their way. So what is not known here is let pass.
struct EndedStreams {
    /// How the peer ended its side.
    enum End {
        /// With END_STREAM: whatever follows ends the connection.
        case finished
        /// With RST_STREAM: whatever follows is an error of the stream.
        case reset
    }

    static let keptMax = 16

    private var streams: [(id: Int32, end: End)] = []
    private var oldest = 0
    /// No stream with a higher number is known, which tells most frames apart at once.
    private(set) var highest: Int32 = 0

    mutating func note(_ id: Int32, _ end: End) {
        self.highest = max(self.highest, id)
        if self.streams.count < Self.keptMax { return self.streams.append((id, end)) }
        self.streams[self.oldest] = (id, end)
        self.oldest = (self.oldest + 1) % Self.keptMax
    }

    func end(of id: Int32) -> End? {
        if id > self.highest { return nil }
        return self.streams.last { $0.id == id }?.end
    }
}
