import Compression
import HTTP

/// Coded content, and the fields that are about it.
///
/// The first byte of coded content says which codings are undone; the rest is it. However it is cut
/// it gives the same bytes and the same end, never more than the limits allow.
enum CodingInvariants {
    private static let codings: [[ContentCoding]] = [
        [.gzip], [.zstd], [.gzip, .zstd], [.zstd, .gzip], [.gzip, .gzip],
    ]

    static var seeds: [[UInt8]] {
        let texts = ["", "river", String(repeating: "weir ", count: 500)].map { Array($0.utf8) }
        var seeds: [[UInt8]] = [[0], [1, 0x28, 0xB5, 0x2F, 0xFD, 0, 0x58, 1, 0, 0]]
        for (index, codings) in self.codings.enumerated() {
            for text in texts {
                let coded = codings.reduce(text, self.encode)
                seeds.append([UInt8(index)] + coded)
                seeds.append([UInt8(index)] + coded + coded)
                seeds.append([UInt8(index)] + coded.dropLast())
            }
        }
        return seeds
    }

    static func violation(_ bytes: [UInt8]) -> String? {
        guard let first = bytes.first else { return nil }
        let codings = self.codings[Int(first) % self.codings.count]
        let content = Array(bytes.dropFirst())
        let whole = self.decode(content, codings, .whole)
        guard whole.bytes.count <= max(self.limits.freeBytes, content.count * self.limits.ratioMax)
        else { return "\(whole.bytes.count) bytes of \(content.count)" }
        for cut in [Cut.bytes, .growing, .uneven] {
            let other = self.decode(content, codings, cut)
            // Where too much is noticed depends on the steps, and on what is broken behind it.
            if whole.error == .tooLarge || other.error == .tooLarge { continue }
            // Of a step that fails, what came out before is lost.
            let isSame = whole.error == nil ? other == whole : whole.isLike(other)
            // libzstd compares the size that a frame announces with what came; where its last block
            // is empty, only if it has the frame in one piece.
            if codings.contains(.zstd), whole.error == .malformed, other.error == nil { continue }
            if !isSame { return "\(cut): \(other.words) for \(whole.words)" }
        }
        return self.isStillRight(whole.bytes, codings) ? nil : "coded again it is something else"
    }

    private static let limits: DecodingLimits = {
        var limits = DecodingLimits()
        limits.freeBytes = 10_000
        limits.ratioMax = 50
        return limits
    }()

    private struct Decoded: Equatable {
        var bytes: [UInt8] = []
        var isComplete = false
        var error: DecodingError?

        func isLike(_ other: Decoded) -> Bool {
            let isStart =
                self.bytes.starts(with: other.bytes) || other.bytes.starts(with: self.bytes)
            return self.error == other.error && isStart
        }

        var words: String {
            let end = self.error.map { "\($0)" } ?? (self.isComplete ? "complete" : "cut")
            return "\(self.bytes.count) bytes, \(end)"
        }
    }

    private static func decode(
        _ content: [UInt8],
        _ codings: [ContentCoding],
        _ cut: Cut
    ) -> Decoded {
        let decoder = ContentDecoder(codings, limits: self.limits)
        var result = Decoded()
        cut.pieces(of: content) { piece in
            piece.withUnsafeBytes { self.take($0, decoder, &result) }
        }
        result.isComplete = result.error == nil && decoder.isComplete
        return result
    }

    private static func take(
        _ piece: UnsafeRawBufferPointer,
        _ decoder: ContentDecoder,
        _ result: inout Decoded
    ) {
        if result.error != nil { return }
        var rest = piece
        withUnsafeTemporaryAllocation(byteCount: 700, alignment: 1) { room in
            do throws(DecodingError) {
                while true {
                    let step = try decoder.decode(rest, into: room)
                    result.bytes += Array(room[..<step.produced])
                    rest = UnsafeRawBufferPointer(rebasing: rest[step.consumed...])
                    if step.produced < room.count { return }
                }
            } catch {
                result.error = error
            }
        }
    }

    private static func isStillRight(_ text: [UInt8], _ codings: [ContentCoding]) -> Bool {
        var limits = DecodingLimits()
        limits.ratioMax = 100_000
        let coded = codings.reduce(text, self.encode)
        let decoder = ContentDecoder(codings, limits: limits)
        var result: [UInt8] = []
        withUnsafeTemporaryAllocation(byteCount: max(1, text.count), alignment: 1) { room in
            let step = coded.withUnsafeBytes { try? decoder.decode($0, into: room) }
            result = Array(room[..<(step?.produced ?? 0)])
        }
        return result == text
    }

