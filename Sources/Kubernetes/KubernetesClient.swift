import Core
import Curl
import EventLoop
import HTTPService

/// How a client behaves.
package struct ClientOptions: Sendable {
    package var limits = RequestLimits()
    /// Behind `weir/VERSION (linux/amd64)` in the User-Agent: the role of this process.
    package var component = ""
    /// Connections to the server; 0 for as many as there are requests. With HTTP/2 requests share.
    package var connectionsMax = 0
    package var connectTimeout = Duration.seconds(10)
    /// Used where the server names no wait: for reads whose connection broke.
    package var backoff = BackoffPolicy()
    /// Bytes of one event of a watch.
    package var frameBytesMax = WatchFramer.frameBytesMaxByDefault
    package var allowsHTTP2 = true
    /// For waits that spread.
    package var seed: UInt64 = 0

    package init() {}
}

/// Talks to one API server from one event loop. All calls belong to the loop's thread, and so do
/// all completions, which never run within the call that they belong to.
///
/// End it with `close`.
package final class KubernetesClient {
    package typealias Completion<Value> = (Result<Value, APIError>) -> Void

    package let loop: EventLoop
    package let access: ClusterAccess
    package let options: ClientOptions
    package let userAgent: String
    /// Calls under way or waiting, watches included.
    package var count: Int { self.calls.count }

    private let credentials: CredentialSource
    private var curl: CurlClient
    /// Clients whose connections are not used again; closed with their last transfer.
    private var retired: [CurlClient] = []
    private var bucket: TokenBucket
    private var waiting: [() -> Void] = []
    private var limiterTimer: LoopTimer?
    private var calls: [ObjectIdentifier: ActiveCall] = [:]
    private var lastCertificate: CurlMaterial?
    private(set) var isClosed = false
    var random: RandomSource

    /// - Parameter wallClock: seconds since 1970, for credentials that expire.
    package init(
        loop: EventLoop,
        access: ClusterAccess,
        surroundings: AccessSurroundings,
        options: ClientOptions = ClientOptions(),
        wallClock: @escaping () -> Double = EventLoop.readWallClock
    ) {
        self.loop = loop
        self.access = access
        self.options = options
        self.random = RandomSource(seed: options.seed)
        let role = options.component.isEmpty ? "" : " \(options.component)"
        self.userAgent = "weir/\(WeirVersion.current) (linux/\(Self.architecture))\(role)"
        self.credentials = CredentialSource(
            access.authentication,
            surroundings: surroundings,
            loop: loop,
            wallClock: wallClock
        )
        self.curl = CurlClient(loop: loop, hostConnectionsMax: options.connectionsMax)
        self.bucket = TokenBucket(
            perSecond: options.limits.perSecond,
            burst: options.limits.burst,
            now: loop.now
        )
    }

    deinit {
        precondition(self.isClosed, "an API client was dropped without being closed")
    }

    #if arch(x86_64)
        package static let architecture = "amd64"
    #else
        package static let architecture = "arm64"
    #endif

    // MARK: Calls

    /// Sends a call and hands on the answer's body.
    @discardableResult
    package func send(
        _ call: APICall,
        completion: @escaping Completion<[UInt8]>
    ) -> APIHandle {
        let active = ActiveCall(call, client: self, sink: .whole(completion))
        return self.begin(active)
    }

    /// Sends a call and reads the answer as an object.
    @discardableResult
    package func sendForObject(
        _ call: APICall,
        completion: @escaping Completion<KubernetesObject>
    ) -> APIHandle {
        self.send(call) { result in
            completion(
                result.flatMap { bytes in
                    do throws(JSONError) {
                        return .success(KubernetesObject(try JSONValue(bytes)))
                    } catch {
                        return .failure(APIError(.malformed("\(error)"), call: call.description))
                    }
                }
            )
        }
    }

    /// Ends all calls with `.cancelled` and closes all connections. Idempotent.
    package func close() {
        self.loop.assertOnLoop()
        if self.isClosed { return }
        self.isClosed = true
        self.limiterTimer?.cancel()
        self.limiterTimer = nil
        self.waiting = []
        for call in self.calls.values { call.cancel() }
        self.curl.close()
        for client in self.retired { client.close() }
        self.retired = []
    }

    /// Opens new connections for what comes next: those there are may be dead without anybody
    /// knowing, or carry a certificate that is no longer ours.
    package func renewConnections() {
        self.loop.assertOnLoop()
        if self.isClosed { return }
        self.retired.append(self.curl)
        self.curl = CurlClient(loop: self.loop, hostConnectionsMax: self.options.connectionsMax)
        self.closeRetired()
    }

    // MARK: For calls

    func begin(_ call: ActiveCall) -> APIHandle {
        self.loop.assertOnLoop()
        let handle = APIHandle(call)
        self.calls[ObjectIdentifier(call)] = call
        if self.isClosed { call.cancel() }
        self.loop.schedule(after: .zero) { call.start() }
        return handle
    }

    func ended(_ call: ActiveCall) {
        self.calls[ObjectIdentifier(call)] = nil
        self.closeRetired()
    }

    /// Runs `body` when the rate limit has room; false where too many wait.
    func admit(isUrgent: Bool, _ body: @escaping () -> Void) -> Bool {
        if isUrgent {
            body()
            return true
        }
        if self.waiting.isEmpty {
            guard let wait = self.bucket.take(now: self.loop.now) else {
                body()
                return true
            }
            self.waiting.append(body)
            self.scheduleAdmission(after: wait)
            return true
        }
        if self.waiting.count >= self.options.limits.waitingMax { return false }
        self.waiting.append(body)
        return true
    }

    private func scheduleAdmission(after wait: Duration) {
        self.limiterTimer = self.loop.schedule(after: wait) { [weak self] in
            self?.limiterTimer = nil
            self?.admitWaiting()
        }
    }

    private func admitWaiting() {
        var admitted: [() -> Void] = []
        while admitted.count < self.waiting.count {
            if let wait = self.bucket.take(now: self.loop.now) {
                self.scheduleAdmission(after: wait)
                break
            }
            admitted.append(self.waiting[admitted.count])
        }
        self.waiting.removeFirst(admitted.count)
        for body in admitted { body() }
    }

    func credential(_ completion: @escaping CredentialSource.Completion) {
        self.credentials.get { result in
            if case .success(let credential) = result { self.noteCertificate(of: credential) }
            completion(result)
        }
    }

    func reject(generation: Int) -> Bool { self.credentials.reject(generation: generation) }

    /// Another client certificate: connections made with the old one are not used again.
    private func noteCertificate(of credential: Credential) {
        guard let certificate = credential.certificate else { return }
        if let last = self.lastCertificate, last != certificate { self.renewConnections() }
        self.lastCertificate = certificate
    }

    /// The request of a call, as it goes to libcurl.
    func request(_ call: APICall, _ credential: Credential, isStream: Bool) -> CurlRequest {
        var request = CurlRequest(self.access.server + call.target)
        request.method = call.method
        request.body = call.body
        request.fields = [("Accept", "application/json"), ("User-Agent", self.userAgent)]
        if let type = call.contentType { request.fields.append(("Content-Type", type)) }
        request.fields += credential.fields
        if let impersonation = self.access.impersonation { request.fields += impersonation.fields }
        request.tls = self.access.tls
        if let certificate = credential.certificate {
            request.tls.certificate = certificate
            request.tls.key = credential.key
        }
        request.proxy = self.access.proxy
        request.connectTimeout = self.options.connectTimeout
        request.totalTimeout = call.timeout
        request.allowsHTTP2 = self.options.allowsHTTP2
        request.acceptsCompression = self.access.acceptsCompression && !isStream
        request.responseBytesMax = isStream ? .max : call.answerBytesMax
        return request
    }

    func fetch(
        _ request: CurlRequest,
        completion: @escaping CurlTransfer.Completion
    ) -> CurlTransfer {
        self.curl.fetch(request, completion: completion)
    }

    func stream(_ request: CurlRequest, _ stream: CurlStream) -> CurlTransfer {
        self.curl.stream(request, stream)
    }

    private func closeRetired() {
        let idle = self.retired.filter { $0.count == 0 }
        if idle.isEmpty { return }
        self.retired.removeAll { $0.count == 0 }
        // Not from within a call of theirs.
        self.loop.schedule(after: .zero) { for client in idle { client.close() } }
    }
}

/// Ends a call or a watch from outside.
package struct APIHandle {
    private weak var call: ActiveCall?

    init(_ call: ActiveCall) {
        self.call = call
    }

    /// Ends it with `.cancelled`, later, unless it has ended.
    package func cancel() {
        self.call?.cancel()
    }
}
