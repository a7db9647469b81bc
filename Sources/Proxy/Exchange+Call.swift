import Core
import EventLoop
import GRPC
import HTTP
import HTTP2
import Traffic

/// Calls of gRPC: where they go, how long they may take, and how they end.
///
/// A call is a request like any other but for this: its model's name may be in its first message,
/// its client's deadline is kept here and passed on, and however it fails the client is told by a
/// status in trailers, with HTTP's status 200. For statistics it counts under the HTTP status that
/// means the same.
extension Exchange {
    // MARK: The head

    /// Notes that the request is a call, where it is one. False where it was refused as a bad one.
    func noteCall(_ head: RequestHead, _ bytes: RawSpan) -> Bool {
        guard head.method == .post, let type = head.first(.contentType),
            GRPCMethod.isContentType(bytes.slice(type.valueRange))
        else { return true }
        let method = GRPCMethod(path: bytes.slice(head.pathRange))
        guard let range = head.valueRange(of: Call.timeoutField, in: bytes) else {
            self.call = Call(method, deadline: .distantFuture)
            return true
        }
        guard let timeout = GRPCTimeout.parse(bytes.slice(range)) else {
            self.call = Call(method, deadline: .distantFuture)
            self.fail(ProxyError(.badRequest, detail: Call.Refusal.timeout))
            return false
        }
        let deadline = self.arrivedAt.advanced(byNanoseconds: Int64(clamping: timeout))
        self.call = Call(method, deadline: deadline)
        self.totalDeadline = deadline
        self.worker.wheel.arm(self, at: deadline)
        return true
    }

    func decideTarget(of call: Call, _ head: RequestHead, _ bytes: RawSpan) {
        let operation = call.operation
        self.isRepeatable = operation != .other
        let named = Self.namedModel(head)
        // With a model's name it is for that model's replica, whatever its method.
        let isProbe = named == nil && call.method.isProbe
        let decision = RoutingDecision(
            target: isProbe ? .fleet(.live) : .hostAndPath,
            style: .plain,
            operation: operation,
            isRepeatable: self.isRepeatable
        )
        if self.recording != nil { self.noteRoute(decision, bytes, head.pathRange) }
        if let tenants = self.worker.snapshot.tenants,
            !self.authorise(tenants, decision, head, bytes)
        {
            return
        }
        if let named {
            self.target = .model
            return self.resolve(bytes.slice(named))
        }
        call.fallback = self.modelByHostAndPath(head, bytes)
        switch call.method {
        case .health, .fleet:
            self.target = .call
        case .model:
            self.target = .scanning
        case .other:
            self.target = .model
            guard let model = call.fallback else {
                return self.fail(ProxyError(.notFound, detail: Call.Refusal.unknownMethod))
            }
            self.assign(model)
        }
    }

    /// The model that the head names by one of the fields for that.
    private static func namedModel(_ head: RequestHead) -> ByteRange? {
        for name in [FieldName.xWeirModel, .xGatewayModelName] {
            if let field = head.first(name), !field.valueRange.isEmpty { return field.valueRange }
        }
        return nil
    }

    /// The fields of a call's head as they go upstream: the time that is left is written anew for
    /// each try.
    func writeCallFields(
        _ head: RequestHead,
        _ bytes: RawSpan,
        dropping dropped: FieldNameSet,
        into output: ByteBuffer
    ) {
        var rest = head.fields[...]
        while !rest.isEmpty {
            let end =
                rest.firstIndex { field in
                    Int(field.nameRange.count) == Call.timeoutField.count
                        && bytes.slice(field.nameRange)
                            .isEqualIgnoringCase(to: Call.timeoutField)
                } ?? rest.endIndex
            HeadWriter.fields(Array(rest[..<end]), of: bytes, dropping: dropped, into: output)
            rest = rest[end...].dropFirst()
        }
    }

    /// What the next server is told of the time.
    func appendTimeLeft(_ call: Call, to fields: OutgoingFields) {
        guard call.deadline != .distantFuture else { return }
        let value = ByteBuffer(capacity: 16)
        let left = self.totalDeadline.nanoseconds(since: self.now)
        GRPCTimeout.write(nanoseconds: left, into: value)
        fields.append("grpc-timeout", value.readable)
    }

    // MARK: The model

