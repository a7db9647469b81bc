import HTTP

/// Parsers remember lines of the head before; what they read must not depend on it.
extension ParserInvariants {
    private static let limits = HeadLimits(maxHeadBytes: 2048, maxFields: 32, maxTargetBytes: 512)

    /// A parser that has read another head reads this one as a new parser does, whole and in
    /// pieces.
    package static func requestHead(_ bytes: [UInt8], after other: [UInt8]) -> String? {
        let fresh = RequestHead()
        let used = RequestHead()
        return Self.reuse(
            bytes,
            after: other,
            fresh: { (fresh.parse($0, limits: Self.limits), Self.summary(fresh)) },
            used: { (used.parse($0, limits: Self.limits), Self.summary(used)) },
            reset: { used.reset() }
        )
    }

    /// The same for response heads.
    package static func responseHead(_ bytes: [UInt8], after other: [UInt8]) -> String? {
        let fresh = ResponseHead()
        let used = ResponseHead()
        return Self.reuse(
            bytes,
            after: other,
            fresh: { (fresh.parse($0, limits: Self.limits), Self.summary(fresh)) },
            used: { (used.parse($0, limits: Self.limits), Self.summary(used)) },
            reset: { used.reset() }
        )
    }

    /// `fresh` and `used` parse what has come so far, and tell what they know of the head.
    private static func reuse<Failure: Error>(
        _ bytes: [UInt8],
        after other: [UInt8],
        fresh: (RawSpan) -> (ParseStep<Failure>, String),
        used: (RawSpan) -> (ParseStep<Failure>, String),
        reset: () -> Void
    ) -> String? {
        let (first, summary) = fresh(bytes.span.bytes)
        let expected = "\(first) \(summary)"
        for pieceBytes in [bytes.count, 7, 1] where pieceBytes > 0 {
            reset()
            _ = used(other.span.bytes)
            reset()
            var (step, seen) = (ParseStep<Failure>.needMore, "")
            for count in stride(from: pieceBytes, to: bytes.count + pieceBytes, by: pieceBytes) {
                (step, seen) = used(bytes.span.bytes.extracting(0..<min(count, bytes.count)))
                if case .needMore = step { continue }
                break
            }
            // How far it came with a head that is not accepted depends on the pieces.
            if case .complete = step {
                if "\(step) \(seen)" != expected {
                    return "new: \(expected), used before: \(step) \(seen)"
                }
            } else if !expected.hasPrefix("\(step) ") {
                return "new: \(expected), used before: \(step)"
            }
        }
        return nil
    }

    private static func summary(_ head: RequestHead) -> String {
        let ranges = [head.methodRange, head.targetRange, head.pathRange]
        let optional = [head.queryRange, head.authorityRange, head.upgrade]
        let flags = [head.keepsAlive, head.expectsContinue]
        let names = FieldName.allCases.filter { head.contains($0) }
        return """
            \(head.method) \(ranges) \(optional) \(head.targetForm) \(head.minorVersion) \
            \(head.framing) \(flags) \(String(describing: head.contentLength)) \
            \(head.fields) \(names)
            """
    }

    private static func summary(_ head: ResponseHead) -> String {
        let names = FieldName.allCases.filter { head.contains($0) }
        return """
            \(head.status) \(head.reasonRange) \(head.minorVersion) \(head.keepsAlive) \
            \(String(describing: head.upgrade)) \(String(describing: head.contentLength)) \
            \(head.fields) \(names)
            """
    }
}
