import CCurl
import Core
import EventLoop

/// What becomes of a streamed answer. All are called on the loop's thread; `onEnd` last and exactly
/// once, with nil where the answer came to its end.
package struct CurlStream {
    package var onHead: (CurlHead) -> Void
    /// The bytes are lent for the call.
    package var onData: (RawSpan) -> Void
    package var onEnd: (CurlError?) -> Void

    package init(
        onHead: @escaping (CurlHead) -> Void = { _ in },
        onData: @escaping (RawSpan) -> Void,
        onEnd: @escaping (CurlError?) -> Void
    ) {
        self.onHead = onHead
        self.onData = onData
        self.onEnd = onEnd
    }
}

/// One request under way. On the loop's thread.
///
/// It lives on by itself until it has ended; dropping it changes nothing.
package final class CurlTransfer {
    package typealias Completion = (Result<CurlResponse, CurlError>) -> Void

    enum Sink {
        case collected(Completion)
        case streamed(CurlStream)
    }

    enum State {
        /// Not at libcurl yet.
        case queued
        case running(EasyHandle)
        case ended
    }

    let request: CurlRequest
    var state = State.queued
    /// Set by whoever ended it before libcurl did.
    private(set) var failure: CurlError?
    /// Nil once it has ended: whoever keeps the transfer does not keep what its callbacks hold.
    private var sink: Sink?
    // Weak: a transfer that was kept must not keep the client.
    private weak var client: CurlClient?
    private var head = CurlHead(status: 0, fields: [])
    private var hasHead = false
    private var headBytes = 0
    private var body: [UInt8] = []
    private var received = 0
    private var idleTimer: LoopTimer?
    private var lastActivity: Instant

    /// Whether the stream rests; see `pause`.
    package private(set) var isPaused = false

    init(_ request: CurlRequest, sink: Sink, client: CurlClient) {
        self.request = request
        self.sink = sink
        self.client = client
        self.lastActivity = client.loop.now
    }

    /// Whether `onEnd` or the completion has run or is about to.
    package var hasEnded: Bool {
        if case .ended = self.state { true } else { self.failure != nil }
    }

    /// Ends it with `.cancelled`, later, unless it has ended. No head and no data come after this.
    package func cancel() {
        self.fail(.cancelled)
    }

    /// Rests: no data come until `resume`. What the server sends meanwhile waits in the kernel, and
    /// with HTTP/2 within the stream's window.
    package func pause() {
        self.isPaused = true
    }

    package func resume() {
        guard self.isPaused else { return }
        self.isPaused = false
        if let client = self.client { self.lastActivity = client.loop.now }
        self.client?.unpause(self)
    }

    // MARK: For the client

    /// Ends it with `error` as soon as libcurl may be told.
    func fail(_ error: CurlError) {
        guard !self.hasEnded else { return }
        self.failure = error
        self.client?.abandon(self)
    }

    /// Sets the callbacks. The transfer is not retained by them: its client holds it.
    func attach(to handle: EasyHandle) {
        let context = Unmanaged.passUnretained(self).toOpaque()
        handle.set(CURLOPT_PRIVATE, pointer: context)
        handle.set(CURLOPT_WRITEDATA, pointer: context)
        handle.set(CURLOPT_HEADERDATA, pointer: context)
        _ = weir_curl_set_bytes_function(handle.raw, CURLOPT_WRITEFUNCTION) {
            bytes,
            size,
            count,
            context in
            CurlTransfer.dispatch(bytes, size * count, context) { $0.receive($1) }
        }
        _ = weir_curl_set_bytes_function(handle.raw, CURLOPT_HEADERFUNCTION) {
            bytes,
            size,
            count,
            context in
            CurlTransfer.dispatch(bytes, size * count, context) { $0.receiveLine($1) }
        }
        self.watchIdleness()
    }

    func end(_ failure: CurlError?) {
        self.state = .ended
        // To libcurl a connection that ends within the head is an empty answer.
        let failure =
            failure ?? (self.hasHead ? nil : .connectionLost("it ended before the end of the head"))
        self.idleTimer?.cancel()
        self.idleTimer = nil
        let sink = self.sink
        self.sink = nil
        let body = self.body
        self.body = []
        switch sink {
        case .streamed(let stream): stream.onEnd(failure)
        case .collected(let completion):
            if let failure { return completion(.failure(failure)) }
            completion(.success(CurlResponse(head: self.head, body: body)))
        case nil: preconditionFailure("a transfer ended twice")
        }
    }

    // MARK: From libcurl

    /// Returned to libcurl for bytes that are not taken; it keeps them and asks again.
    private static let pauseResult = Int(CURL_WRITEFUNC_PAUSE)

    private static func dispatch(
        _ bytes: UnsafeMutablePointer<CChar>?,
        _ count: Int,
        _ context: UnsafeMutableRawPointer?,
        _ body: (CurlTransfer, RawSpan) -> Int
    ) -> Int {
        guard let context else { return 0 }
        // Sound: the client holds the transfer for as long as libcurl knows of it.
        let transfer = Unmanaged<CurlTransfer>.fromOpaque(context).takeUnretainedValue()
        let buffer = UnsafeRawBufferPointer(start: bytes, count: bytes == nil ? 0 : count)
        // Sound: the span ends with the call that libcurl lends the bytes for.
        return body(transfer, RawSpan(_unsafeBytes: buffer))
    }

    /// How many bytes were taken; fewer than there are end the transfer.
    private func receive(_ bytes: RawSpan) -> Int {
        if self.hasEnded { return 0 }
        if self.isPaused { return Self.pauseResult }
        self.touch()
        self.received += bytes.byteCount
        if self.received > self.request.responseBytesMax {
            self.fail(.tooLarge(bytesMax: self.request.responseBytesMax))
            return 0
        }
        switch self.sink {
        case .streamed(let stream): stream.onData(bytes)
        case .collected: bytes.withUnsafeBytes { self.body += $0 }
        case nil: return 0
        }
        return self.hasEnded ? 0 : bytes.byteCount
    }

    /// One line of a head, the status line and the empty one at its end included, or of trailers.
    private func receiveLine(_ bytes: RawSpan) -> Int {
        if self.hasEnded { return 0 }
        self.touch()
        self.headBytes += bytes.byteCount
        if self.headBytes > CurlLimits.headBytesMax {
            self.fail(.tooLarge(bytesMax: CurlLimits.headBytesMax))
            return 0
        }
        if !self.hasHead { self.take(line: bytes.withUnsafeBytes { Array($0) }) }
        return self.hasEnded ? 0 : bytes.byteCount
    }

    private func take(line bytes: [UInt8]) {
        let line = bytes.prefix { $0 != 13 && $0 != 10 }
        if line.starts(with: "HTTP/".utf8) {
            self.head.fields.removeAll(keepingCapacity: true)
        } else if line.isEmpty {
            self.endHead()
        } else if let colon = line.firstIndex(of: UInt8(ascii: ":")) {
            let isBlank = { (byte: UInt8) in byte == 32 || byte == 9 }
            var value = line[(colon + 1)...].drop(while: isBlank)
            while let last = value.last, isBlank(last) { value.removeLast() }
            self.head.fields.append(
                (
                    name: String(decoding: line[..<colon], as: UTF8.self),
                    value: String(decoding: value, as: UTF8.self)
                )
            )
        }
    }

    private func endHead() {
        guard case .running(let handle) = self.state else { return }
        self.head.status = handle.status
        // Interim answers come before the real one.
        guard self.head.status >= 200 || self.head.status == 101 else { return }
        self.hasHead = true
        if case .streamed(let stream) = self.sink { stream.onHead(self.head) }
    }

    // MARK: Idleness

    private func touch() {
        if let client = self.client { self.lastActivity = client.loop.now }
    }

    private func watchIdleness() {
        guard let limit = self.request.idleTimeout else { return }
        self.armIdleTimer(after: limit, limit: limit)
    }

    private func armIdleTimer(after delay: Duration, limit: Duration) {
        self.idleTimer = self.client?.loop.schedule(after: delay) { [weak self] in
            self?.idleTimerFired(limit)
        }
    }

    private func idleTimerFired(_ limit: Duration) {
        guard let client = self.client, !self.hasEnded else { return }
        let silent = client.loop.now - self.lastActivity
        if self.isPaused {
            self.armIdleTimer(after: limit, limit: limit)
        } else if silent >= limit {
            self.fail(.timedOut(.idle))
        } else {
            self.armIdleTimer(after: limit - silent, limit: limit)
        }
    }
}
