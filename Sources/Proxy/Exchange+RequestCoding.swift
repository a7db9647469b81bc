import Compression
import Core
import HTTP
import Traffic

/// Requests that come coded (`Content-Encoding`): looked into, and decoded where the replicas cannot
/// do that themselves.
extension Exchange {
    /// Takes note of a request's codings. Called with its head.
    func noteCodings(_ head: RequestHead, _ bytes: RawSpan) {
        let codings = ContentCodings.of(head.fields, bytes)
        if codings == .known([]) { return }
        let content = CodedContent()
        content.codings = codings
        self.coded = content
    }

    /// The body as its sender meant it, as far as it was looked at.
    var plainBody: ByteBuffer? {
        guard let coded = self.coded, coded.codings != .known([]) else { return self.body }
        return coded.view
    }

    /// Bytes of the body as its sender meant it: of those that have not come yet, as many as there
    /// would be if they were like the others.
    func plainBytes(declared: UInt64) -> UInt64 {
        let coded = max(declared, UInt64(self.bodyCount))
        guard let content = self.coded, let view = content.view, content.viewedBytes > 0 else {
            return coded
        }
        let seen = UInt64(content.viewedBytes)
        guard seen < coded else { return UInt64(view.count) }
        let (scaled, overflow) = coded.multipliedReportingOverflow(by: UInt64(view.count))
        return overflow ? coded : scaled / seen
    }

    /// Decodes what has arrived for a look at it. False where the exchange has ended because that
    /// cannot be; `isRequired` where it cannot go on without.
    func lookAhead(_ content: CodedContent, isRequired: Bool) -> Bool {
        guard case .known(let codings) = content.codings else {
            if isRequired { self.refuseCoded(content, ProxyError(.unsupportedCoding)) }
            return !isRequired
        }
        // Without codings the body is one that was decoded already.
        guard !codings.isEmpty, let body = self.body else { return true }
        let decoder = self.decoder(content, codings)
        let limit = self.worker.limits.maxBufferedBody
        let view = content.view ?? self.worker.buffers.take()
        content.view = view
        do throws(DecodingError) {
            while view.count <= limit {
                let rest = UnsafeRawBufferPointer(
                    start: body.readablePointer + content.viewedBytes,
                    count: body.count - content.viewedBytes
                )
                let scratch = self.worker.coding.scratch
                let step = try decoder.decode(rest, into: scratch)
                content.viewedBytes += step.consumed
                view.append(scratch.baseAddress, count: step.produced)
                if step.produced < scratch.count { break }
            }
            let isAll = content.viewedBytes == body.count && !decoder.mayHaveMore
            if self.isRequestEnded, isAll, !decoder.isComplete { throw .malformed }
        } catch {
            self.refuseCoded(content, Self.describe(error))
            return false
        }
        return self.countDecoder(content, decoder)
    }

    private func decoder(_ content: CodedContent, _ codings: [ContentCoding]) -> ContentDecoder {
        if let decoder = content.decoder { return decoder }
        var limits = DecodingLimits()
        limits.ratioMax = self.worker.limits.maxDecodedRatio
        let decoder = self.worker.coding.pool.takeDecoder(codings, limits: limits)
        content.decoder = decoder
        return decoder
    }

    /// False where all decoders together hold too much, and the exchange has ended for that.
    private func countDecoder(_ content: CodedContent, _ decoder: ContentDecoder) -> Bool {
        if self.worker.coding.pool.count(decoder, counted: &content.decoderBytes) { return true }
        let message: StaticString = "Too many compressed requests at a time: try again later."
        self.refuseCoded(
            content,
            ProxyError(.queueFull, detail: .init(label: "decoding-memory", message: message))
        )
        return false
    }

    private static func describe(_ error: DecodingError) -> ProxyError {
        switch error {
        case .malformed:
            ProxyError(
                .badRequest,
                detail: .init(
                    label: "invalid-content-coding",
                    message: "The body is not what its Content-Encoding says."
                )
            )
        case .tooLarge:
            ProxyError(
                .bodyTooLarge,
                detail: .init(
                    label: "decoded-body-too-large",
                    message: "The body would become larger than allowed when it is decoded."
                )
            )
        }
    }

    private func refuseCoded(_ content: CodedContent, _ error: ProxyError) {
        self.countCoded(content, .refused)
        self.fail(error)
    }

    private func countCoded(
        _ content: CodedContent,
        _ outcome: CodingStatistics.RequestOutcome
    ) {
        if content.isCounted { return }
        content.isCounted = true
        self.worker.coding.statistics.requests[outcome, default: 0] += 1
    }

    // MARK: On its way to a replica

    /// Makes a coded request ready for a model. False where it has ended meanwhile.
    func prepareCoded(_ content: CodedContent, _ model: WorkerModel) -> Bool {
        if content.codings == .known([]) { return true }
        if model.route.settings.compression.decodesRequests, !self.acceptsUpgrade {
            return self.beginDecoding(content)
        }
        let isWanted = model.needsPrefix || self.tenancy != nil || self.recording != nil
        if isWanted, !self.lookAhead(content, isRequired: false) { return false }
        return true
    }

    /// A coded request goes on as it came: nothing of it is needed decoded but its beginning, where
    /// that is short.
    func endLookAhead(_ content: CodedContent) {
        if content.codings == .known([]) { return }
        self.countCoded(content, .forwarded)
        self.worker.coding.endDecoding(content)
        if let view = content.view, view.count > self.worker.limits.maxReplayBody {
            content.view = nil
            self.worker.buffers.give(view)
        }
    }

