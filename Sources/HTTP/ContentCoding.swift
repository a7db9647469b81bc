import Core

/// A content coding (RFC 9110, section 8.4.1) that the gateway reads and writes.
package enum ContentCoding: UInt8, CaseIterable, Sendable {
    /// RFC 1952; `x-gzip` is the same.
    case gzip
    /// RFC 8878, with the window that RFC 9659 allows.
    case zstd

    package var name: StaticString {
        switch self {
        case .gzip: "gzip"
        case .zstd: "zstd"
        }
    }

    /// The codings there are as the value of an `Accept-Encoding` field.
    package static var accepted: StaticString { "zstd, gzip" }

    init?(_ bytes: RawSpan, _ token: ByteRange) {
        if bytes.equalsIgnoringCase("gzip", token) || bytes.equalsIgnoringCase("x-gzip", token) {
            self = .gzip
        } else if bytes.equalsIgnoringCase("zstd", token) {
            self = .zstd
        } else {
            return nil
        }
    }
}

/// What a message's `Content-Encoding` fields say.
package enum ContentCodings: Equatable, Sendable {
    /// In the order in which they were applied; empty where there is none but `identity`.
    case known([ContentCoding])
    /// One of them is unknown, or there are more than `ContentCodings.countMax`.
    case unknown

    /// More codings on top of each other than anybody has a reason for.
    package static let countMax = 3

    package static func of(_ fields: [Field], _ bytes: RawSpan) -> ContentCodings {
        var codings: [ContentCoding] = []
        var isKnown = true
        for field in fields where field.name == .contentEncoding {
            FieldList.forEach(of: bytes, field.valueRange) { element in
                if element.isEmpty || bytes.equalsIgnoringCase("identity", element) { return }
                if let coding = ContentCoding(bytes, element), codings.count < Self.countMax {
                    codings.append(coding)
                } else {
                    isKnown = false
                }
            }
        }
        return isKnown ? .known(codings) : .unknown
    }
}

/// What a client's `Accept-Encoding` fields make of the codings there are (RFC 9110, section
/// 12.5.3). Weights are thousandths.
package struct AcceptedCodings: Equatable, Sendable {
    private var gzip: UInt16?
    private var zstd: UInt16?
    private var identity: UInt16?
    private var others: UInt16?

    /// Elements that are malformed count as absent.
    package init(_ fields: [Field], _ bytes: RawSpan) {
        for field in fields where field.name == .acceptEncoding {
            FieldList.forEach(of: bytes, field.valueRange) { self.add(bytes, $0) }
        }
    }

    /// The coding that the client likes best; of equals zstd. Nil where it takes none, or likes the
    /// answer better as it is.
    package var preferred: ContentCoding? {
        let zstd = self.zstd ?? self.others ?? 0
        let gzip = self.gzip ?? self.others ?? 0
        let best = max(zstd, gzip)
        guard best > 0, best >= self.identity ?? 0 else { return nil }
        return zstd == best ? .zstd : .gzip
    }

    private mutating func add(_ bytes: RawSpan, _ element: ByteRange) {
        let semicolon = bytes.firstIndex(
            of: UInt8(ascii: ";"),
            from: element.lower,
            to: element.upper
        )
        let token = bytes.trimmed(element.lower, semicolon)
        guard !token.isEmpty,
            let weight = Self.weight(bytes, from: semicolon, to: element.upper)
        else { return }
        if bytes.equals("*", token) {
            self.others = weight
        } else if bytes.equalsIgnoringCase("identity", token) {
            self.identity = weight
        } else if let coding = ContentCoding(bytes, token) {
            switch coding {
            case .gzip: self.gzip = weight
            case .zstd: self.zstd = weight
            }
        }
    }

    /// The `q` behind a semicolon; 1000 where there is nothing, nil for what is no weight.
    private static func weight(_ bytes: RawSpan, from start: Int, to end: Int) -> UInt16? {
        if start == end { return 1000 }
        let parameter = bytes.trimmed(start + 1, end)
        let count = Int(parameter.count)
        let first = parameter.lower
        guard (3...7).contains(count), bytes.byte(at: first) | 0x20 == UInt8(ascii: "q"),
            bytes.byte(at: first + 1) == UInt8(ascii: "=")
        else { return nil }
        let whole = bytes.byte(at: first + 2) &- 0x30
        guard whole <= 1 else { return nil }
        if count > 3, bytes.byte(at: first + 3) != UInt8(ascii: ".") { return nil }
        var weight = UInt16(whole) * 1000
        var unit: UInt16 = 100
        for index in first + 4..<max(first + 4, parameter.upper) {
            guard ASCII.isDigit(bytes.byte(at: index)) else { return nil }
            weight += UInt16(bytes.byte(at: index) - 0x30) * unit
            unit /= 10
        }
        return weight <= 1000 ? weight : nil
    }
}

/// Elements of a comma-separated value (RFC 9110, section 5.6.1). Commas in quotes separate too:
/// the lists that are looked at here hold tokens.
enum FieldList {
    static func forEach(of bytes: RawSpan, _ value: ByteRange, _ body: (ByteRange) -> Void) {
        var start = value.lower
        while start <= value.upper {
            let end = bytes.firstIndex(of: ASCII.comma, from: start, to: value.upper)
            body(bytes.trimmed(start, end))
            start = end + 1
        }
    }

    static func contains(_ token: StaticString, _ bytes: RawSpan, _ value: ByteRange) -> Bool {
        var isThere = false
        self.forEach(of: bytes, value) {
            if bytes.equalsIgnoringCase(token, $0) { isThere = true }
        }
        return isThere
    }
}