    /// Looks for the model's name in what has arrived of the first message.
    func scan(_ call: Call) {
        var found = ModelNameScanner.OnScan.needMore
        if let body = self.body, body.count > self.scannedBytes {
            let fresh = body.readable.extracting(self.scannedBytes..<body.count)
            self.scannedBytes = body.count
            found = call.scanner.scan(fresh)
        }
        if found == .needMore, self.isRequestEnded { found = call.scanner.finish() }
        switch found {
        case .needMore:
            if self.bodyCount > self.worker.limits.maxBufferedBody {
                self.fail(ProxyError(.ambiguousModel, detail: Call.Refusal.tooLarge))
            }
        case .found, .complete:
            self.resolve(call)
        case .compressed:
            self.fallBack(call, ProxyError(.ambiguousModel, detail: Call.Refusal.compressed))
        case .invalid(let problem):
            let detail = ProxyError.Detail(label: problem.label, message: problem.message)
            self.fail(ProxyError(.badRequest, detail: detail))
        }
    }

    private func resolve(_ call: Call) {
        let name = call.scanner.name
        if name.isEmpty {
            return self.fallBack(call, ProxyError(.noModel, detail: Call.Refusal.noModel))
        }
        self.target = .model
        self.resolve(name.span.bytes)
        if self.phase == .receiving { self.pinAndAdmit() }
    }

    /// A call that names no model goes where its host and path lead.
    private func fallBack(_ call: Call, _ error: ProxyError) {
        guard let model = call.fallback, !model.isGone else { return self.fail(error) }
        self.target = .model
        self.assign(model)
        if self.phase == .receiving { self.pinAndAdmit() }
    }

    /// Whether the model's replicas can be called; if not, the call has been refused.
    func canBeCalled(_ model: WorkerModel) -> Bool {
        if model.route.settings.kind == .grpc { return true }
        let endpoints = model.route.variants.lazy.flatMap(\.endpoints)
        // Where there are none yet, the one that is started shows it.
        let hasNone = endpoints.isEmpty && model.route.settings.startsReplicas
        if hasNone || endpoints.contains(where: \.takesCalls) { return true }
        self.failForLackOfCalls()
        return false
    }

    func failForLackOfCalls() {
        self.fail(ProxyError(.notImplemented, detail: Call.Refusal.http1))
    }

    // MARK: The answer

    func noteAnswer(of call: Call, _ head: ResponseHead, _ bytes: RawSpan) {
        let field = head.fields.first { field in
            bytes.slice(field.nameRange).isEqualIgnoringCase(to: Call.statusField)
        }
        guard let field else { return }
        self.note(GRPCStatus(field: bytes.slice(field.valueRange)) ?? .unknown, of: call)
    }

    /// Looks for the status in the trailers.
    func noteEnd(of call: Call, _ trailers: [UInt8]) {
        if let status = GRPCStatus(lines: trailers) { self.note(status, of: call) }
        // What a client makes of a success that says nothing of the call.
        if call.status == nil, self.status < 300 {
            self.note(GRPCStatus(httpStatus: self.status), of: call)
        }
        self.judge(call)
    }

    private func note(_ status: GRPCStatus, of call: Call) {
        call.status = status
        if self.status < 300 { self.status = status.httpStatus }
    }

    /// Tells the outlier detector how the call ended.
    private func judge(_ call: Call) {
        guard let model = self.model else { return }
        let isFailure: Bool =
            switch call.status {
            case .unavailable, .internal, .unknown, .dataLoss: true
            default: self.status >= 500 && call.status == nil
            }
        if isFailure || model.isWatching {
            model.noteResponse(
                isFailure ? 500 : 200,
                of: self.endpoint,
                variant: self.variant,
                now: self.now
            )
        }
    }

    /// How the call ended; nil for what is none. Clients take the end of a stream without a status
    /// for `unknown`.
    var callStatus: GRPCStatus? {
        guard let call = self.call else { return nil }
        return call.status ?? (self.error?.kind == .clientGone ? .cancelled : .unknown)
    }

    /// When the first piece of an answer's content passed: a token's event, or the first of several
    /// messages.
    var firstContentAt: Instant? {
        guard let call = self.call else { return self.observer.firstContentAt }
        return call.answers.messages > 1 ? call.answers.firstMessageAt : nil
    }

    // MARK: Failure

    /// Ends the call with an error, by a status: in place of an answer, or behind the messages that
    /// were passed on. Within a message there is no room for one, and the stream is reset.
    func fail(_ call: Call, _ error: ProxyError) {
        let status = call.resetStatus ?? GRPCStatus(error.kind)
        call.status = status
        self.status = error.status
        let message = self.errorMessage ?? error.message.description
        guard self.hasBegunResponse else {
            return self.finish {
                self.client.stream?.sendStatus(status, message, error: error, exchange: self)
            }
        }
        if call.answers.isInsideMessage {
            return self.finish { self.client.cutResponse() }
        }
        let lines = ByteBuffer(capacity: 256)
        ServerStream.write(status, message, into: lines)
        let trailers = lines.readable.withUnsafeBytes { Array($0) }
        self.finish {
            self.client.endResponse(
                trailers: trailers,
                requestIsComplete: self.isRequestEnded
            )
        }
    }

