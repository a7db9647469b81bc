import EventLoop
import Glibc
import TLS

/// How bytes get on and off the wire: a value behind a connection, so that encryption is another
/// case here and not a condition anywhere else.
///
/// Every call is non-blocking; without a session it maps to one system call.
struct Transport {
    let descriptor: Int32
    /// Nil: plain text.
    private(set) var session: TLSSession?

    init(descriptor: Int32) {
        self.descriptor = descriptor
    }

    @inline(__always)
    func read(into pointer: UnsafeMutableRawPointer, count: Int) -> IOResult {
        Sockets.read(self.descriptor, into: pointer, count: count)
    }

    @inline(__always)
    func write(from pointer: UnsafeRawPointer, count: Int) -> IOResult {
        if let session = self.session { return session.write(from: pointer, count: count) }
        return Sockets.write(self.descriptor, from: pointer, count: count)
    }

    /// For plain text alone.
    @inline(__always)
    func write(vectors: UnsafeMutablePointer<iovec>, count: Int) -> IOResult {
        Sockets.write(self.descriptor, vectors: vectors, count: count)
    }

    /// Everything goes through `session` from here on, which is freed with the connection.
    mutating func secure(_ session: TLSSession) {
        assert(self.session == nil, "a connection was secured twice")
        self.session = session
    }

    /// Goes back to plain text, for a peer that does not speak anything else.
    mutating func dropSession() {
        self.session?.free()
        self.session = nil
    }

    /// Says that nothing more will be written. False where the peer did not take that: it is to be
    /// said again when the socket is writable.
    func shutdownWriting() -> Bool {
        if let session = self.session, !session.end() { return false }
        Sockets.shutdownWriting(self.descriptor)
        return true
    }

    /// Ends the connection. With `reset` the peer sees a cut, not an end.
    mutating func close(reset: Bool) {
        if let session = self.session {
            if !reset { _ = session.end() }
            self.dropSession()
        }
        if reset { Sockets.resetOnClose(self.descriptor) }
        Sockets.close(self.descriptor)
    }
}