/// Which answers are worth being compressed, and what becomes of their heads.
package enum AnswerCompression {
    /// What an answer is to compression.
    package enum Verdict: Equatable, Sendable {
        /// It is not touched.
        case never
        /// It may be compressed for who accepts that, and says so in `Vary`.
        case negotiated
    }

    /// - Parameters:
    ///   - answers: whether answers are compressed that are no streams.
    ///   - streams: whether event streams are.
    ///   - bytesMin: shorter answers are not worth it.
    package static func verdict(
        _ head: ResponseHead,
        _ bytes: RawSpan,
        framing: ResponseFraming,
        answers: Bool = true,
        streams: Bool,
        bytesMin: Int
    ) -> Verdict {
        switch framing {
        case .none, .tunnel: return .never
        case .length(let length) where length < UInt64(max(1, bytesMin)): return .never
        case .length, .chunked, .untilClose: break
        }
        // A part of something cannot be coded by itself (RFC 9110, section 14.4).
        guard head.status != 206, head.status != 205, !head.contains(.contentRange),
            let type = head.first(.contentType),
            self.isWorth(bytes, type.valueRange, answers: answers, streams: streams),
            !self.isFixed(head, bytes)
        else { return .never }
        return .negotiated
    }

    /// Text of some kind, by its media type.
    private static func isWorth(
        _ bytes: RawSpan,
        _ value: ByteRange,
        answers: Bool,
        streams: Bool
    ) -> Bool {
        let end = bytes.firstIndex(of: UInt8(ascii: ";"), from: value.lower, to: value.upper)
        let type = bytes.trimmed(value.lower, end)
        if bytes.equalsIgnoringCase("text/event-stream", type) { return streams }
        if !answers { return false }
        if bytes.equalsIgnoringCase("text/", type.prefix(5)) { return true }
        for suffix in ["+json", "+xml"] as [StaticString] {
            let count = suffix.utf8CodeUnitCount
            guard Int(type.count) > count else { continue }
            if bytes.equalsIgnoringCase(suffix, ByteRange(type.upper - count, type.upper)) {
                return true
            }
        }
        return [
            "application/json", "application/x-ndjson", "application/jsonl", "application/xml",
            "application/javascript",
        ].contains { (name: StaticString) in bytes.equalsIgnoringCase(name, type) }
    }

    /// Coded already, or promised not to change on the way: by `no-transform` (RFC 9111, section
    /// 5.2.2.6) or by a digest of the content (RFC 9530).
    private static func isFixed(_ head: ResponseHead, _ bytes: RawSpan) -> Bool {
        for field in head.fields {
            switch field.name {
            case .contentEncoding:
                if !bytes.equalsIgnoringCase("identity", field.valueRange) { return true }
            case .cacheControl:
                if FieldList.contains("no-transform", bytes, field.valueRange) { return true }
            case .other:
                let name = field.nameRange
                for digest in [
                    "content-digest", "repr-digest", "content-md5", "digest",
                ] as [StaticString] where bytes.equalsIgnoringCase(digest, name) {
                    return true
                }
            default: break
            }
        }
        return false
    }

    /// Writes the head of a `negotiated` answer anew: with `Vary`, and where it is compressed with
    /// its coding, without its length and with a weak `ETag`: the bytes are others, what they mean
    /// is not (RFC 9110, section 8.8.3.3).
    package static func writeHead(
        _ head: ResponseHead,
        _ bytes: RawSpan,
        coding: ContentCoding?,
        into output: ByteBuffer
    ) {
        HeadWriter.statusLine(of: head, bytes, into: output)
        var dropped = FieldNameSet()
        dropped.insert(.contentEncoding)
        if coding != nil {
            dropped.insert(.contentLength)
            dropped.insert(.etag)
        }
        // Ranges would be of the answer as it was.
        let parts = head.fields.split { field in
            coding != nil && bytes.equalsIgnoringCase("accept-ranges", field.nameRange)
        }
        for part in parts {
            HeadWriter.fields(Array(part), of: bytes, dropping: dropped, into: output)
        }
        if let coding {
            if let tag = head.first(.etag) {
                output.append("ETag: ")
                if !bytes.equals("W/", tag.valueRange.prefix(2)) { output.append("W/") }
                output.append(bytes.slice(tag.valueRange))
                output.append("\r\n")
            }
            HeadWriter.field("Content-Encoding", coding.name, into: output)
        }
        if !self.varies(head, bytes) {
            HeadWriter.field("Vary", "Accept-Encoding", into: output)
        }
        HeadWriter.end(into: output)
    }

    private static func varies(_ head: ResponseHead, _ bytes: RawSpan) -> Bool {
        head.fields.contains { field in
            field.name == .vary
                && (FieldList.contains("accept-encoding", bytes, field.valueRange)
                    || FieldList.contains("*", bytes, field.valueRange))
        }
    }
}

/// Writes the head of a request whose body goes on decoded.
package enum DecodedRequest {
    /// - Parameters:
    ///   - head: the canonical head.
    ///   - length: of the decoded body; nil where it is not known yet.
    package static func writeHead(
        _ head: RequestHead,
        _ bytes: RawSpan,
        length: UInt64?,
        into output: ByteBuffer
    ) {
        var dropped = FieldNameSet()
        for name in [FieldName.contentEncoding, .contentLength, .transferEncoding] {
            dropped.insert(name)
        }
        HeadWriter.requestLine(of: head, bytes, into: output)
        HeadWriter.fields(head.fields, of: bytes, dropping: dropped, into: output)
        if let length {
            HeadWriter.contentLength(length, into: output)
        } else {
            HeadWriter.chunked(into: output)
        }
        HeadWriter.end(into: output)
    }
}

extension ByteRange {
    fileprivate func prefix(_ count: UInt32) -> ByteRange {
        ByteRange(start: self.start, count: min(count, self.count))
    }
}
