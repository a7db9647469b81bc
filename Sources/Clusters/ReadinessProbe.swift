import CPlatform
import Core
import EventLoop
import Glibc
import TLS

/// Asks an address once whether it is ready: connects and, where there is a path, sends a GET and
/// reads the status line, over TLS where the address asks for it. Ready is 200…399, as for the
/// kubelet. Where there is a service gRPC's health service is asked instead, and `SERVING` is
/// ready. An open port is enough where there is neither.
///
/// It reads at most `ClusterLimits.probeAnswerBytesMax` and closes: the body is nobody's concern.
/// Explicitly cancelled or finished; it keeps itself alive in between through its timer.
final class ReadinessProbe: IOHandler {
    private let address: ReplicaAddress
    private let spec: ReadinessSpec
    private let completion: (ProbeResult) -> Void
    private weak var loop: EventLoop?
    private var timer: LoopTimer?
    private var request: ArraySlice<UInt8>
    private var answer: [UInt8] = []
    private var answerBytes = 0
    /// Of a question by gRPC.
    private var question: HealthQuestion?
    private var isConnected = false
    private var session: TLSSession?
    private var isHandshaking = false
    private var isFinished = false

    /// - Parameter address: numeric.
    /// - Parameter completion: called once and never from within `start`, unless cancelled.
    init(
        _ address: ReplicaAddress,
        spec: ReadinessSpec,
        completion: @escaping (ProbeResult) -> Void
    ) {
        self.address = address
        self.spec = spec
        self.completion = completion
        self.request = Self.request(path: spec.path, address: address)
    }

    private var asksNothing: Bool { self.spec.path == nil && self.spec.service == nil }

    func start(on loop: EventLoop) {
        if let service = self.spec.service {
            let question = HealthQuestion(
                service: service,
                authority: "\(self.address)",
                isSecure: self.address.security != nil,
                now: loop.now
            )
            self.question = question
            self.request = question.request[...]
        }
        let (descriptor, code) = Self.connect(self.address)
        guard descriptor >= 0 else {
            let reason = "cannot connect to \(self.address): \(errorText(code))"
            self.timer = loop.schedule(after: .zero) { self.finish(.bad(reason)) }
            return
        }
        self.register(descriptor: descriptor, on: loop, interest: .write)
        self.timer = loop.schedule(after: self.spec.timeout) { self.timedOut() }
        self.loop = loop
    }

    func cancel() {
        self.isFinished = true
        self.timer?.cancel()
        self.timer = nil
        self.question?.close()
        self.close()
    }

    override func ready(_ events: IOEvents) {
        if !self.isConnected {
            guard self.checkConnected() else { return }
            if self.asksNothing { return self.finish(.good) }
            guard self.beginSession() else { return }
        }
        self.session?.becameReadable()
        if self.isHandshaking, !self.stepHandshake() { return }
        if self.request.isEmpty { self.receive() } else { self.send() }
    }

    // MARK: Steps

    private func checkConnected() -> Bool {
        var code: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        getsockopt(self.descriptor, SOL_SOCKET, SO_ERROR, &code, &length)
        guard code == 0 else {
            self.finish(.bad("cannot connect to \(self.address): \(errorText(code))"))
            return false
        }
        self.isConnected = true
        return true
    }

    /// False where there can be none.
    private func beginSession() -> Bool {
        guard let security = self.address.security else { return true }
        do throws(TLSError) {
            let session = try security.makeSession(descriptor: self.descriptor)
            if self.question != nil { session.offer(["h2"]) }
            self.session = session
            self.isHandshaking = true
            return true
        } catch {
            self.finish(.bad("no TLS session with \(self.address): \(error)"))
            return false
        }
    }

    /// True when the session stands.
    private func stepHandshake() -> Bool {
        guard let session = self.session else { return true }
        switch session.handshake() {
        case .done:
            self.isHandshaking = false
            self.watch(.write)
            return true
        case .wantsMore:
            self.watch(session.wantsToWrite ? .write : .read)
        case .failed(let failure):
            self.finish(.bad("no TLS session with \(self.address): \(failure.text)"))
        }
        return false
    }

