import Core
import HTTP
import TestSupport

/// A chunked body of nothing but trailers.
///
/// What is let through must be fields that may stand in a head: read as a response's head they give
/// the same names and values, and none of them changes how the message is framed.
enum TrailerInvariants {
    static var seeds: [[UInt8]] {
        let fromTable = FramingCase.bodies.compactMap { framing -> [UInt8]? in
            let end = framing.bytes.firstRange(of: Array("\r\n0\r\n".utf8))
            return end.map { Array(framing.bytes[$0.upperBound...]) }
        }
        let own = [
            "\r\n", "A: b\r\n\r\n", "A:\t b \t\r\nGrpc-Status: 0\r\n\r\n", "Host: a\r\n\r\n",
            "X-Weir-Model: m\r\nIf-Match: x\r\n\r\n", "a:\r\nb:\r\n\r\n", "A : b\r\n\r\n",
            "a: b\r\n c\r\n\r\n", "a: b\nc: d\r\n\r\n", "Content-Length: 5\r\nX: \u{e9}\r\n\r\n",
        ]
        return fromTable.filter { !$0.isEmpty } + own.map { Array($0.utf8) }
    }

    static func violation(_ bytes: [UInt8]) -> String? {
        if let violation = ParserInvariants.chunkedBody(Array("0\r\n".utf8) + bytes) {
            return violation
        }
        var decoder = BodyDecoder(
            RequestFraming.chunked,
            limits: BodyLimits(maxTrailerBytes: 2048, maxTrailers: 16)
        )
        let input = Array("0\r\n".utf8) + bytes
        guard case .end(let consumed) = decoder.next(input.span.bytes) else { return nil }
        guard input[..<consumed].suffix(4).elementsEqual("\r\n\r\n".utf8) else {
            return "ended after \(consumed) bytes, behind no empty line"
        }
        return Self.head(decoder.trailers)
    }

    private static func head(_ trailers: [UInt8]) -> String? {
        let bytes = Array("HTTP/1.1 200 OK\r\n".utf8) + trailers + Array("\r\n".utf8)
        let head = ResponseHead()
        let step = head.parse(bytes.span.bytes, limits: HeadLimits())
        guard case .complete(let count) = step, count == bytes.count else {
            return "as a head: \(step)"
        }
        guard head.framing(requestMethod: .get) == .untilClose, head.keepsAlive else {
            return "trailers change the framing"
        }
        var again: [UInt8] = []
        for field in head.fields {
            let name = bytes[field.nameRange.indices]
            if FieldNameSet.forbiddenInTrailers.contains(field.name) {
                return "the trailer \(Array(name).text) is let through"
            }
            again += name + Array(": ".utf8) + bytes[field.valueRange.indices] + [13, 10]
        }
        return again == trailers ? nil : "\(trailers.text) reads as \(again.text)"
    }
}
