/// What waits for a client to take it, and what goes before that.
struct Backlog: Equatable {
    /// Bytes of the answer that wait.
    var bytes = 0
    /// Of an answer that the client has left room for, and that waits for others on its connection:
    /// frames that these have sent, and bytes that the socket has not taken.
    var framesSent: UInt64 = 0
    var bytesAhead = 0
}

/// Whether a client takes what it is sent: tells one that reads slowly from one that does not read.
///
/// It is looked at when the time has passed in which something must have moved.
struct StallWatch {
    private var seen: Backlog?

    /// Begins the time with what waits now.
    mutating func begin(_ backlog: Backlog) { self.seen = backlog }

    /// Whether nothing has moved since the last look, or since the beginning. If something has, the
    /// time begins anew.
    mutating func isStalled(_ backlog: Backlog) -> Bool {
        if backlog == self.seen { return true }
        self.seen = backlog
        return false
    }
}