    private func watch(_ interest: IOEvents) {
        guard let loop = self.loop else { return }
        let descriptor = self.descriptor
        self.deregister()
        self.register(descriptor: descriptor, on: loop, interest: interest)
    }

    private func send() {
        if let session = self.session { return self.send(session) }
        let count = self.request.withUnsafeBytes {
            Glibc.send(self.descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
        }
        if count < 0, errno == EAGAIN || errno == EINTR { return }
        guard count >= 0 else {
            return self.finish(.bad("the connection broke: \(errorText(errno))"))
        }
        self.request = self.request.dropFirst(count)
        if self.request.isEmpty { self.watch(.read) }
    }

    private func send(_ session: TLSSession) {
        let result = self.request.withUnsafeBytes { bytes in
            bytes.baseAddress.map { session.write(from: $0, count: bytes.count) } ?? .bytes(0)
        }
        switch result {
        case .bytes(let count):
            self.request = self.request.dropFirst(count)
            guard self.request.isEmpty else { return }
            self.watch(.read)
            // What came with the handshake is not told again.
            self.receive()
        case .wouldBlock:
            break
        case .endOfStream, .failed:
            self.finish(.bad("the connection broke"))
        }
    }

    private func receive(_ session: TLSSession) {
        var chunk = [UInt8](repeating: 0, count: 1_024)
        let read = chunk.withUnsafeMutableBytes { bytes in
            bytes.baseAddress.map { session.read(into: $0, count: bytes.count).result }
        }
        switch read {
        case .bytes(let count):
            if let result = self.judge(chunk[..<count]) {
                self.finish(result)
            } else {
                // Until the session has nothing more: the kernel may have told for the last time.
                self.receive(session)
            }
        case .wouldBlock, nil:
            break
        case .endOfStream:
            self.finish(.bad("the connection was closed without an answer"))
        case .failed(let code):
            self.finish(.bad("the connection was closed (\(errorText(code)))"))
        }
    }

    private func receive() {
        if let session = self.session { return self.receive(session) }
        var chunk = [UInt8](repeating: 0, count: 1_024)
        let count = recv(self.descriptor, &chunk, chunk.count, 0)
        if count < 0, errno == EAGAIN || errno == EINTR { return }
        guard count > 0 else {
            let cause = count == 0 ? "without an answer" : "(\(errorText(errno)))"
            return self.finish(.bad("the connection was closed \(cause)"))
        }
        if let result = self.judge(chunk[..<count]) { self.finish(result) }
    }

    private func judge(_ bytes: ArraySlice<UInt8>) -> ProbeResult? {
        let result = self.reading(bytes)
        self.answerBytes += bytes.count
        // Frames that say nothing, and answers before the answer, may go on for ever.
        if result == nil, self.answerBytes > ClusterLimits.probeAnswerBytesMax {
            return .bad(
                "no answer within \(ClusterLimits.probeAnswerBytesMax) bytes from \(self.address)"
            )
        }
        return result
    }

    private func reading(_ bytes: ArraySlice<UInt8>) -> ProbeResult? {
        if let question = self.question {
            let now = self.loop?.now ?? .zero
            return bytes.withUnsafeBytes { question.receive($0, now: now) }
        }
        self.answer += bytes
        return StatusLine.judge(self.answer, path: self.spec.path ?? "/")
    }

    private func timedOut() {
        let limit = describe(self.spec.timeout)
        let what = self.isConnected ? "no answer" : "no connection to \(self.address)"
        self.finish(.bad("\(what) within \(limit)"))
    }

    private func finish(_ result: ProbeResult) {
        if self.isFinished { return }
        self.cancel()
        self.completion(result)
    }

    private func close() {
        guard self.isRegistered else { return }
        let descriptor = self.descriptor
        self.deregister()
        if let session = self.session.take() {
            if !self.isHandshaking { _ = session.end() }
            session.free()
        }
        Glibc.close(descriptor)
    }

    // MARK: Helpers

    private static func request(path: String?, address: ReplicaAddress) -> ArraySlice<UInt8> {
        guard let path else { return [] }
        let text =
            "GET \(path) HTTP/1.1\r\nHost: \(address)\r\nUser-Agent: weir-readiness\r\n"
            + "Accept: */*\r\nConnection: close\r\n\r\n"
        return Array(text.utf8)[...]
    }

    /// A descriptor that is connecting, or -1 and errno.
    private static func connect(_ address: ReplicaAddress) -> (descriptor: Int32, code: Int32) {
        guard let target = NumericAddress(address) else { return (-1, EADDRNOTAVAIL) }
        let flags = Int32(SOCK_STREAM.rawValue) | weirNonblocking | Int32(SOCK_CLOEXEC.rawValue)
        let descriptor = socket(target.family, flags, 0)
        guard descriptor >= 0 else { return (-1, errno) }
        let result = target.withPointer { Glibc.connect(descriptor, $0, $1) }
        if result == 0 || errno == EINPROGRESS { return (descriptor, 0) }
        let code = errno
        Glibc.close(descriptor)
        return (-1, code)
    }
}

private let weirNonblocking = Int32(SOCK_NONBLOCK.rawValue)

/// Judges the first line of an answer (RFC 9112, section 4).
enum StatusLine {
    /// Nil: more bytes are needed.
    static func judge(_ bytes: [UInt8], path: String) -> ProbeResult? {
        let prefix = Array("HTTP/1.".utf8)
        guard bytes.starts(with: prefix) || prefix.starts(with: bytes) else {
            return .bad("\(path) is not answered in HTTP/1.x")
        }
        // HTTP/1.x SP 3DIGIT and whatever follows it.
        guard bytes.count > 12 else { return nil }
        let digits = bytes[9..<12]
        let isNumber = digits.allSatisfy { $0 >= 0x30 && $0 <= 0x39 }
        let isDelimited = bytes[8] == 0x20 && [0x20, 0x0D, 0x0A].contains(bytes[12])
        guard isNumber, isDelimited, (0x30...0x39).contains(bytes[7]) else {
            return .bad("\(path) is answered with a malformed status line")
        }
        let status = digits.reduce(0) { $0 * 10 + Int($1 - 0x30) }
        if status >= 100, status < 200 { return self.afterInterim(bytes, path: path) }
        return (200..<400).contains(status) ? .good : .bad("\(path) is answered with \(status)")
    }

