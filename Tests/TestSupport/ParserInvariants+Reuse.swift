import HTTP

/// Parsers remember lines of the head before; what they read must not depend on it.
extension ParserInvariants {
    /// A parser that has read another head reads this one as a new parser does, whole and in
    /// pieces.
    package static func head<Head: HeadParser>(
        _: Head.Type,
        _ bytes: [UInt8],
        after other: [UInt8]
    ) -> String? {
        let fresh = Head()
        let used = Head()
        let first = fresh.parse(bytes.span.bytes, limits: Self.limits)
        let expected = "\(first) \(fresh.summary)"
        for pieceBytes in [bytes.count, 7, 1] where pieceBytes > 0 {
            used.reset()
            _ = used.parse(other.span.bytes, limits: Self.limits)
            used.reset()
            var step = ParseStep<Head.Failure>.needMore
            for count in stride(from: pieceBytes, to: bytes.count + pieceBytes, by: pieceBytes) {
                let piece = bytes.span.bytes.extracting(0..<min(count, bytes.count))
                step = used.parse(piece, limits: Self.limits)
                if case .needMore = step { continue }
                break
            }
            // How far it came with a head that is not accepted depends on the pieces.
            if case .complete = step {
                let seen = "\(step) \(used.summary)"
                if seen != expected { return "new: \(expected), used before: \(seen)" }
            } else if !expected.hasPrefix("\(step) ") {
                return "new: \(expected), used before: \(step)"
            }
        }
        return nil
    }
}

/// What the parsers of both kinds of head have in common.
package protocol HeadParser {
    associatedtype Failure: Error

    init()
    func parse(_ bytes: RawSpan, limits: HeadLimits) -> ParseStep<Failure>
    func reset()
    var fields: [Field] { get }
    /// All that is known of a head.
    var summary: String { get }
}

extension RequestHead: HeadParser {
    package var summary: String {
        let ranges = [self.methodRange, self.targetRange, self.pathRange]
        let optional = [self.queryRange, self.authorityRange, self.upgrade]
        let flags = [self.keepsAlive, self.expectsContinue]
        let names = FieldName.allCases.filter { self.contains($0) }
        return """
            \(self.method) \(ranges) \(optional) \(self.targetForm) \(self.minorVersion) \
            \(self.framing) \(flags) \(String(describing: self.contentLength)) \
            \(self.fields) \(names)
            """
    }
}

extension ResponseHead: HeadParser {
    package var summary: String {
        let names = FieldName.allCases.filter { self.contains($0) }
        return """
            \(self.status) \(self.reasonRange) \(self.minorVersion) \(self.keepsAlive) \
            \(String(describing: self.upgrade)) \(String(describing: self.contentLength)) \
            \(self.fields) \(names)
            """
    }
}
