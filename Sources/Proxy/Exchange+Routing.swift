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
            .via, .serverTiming, .xRequestID, .traceparent, .xWeirModel, .xWeirVariant,
            .xGatewayModelName,
        ] {
            set.insert(name)
        }
        return set
    }()

    /// Where there are tenants, also what tells who asks: a replica is not told the key.
    private static let droppedWithKeys: FieldNameSet = {
        var set = Exchange.dropped
        for name in [FieldName.authorization, .apiKey, .proxyAuthorization] { set.insert(name) }
        return set
    }()

    // MARK: The head

    /// Takes a request. Its body, if any, follows by `requestBody`; then `advance`.
    func begin(_ head: RequestHead, _ bytes: RawSpan, from client: ClientStream) {
        self.open(client)
        self.method = head.method
        self.isChunked = head.framing == .chunked
        self.isRequestEnded = head.framing == .none
        self.noteOverride(head, bytes)
        self.acceptsUpgrade = Self.upgrade(head, bytes) != nil
        if self.worker.logsAccess { self.notePath(head, bytes) }
        if let recorder = self.worker.recorder { self.draftRecording(recorder) }
        self.noteTimingRequest(head)
        if case .http2 = client, !self.noteCall(head, bytes) { return }
        if head.contains(.contentEncoding) { self.noteCodings(head, bytes) }
        if head.contains(.acceptEncoding) { self.noteAcceptedCodings(head, bytes) }
        self.requestID.take(head, bytes, random: &self.worker.random)
        if head.method == .connect { return self.fail(ProxyError(.methodNotAllowed)) }
        if case .length(let length) = head.framing, length > self.worker.limits.maxRequestBody {
            return self.fail(ProxyError(.bodyTooLarge))
        }
        self.decideTarget(head, bytes)
        if self.phase == .free { return }
        self.decideWhoLetsTheBodyCome(head)
        self.writeHead(head, bytes)
    }

    /// A client that asked first is told to go on where the body is needed to route; else its
    /// upstream decides. HTTP/1.0 has no such thing (RFC 9110, section 10.1.1).
    private func decideWhoLetsTheBodyCome(_ head: RequestHead) {
        guard head.expectsContinue, head.minorVersion > 0 else { return }
        if case .model = self.target, let model = self.model, !model.needsPrefix {
            self.awaitsContinue = true
        } else {
            self.client.sendContinue()
        }
    }

    private func notePath(_ head: RequestHead, _ bytes: RawSpan) {
        self.pathForLog.removeAll(keepingCapacity: true)
        let path = bytes.slice(head.pathRange)
        for index in 0..<min(path.byteCount, Self.loggedPathBytesMax) {
            self.pathForLog.append(path.unsafeLoad(fromByteOffset: index, as: UInt8.self))
        }
    }

    private static let loggedPathBytesMax = 512

    /// `x-weir-variant` is the gateway's own and not passed on, so a model that is overridden by it has
    /// to find it here.
    private func noteOverride(_ head: RequestHead, _ bytes: RawSpan) {
        guard let field = head.first(.xWeirVariant) else { return }
        self.variantField = NameBuffer(bytes.slice(field.valueRange))
    }

    /// The protocol to switch to, where the client may: one that it names, not a choice. HTTP/2 in
    /// clear text is not passed on: behind the switch nobody would check what its requests ask for.
    private static func upgrade(_ head: RequestHead, _ bytes: RawSpan) -> ByteRange? {
        guard let upgrade = head.upgrade else { return nil }
        let protocols = bytes.slice(upgrade)
        let isOne = !protocols.contains(UInt8(ascii: ","))
        return isOne && !protocols.hasPrefix("h2c") ? upgrade : nil
    }

    /// A request with a `server-timing` field, whatever its value, gets one back.
    private func noteTimingRequest(_ head: RequestHead) {
        self.wantsServerTiming = head.contains(.serverTiming)
    }

    /// Composes the canonical head: what every try at every replica sends.
    private func writeHead(_ head: RequestHead, _ bytes: RawSpan) {
        let output = self.worker.buffers.take()
        HeadWriter.requestLine(of: head, bytes, into: output)
        if head.authorityRange == nil {
            // HTTP/1.0 without Host; an HTTP/1.1 server must refuse a request without one.
            output.append("Host: weir\r\n")
        } else {
            HeadWriter.host(of: head, bytes, fallback: bytes, into: output)
        }
        let keepsKeys = self.worker.unownedSnapshot._withUnsafeGuaranteedRef {
            $0.tenants?.forwardsCredentials ?? true
        }
        let dropped = keepsKeys ? Self.dropped : Self.droppedWithKeys
        if self.call == nil {
            HeadWriter.fields(head.fields, of: bytes, dropping: dropped, into: output)
        } else {
            self.writeCallFields(head, bytes, dropping: dropped, into: output)
        }
        self.client.withConnection { $0.writeHop(head, bytes, into: output) }
        self.writeVia(head, bytes, into: output)
        output.append("X-Request-Id: ")
        self.requestID.write(into: output)
        output.append("\r\n")
        self.writeTraceparent(head, bytes, into: output)
        switch head.framing {
        case .none: if head.contentLength != nil { HeadWriter.contentLength(0, into: output) }
        case .length(let length): HeadWriter.contentLength(length, into: output)
        case .chunked: HeadWriter.chunked(into: output)
        }
        if self.awaitsContinue { output.append("Expect: 100-continue\r\n") }
        if let upgrade = Self.upgrade(head, bytes) {
            HeadWriter.upgrade(to: bytes.slice(upgrade), into: output)
        }
        HeadWriter.end(into: output)
        self.head = output
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
        if let field = head.first(.traceparent), TraceParent.isValid(bytes.slice(field.valueRange))
        {
            output.append(bytes.slice(field.valueRange))
        } else {
            TraceParent.start(random: &self.worker.random, into: output)
        }
        output.append("\r\n")
    }

    // MARK: Where it goes

    private func decideTarget(_ head: RequestHead, _ bytes: RawSpan) {
        if let call = self.call { return self.decideTarget(of: call, head, bytes) }
        let decision = RequestRouting.decide(
            bytes,
            path: head.pathRange,
            method: head.method,
            weirModel: head.first(.xWeirModel)?.valueRange,
            gatewayModelName: head.first(.xGatewayModelName)?.valueRange
        )
        self.style = decision.style
        self.isRepeatable = decision.isRepeatable
        if self.recording != nil { self.noteRoute(decision, bytes, head.pathRange) }
        if let tenants = self.worker.snapshot.tenants,
            !self.authorise(tenants, decision, head, bytes)
        {
            return
        }
        switch decision.target {
        case .name(let range, let isEncoded):
            self.target = .model
            self.resolve(bytes.slice(range), isEncoded: isEncoded)
        case .body:
            self.target = .scanning
            self.scanner.reset()
        case .fleet(let endpoint):
            self.target = .fleet(endpoint)
        case .hostAndPath:
            self.target = .model
            self.resolveByHostAndPath(head, bytes)
        }
    }

    private func resolve(_ name: RawSpan, isEncoded: Bool) {
        guard isEncoded else { return self.resolve(name) }
        guard let decoded = NameBuffer(percentEncoded: name) else {
            return self.fail(ProxyError(.unknownModel))
        }
        self.resolve(decoded.bytes)
    }

    /// Resolves the name that was found in the body.
    private func resolveScanned() {
        let index = self.worker.unownedSnapshot._withUnsafeGuaranteedRef { snapshot in
            self.scanner.withModel { snapshot.table.lookup($0) }
        }
        if let index, let model = self.worker.model(at: index) {
            return self.assign(model)
        }
        guard self.scanner.hasModel else { return self.fail(ProxyError(.noModel)) }
        self.resolve(self.scanner.model.bytes)
    }

    func resolve(_ name: RawSpan) {
        let snapshot = self.worker.snapshot
        if let index = snapshot.table.lookup(name),
            let model = self.worker.model(at: index)
        {
            return self.assign(model)
        }
        self.unknownName = Self.text(name)
        self.fail(ProxyError(.unknownModel))
    }

    private func resolveByHostAndPath(_ head: RequestHead, _ bytes: RawSpan) {
        if let model = self.modelByHostAndPath(head, bytes) { return self.assign(model) }
        self.fail(ProxyError(.notFound))
    }

    func modelByHostAndPath(_ head: RequestHead, _ bytes: RawSpan) -> WorkerModel? {
        let host = bytes.slice(head.authorityRange ?? ByteRange(start: 0, count: 0))
        let routes = self.worker.snapshot.routes
        return routes.lookup(host: host, path: bytes.slice(head.pathRange))
            .flatMap { self.worker.model(at: $0) }
    }

    func assign(_ model: consuming WorkerModel) {
        if self.tenancy != nil, !self.isAllowed(model) { return }
        if self.call != nil, !self.canBeCalled(model) { return }
        model.noteRequest(now: self.arrivedAt)
        self.totalDeadline = self.arrivedAt + model.timeouts.request
        if let call = self.call { self.totalDeadline = min(self.totalDeadline, call.deadline) }
        self.setModel(model)
    }

    /// Names shown in errors are cut to this size.
    private static let shownNameBytesMax = 128

    private static func text(_ bytes: RawSpan) -> String {
        let shown = bytes.extracting(first: self.shownNameBytesMax)
        return shown.withUnsafeBytes { String(decoding: $0, as: UTF8.self) }
    }

    /// What an error says beyond its kind: an unknown name is told which names there are.
    var errorMessage: String? {
        guard let error = self.error else { return nil }
        switch error.kind {
        case .unknownModel:
            let known = self.knownNames
            let name = self.unknownName.map { " `\($0)`" } ?? ""
            return "There is no model\(name); there \(known)."
        case .unknownVariant:
            guard let model = self.model else { return nil }
            let names = model.route.variants.map(\.name).joined(separator: ", ")
            return "Model `\(model.route.name)` has no variant `\(self.unknownName ?? "")`; "
                + "there are \(names)."
        default:
            return nil
        }
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
        case .call:
            if let call = self.call { self.answer(call) }
        }
    }

    private func scan() {
        if let call = self.call { return self.scan(call) }
        if let coded = self.coded, !self.lookAhead(coded, isRequired: true) { return }
        guard let body = self.plainBody else {
            if self.isRequestEnded { self.fail(ProxyError(.noModel)) }
            return
        }
        let count = body.count
        var found = self.scanner.scan(body.readable.extracting(self.scannedBytes..<count))
        self.scannedBytes = count
        switch found {
        case .needMore where self.isRequestEnded, .found where self.isRequestEnded:
            found = self.scanner.finish()
        case .needMore, .found, .complete, .invalid:
            break
        }
        switch found {
        case .found, .complete:
            self.target = .model
            self.resolveScanned()
            if self.phase == .receiving { self.pinAndAdmit() }
        case .needMore:
            // Of a coded body, what it becomes and what it is.
            if max(count, self.bodyCount) > self.worker.limits.maxBufferedBody {
                self.fail(ProxyError(.ambiguousModel))
            }
        case .invalid(let problem):
            let kind: ProxyError.Kind = problem.kind == .notAnObject ? .noModel : .badRequest
            self.fail(
                ProxyError(kind, detail: .init(label: "invalid-json", message: problem.message))
            )
        }
    }

    func pinAndAdmit() {
        guard let model = self.model else { return }
        if model.route.needsHead { self.pin(model) }
        if self.phase != .receiving { return }
        if let coded = self.coded, !self.prepareCoded(coded, model) { return }
        if model.needsPrefix, !self.hashPrefix() { return }
        if self.recording != nil { self.hashRecordedPrefix() }
        if self.tenancy != nil, !self.charge(model) { return }
        if let coded = self.coded { self.endLookAhead(coded) }
        self.admit(model)
    }

    /// Hashes the beginning of the prompt for prefix affinity. False while more of the body is needed
    /// and may be waited for. A request without a prompt goes to the least loaded replica.
    private func hashPrefix() -> Bool {
        if self.prefixHashed { return true }
        var found = JSONKeyScanner.OnScan.needMore
        if let body = self.plainBody {
            if !self.isHashingPrefix {
                self.isHashingPrefix = true
                self.scanner.reset(needs: .prompt, stopsEarly: true)
                self.scannedBytes = 0
            }
            let fresh = body.readable.extracting(self.scannedBytes..<body.count)
            self.scannedBytes = body.count
            found = self.scanner.scan(fresh)
        }
        if found == .needMore, !self.isRequestEnded,
            max(self.bodyCount, self.plainBody?.count ?? 0) < self.worker.limits.maxReplayBody
        {
            return false
        }
        self.prefixHashed = true
        if self.isHashingPrefix, let keys = self.model?.prefixKeys(self.scanner.prompt) {
            self.affinity = .prefix(keys)
        }
        return true
    }

    // MARK: Variants

    /// Looks into the head for what pins the request to a variant or an endpoint. The bytes it came
    /// in may be gone: the canonical head has all that is needed.
    private func pin(_ model: WorkerModel) {
        guard let head = self.head else { return }
        let lookup = self.worker.lookupHead
        lookup.reset()
        let bytes = UnsafeRawBufferPointer(start: head.readablePointer, count: head.count).bytes
        guard case .complete = lookup.parse(bytes, limits: Self.canonicalLimits) else {
            return assertionFailure("our own head does not parse")
        }
        let settings = model.route.settings
        if let name = settings.overrideHeader {
            if name == Self.variantFieldName {
                if let value = self.variantField { self.override(model, value.bytes) }
            } else if let range = lookup.valueRange(of: name, in: bytes) {
                self.override(model, bytes.slice(range))
            }
            if self.phase != .receiving { return }
        }
        self.pinByHeader(model, lookup, bytes)
        self.pinSticky(model, lookup, bytes)
        if settings.balancing == .consistentHash, let key = self.key(model, lookup, bytes) {
            self.affinity = .hash(key)
        }
    }

    private static let variantFieldName = Array("x-weir-variant".utf8)

    private func override(_ model: WorkerModel, _ name: RawSpan) {
        if name.byteCount == 0 { return }
        guard let variant = model.route.variant(named: name) else {
            self.unknownName = Self.text(name)
            return self.fail(ProxyError(.unknownVariant))
        }
        self.pinned = model.route.variants[variant]
        self.hasChosenVariant = true
    }

    /// A rollout's header route: whoever sends the header is served by the new variant.
    private func pinByHeader(_ model: WorkerModel, _ head: RequestHead, _ bytes: RawSpan) {
        guard self.pinned == nil, let route = model.route.settings.headerRoute else { return }
        let range = head.valueRange(of: route.name, in: bytes)
        guard let range, Int(range.count) == route.value.count,
            bytes.slice(range).isEqual(to: route.value)
        else { return }
        self.pinned = model.route.variants[route.variant]
        self.hasChosenVariant = true
    }

    static let canonicalLimits = HeadLimits(
        maxHeadBytes: HeadLimits.maxHeadBytesCeiling,
        maxFields: 4_096,
        maxTargetBytes: HeadLimits.maxHeadBytesCeiling
    )

    private func pinSticky(_ model: WorkerModel, _ head: RequestHead, _ bytes: RawSpan) {
        guard self.pinned == nil, let sticky = model.route.settings.sticky else { return }
        switch sticky {
        case .header(let name):
            guard let range = head.valueRange(of: name, in: bytes), !range.isEmpty else { return }
            let hash = ByteHash.hash(bytes.slice(range))
            self.affinity = .hash(hash)
            if let variant = model.stickyVariant(keyHash: hash) {
                self.pinned = model.route.variants[variant]
            }
        case .cookie(let name):
            if let range = Cookies.value(named: name, head, bytes),
                let variant = model.route.variant(named: bytes.slice(range)),
                model.route.variants[variant].weight > 0
            {
                self.pinned = model.route.variants[variant]
                self.hasChosenVariant = true
            } else {
                self.setsCookie = true
            }
        }
    }

    /// The key of consistent hashing: the named header, else the sticky key, else the client.
    private func key(_ model: WorkerModel, _ head: RequestHead, _ bytes: RawSpan) -> UInt64? {
        if let name = model.route.settings.hashHeader {
            return head.valueRange(of: name, in: bytes).map { ByteHash.hash(bytes.slice($0)) }
        }
        if case .hash(let hash) = self.affinity { return hash }
        guard let connection = self.client.connection else { return nil }
        return connection.peer.map(\.hostHash)
    }
}

extension RequestHead {
    /// Where the value of the first field of that name (in lower case) stands.
    func valueRange(of name: [UInt8], in bytes: RawSpan) -> ByteRange? {
        self.fields.first { field in
            field.nameRange.count == name.count
                && bytes.slice(field.nameRange).isEqualIgnoringCase(to: name)
        }?.valueRange
    }
}
