import Core
import EventLoop
import HTTP
import Traffic

/// From a request's head (and, where needed, its body) to a model and a variant.
extension Exchange {
    /// Fields of a request that are not copied upstream: framing and forwarding are written anew,
    /// and names that belong to the gateway mean nothing behind it.
    private static let dropped: FieldNameSet = {
        var set = ForwardedHop.fieldNames
        for name in [
            FieldName.host, .contentLength, .transferEncoding, .connection, .expect, .upgrade,
            .via, .xRequestID, .traceparent, .xWeirModel, .xWeirVariant, .xGatewayModelName,
        ] {
            set.insert(name)
        }
        return set
    }()

    // MARK: The head

    /// Takes a request. Its body, if any, follows by `requestBody`; then `advance`.
    func begin(_ head: RequestHead, _ bytes: RawSpan, from client: ClientStream) {
        self.open(client)
        self.method = head.method
        if case .chunked = head.framing { self.isChunked = true } else { self.isChunked = false }
        self.acceptsUpgrade = head.upgrade != nil
        self.wantsServerTiming = false
        if self.worker.shared.logsAccess { self.notePath(head, bytes) }
        self.noteTimingRequest(head, bytes)
        self.requestID = RequestID(head, bytes, random: &self.worker.random)
        if head.method == .connect { return self.fail(ProxyError(.methodNotAllowed)) }
        if case .length(let length) = head.framing, length > self.worker.limits.maxRequestBody {
            return self.fail(ProxyError(.bodyTooLarge))
        }
        self.decideTarget(head, bytes)
        if self.phase == .free { return }
        self.awaitsContinue = head.expectsContinue && head.framing != .none
        self.writeHead(head, bytes)
        if self.awaitsContinue { self.letBodyCome() }
    }

    /// A client that asked first is told to go on where the body is needed to route; else its
    /// upstream decides.
    private func letBodyCome() {
        guard case .http1(let connection) = self.client else { return }
        connection.sendContinue()
    }

    private func notePath(_ head: RequestHead, _ bytes: RawSpan) {
        self.pathForLog.removeAll(keepingCapacity: true)
        let path = bytes.slice(head.pathRange)
        for index in 0..<min(path.byteCount, Self.loggedPathBytesMax) {
            self.pathForLog.append(path.unsafeLoad(fromByteOffset: index, as: UInt8.self))
        }
    }

    private static let loggedPathBytesMax = 512

    private func noteTimingRequest(_ head: RequestHead, _ bytes: RawSpan) {
        guard let field = head.first(.serverTiming) else { return }
        self.wantsServerTiming = !field.valueRange.isEmpty
    }

    /// Composes the canonical head: what every try at every replica sends.
    private func writeHead(_ head: RequestHead, _ bytes: RawSpan) {
        let output = self.worker.buffers.take()
        self.head = output
        HeadWriter.requestLine(of: head, bytes, into: output)
        output.append("Host: ")
        if let authority = head.authorityRange { output.append(bytes.slice(authority)) }
        output.append("\r\n")
        HeadWriter.fields(head.fields, of: bytes, dropping: Self.dropped, into: output)
        if case .http1(let connection) = self.client, let hop = connection.hop {
            hop.write(
                for: head, bytes, trustsClient: self.worker.shared.trustsForwarded, into: output)
        }
        self.writeVia(head, bytes, into: output)
        output.append("X-Request-Id: ")
        self.requestID.write(into: output)
        output.append("\r\n")
        self.writeTraceparent(head, bytes, into: output)
        switch head.framing {
        case .none: break
        case .length(let length): HeadWriter.contentLength(length, into: output)
        case .chunked: HeadWriter.chunked(into: output)
        }
        if let upgrade = head.upgrade {
            HeadWriter.upgrade(to: bytes.slice(upgrade), into: output)
        }
        HeadWriter.end(into: output)
    }