    /// The client's own deadline: whatever the call waits for, it is over. Says nothing about a
    /// replica.
    func deadlinePassed(of call: Call) {
        self.stream?.connection.probe()
        self.fail(ProxyError(.upstreamTimeout, detail: Call.Refusal.deadline))
    }

    // MARK: The gateway's own answers

    /// Answers what is not about one model's replicas.
    func answer(_ call: Call) {
        if self.bodyCount > HealthCheck.requestBytesMax {
            return self.fail(ProxyError(.bodyTooLarge))
        }
        guard self.isRequestEnded else { return }
        let body = ByteBuffer(capacity: 256)
        switch call.method {
        case .health(let method):
            return self.answerHealth(call, method)
        case .fleet(.serverLive), .fleet(.serverReady):
            InferenceAnswers.writeFlag(true, into: body)
        case .fleet(.serverMetadata):
            InferenceAnswers.writeMetadata(
                name: "weir",
                version: WeirVersion.current,
                extensions: ["model_repository"],
                into: body
            )
        case .fleet(.repositoryIndex):
            InferenceAnswers.writeIndex(self.indexEntries, into: body)
        case .model, .other:
            preconditionFailure("a call for a model")
        }
        self.answer(message: body, call)
    }

    private var indexEntries: [InferenceAnswers.IndexEntry] {
        self.visibleModels.map { model in
            let isReady = model.variants.contains { !$0.endpoints.isEmpty }
            return InferenceAnswers.IndexEntry(
                name: model.name,
                isReady: isReady,
                reason: isReady ? "" : "no replica is ready"
            )
        }
    }

    private func answer(message body: ByteBuffer, _ call: Call) {
        call.status = .ok
        self.status = 200
        self.finish { self.client.stream?.sendMessage(body, exchange: self) }
    }

    // MARK: Health

    /// `Check` answers once; `Watch` goes on until its client leaves or the gateway does.
    private func answerHealth(_ call: Call, _ method: GRPCMethod.Health) {
        var found = ModelNameScanner.OnScan.complete
        if let body = self.body { found = call.scanner.scan(body.readable) }
        guard found == .complete else {
            let detail = ProxyError.Detail(
                label: "grpc-health-request",
                message: "The message is no HealthCheckRequest that can be read."
            )
            return self.fail(ProxyError(.badRequest, detail: detail))
        }
        guard let status = self.health(call) else { return self.fail(ProxyError(.unauthorized)) }
        switch method {
        case .check:
            guard status != .serviceUnknown else {
                self.unknownName = String(decoding: call.scanner.name, as: UTF8.self)
                return self.fail(ProxyError(.unknownModel))
            }
            let body = ByteBuffer(capacity: 16)
            HealthCheck.write(status, into: body)
            self.answer(message: body, call)
        case .watch:
            self.hasBegunResponse = true
            self.phase = .watching
            self.releaseBuffers()
            self.client.stream?.beginMessages(exchange: self)
            self.worker.watch(self)
            self.tellHealth(status)
        }
    }

    /// How the service does that the call asks for: one that its tenant may not use is unknown to
    /// it. Nil where that is nobody's business: with tenants only the gateway's own health is told
    /// without a key.
    private func health(_ call: Call) -> HealthCheck.Status? {
        let name = call.scanner.name
        let tenant = self.tenancy?.tenant
        if !name.isEmpty, tenant == nil, self.worker.snapshot.tenants != nil { return nil }
        return self.worker.health(of: name, asks: tenant)
    }

    /// Tells a client that watches what has changed.
    func tellHealth(_ status: HealthCheck.Status) {
        guard let call = self.call, self.phase == .watching, call.health != status else { return }
        call.health = status
        let body = ByteBuffer(capacity: 16)
        HealthCheck.write(status, into: body)
        self.client.sendBody(
            UnsafeRawBufferPointer(start: body.readablePointer, count: body.count)
        )
        _ = self.client.batchEnded()
    }

    /// Looks again, after a change.
    func checkHealth() {
        guard let call = self.call else { return }
        guard let status = self.health(call) else { return self.fail(ProxyError(.unauthorized)) }
        self.tellHealth(status)
    }
}