    /// A 1xx answer goes before the real one (RFC 9110, section 15.2): skip its head.
    private static func afterInterim(_ bytes: [UInt8], path: String) -> ProbeResult? {
        guard bytes.count <= ClusterLimits.probeAnswerBytesMax else {
            return .bad("\(path) is answered with too many interim responses")
        }
        let end: [UInt8] = [0x0D, 0x0A, 0x0D, 0x0A]
        var index = 12
        while index + end.count <= bytes.count {
            if bytes[index..<index + end.count].elementsEqual(end) {
                return self.judge(Array(bytes[(index + end.count)...]), path: path)
            }
            index += 1
        }
        return nil
    }
}

/// An IP address and port in the kernel's form.
struct NumericAddress {
    let family: Int32
    private var four = sockaddr_in()
    private var six = sockaddr_in6()

    /// Nil when the host is not numeric.
    init?(_ address: ReplicaAddress) {
        self.four.sin_family = sa_family_t(AF_INET)
        self.four.sin_port = address.port.bigEndian
        if inet_pton(AF_INET, address.host, &self.four.sin_addr) == 1 {
            self.family = AF_INET
            return
        }
        self.six.sin6_family = sa_family_t(AF_INET6)
        self.six.sin6_port = address.port.bigEndian
        guard inet_pton(AF_INET6, address.host, &self.six.sin6_addr) == 1 else { return nil }
        self.family = AF_INET6
    }

    func withPointer<Result>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Result) -> Result {
        func rebound<Address>(_ address: Address) -> Result {
            withUnsafePointer(to: address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    body($0, socklen_t(MemoryLayout<Address>.size))
                }
            }
        }
        return self.family == AF_INET ? rebound(self.four) : rebound(self.six)
    }
}
