import Glibc

/// What a test met on a socket instead of what it waited for.
enum WireError: Error, CustomStringConvertible {
    /// Nothing came before the deadline.
    case timeout(String)
    /// FIN in the middle of what was to be read.
    case ended(String)
    case reset(String)
    case malformed(String)
    case system(String, Int32)

    var description: String {
        switch self {
        case .timeout(let what): "nothing came in time: \(what)"
        case .ended(let what): "the connection ended early: \(what)"
        case .reset(let what): "the connection was reset: \(what)"
        case .malformed(let what): "malformed: \(what)"
        case .system(let call, let code): "\(call): \(String(cString: strerror(code)))"
        }
    }
}

/// How a peer ended a connection.
enum ConnectionEnd: Equatable {
    case fin
    case reset
}

/// A blocking TCP socket with a deadline on every read: a client, or an upstream's side of a
/// connection. It keeps all that it has received, so that a test can compare bytes.
final class RawSocket {
    /// The wire decides when a test goes on; this only turns a hang into a failure.
    static let deadlineSeconds = 20

    let descriptor: Int32
    /// Everything received since the start, or since `forget`.
    private(set) var received: [UInt8] = []
    private var position = 0
    private var isClosed = false

    /// Takes over a connected descriptor.
    init(owning descriptor: Int32) {
        self.descriptor = descriptor
        self.setDeadline(milliseconds: Self.deadlineSeconds * 1000)
        self.setOption(Int32(IPPROTO_TCP), TCP_NODELAY, 1)
    }

    deinit { self.close() }

