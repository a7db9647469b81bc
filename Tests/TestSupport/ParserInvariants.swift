import Core
import HTTP

/// What must hold for a parser whatever it is fed. Each function returns what did not hold, or nil;
/// the random tests and the fuzzing targets share them.
package enum ParserInvariants {
    static let limits = HeadLimits(maxHeadBytes: 2048, maxFields: 32, maxTargetBytes: 512)

    /// `head`, which was read whole, reads the same byte by byte, and by a parser used before.
    private static func inPieces<Head: HeadParser>(
        _ head: Head,
        _ whole: ParseStep<Head.Failure>,
        _ bytes: [UInt8]
    ) -> String? {
        let pieces = Head()
        var step = ParseStep<Head.Failure>.needMore
        for count in 0...bytes.count {
            step = pieces.parse(bytes.span.bytes.extracting(0..<count), limits: self.limits)
            if case .needMore = step { continue }
            break
        }
        guard describe(whole) == describe(step) else {
            return "whole: \(describe(whole)), in pieces: \(describe(step))"
        }
        if case .complete = whole, head.fields != pieces.fields { return "fields differ in pieces" }
        return self.head(Head.self, bytes, after: bytes)
    }

    // MARK: Request heads

    /// A request head reads the same whole and in pieces, and what is accepted reads the same again
    /// once it was written canonically.
    package static func requestHead(_ bytes: [UInt8]) -> String? {
        let head = RequestHead()
        let whole = head.parse(bytes.span.bytes, limits: self.limits)
        if let violation = self.inPieces(head, whole, bytes) { return violation }
        guard case .complete(let count) = whole else { return nil }
        guard count <= bytes.count else { return "\(count) bytes of \(bytes.count)" }
        return head.targetForm == .authority ? nil : rewrittenRequest(head, bytes)
    }

    private static func rewrittenRequest(_ head: RequestHead, _ bytes: [UInt8]) -> String? {
        let buffer = ByteBuffer(capacity: 4096)
        write(head, bytes.span.bytes, into: buffer)
        let again = RequestHead()
        let step = again.parse(buffer.readable, limits: HeadLimits())
        guard case .complete(let count) = step, count == buffer.count else {
            return "rewritten: \(describe(step)) of \(buffer.count) bytes"
        }
        let copy = copied(buffer)
        guard again.framing == head.framing else {
            return "framing \(head.framing) became \(again.framing)"
        }
        guard text(head.methodRange, bytes) == text(again.methodRange, copy) else {
            return "the method changed"
        }
        guard text(head.queryRange, bytes) == text(again.queryRange, copy) else {
            return "the query changed"
        }
        if let authority = head.authorityRange {
            guard text(authority, bytes) == text(again.authorityRange, copy) else {
                return "the authority changed"
            }
        }
        guard again.expectsContinue == (head.expectsContinue && head.minorVersion == 1) else {
            if head.minorVersion == 1 { return "the expectation changed" }
            return nil
        }
        let before = kept(head.fields, bytes)
        let after = kept(again.fields, copy)
        return before == after ? nil : "fields \(before) became \(after)"
    }

    private static func write(_ head: RequestHead, _ bytes: RawSpan, into buffer: ByteBuffer) {
        HeadWriter.requestLine(of: head, bytes, into: buffer)
        let fallback: [UInt8] = Array("fallback".utf8)
        HeadWriter.host(of: head, bytes, fallback: fallback.span.bytes, into: buffer)
        // An HTTP/1.0 client's expectation is ignored, so it is not passed on either.
        var dropping = FieldNameSet(.host, .contentLength)
        if head.minorVersion == 0 { dropping.insert(.expect) }
        HeadWriter.fields(head.fields, of: bytes, dropping: dropping, into: buffer)
        switch head.framing {
        case .none: break
        case .length(let length): HeadWriter.contentLength(length, into: buffer)
        case .chunked: HeadWriter.chunked(into: buffer)
        }
        HeadWriter.end(into: buffer)
    }

    // MARK: Response heads

    /// The same for response heads.
    package static func responseHead(_ bytes: [UInt8]) -> String? {
        let head = ResponseHead()
        let whole = head.parse(bytes.span.bytes, limits: self.limits)
        if let violation = self.inPieces(head, whole, bytes) { return violation }
        guard case .complete = whole else { return nil }
        guard (100...599).contains(head.status) else { return "a status of \(head.status)" }
        return rewrittenResponse(head, bytes)
    }

    private static func rewrittenResponse(_ head: ResponseHead, _ bytes: [UInt8]) -> String? {
        let buffer = ByteBuffer(capacity: 4096)
        let span = bytes.span.bytes
        HeadWriter.statusLine(of: head, span, into: buffer)
        let dropping = FieldNameSet(.contentLength)
        HeadWriter.fields(head.fields, of: span, dropping: dropping, into: buffer)
        switch head.framing(requestMethod: .get) {
        case .none, .untilClose, .tunnel: break
        case .length(let length): HeadWriter.contentLength(length, into: buffer)
        case .chunked: HeadWriter.chunked(into: buffer)
        }
        HeadWriter.end(into: buffer)
        let again = ResponseHead()
        let step = again.parse(buffer.readable, limits: HeadLimits())
        guard case .complete(let count) = step, count == buffer.count else {
            return "rewritten: \(describe(step)) of \(buffer.count) bytes"
        }
        guard again.status == head.status else { return "the status changed" }
        guard again.framing(requestMethod: .get) == head.framing(requestMethod: .get) else {
            return "the framing changed"
        }
        let before = kept(head.fields, bytes)
        let after = kept(again.fields, copied(buffer))
        return before == after ? nil : "fields \(before) became \(after)"
    }

    // MARK: Chunked bodies

    /// A chunked body decodes the same whole and byte by byte, and what it decodes to, encoded
    /// again, decodes to that.
    package static func chunkedBody(_ bytes: [UInt8]) -> String? {
        let whole = DecodedBody(bytes, pieceBytes: max(bytes.count, 1))
        let pieces = DecodedBody(bytes, pieceBytes: 1)
        guard whole == pieces else { return "whole: \(whole), in pieces: \(pieces)" }
        guard whole.outcome == "end" else { return nil }
        let buffer = ByteBuffer(capacity: 4096)
        if !whole.content.isEmpty {
            HeadWriter.chunkHeader(whole.content.count, into: buffer)
            buffer.append(whole.content)
            HeadWriter.chunkEnd(into: buffer)
        }
        HeadWriter.lastChunk(trailers: whole.trailers, into: buffer)
        // Canonical trailers are longer by a space each.
        let again = DecodedBody(copied(buffer), pieceBytes: 7, maxTrailerBytes: 1024)
        guard again.outcome == "end", again.consumed == buffer.count else {
            return "rewritten: \(again)"
        }
        guard again.content == whole.content else { return "the content changed" }
        return again.trailers == whole.trailers ? nil : "the trailers changed"
    }

    private struct DecodedBody: Equatable {
        var content: [UInt8] = []
        var trailers: [UInt8] = []
        var consumed = 0
        var outcome = "more"

        init(_ bytes: [UInt8], pieceBytes: Int, maxTrailerBytes: Int = 512) {
            let limits = BodyLimits(
                maxBodyBytes: 4096,
                maxTrailerBytes: maxTrailerBytes,
                maxTrailers: 8
            )
            var decoder = BodyDecoder(RequestFraming.chunked, limits: limits)
            var available = 0
            while self.outcome == "more" {
                let input = bytes.span.bytes.extracting(self.consumed..<available)
                switch decoder.next(input) {
                case .data(let range, let consumed):
                    let start = self.consumed
                    self.content += bytes[(start + range.lowerBound)..<(start + range.upperBound)]
                    self.consumed += consumed
                case .needMore(let consumed):
                    self.consumed += consumed
                    if available == bytes.count { return }
                    available = min(available + pieceBytes, bytes.count)
                case .end(let consumed):
                    self.consumed += consumed
                    self.trailers = decoder.trailers
                    self.outcome = "end"
                case .invalid(let error):
                    self.outcome = error.label.description
                    // How much was consumed before depends on the pieces and means nothing now.
                    self.consumed = 0
                    self.content = []
                }
            }
        }
    }

    // MARK: Helpers

    private static func describe<Failure>(_ step: ParseStep<Failure>) -> String {
        switch step {
        case .needMore: "needs more"
        case .complete(let count): "complete after \(count)"
        case .invalid(let error): "\(error)"
        }
    }

    /// The fields that are forwarded as they are, as text.
    private static func kept(_ fields: [Field], _ bytes: [UInt8]) -> [String] {
        let dropped = FieldNameSet(.host, .contentLength, .expect)
        return fields.filter { !$0.isHopByHop && !dropped.contains($0.name) }.map {
            "\(text($0.nameRange, bytes)): \(text($0.valueRange, bytes))"
        }
    }

    private static func text(_ range: ByteRange?, _ bytes: [UInt8]) -> String {
        range.map { String(decoding: bytes[$0.indices], as: UTF8.self) } ?? "none"
    }

    private static func copied(_ buffer: ByteBuffer) -> [UInt8] {
        let span = buffer.readable
        return (0..<span.byteCount).map { span.unsafeLoad(fromByteOffset: $0, as: UInt8.self) }
    }
}
