import EventLoop
import Glibc

/// How bytes get on and off the wire: a value behind a connection, so that encryption is another
/// case here and not a condition anywhere else.
///
/// Every call is non-blocking and maps to one system call.
struct Transport {
    let descriptor: Int32

    @inline(__always)
    func read(into pointer: UnsafeMutableRawPointer, count: Int) -> IOResult {
        Sockets.read(self.descriptor, into: pointer, count: count)
    }

    @inline(__always)
    func write(from pointer: UnsafeRawPointer, count: Int) -> IOResult {
        Sockets.write(self.descriptor, from: pointer, count: count)
    }

    @inline(__always)
    func write(vectors: UnsafeMutablePointer<iovec>, count: Int) -> IOResult {
        Sockets.write(self.descriptor, vectors: vectors, count: count)
    }

    /// Says that nothing more will be written.
    func shutdownWriting() {
        Sockets.shutdownWriting(self.descriptor)
    }

    /// Ends the connection. With `reset` the peer sees a cut, not an end.
    func close(reset: Bool) {
        if reset { Sockets.resetOnClose(self.descriptor) }
        Sockets.close(self.descriptor)
    }
}
