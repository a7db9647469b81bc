import CCurl
import Core
import EventLoop

/// Sends requests from one event loop. All calls belong to the loop's thread.
///
/// End it with `close`; until then its connections stay open.
package final class CurlClient {
    package let loop: EventLoop
    /// Transfers that have not ended.
    package var count: Int { self.transfers.count }

    private let multi: UnsafeMutableRawPointer
    private var transfers: [ObjectIdentifier: CurlTransfer] = [:]
    private var idle: [EasyHandle] = []
    private var watches: [Int32: SocketWatch] = [:]
    private var timer: LoopTimer?
    /// How many calls into libcurl are on the stack: it must not be told everything meanwhile.
    private var depth = 0
    private var isSettling = false
    private var settleTimer: LoopTimer?
    /// What waits until libcurl has returned.
    private var starting: [CurlTransfer] = []
    private var abandoned: [CurlTransfer] = []
    private var unpaused: [CurlTransfer] = []
    private var isClosed = false
    private var isReleased = false

    /// - Parameters:
    ///   - hostConnectionsMax: connections to one server; requests beyond wait for one. 0 for no
    ///     limit but that of requests.
    ///   - idleConnectionsMax: connections kept for later requests, over all servers.
    package init(
        loop: EventLoop,
        hostConnectionsMax: Int = 0,
        idleConnectionsMax: Int = CurlLimits.idleConnectionsMax
    ) {
        loop.assertOnLoop()
        precondition(CurlLibrary.isReady, "libcurl cannot be initialised")
        guard let multi = curl_multi_init() else { preconditionFailure("out of memory") }
        self.loop = loop
        self.multi = multi
        let context = Unmanaged.passUnretained(self).toOpaque()
        let code = weir_curl_multi_set_functions(
            multi,
            { _, descriptor, what, context, _ in
                guard let context else { return 0 }
                // Sound: the client closes the multi handle before it goes.
                Unmanaged<CurlClient>.fromOpaque(context).takeUnretainedValue()
                    .watch(descriptor, what)
                return 0
            },
            { _, milliseconds, context in
                guard let context else { return 0 }
                // Sound: as above.
                Unmanaged<CurlClient>.fromOpaque(context).takeUnretainedValue()
                    .setTimer(milliseconds)
                return 0
            },
            context
        )
        precondition(code == CURLM_OK, "libcurl refuses its callbacks")
        _ = weir_curl_multi_set_long(multi, CURLMOPT_MAXCONNECTS, idleConnectionsMax)
        _ = weir_curl_multi_set_long(multi, CURLMOPT_MAX_HOST_CONNECTIONS, hostConnectionsMax)
    }

    deinit {
        precondition(self.isReleased, "a client was dropped without being closed")
    }

    // MARK: Requests

    /// Sends a request and collects the answer. `completion` runs exactly once, later.
    @discardableResult
    package func fetch(
        _ request: CurlRequest,
        completion: @escaping CurlTransfer.Completion
    ) -> CurlTransfer {
        self.start(CurlTransfer(request, sink: .collected(completion), client: self))
    }

    /// Sends a request and hands the answer on as it comes. Nothing runs before this returns.
    @discardableResult
    package func stream(_ request: CurlRequest, _ stream: CurlStream) -> CurlTransfer {
        self.start(CurlTransfer(request, sink: .streamed(stream), client: self))
    }

    /// Ends every transfer with `.cancelled` and closes all connections. Idempotent. Whoever is
    /// called back must not start another request; it would end at once.
    package func close() {
        self.loop.assertOnLoop()
        if self.isClosed { return }
        self.isClosed = true
        for transfer in self.transfers.values { transfer.cancel() }
        if self.depth == 0 { self.settle() }
    }

    private func start(_ transfer: CurlTransfer) -> CurlTransfer {
        self.loop.assertOnLoop()
        self.transfers[ObjectIdentifier(transfer)] = transfer
        self.starting.append(transfer)
        self.settleSoon()
        return transfer
    }

    // MARK: For transfers

    /// Takes a transfer away from libcurl, once that is allowed.
    func abandon(_ transfer: CurlTransfer) {
        self.abandoned.append(transfer)
        self.settleSoon()
    }

    func unpause(_ transfer: CurlTransfer) {
        guard case .running = transfer.state else { return }
        self.unpaused.append(transfer)
        self.settleSoon()
    }

    // MARK: What waits

    /// Settles after the call at hand: on the way out of libcurl, or in a turn of its own, so that
    /// nobody is called back from within a call of theirs.
    private func settleSoon() {
        if self.depth > 0 || self.isSettling || self.settleTimer != nil { return }
        // Held until then: nobody else may hold the client while it has something to tell.
        self.settleTimer = self.loop.schedule(after: .zero) {
            self.settleTimer = nil
            self.settle()
        }
    }

    /// Calls into libcurl; afterwards does what had to wait, and tells who has ended.
    private func call(_ body: () -> Void) {
        self.depth += 1
        body()
        self.depth -= 1
        if self.depth == 0 { self.settle() }
    }

    private func settle() {
        if self.isSettling { return }
        self.isSettling = true
        while self.settleOne() {}
        self.isSettling = false
        if self.isClosed && self.transfers.isEmpty { self.release() }
    }

    /// One step; false where there is nothing to do. Transfers are held by `transfers` throughout.
    private func settleOne() -> Bool {
        if let transfer = self.abandoned.popLast() {
            self.finish(transfer, transfer.failure)
        } else if !self.unpaused.isEmpty {
            self.unpauseNow(self.unpaused.removeFirst())
        } else if !self.starting.isEmpty {
            self.startNow(self.starting.removeFirst())
        } else {
            return self.takeResult()
        }
        return true
    }

    private func startNow(_ transfer: CurlTransfer) {
        guard !transfer.hasEnded, case .queued = transfer.state else { return }
        if self.isClosed { return transfer.cancel() }
        if let problem = transfer.request.problem {
            return transfer.fail(.invalidRequest(problem))
        }
        if self.transfers.count > CurlLimits.requestsMax { return transfer.fail(.tooManyRequests) }
        guard let handle = self.idle.popLast() ?? EasyHandle() else {
            return transfer.fail(.failed("out of memory"))
        }
        do throws(CurlError) {
            try handle.prepare(transfer.request)
        } catch {
            self.recycle(handle)
            return transfer.fail(error)
        }
        transfer.attach(to: handle)
        transfer.state = .running(handle)
        self.depth += 1
        let code = curl_multi_add_handle(self.multi, handle.raw)
        self.depth -= 1
        if code != CURLM_OK {
            transfer.state = .queued
            self.recycle(handle)
            transfer.fail(.failed(String(cString: curl_multi_strerror(code))))
        }
    }

    private func unpauseNow(_ transfer: CurlTransfer) {
        guard case .running(let handle) = transfer.state, !transfer.hasEnded else { return }
        // What libcurl kept is delivered from within; a failure there is `transfer`'s own.
        self.depth += 1
        let code = curl_easy_pause(handle.raw, CURLPAUSE_CONT)
        self.depth -= 1
        if code != CURLE_OK { transfer.fail(handle.error(code)) }
    }

    private func takeResult() -> Bool {
        var code = CURLE_OK
        guard let raw = weir_curl_next_ended(self.multi, &code) else { return false }
        var context: UnsafeMutableRawPointer?
        guard weir_curl_get_private(raw, &context) == CURLE_OK, let context else {
            preconditionFailure("libcurl ended a transfer that is not ours")
        }
        // Sound: it is still in `transfers`, from which only `finish` removes it.
        let transfer = Unmanaged<CurlTransfer>.fromOpaque(context).takeUnretainedValue()
        guard case .running(let handle) = transfer.state else {
            preconditionFailure("libcurl ended a transfer that was not running")
        }
        self.finish(transfer, transfer.failure ?? (code == CURLE_OK ? nil : handle.error(code)))
        return true
    }

    private func finish(_ transfer: CurlTransfer, _ failure: CurlError?) {
        // It may have been abandoned in the callback that also made libcurl end it.
        guard self.transfers.removeValue(forKey: ObjectIdentifier(transfer)) != nil else { return }
        if case .running(let handle) = transfer.state {
            self.depth += 1
            let code = curl_multi_remove_handle(self.multi, handle.raw)
            self.depth -= 1
            precondition(code == CURLM_OK, "libcurl kept a handle: \(code)")
            self.recycle(handle)
        }
        transfer.end(failure)
    }

    private func recycle(_ handle: EasyHandle) {
        handle.reset()
        if self.idle.count < CurlLimits.idleHandlesMax && !self.isClosed {
            self.idle.append(handle)
        }
    }

    private func release() {
        if self.isReleased { return }
        self.isReleased = true
        self.depth += 1
        self.idle.removeAll()
        let code = curl_multi_cleanup(self.multi)
        precondition(code == CURLM_OK, "libcurl was not released: \(code)")
        self.depth -= 1
        self.timer?.cancel()
        self.timer = nil
        self.settleTimer?.cancel()
        self.settleTimer = nil
        for watch in self.watches.values { watch.deregister() }
        self.watches.removeAll()
    }

    // MARK: From libcurl

    /// Within a call into libcurl: only notes what to watch.
    private func watch(_ descriptor: Int32, _ what: Int32) {
        self.watches.removeValue(forKey: descriptor)?.deregister()
        var interest: IOEvents = []
        if what & CURL_POLL_IN != 0 { interest.insert(.read) }
        if what & CURL_POLL_OUT != 0 { interest.insert(.write) }
        // CURL_POLL_REMOVE has neither bit.
        if interest.isEmpty || self.isReleased { return }
        let watch = SocketWatch(client: self)
        watch.register(descriptor: descriptor, on: self.loop, interest: interest)
        self.watches[descriptor] = watch
    }

    private func setTimer(_ milliseconds: Int) {
        self.timer?.cancel()
        self.timer = nil
        guard milliseconds >= 0, !self.isReleased else { return }
        self.timer = self.loop.schedule(after: .milliseconds(milliseconds)) { [weak self] in
            self?.timer = nil
            self?.act(on: CURL_SOCKET_TIMEOUT, 0)
        }
    }

    fileprivate func act(on descriptor: Int32, _ events: Int32) {
        if self.isReleased { return }
        self.call {
            var running: Int32 = 0
            let code = curl_multi_socket_action(self.multi, descriptor, events, &running)
            // Documented: CURLM_BAD_SOCKET may be returned for a descriptor that is gone already.
            precondition(
                code == CURLM_OK || code == CURLM_BAD_SOCKET,
                "libcurl cannot go on: \(String(cString: curl_multi_strerror(code)))"
            )
        }
    }
}

/// One of libcurl's descriptors.
private final class SocketWatch: IOHandler {
    // Unowned: the client ends all watches before it goes.
    private unowned let client: CurlClient

    init(client: CurlClient) {
        self.client = client
    }

    override func ready(_ events: IOEvents) {
        var mask: Int32 = 0
        if events.contains(.read) { mask |= CURL_CSELECT_IN }
        if events.contains(.write) { mask |= CURL_CSELECT_OUT }
        // The client may be let go by whom it calls back.
        let client = self.client
        client.act(on: self.descriptor, mask)
    }
}
