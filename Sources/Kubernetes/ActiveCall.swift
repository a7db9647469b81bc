import Core
import Curl
import EventLoop
import HTTPService

/// What becomes of a watch's answer. All are called on the loop's thread; `onEnd` last and once,
/// with nil where the server ended the stream in good order.
package struct WatchHandlers {
    /// The server has accepted the watch.
    package var onOpen: () -> Void
    package var onEvent: (WatchEvent) -> Void
    package var onEnd: (APIError?) -> Void

    package init(
        onOpen: @escaping () -> Void = {},
        onEvent: @escaping (WatchEvent) -> Void,
        onEnd: @escaping (APIError?) -> Void
    ) {
        self.onOpen = onOpen
        self.onEvent = onEvent
        self.onEnd = onEnd
    }
}

/// One call on its way: admission, credentials, tries. Held by its client until it has ended.
final class ActiveCall {
    enum Sink {
        case whole(KubernetesClient.Completion<[UInt8]>)
        case watch(WatchHandlers, JSONProjection, idleTimeout: Duration?)
    }

    private let call: APICall
    private unowned let client: KubernetesClient
    private var sink: Sink?
    private var transfer: CurlTransfer?
    private var retryTimer: LoopTimer?
    private var deadlineTimer: LoopTimer?
    private var began = Instant.zero
    private var tries = 0
    /// A refused credential is renewed once.
    private var hasRenewedCredential = false
    /// Its end is on the way: whatever else comes means nothing.
    private var isCancelled = false
    private var generation = 0
    private var backoff: Backoff
    // Of a watch:
    private var framer: WatchFramer
    private var isOpen = false
    private var head: CurlHead?
    private var refusal: [UInt8] = []
    private var streamFailure: APIError.Kind?

    /// Bytes of a watch's refusal that are read.
    private static let refusalBytesMax = 64 << 10
    /// Broken connections that a read is tried again after.
    private static let brokenConnectionsMax = 2

    init(_ call: APICall, client: KubernetesClient, sink: Sink) {
        self.call = call
        self.client = client
        self.sink = sink
        self.backoff = Backoff(client.options.backoff)
        self.framer = WatchFramer(frameBytesMax: client.options.frameBytesMax)
    }

    // MARK: Life

    func start() {
        guard self.isWanted else { return }
        self.began = self.client.loop.now
        if case .whole = self.sink {
            self.deadlineTimer = self.client.loop.schedule(after: self.call.deadline) {
                [weak self] in
                guard let self else { return }
                self.end(.failure(.deadlineExceeded(self.call.deadline)))
            }
        }
        self.admit()
    }

    func cancel() {
        guard self.sink != nil, !self.isCancelled else { return }
        self.isCancelled = true
        // Held until then: whoever cancels may let go of the client.
        let client = self.client
        client.loop.schedule(after: .zero) {
            withExtendedLifetime(client) { self.end(.failure(.cancelled)) }
        }
    }

    /// Whether anybody still wants to know.
    private var isWanted: Bool { self.sink != nil && !self.isCancelled }

    private func admit() {
        let isAdmitted = self.client.admit(isUrgent: self.call.isUrgent) { [weak self] in
            self?.authenticate()
        }
        if !isAdmitted {
            let most = self.client.options.limits.waitingMax
            self.end(.failure(.overloaded(waitingMax: most)))
        }
    }

    private func authenticate() {
        guard self.isWanted else { return }
        self.client.credential { [weak self] result in
            guard let self, self.isWanted else { return }
            switch result {
            case .success(let credential): self.send(credential)
            case .failure(let problem): self.end(.failure(.credentials(problem.reason)))
            }
        }
    }

    private func send(_ credential: Credential) {
        self.tries += 1
        self.generation = credential.generation
        switch self.sink {
        case .whole:
            let request = self.client.request(self.call, credential, isStream: false)
            self.transfer = self.client.fetch(request) { [weak self] in self?.answered($0) }
        case .watch(_, _, let idleTimeout):
            var request = self.client.request(self.call, credential, isStream: true)
            request.idleTimeout = idleTimeout
            self.transfer = self.client.stream(request, self.watchStream())
        case nil: return
        }
    }

    private func end(_ result: Result<[UInt8], APIError.Kind>) {
        guard let sink = self.sink else { return }
        self.sink = nil
        self.retryTimer?.cancel()
        self.deadlineTimer?.cancel()
        self.transfer?.cancel()
        self.transfer = nil
        let call = self.call.description
        let failure = result.mapError { APIError($0, call: call) }
        self.client.ended(self)
        switch sink {
        case .whole(let completion): completion(failure)
        case .watch(let handlers, _, _):
            switch failure {
            case .success: handlers.onEnd(nil)
            case .failure(let error): handlers.onEnd(error)
            }
        }
    }

