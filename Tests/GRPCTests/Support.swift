import Core

@testable import GRPC

func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

extension ByteBuffer {
    var array: [UInt8] { self.readable.withUnsafeBytes { Array($0) } }
    var text: String { String(decoding: self.array, as: UTF8.self) }
}

extension RandomSource {
    mutating func int(below bound: Int) -> Int { Int(self.next() % UInt64(bound)) }
}

/// Protobuf and gRPC framing by hand, for tests to read back.
enum Wire {
    static func varint(_ value: UInt64) -> [UInt8] {
        value < 0x80 ? [UInt8(value)] : [UInt8(value & 0x7F) | 0x80] + self.varint(value >> 7)
    }

    static func key(_ field: UInt64, _ type: UInt64) -> [UInt8] { self.varint(field << 3 | type) }

    static func text(_ field: UInt64, _ text: [UInt8]) -> [UInt8] {
        self.key(field, 2) + self.varint(UInt64(text.count)) + text
    }

    static func message(_ body: [UInt8], flag: UInt8 = 0) -> [UInt8] {
        let count = body.count
        return [
            flag, UInt8(count >> 24 & 255), UInt8(count >> 16 & 255), UInt8(count >> 8 & 255),
            UInt8(count & 255),
        ] + body
    }

    /// Cuts at random places; empty pieces among them.
    static func pieces(_ bytes: [UInt8], _ random: inout RandomSource) -> [[UInt8]] {
        var pieces: [[UInt8]] = []
        var start = 0
        while start < bytes.count {
            let count = min(random.int(below: 9), bytes.count - start)
            pieces.append(Array(bytes[start..<(start + count)]))
            start += count
        }
        return pieces
    }
}

/// What field 1 of a message is, read the slow way: all fields in a list first.
enum NameOracle {
    enum Answer: Equatable {
        case name([UInt8])
        case none
        case bad
    }

    static func read(_ message: [UInt8]) -> Answer {
        var rest = message[...]
        var names: [[UInt8]] = []
        while !rest.isEmpty {
            guard let key = self.varint(&rest), (1...536_870_911).contains(key >> 3) else {
                return .bad
            }
            var value: [UInt8] = []
            switch key & 7 {
            case 0:
                guard self.varint(&rest) != nil else { return .bad }
            case 1, 5:
                let count = key & 7 == 1 ? 8 : 4
                guard rest.count >= count else { return .bad }
                rest.removeFirst(count)
            case 2:
                guard let count = self.varint(&rest), count <= UInt64(rest.count) else {
                    return .bad
                }
                value = Array(rest.prefix(Int(count)))
                rest.removeFirst(Int(count))
            default:
                return .bad
            }
            if key >> 3 == 1 {
                if key & 7 != 2 { return .bad }
                names.append(value)
            }
        }
        if names.count > 1 { return .bad }
        return names.first.map { .name($0) } ?? .none
    }

    private static func varint(_ rest: inout ArraySlice<UInt8>) -> UInt64? {
        var digits: [UInt8] = []
        while let byte = rest.popFirst() {
            digits.append(byte & 0x7F)
            if digits.count > 10 || digits.count == 10 && byte > 1 { return nil }
            if byte & 0x80 == 0 {
                return digits.reversed().reduce(UInt64(0)) { $0 << 7 | UInt64($1) }
            }
        }
        return nil
    }
}
