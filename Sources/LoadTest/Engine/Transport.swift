import EventLoop
import TLS

/// How bytes get on and off the wire: a value behind a connection, so that encryption is another
/// case here and not a condition anywhere else. Every call is non-blocking; without a session it
/// maps to one system call.
struct Transport {
    let descriptor: Int32
    /// Nil: plain text.
    private(set) var session: TLSSession?

    init(descriptor: Int32) {
        self.descriptor = descriptor
    }

    /// What was read, and whether there may be more right away.
    @inline(__always)
    func read(
        into pointer: UnsafeMutableRawPointer,
        count: Int
    ) -> (result: IOResult, hasMore: Bool) {
        if let session = self.session {
            let read = session.read(into: pointer, count: count)
            return (read.result, read.hasMore)
        }
        let result = Sockets.read(self.descriptor, into: pointer, count: count)
        // A short read has emptied the socket; its end comes as an event of its own.
        if case .bytes(let received) = result { return (result, received == count) }
        return (result, false)
    }

    @inline(__always)
    func write(from pointer: UnsafeRawPointer, count: Int) -> IOResult {
        if let session = self.session { return session.write(from: pointer, count: count) }
        return Sockets.write(self.descriptor, from: pointer, count: count)
    }

    /// Everything goes through `session` from here on, which is freed with the connection.
    mutating func secure(_ session: TLSSession) {
        assert(self.session == nil, "a connection was secured twice")
        self.session = session
    }

    /// Ends the connection, a session with its last word.
    mutating func close() {
        if let session = self.session {
            _ = session.end()
            session.free()
            self.session = nil
        }
        Sockets.close(self.descriptor)
    }
}
