import Core
import HTTPService

/// The reader of whole JSON documents.
///
/// Skipping and reading accept the same; what was read and written again reads and writes as the
/// same; where a document lies in memory makes no difference.
enum JSONCursorInvariants {
    static let seeds: [[UInt8]] =
        JSONKeyInvariants.seeds
        + [
            "null", " true ", "false", "-0", "-0.0", "1e400", "1e-400", "123456789012345678",
            "9007199254740993", "9223372036854775807", "-9223372036854775808", "1.5", "1E+2", "-",
            #""""#, #""\u0000\u001f\u007f""#, #""\ud83d\ude00\ud83d""#, #""\ude00\ud83d\u0041""#,
            #"[1,"a",{"b":[null]}]"#, "[1,]", #"{"a":1,}"#, "01", "+1", ".5", "1.e1", "nul", "[",
            String(repeating: "[", count: 64) + String(repeating: "]", count: 64),
            String(repeating: "[", count: 65) + String(repeating: "]", count: 65),
        ].map { Array($0.utf8) }

    static func violation(_ bytes: [UInt8]) -> String? {
        let skipped = Self.skip(bytes)
        let padded = Array("[\"\\".utf8) + bytes + Array("\"]}0".utf8)
        let inside = padded.span.bytes.extracting(3..<(3 + bytes.count))
        guard Self.skip(inside.array) == skipped else { return "depends on where it lies" }
        let read = Self.rewritten(bytes.span.bytes)
        switch (skipped, read) {
        case (.failure, .failure): return nil
        case (.success, .failure(let error)):
            // A number may be too large to be read, but not to be skipped.
            return error.message.hasSuffix("is too large") ? nil : "skipped, not read: \(error)"
        case (.failure(let error), .success): return "read, not skipped: \(error)"
        case (.success, .success(let once)):
            guard case .success(let twice) = Self.rewritten(once.span.bytes) else {
                return "written as \(once.text), which cannot be read"
            }
            return once == twice ? nil : "\(once.text) became \(twice.text)"
        }
    }

    private static func skip(_ bytes: [UInt8]) -> Result<Range<Int>, JSONError> {
        var cursor = JSONCursor()
        do throws(JSONError) {
            let range = try cursor.skip(bytes.span.bytes)
            try cursor.end(bytes.span.bytes)
            return .success(range)
        } catch {
            return .failure(error)
        }
    }

    private static func rewritten(_ bytes: RawSpan) -> Result<[UInt8], JSONError> {
        let buffer = ByteBuffer(capacity: 256)
        var writer = JSONWriter(buffer)
        var cursor = JSONCursor()
        do throws(JSONError) {
            try Self.copy(bytes, &cursor, &writer)
            try cursor.end(bytes)
            return .success(buffer.readable.array)
        } catch {
            return .failure(error)
        }
    }

    private static func copy(
        _ bytes: RawSpan,
        _ cursor: inout JSONCursor,
        _ writer: inout JSONWriter
    ) throws(JSONError) {
        switch try cursor.peek(bytes) {
        case .object:
            writer.beginObject()
            try cursor.object(bytes) { (cursor, key) throws(JSONError) in
                let quoted = [34] + bytes.extracting(key).array + [34]
                var reader = JSONCursor()
                writer.key(escaping: try reader.string(quoted.span.bytes))
                try Self.copy(bytes, &cursor, &writer)
            }
            writer.endObject()
        case .array:
            writer.beginArray()
            try cursor.array(bytes) { (cursor) throws(JSONError) in
                try Self.copy(bytes, &cursor, &writer)
            }
            writer.endArray()
        case .string: writer.string(try cursor.string(bytes))
        case .bool: writer.bool(try cursor.bool(bytes))
        case .null:
            guard try cursor.skipNull(bytes) else { throw cursor.error("null is not null") }
            writer.null()
        case .number: try Self.copyNumber(bytes, &cursor, &writer)
        }
    }

    /// A whole number that fits into 64 bits is read exactly, and so is every double.
    private static func copyNumber(
        _ bytes: RawSpan,
        _ cursor: inout JSONCursor,
        _ writer: inout JSONWriter
    ) throws(JSONError) {
        var asText = cursor
        let text = bytes.extracting(try asText.skip(bytes)).array.text
        if let exact = Int(text) {
            var asInteger = cursor
            guard try asInteger.integer(bytes) == exact else {
                throw cursor.error("\(text) is read as another integer")
            }
        }
        let value = try cursor.number(bytes)
        guard value == Double(text) else { throw cursor.error("\(text) is read as \(value)") }
        writer.number(value)
    }
}