    /// From here on the exchange's body is the decoded one.
    private func beginDecoding(_ content: CodedContent) -> Bool {
        guard case .known(let codings) = content.codings else {
            self.refuseCoded(content, ProxyError(.unsupportedCoding))
            return false
        }
        _ = self.decoder(content, codings)
        content.codings = .known([])
        content.decodesForUpstream = true
        let raw = self.body.take()
        self.body = content.view.take()
        if let raw {
            raw.consume(content.viewedBytes)
            content.pending = raw
        }
        self.countCoded(content, .decoded)
        guard self.decodePending(content) else { return false }
        let isAll = self.isRequestEnded && content.isDrained
        if isAll {
            content.decodesForUpstream = false
            self.isChunked = false
            self.worker.coding.endDecoding(content)
        } else {
            self.isChunked = true
        }
        self.writeDecodedHead(length: isAll ? UInt64(self.bodyCount) : nil)
        return true
    }

    private func writeDecodedHead(length: UInt64?) {
        guard let head = self.head else { return }
        let lookup = self.worker.lookupHead
        lookup.reset()
        let bytes = UnsafeRawBufferPointer(start: head.readablePointer, count: head.count).bytes
        guard case .complete = lookup.parse(bytes, limits: Self.canonicalLimits) else {
            return assertionFailure("our own head does not parse")
        }
        let output = self.worker.buffers.take()
        DecodedRequest.writeHead(lookup, bytes, length: length, into: output)
        self.head = output
        self.worker.buffers.give(head)
    }

    /// Bytes of a body that goes on decoded.
    func codedBody(_ bytes: UnsafeRawBufferPointer, _ content: CodedContent) {
        let pending = content.pending ?? self.worker.buffers.take()
        content.pending = pending
        pending.append(bytes.baseAddress, count: bytes.count)
        guard self.decodePending(content) else { return }
        if !content.isDrained { self.pauseClient() }
    }

    /// Most decoded bytes that wait in the body for the upstream, beyond those that are kept.
    private static let decodedAheadMax = 256 * 1024

    /// Decodes what has come while somebody takes it. False where the exchange has ended because
    /// that cannot be.
    private func decodePending(_ content: CodedContent) -> Bool {
        guard let decoder = content.decoder else { return true }
        let scratch = self.worker.coding.scratch
        while self.wantsDecoded, !content.isDrained {
            let pending = content.pending
            do throws(DecodingError) {
                let input = UnsafeRawBufferPointer(
                    start: pending?.readablePointer,
                    count: pending?.count ?? 0
                )
                let step = try decoder.decode(input, into: scratch)
                pending?.consume(step.consumed)
                if decoder.producedBytes > self.worker.limits.maxRequestBody { throw .tooLarge }
                self.takeDecoded(UnsafeRawBufferPointer(rebasing: scratch[..<step.produced]))
                if step == CodingProgress(), pending?.isEmpty == false { throw .malformed }
            } catch {
                self.refuseDecoding(content, error)
                return false
            }
        }
        if self.isRequestEnded, content.isDrained, !decoder.isComplete {
            self.refuseDecoding(content, .malformed)
            return false
        }
        return self.countDecoder(content, decoder)
    }

    /// It had begun to go on and does not any more.
    private func refuseDecoding(_ content: CodedContent, _ error: DecodingError) {
        self.worker.coding.statistics.requests[.refused, default: 0] += 1
        self.fail(Self.describe(error))
    }

    private var wantsDecoded: Bool {
        switch self.phase {
        case .receiving, .queued, .connecting:
            return self.bodyCount < self.worker.limits.maxBufferedBody
        case .forwarding, .responding:
            if let stream = self.stream {
                return !stream.hasBacklog
                    && self.bodyCount - self.bodySent < Self.decodedAheadMax
            }
            guard let upstream = self.upstream else { return false }
            return !upstream.hasBacklog && !upstream.hasWriteFailed
                && self.bodyCount - self.bodySent < Self.decodedAheadMax
        case .free, .tunnel, .watching:
            return false
        }
    }

    private func takeDecoded(_ bytes: UnsafeRawBufferPointer) {
        if bytes.isEmpty { return }
        switch self.phase {
        case .forwarding, .responding: self.forward(bytes)
        case .receiving, .queued, .connecting, .free, .tunnel, .watching: self.keep(bytes)
        }
    }

    /// `sendStreamBytes` of a body that is decoded on its way.
    func sendDecodedBytes(_ content: CodedContent, to stream: UpstreamStream) {
        while self.stream === stream {
            guard self.decodePending(content) else { return }
            self.sendKept(to: stream)
            if content.isDrained || stream.hasBacklog { break }
        }
        guard self.stream === stream else { return }
        if self.isRequestEnded, content.isDrained, self.bodySent == self.bodyCount {
            content.decodesForUpstream = false
            self.worker.coding.endDecoding(content)
        }
        self.finishSending(to: stream, mayEnd: !content.decodesForUpstream)
    }

    /// `sendRequestBytes` of a body that is decoded on its way.
    func sendDecodedBytes(_ content: CodedContent) {
        while let upstream = self.upstream {
            guard self.decodePending(content) else { return }
            self.sendKept(upstream)
            let goesOn = !content.isDrained && !upstream.hasBacklog && !upstream.hasWriteFailed
            if !goesOn { break }
        }
        guard let upstream = self.upstream else { return }
        if self.isRequestEnded, content.isDrained, self.bodySent == self.bodyCount {
            // An ordinary request from here on.
            content.decodesForUpstream = false
            self.worker.coding.endDecoding(content)
        }
        self.finishSending(upstream, mayEnd: !content.decodesForUpstream)
    }
}
