import HTTP

/// Parsers remember lines of the head before; what they read must not depend on it.
extension ParserInvariants {
    /// A parser that has read another head reads this one as a new parser does, whole and in
    /// pieces.
    package static func requestHead(_ bytes: [UInt8], after other: [UInt8]) -> String? {
        let limits = HeadLimits(maxHeadBytes: 2048, maxFields: 32, maxTargetBytes: 512)
        let fresh = RequestHead()
        let expected = "\(fresh.parse(bytes.span.bytes, limits: limits)) \(summary(fresh))"
        let used = RequestHead()
        for pieceBytes in [bytes.count, 7, 1] where pieceBytes > 0 {
            used.reset()
            _ = used.parse(other.span.bytes, limits: limits)
            used.reset()
            var step = ParseStep<RequestError>.needMore
            for count in stride(from: pieceBytes, to: bytes.count + pieceBytes, by: pieceBytes) {
                let piece = bytes.span.bytes.extracting(0..<min(count, bytes.count))
                step = used.parse(piece, limits: limits)
                if case .needMore = step { continue }
                break
            }
            let seen = "\(step) \(summary(used))"
            // How far it came with a head that is not accepted depends on the pieces.
            if case .complete = step {
                if seen != expected { return "new: \(expected), used before: \(seen)" }
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

    /// The same for response heads.
    package static func responseHead(_ bytes: [UInt8], after other: [UInt8]) -> String? {
        let limits = HeadLimits(maxHeadBytes: 2048, maxFields: 32)
        let fresh = ResponseHead()
        let expected = "\(fresh.parse(bytes.span.bytes, limits: limits)) \(summary(fresh))"
        let used = ResponseHead()
        for pieceBytes in [bytes.count, 7, 1] where pieceBytes > 0 {
            used.reset()
            _ = used.parse(other.span.bytes, limits: limits)
            used.reset()
            var step = ParseStep<ResponseError>.needMore
            for count in stride(from: pieceBytes, to: bytes.count + pieceBytes, by: pieceBytes) {
                let piece = bytes.span.bytes.extracting(0..<min(count, bytes.count))
                step = used.parse(piece, limits: limits)
                if case .needMore = step { continue }
                break
            }
            let seen = "\(step) \(summary(used))"
            if case .complete = step {
                if seen != expected { return "new: \(expected), used before: \(seen)" }
            } else if !expected.hasPrefix("\(step) ") {
                return "new: \(expected), used before: \(step)"
            }
        }
        return nil
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
