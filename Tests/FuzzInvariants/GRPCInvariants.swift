import Core
import GRPC
import HTTP

/// gRPC's framing and the search for a model's name, on any bytes.
///
/// In pieces they must say the same as in one; a name that was found must be what a reader of the
/// whole message finds; and what is written canonically must read back.
enum GRPCInvariants {
    static var seeds: [[UInt8]] {
        let name: [UInt8] = [0x0A, 0x06] + Array("digits".utf8)
        let tensor: [UInt8] = [0x2A, 0x03, 1, 2, 3]
        func framed(_ message: [UInt8]) -> [UInt8] { [0, 0, 0, 0, UInt8(message.count)] + message }
        return [
            framed(name), framed(tensor + name + tensor), framed(name + name), framed([0x08, 1]),
            framed(name) + framed([]) + [1, 0, 0, 0, 1, 7], [0, 0, 0, 0, 0], [2, 0, 0],
            framed([0x10, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01] + name),
            [0, 0xFF, 0xFF, 0xFF, 0xFF] + name, framed([0x09, 1, 2, 3, 4, 5, 6, 7, 8] + name),
        ]
    }

    static func violation(_ bytes: [UInt8]) -> String? {
        var whole = ModelNameScanner()
        let outcome = whole.scan(bytes.span.bytes)
        let messages = self.messages(bytes, .whole)
        for cut in Cut.allCases {
            var scanner = ModelNameScanner()
            var pieces = ModelNameScanner.OnScan.needMore
            cut.pieces(of: bytes) { pieces = scanner.scan($0) }
            if pieces != outcome || scanner.name != whole.name {
                return "\(cut): \(pieces), not \(outcome)"
            }
            let observed = self.messages(bytes, cut)
            if observed != messages { return "\(cut): \(observed), not \(messages)" }
        }
        return self.readsBack(bytes, outcome, whole.name)
    }

    private struct Seen: Equatable {
        var messages: UInt64
        var isInside: Bool
        var isMalformed: Bool
    }

    private static func messages(_ bytes: [UInt8], _ cut: Cut) -> Seen {
        var observer = MessageObserver()
        cut.pieces(of: bytes) { observer.observe($0, now: .zero) }
        return Seen(
            messages: observer.messages,
            isInside: observer.isInsideMessage,
            isMalformed: observer.isMalformed
        )
    }

    /// A message of nothing but the name that was found names the same model.
    private static func readsBack(
        _ bytes: [UInt8],
        _ outcome: ModelNameScanner.OnScan,
        _ name: [UInt8]
    ) -> String? {
        guard outcome == .complete || outcome == .found else { return nil }
        guard name.count < 120 else { return nil }
        if !name.isEmpty, bytes.firstRange(of: name) == nil { return "\(name) is not in there" }
        let field = [0x0A, UInt8(name.count)] + name
        let message = [0, 0, 0, 0, UInt8(field.count)] + field
        var scanner = ModelNameScanner()
        let again = scanner.scan(message.span.bytes)
        return again == .complete && scanner.name == name ? nil : "read back as \(again)"
    }

    // MARK: Fields

    static var fieldSeeds: [[UInt8]] {
        [
            "1S", "100m", "99999999H", "0n", "5", "123456789S", "%41%zz", "plain text %25", "16",
            "application/grpc+proto", "/inference.GRPCInferenceService/ModelInfer",
        ].map { Array($0.utf8) }
    }

    /// Values of the fields that gRPC adds, and paths.
    static func fieldViolation(_ bytes: [UInt8]) -> String? {
        let value = bytes.span.bytes
        if let nanoseconds = GRPCTimeout.parse(value) {
            let output = ByteBuffer(capacity: 16)
            GRPCTimeout.write(nanoseconds: nanoseconds, into: output)
            guard let again = GRPCTimeout.parse(output.readable), again <= nanoseconds,
                nanoseconds - again <= nanoseconds / 100_000
            else { return "\(nanoseconds) ns reads as \(output.readable.array.text)" }
        }
        let text = GRPCStatusMessage.text(value)
        let output = ByteBuffer(capacity: 64)
        GRPCStatusMessage.write(text, into: output)
        let encoded = output.readable.array
        guard encoded.allSatisfy({ (0x20...0x7E).contains($0) }) else {
            return "a message of \(encoded)"
        }
        // By bytes: the cut may be within what Swift sees as one character, such as CR LF.
        guard text.utf8.starts(with: GRPCStatusMessage.text(encoded.span.bytes).utf8) else {
            return "\(text) reads as \(encoded.text)"
        }
        if case .other = GRPCMethod(path: value) { return nil }
        return GRPCMethod.isPath(value) ? nil : "a method of no path"
    }
}
