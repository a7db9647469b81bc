import Core
import EventLoop
import Glibc
import Logging

/// swift-log's messages as lines on standard error: JSON for programs, words for people.
///
/// A message is constant text and everything that varies is metadata, so that lines can be counted
/// and searched. A line is written with one system call, so that lines of several threads do not
/// mix as long as they are shorter than a pipe's buffer. Nothing waits for the reader longer than
/// that call, which is why the request path does not log.
package struct LineLogHandler: LogHandler {
    package enum Format: Sendable {
        case json
        /// - Parameter colour: levels in colour, for a terminal that wants them.
        case text(colour: Bool)
    }

    /// A longer line is cut.
    package static let maxLineBytes = 16 * 1_024

    package let label: String
    package let format: Format
    package var logLevel: Logger.Level
    package var metadata: Logger.Metadata = [:]
    package var metadataProvider: Logger.MetadataProvider?
    private let descriptor: Int32
    private let clock: @Sendable () -> UInt64

    /// - Parameter clock: nanoseconds since 1970.
    package init(
        label: String,
        format: Format,
        level: Logger.Level = .info,
        descriptor: Int32 = STDERR_FILENO,
        clock: @escaping @Sendable () -> UInt64 = Telemetry.wallClockNanoseconds
    ) {
        self.label = label
        self.format = format
        self.logLevel = level
        self.descriptor = descriptor
        self.clock = clock
    }

    package subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { self.metadata[key] }
        set { self.metadata[key] = newValue }
    }

    package func log(event: LogEvent) {
        var metadata = self.metadata
        if let provided = self.metadataProvider?.get() {
            metadata.merge(provided) { _, new in new }
        }
        if let own = event.metadata { metadata.merge(own) { _, new in new } }
        let buffer = ByteBuffer(capacity: 512)
        switch self.format {
        case .json: self.writeJSON(event, metadata, buffer)
        case .text(let colour): self.writeText(event, metadata, colour, buffer)
        }
        self.finish(buffer)
    }

    private func finish(_ buffer: ByteBuffer) {
        if buffer.count >= Self.maxLineBytes { buffer.truncate(to: Self.maxLineBytes - 1) }
        buffer.append(byte: UInt8(ascii: "\n"))
        while !buffer.isEmpty {
            let count = write(self.descriptor, buffer.readablePointer, buffer.count)
            if count > 0 {
                buffer.consume(count)
            } else if count == 0 || errno != EINTR {
                // There is nowhere to say it.
                return
            }
        }
    }

    // MARK: JSON

    private func writeJSON(
        _ event: LogEvent,
        _ metadata: Logger.Metadata,
        _ buffer: ByteBuffer
    ) {
        buffer.append("{\"time\":\"" as StaticString)
        Timestamp.append(self.clock(), to: buffer)
        buffer.append("\",\"level\":" as StaticString)
        buffer.append(jsonString: event.level.rawValue)
        buffer.append(",\"logger\":" as StaticString)
        buffer.append(jsonString: self.label)
        buffer.append(",\"message\":" as StaticString)
        buffer.append(jsonString: event.message.description)
        for (key, value) in metadata.sorted(by: { $0.key < $1.key }) {
            // A cut line would not be JSON any more; what does not fit is left out instead.
            let count = buffer.count
            buffer.append(byte: UInt8(ascii: ","))
            buffer.append(jsonString: Self.reserved.contains(key) ? "\(key)_" : key)
            buffer.append(byte: UInt8(ascii: ":"))
            Self.appendJSON(value, depth: 0, buffer)
            if buffer.count >= Self.maxLineBytes - 2 { buffer.truncate(to: count) }
        }
        buffer.append(byte: UInt8(ascii: "}"))
    }

    /// Metadata of these names would make a key appear twice.
    private static let reserved: Set<String> = ["time", "level", "logger", "message"]
    private static let maxDepth = 8

    private static func appendJSON(
        _ value: Logger.Metadata.Value,
        depth: Int,
        _ buffer: ByteBuffer
    ) {
        if depth >= Self.maxDepth { return buffer.append("null" as StaticString) }
        switch value {
        case .string(let text): buffer.append(jsonString: text)
        case .stringConvertible(let value): buffer.append(jsonString: value.description)
        case .array(let values):
            buffer.append(byte: UInt8(ascii: "["))
            for (index, value) in values.enumerated() {
                if index > 0 { buffer.append(byte: UInt8(ascii: ",")) }
                Self.appendJSON(value, depth: depth + 1, buffer)
            }
            buffer.append(byte: UInt8(ascii: "]"))
        case .dictionary(let values):
            buffer.append(byte: UInt8(ascii: "{"))
            for (index, entry) in values.sorted(by: { $0.key < $1.key }).enumerated() {
                if index > 0 { buffer.append(byte: UInt8(ascii: ",")) }
                buffer.append(jsonString: entry.key)
                buffer.append(byte: UInt8(ascii: ":"))
                Self.appendJSON(entry.value, depth: depth + 1, buffer)
            }
            buffer.append(byte: UInt8(ascii: "}"))
        }
    }

    // MARK: Text

    private func writeText(
        _ event: LogEvent,
        _ metadata: Logger.Metadata,
        _ colour: Bool,
        _ buffer: ByteBuffer
    ) {
        Timestamp.append(self.clock(), to: buffer)
        buffer.append(byte: UInt8(ascii: " "))
        let name = event.level.rawValue
        let padded = name + String(repeating: " ", count: max(0, 8 - name.utf8.count))
        buffer.append(
            colour ? "\u{1B}[\(Self.code(event.level))m\(padded)\u{1B}[0m " : "\(padded) "
        )
        Self.appendLine(event.message.description, buffer)
        for (key, value) in metadata.sorted(by: { $0.key < $1.key }) {
            buffer.append(byte: UInt8(ascii: " "))
            Self.appendLine(key, buffer)
            buffer.append(byte: UInt8(ascii: "="))
            Self.appendText(value, buffer)
        }
    }

    private static func code(_ level: Logger.Level) -> String {
        switch level {
        case .trace, .debug: "2"
        case .info, .notice: "32"
        case .warning: "33"
        case .error, .critical: "31"
        }
    }

    /// A value without spaces or quotes as it is, anything else as JSON.
    private static func appendText(_ value: Logger.Metadata.Value, _ buffer: ByteBuffer) {
        let text: String
        switch value {
        case .string(let value): text = value
        case .stringConvertible(let value): text = value.description
        case .array, .dictionary: return Self.appendJSON(value, depth: 0, buffer)
        }
        let isPlain =
            !text.isEmpty && text.utf8.allSatisfy { $0 > 0x20 && $0 != 0x22 && $0 != 0x7F }
        if isPlain { buffer.append(text) } else { buffer.append(jsonString: text) }
    }

    /// Text on one line, without characters that a terminal would act on.
    private static func appendLine(_ text: String, _ buffer: ByteBuffer) {
        for byte in text.utf8 {
            buffer.append(byte: byte < 0x20 || byte == 0x7F ? UInt8(ascii: " ") : byte)
        }
    }
}
