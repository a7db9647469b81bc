import Compression
import Core
import HTTP
import Traffic

/// Answers: compressed for clients that accept it, and read along where they come coded.
extension Exchange {
    // MARK: The head

    func noteAcceptedCodings(_ head: RequestHead, _ bytes: RawSpan) {
        self.answerCoding = AcceptedCodings(head.fields, bytes).preferred
    }

    /// Sends the head on, and decides whether the answer is compressed. Only for exchanges with an
    /// `answerCoding`, and for GET, whose answers caches may keep, and HEAD, which tells of those.
    func sendNegotiatedHead(
        _ head: ResponseHead,
        _ bytes: RawSpan,
        framing: ResponseFraming,
        _ model: WorkerModel
    ) {
        let settings = model.route.settings.compression
        guard settings.answers || settings.streams, !self.isShadow,
            AnswerCompression.verdict(
                head,
                bytes,
                framing: self.method == .head ? head.framing(requestMethod: .get) : framing,
                answers: settings.answers,
                streams: settings.streams,
                bytesMin: settings.answerBytesMin
            ) == .negotiated
        else {
            return self.sendHead(head, bytes, framing: framing)
        }
        let encoder = self.method == .head ? nil : self.takeEncoder()
        let coding = self.method == .head ? self.answerCoding : encoder?.coding
        let output = self.worker.buffers.take()
        AnswerCompression.writeHead(head, bytes, coding: coding, into: output)
        let written = UnsafeRawBufferPointer(start: output.readablePointer, count: output.count)
        let answer = self.worker.coding.answerHead
        answer.reset()
        guard case .complete = answer.parse(written.bytes, limits: Self.canonicalLimits) else {
            preconditionFailure("our own head does not parse")
        }
        if let encoder {
            self.beginEncoding(encoder, framing)
            self.sendHead(answer, written.bytes, framing: .chunked)
        } else {
            self.sendHead(answer, written.bytes, framing: framing)
        }
        self.worker.buffers.give(output)
    }

    private func takeEncoder() -> ContentEncoder? {
        guard let coding = self.answerCoding else { return nil }
        let encoder = self.worker.coding.pool.takeEncoder(coding)
        if encoder == nil { self.worker.coding.statistics.skipped += 1 }
        return encoder
    }

    private func beginEncoding(_ encoder: ContentEncoder, _ framing: ResponseFraming) {
        let content = self.coded ?? CodedContent()
        self.coded = content
        content.encoder = encoder
        // What has a length comes as fast as it can; the rest may be a stream of whatever kind.
        content.flushesEachBatch =
            if case .length = framing { false } else { true }
        self.worker.coding.statistics.answers[encoder.coding, default: 0] += 1
    }

    // MARK: The body

    /// Bytes of an answer that is compressed here, or came coded.
    func codedAnswer(_ bytes: UnsafeRawBufferPointer, _ content: CodedContent) {
        if content.reader != nil {
            self.readAlong(bytes, content)
        } else {
            self.observe(bytes)
        }
        guard let encoder = content.encoder else {
            return self.client.sendBody(bytes)
        }
        content.isDirty = true
        self.encode(bytes, .none, encoder)
        self.worker.coding.statistics.plainBytes += UInt64(bytes.count)
    }

    private func encode(
        _ bytes: UnsafeRawBufferPointer,
        _ end: ContentEncoder.End,
        _ encoder: ContentEncoder
    ) {
        if self.isShadow { return }
        let coding = self.worker.coding
        let client = self.client
        encoder.encode(bytes, end, scratch: coding.encoded) { piece in
            coding.statistics.codedBytes += UInt64(piece.count)
            client.sendBody(piece)
        }
    }

    /// A batch has ended: a client of a stream gets all there is.
    func flushCodedAnswer(_ content: CodedContent) {
        guard content.flushesEachBatch, content.isDirty, let encoder = content.encoder else {
            return
        }
        content.isDirty = false
        self.encode(UnsafeRawBufferPointer(start: nil, count: 0), .flush, encoder)
    }

    /// The answer is complete.
    func endCodedAnswer(_ content: CodedContent) {
        if let encoder = content.encoder {
            self.encode(UnsafeRawBufferPointer(start: nil, count: 0), .finish, encoder)
        }
        if let reader = content.reader, !reader.isComplete { self.stopReading(content) }
    }

    // MARK: Answers that come coded

    /// Whether an answer can be looked into: it is not coded, or in a way that can be read along.
    func canRead(_ head: ResponseHead, _ bytes: RawSpan) -> Bool {
        guard head.contains(.contentEncoding), self.method != .head else { return true }
        if let content = self.coded, content.reader != nil || content.isUnreadable {
            return !content.isUnreadable
        }
        let known = ContentCodings.of(head.fields, bytes)
        if known == .known([]) { return true }
        let content = self.coded ?? CodedContent()
        self.coded = content
        guard case .known(let codings) = known else {
            content.isUnreadable = true
            self.worker.coding.statistics.unreadable += 1
            return false
        }
        var limits = DecodingLimits()
        limits.ratioMax = self.worker.limits.maxDecodedRatio
        content.reader = self.worker.coding.pool.takeDecoder(codings, limits: limits)
        return true
    }

    private func readAlong(_ bytes: UnsafeRawBufferPointer, _ content: CodedContent) {
        guard let reader = content.reader else { return }
        let scratch = self.worker.coding.scratch
        var rest = bytes
        do throws(DecodingError) {
            while true {
                let step = try reader.decode(rest, into: scratch)
                self.observe(UnsafeRawBufferPointer(rebasing: scratch[..<step.produced]))
                rest = UnsafeRawBufferPointer(rebasing: rest[step.consumed...])
                if step.produced < scratch.count { break }
            }
            if !self.worker.coding.pool.count(reader, counted: &content.readerBytes) {
                throw .tooLarge
            }
        } catch {
            self.stopReading(content)
        }
    }

    /// What was seen of the answer is not all of it: nothing is concluded from that.
    private func stopReading(_ content: CodedContent) {
        self.worker.coding.statistics.unreadable += 1
        self.worker.coding.endReading(content)
        content.isUnreadable = true
        if self.inspection != nil { self.inspection = nil }
        self.observer.reset(kind: .opaque)
    }
}
