import EventLoop

/// How bytes get on and off the wire: a value behind a connection, so that encryption is another
/// case here and not a condition anywhere else. Every call is non-blocking and maps to one system
/// call.
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

    func close(reset: Bool) {
        if reset { Sockets.resetOnClose(self.descriptor) }
        Sockets.close(self.descriptor)
    }
}