    // MARK: Answers

    private func answered(_ result: Result<CurlResponse, CurlError>) {
        guard self.isWanted else { return }
        self.transfer = nil
        switch result {
        case .success(let response) where response.head.isSuccess:
            self.end(.success(response.body))
        case .success(let response):
            let wait = response.head.field("retry-after")
            let status = Status(code: response.status, body: response.body, retryAfter: wait)
            self.refused(status, mayRetry: true)
        case .failure(let error): self.failed(error)
        }
    }

    /// - Parameter mayRetry: whether a wait that the server asks for is waited here.
    private func refused(_ status: Status, mayRetry: Bool) {
        if status.isUnauthorized, !self.hasRenewedCredential,
            self.client.reject(generation: self.generation)
        {
            self.hasRenewedCredential = true
            return self.admit()
        }
        let isTemporary = status.code == 429 || status.code >= 500
        if mayRetry, isTemporary, let wait = status.retryAfter, self.retry(after: wait) { return }
        self.end(.failure(.refused(status)))
    }

    private func failed(_ error: CurlError) {
        if case .timedOut(let kind) = error, kind != .connect {
            // HTTP/2 would send the next call on the same dead connection.
            self.client.renewConnections()
        }
        if case .connectionLost = error, self.call.method == "GET",
            self.tries <= Self.brokenConnectionsMax
        {
            let wait = self.backoff.delay(now: self.client.loop.now, random: &self.client.random)
            if self.retry(after: wait) { return }
        }
        self.end(.failure(.transport(error)))
    }

    /// Tries again later; false where that is too late, or was done too often.
    private func retry(after wait: Duration) -> Bool {
        let elapsed = self.client.loop.now - self.began
        guard self.tries <= self.call.retriesMax, elapsed + wait < self.call.deadline else {
            return false
        }
        self.retryTimer = self.client.loop.schedule(after: wait) { [weak self] in
            guard let self, self.isWanted else { return }
            self.retryTimer = nil
            self.admit()
        }
        return true
    }

    // MARK: Watches

    private func watchStream() -> CurlStream {
        CurlStream(
            onHead: { [weak self] in self?.received(head: $0) },
            onData: { [weak self] in self?.received($0) },
            onEnd: { [weak self] in self?.streamEnded($0) }
        )
    }

    private func received(head: CurlHead) {
        guard self.isWanted, case .watch(let handlers, _, _) = self.sink else { return }
        self.head = head
        if head.isSuccess {
            self.isOpen = true
            handlers.onOpen()
        }
    }

    private func received(_ bytes: RawSpan) {
        guard self.isOpen else {
            if self.refusal.count < Self.refusalBytesMax {
                bytes.withUnsafeBytes { self.refusal += $0.prefix(Self.refusalBytesMax) }
            }
            return
        }
        do throws(WatchFramer.TooLong) {
            try self.framer.feed(bytes) { self.received(frame: $0) }
        } catch {
            self.fail("an event of more than \(error.frameBytesMax) bytes")
        }
    }

    /// False where nothing more is wanted.
    private func received(frame: RawSpan) -> Bool {
        guard self.isWanted, case .watch(let handlers, let projection, _) = self.sink else {
            return false
        }
        do throws(JSONError) {
            handlers.onEvent(try WatchEvent(frame, keeping: projection))
            return self.isWanted
        } catch {
            self.fail("\(error)")
            return false
        }
    }

    /// Ends a stream whose bytes make no sense; the end itself comes from the transfer.
    private func fail(_ why: String) {
        if self.streamFailure == nil { self.streamFailure = .malformed(why) }
        self.transfer?.cancel()
    }

    private func streamEnded(_ error: CurlError?) {
        guard self.isWanted else { return }
        self.transfer = nil
        if let failure = self.streamFailure { return self.end(.failure(failure)) }
        if let head = self.head, !self.isOpen {
            let body = self.refusal
            let wait = head.field("retry-after")
            self.head = nil
            self.refusal = []
            return self.refused(
                Status(code: head.status, body: body, retryAfter: wait),
                mayRetry: false
            )
        }
        if let error {
            if case .timedOut(let kind) = error, kind != .connect { self.client.renewConnections() }
            return self.end(.failure(.transport(error)))
        }
        if self.framer.hasPartialFrame {
            let cut = CurlError.connectionLost("the stream ended within an event")
            return self.end(.failure(.transport(cut)))
        }
        self.end(.success([]))
    }
}