    private static func encode(_ text: [UInt8], _ coding: ContentCoding) -> [UInt8] {
        var result: [UInt8] = []
        withUnsafeTemporaryAllocation(byteCount: 512, alignment: 1) { scratch in
            text.withUnsafeBytes {
                ContentEncoder(coding).encode($0, .finish, scratch: scratch) {
                    result += Array($0)
                }
            }
        }
        return result
    }

    // MARK: Fields

    static let fields: [[UInt8]] = [
        "gzip, zstd", "gzip;q=0.5, *;q=0", "identity;q=0,x-gzip", ",;q=1,gzip;q=1.000", "zstd;q=0.",
        "*", "br",
    ].map { Array($0.utf8) }

    /// A value of both fields, in a head of a request: a slow reader must agree.
    static func fieldViolation(_ value: [UInt8]) -> String? {
        let bytes =
            Array("GET / HTTP/1.1\r\nHost: h\r\nAccept-Encoding: ".utf8) + value
            + Array("\r\nContent-Encoding: ".utf8) + value + Array("\r\n\r\n".utf8)
        let head = RequestHead()
        guard case .complete(bytes.count) = head.parse(bytes.span.bytes, limits: HeadLimits()),
            head.fields.count == 3
        else { return nil }
        let trimmed = Array(bytes[head.fields[1].valueRange.indices])
        let accepted = AcceptedCodings(head.fields, bytes.span.bytes).preferred
        let expected = self.slowPreferred(trimmed)
        guard accepted == expected else {
            return "\(String(describing: accepted)) where \(String(describing: expected)) is meant"
        }
        let known = ContentCodings.of(head.fields, bytes.span.bytes)
        return known == self.slowCodings(trimmed) ? nil : "the readers disagree: \(known)"
    }

    private static func elements(_ value: [UInt8]) -> [[UInt8]] {
        value.split(separator: 44, omittingEmptySubsequences: false).map(self.trim)
    }

    private static func trim(_ bytes: ArraySlice<UInt8>) -> [UInt8] {
        let isSpace = { (byte: UInt8) in byte == 32 || byte == 9 }
        return Array(bytes.drop(while: isSpace).reversed().drop(while: isSpace).reversed())
    }

    private static func lower(_ bytes: [UInt8]) -> String {
        bytes.map { (65...90).contains($0) ? $0 + 32 : $0 }.text
    }

    private static func slowCodings(_ value: [UInt8]) -> ContentCodings {
        var codings: [ContentCoding] = []
        for element in self.elements(value).map(self.lower) {
            switch element {
            case "", "identity": break
            case "gzip", "x-gzip": codings.append(.gzip)
            case "zstd": codings.append(.zstd)
            default: return .unknown
            }
        }
        return codings.count > ContentCodings.countMax ? .unknown : .known(codings)
    }

    private static func slowPreferred(_ value: [UInt8]) -> ContentCoding? {
        var weights: [String: Int] = [:]
        for element in self.elements(value) {
            let parts = element.split(
                separator: 59,
                maxSplits: 1,
                omittingEmptySubsequences: false
            ).map(self.trim)
            guard let weight = parts.count == 1 ? 1000 : self.slowWeight(self.lower(parts[1]))
            else {
                continue
            }
            let name = self.lower(parts[0])
            weights[name == "x-gzip" ? "gzip" : name] = weight
        }
        let zstd = weights["zstd"] ?? weights["*"] ?? 0
        let gzip = weights["gzip"] ?? weights["*"] ?? 0
        let identity = weights["identity"] ?? 0
        if max(zstd, gzip) == 0 || identity > max(zstd, gzip) { return nil }
        return zstd >= gzip ? .zstd : .gzip
    }

    private static func slowWeight(_ text: String) -> Int? {
        guard text.hasPrefix("q=") else { return nil }
        let number = Array(text.utf8.dropFirst(2))
        guard let whole = number.first, whole == 48 || whole == 49, number.count <= 5 else {
            return nil
        }
        let digits = number.dropFirst(2)
        guard number.count < 2 || number[1] == 46, digits.allSatisfy({ (48...57).contains($0) })
        else { return nil }
        let fraction = digits.reduce(0) { $0 * 10 + Int($1 - 48) }
        let scale = [100, 10, 1, 1000][max(0, digits.count - 1)]
        let weight = Int(whole - 48) * 1000 + (digits.isEmpty ? 0 : fraction * scale)
        return weight <= 1000 ? weight : nil
    }
}