    /// Connects to a port on the loopback. A small `receiveBuffer` makes a reader slow to fill.
    static func connect(port: UInt16, receiveBuffer: Int32? = nil) throws -> RawSocket {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw WireError.system("socket", errno) }
        let result = RawSocket(owning: descriptor)
        if let receiveBuffer { result.setOption(SOL_SOCKET, SO_RCVBUF, receiveBuffer) }
        guard Loopback.connect(descriptor, port: port) == 0 else {
            throw WireError.system("connect", errno)
        }
        return result
    }

    func setOption(_ level: Int32, _ option: Int32, _ value: Int32) {
        var value = value
        setsockopt(self.descriptor, level, option, &value, socklen_t(MemoryLayout<Int32>.size))
    }

    func setDeadline(milliseconds: Int) {
        var time = timeval(
            tv_sec: milliseconds / 1000,
            tv_usec: milliseconds % 1000 * 1000
        )
        let size = socklen_t(MemoryLayout<timeval>.size)
        setsockopt(self.descriptor, SOL_SOCKET, SO_RCVTIMEO, &time, size)
        setsockopt(self.descriptor, SOL_SOCKET, SO_SNDTIMEO, &time, size)
    }

    // MARK: Sending

    func send(_ text: String) throws { try self.send(Array(text.utf8)) }

    func send(_ bytes: [UInt8]) throws {
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes {
                Glibc.send(
                    self.descriptor,
                    $0.baseAddress.map { $0 + sent },
                    bytes.count - sent,
                    Int32(MSG_NOSIGNAL)
                )
            }
            if count < 0 { throw Self.failure("send") }
            sent += count
        }
    }

    /// Sends what the other side takes at once, again and again, until it takes nothing for
    /// `pauseMilliseconds`. Returns how much it took, at most `limit`: how far it reads ahead.
    func sendUntilBlocked(limit: Int, pauseMilliseconds: Int32 = 500) throws -> Int {
        let piece = [UInt8](repeating: UInt8(ascii: "x"), count: 64 * 1024)
        var total = 0
        while total < limit {
            var entry = pollfd(fd: self.descriptor, events: Int16(POLLOUT), revents: 0)
            if poll(&entry, 1, pauseMilliseconds) == 0 { return total }
            let count = Glibc.send(
                self.descriptor,
                piece,
                min(piece.count, limit - total),
                Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT)
            )
            if count < 0 {
                if errno == EAGAIN { continue }
                throw Self.failure("send")
            }
            total += count
        }
        return total
    }

    /// Sends FIN; reading goes on.
    func finish() { shutdown(self.descriptor, Int32(SHUT_WR)) }

    func close() {
        if self.isClosed { return }
        self.isClosed = true
        Glibc.close(self.descriptor)
    }

    /// Closes with RST.
    func reset() {
        var option = linger(l_onoff: 1, l_linger: 0)
        setsockopt(
            self.descriptor,
            SOL_SOCKET,
            SO_LINGER,
            &option,
            socklen_t(MemoryLayout<linger>.size)
        )
        self.close()
    }

    // MARK: Receiving

    /// One read. False at the end of the stream.
    private func fill(_ what: String) throws -> Bool {
        // The number may be another connection's by now, which would miss what is read here.
        if self.isClosed { throw WireError.ended(what) }
        var piece = [UInt8](repeating: 0, count: 64 * 1024)
        let count = recv(self.descriptor, &piece, piece.count, 0)
        if count < 0 { throw Self.failure(what) }
        self.received += piece[..<count]
        return count > 0
    }

    private static func failure(_ what: String) -> WireError {
        switch errno {
        case EAGAIN: .timeout(what)
        case ECONNRESET, EPIPE: .reset(what)
        case let code: .system(what, code)
        }
    }

    /// What was received and not yet read by a test.
    var unread: ArraySlice<UInt8> { self.received[self.position...] }

    func read(count: Int, for what: String = "bytes") throws -> [UInt8] {
        while self.unread.count < count {
            guard try self.fill(what) else { throw WireError.ended(what) }
        }
        defer { self.position += count }
        return Array(self.unread.prefix(count))
    }

    /// Everything up to and with `mark`.
    func read(until mark: String, for what: String = "bytes") throws -> String {
        let mark = Array(mark.utf8)
        var searched = self.position
        while true {
            while searched + mark.count <= self.received.count {
                if self.received[searched..<(searched + mark.count)].elementsEqual(mark) {
                    let bytes = self.received[self.position..<(searched + mark.count)]
                    self.position = searched + mark.count
                    return String(decoding: bytes, as: UTF8.self)
                }
                searched += 1
            }
            guard try self.fill(what) else { throw WireError.ended(what) }
        }
    }

    /// Everything up to FIN.
    func readToEnd() throws -> [UInt8] {
        while try self.fill("the end") {}
        defer { self.position = self.received.count }
        return Array(self.unread)
    }

    /// Lets go of what a test has read already.
    func forget() {
        self.received.removeFirst(self.position)
        self.position = 0
    }

    /// Reads and throws away `count` bytes, or all up to the end; returns how many there were.
    func skip(_ count: Int = .max) throws -> Int {
        var total = min(self.unread.count, count)
        self.position += total
        var piece = [UInt8](repeating: 0, count: 256 * 1024)
        while total < count {
            let read = recv(self.descriptor, &piece, min(piece.count, count - total), 0)
            if read < 0 { throw Self.failure("\(count) bytes, after \(total)") }
            if read == 0 { return total }
            total += read
        }
        return total
    }

    /// Waits until the other side has ended the connection; what came before is thrown away.
    @discardableResult
    func waitForEnd() throws -> ConnectionEnd {
        do {
            _ = try self.skip()
            return .fin
        } catch WireError.reset {
            return .reset
        }
    }

    /// Whether nothing waits to be read at this moment.
    var isQuiet: Bool {
        var entry = pollfd(fd: self.descriptor, events: Int16(POLLIN), revents: 0)
        return self.unread.isEmpty && poll(&entry, 1, 0) == 0
    }

    /// The bytes that can be read at this moment, taken without waiting.
    func readWhatIsThere() throws -> String {
        var entry = pollfd(fd: self.descriptor, events: Int16(POLLIN), revents: 0)
        while poll(&entry, 1, 0) > 0 { guard try self.fill("bytes") else { break } }
        defer { self.position = self.received.count }
        return String(decoding: self.unread, as: UTF8.self)
    }
}

/// Plain calls for 127.0.0.1.
enum Loopback {
    static func connect(_ descriptor: Int32, port: UInt16) -> Int32 {
        self.withAddress(port) { Glibc.connect(descriptor, $0, $1) }
    }

    static func bind(_ descriptor: Int32) -> Int32 {
        self.withAddress(0) { Glibc.bind(descriptor, $0, $1) }
    }

    static func port(of descriptor: Int32) -> UInt16 {
        var address = sockaddr_in()
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        _ = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                getsockname(descriptor, $0, &length)
            }
        }
        return UInt16(bigEndian: address.sin_port)
    }

    private static func withAddress<Result>(
        _ port: UInt16,
        _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result
    ) -> Result {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        return withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
    }
}