    /// RFC 9110, section 7.6.3: a gateway names itself in requests, behind those before it.
    private func writeVia(_ head: RequestHead, _ bytes: RawSpan, into output: ByteBuffer) {
        output.append("Via: ")
        if head.contains(.via) {
            for field in head.fields where field.name == .via && !field.valueRange.isEmpty {
                output.append(bytes.slice(field.valueRange))
                output.append(", ")
            }
        }
        output.append(head.minorVersion == 0 ? "1.0 weir\r\n" : "1.1 weir\r\n")
    }

    /// W3C Trace Context: a valid `traceparent` is passed on, otherwise a trace is started.
    private func writeTraceparent(_ head: RequestHead, _ bytes: RawSpan, into output: ByteBuffer) {
        output.append("Traceparent: ")
        if let field = head.first(.traceparent), TraceParent.isValid(bytes.slice(field.valueRange)) {
            output.append(bytes.slice(field.valueRange))
        } else {
            TraceParent.start(random: &self.worker.random, into: output)
        }
        output.append("\r\n")
    }

    // MARK: Where it goes

    private func decideTarget(_ head: RequestHead, _ bytes: RawSpan) {
        let decision = RequestRouting.decide(head, bytes)
        self.style = decision.style
        self.isIdempotent = decision.isIdempotent
        switch decision.target {
        case .model(let range, let isEncoded):
            self.resolve(bytes.slice(range), isEncoded: isEncoded)
            self.target = .model
        case .body:
            self.target = .scanning
            self.scanner.reset()
        case .fleet(let endpoint):
            self.target = .fleet(endpoint)
        case .route:
            self.resolveByHostAndPath(head, bytes)
            self.target = .model
        }
    }

    private func resolve(_ name: RawSpan, isEncoded: Bool) {
        if isEncoded, let decoded = PercentEncoding.decode(name, whole: name) {
            return self.resolve(decoded.span.bytes)
        }
        self.resolve(name)
    }

    private func resolve(_ name: RawSpan) {
        guard let index = self.worker.snapshot.table.lookup(name),
            let model = self.worker.model(at: index)
        else {
            self.unknownName = String(decoding: name, limit: Self.namedBytesMax)
            return self.fail(ProxyError(.unknownModel))
        }
        self.assign(model)
    }

    private func assign(_ model: WorkerModel) {
        self.model = model
        model.statistics.arrivals += 1
        self.totalDeadline = self.arrivedAt + model.route.settings.requestTimeout
    }

    // MARK: The body

    /// Goes on deciding with what has arrived.
    func route() {
        switch self.target {
        case .undecided:
            assertionFailure("a request without a target")
        case .scanning:
            self.scan()
        case .fleet(let endpoint):
            if self.isRequestEnded { self.worker.answer(endpoint, self) }
        case .model:
            self.pinAndAdmit()
        }
    }

    private func scan() {
        guard let body = self.body else {
            if self.isRequestEnded { self.fail(ProxyError(.noModel)) }
            return
        }
        let fresh = body.readable.extracting(droppingFirst: self.scannedBytes)
        self.scannedBytes = body.count
        switch self.scanner.scan(fresh, isLast: self.isRequestEnded) {
        case .done:
            self.target = .model
            self.resolve(self.scanner.model.span.bytes)
            if self.phase == .receiving { self.pinAndAdmit() }
        case .needMore:
            if self.isRequestEnded {
                self.fail(ProxyError(.noModel))
            } else if body.count > self.worker.limits.maxBufferedBody {
                self.fail(ProxyError(.ambiguousModel))
            }
        case .invalid(let problem):
            self.fail(problem.error)
        }
    }

    private func pinAndAdmit() {
        guard let model = self.model else { return }
        if model.needsHead { self.pin(model) }
        if self.phase != .receiving { return }
        if model.needsPrefix, !self.hashPrefix() { return }
        self.admit()
    }
}
