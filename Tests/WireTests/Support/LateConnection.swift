import Core
import EventLoop
import Glibc

/// A connection that is asked for and not waited for: it fills a listener's queue.
struct LateConnection {
    private let descriptor: Int32

    init(port: UInt16) {
        let kind = Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
        self.descriptor = socket(AF_INET, kind, 0)
        _ = Loopback.connect(self.descriptor, port: port)
    }

    func close() { Glibc.close(self.descriptor) }
}

/// The gateway's clock, for tests of what must not happen before its time.
enum EventLoopClock {
    static func now() -> Instant { EventLoop.readClock() }
}
