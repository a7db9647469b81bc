import Core
import HTTPService

/// One thing that a watch tells.
package enum WatchEvent: Sendable, Equatable {
    case added(KubernetesObject)
    case modified(KubernetesObject)
    /// The object as it was last.
    case deleted(KubernetesObject)
    /// Nothing has changed up to this version; `endsInitialEvents` marks the end of the present
    /// state, where it was asked for.
    case bookmark(ResourceVersion, endsInitialEvents: Bool)
    /// The server ends the watch.
    case error(Status)

    static let initialEventsEnd = "k8s.io/initial-events-end"

    /// Reads one frame of a watch.
    ///
    /// - Parameter projection: what is kept of the objects; must keep their identity and version.
    package init(
        _ frame: RawSpan,
        keeping projection: JSONProjection = .everything
    ) throws(JSONError) {
        var cursor = JSONCursor()
        var type: String?
        var place: Range<Int>?
        try cursor.object(frame) { (cursor, key) throws(JSONError) in
            switch try JSONReader.name(frame, key) {
            case "type": type = try cursor.string(frame)
            case "object": place = try cursor.skip(frame)
            default: try cursor.skip(frame)
            }
        }
        try cursor.end(frame)
        guard let type, let place else { throw cursor.error("expected a type and an object") }
        let bytes = frame.extracting(place)
        var reader = JSONReader()
        switch type {
        case "ADDED":
            self = .added(try reader.object(bytes, keeping: projection))
        case "MODIFIED":
            self = .modified(try reader.object(bytes, keeping: projection))
        case "DELETED":
            self = .deleted(try reader.object(bytes, keeping: projection))
        case "BOOKMARK":
            let object = try reader.object(bytes, keeping: .withoutBookkeeping)
            let metadata = object.metadata
            guard !metadata.resourceVersion.isEmpty else {
                throw cursor.error("a bookmark without a version")
            }
            self = .bookmark(
                metadata.resourceVersion,
                endsInitialEvents: metadata.annotations[Self.initialEventsEnd] == "true"
            )
        case "ERROR":
            let value = try reader.document(bytes, keeping: .everything)
            self = .error(Status(value) ?? Status(code: 500, message: "an error without a Status"))
        default: throw cursor.error("`\(type.prefix(40))` is no type of event")
        }
    }
}

extension JSONReader {
    /// An object with name and version, which everything in a watch but errors must be.
    fileprivate mutating func object(
        _ bytes: RawSpan,
        keeping projection: JSONProjection
    ) throws(JSONError) -> KubernetesObject {
        let value = try self.document(bytes, keeping: projection)
        guard case .object = value["metadata"] else {
            throw JSONError(message: "expected an object with metadata", offset: 0)
        }
        return KubernetesObject(value)
    }
}

/// Cuts the bytes of a watch into frames, wherever they were cut on the way.
///
/// A frame ends with a line feed. Empty lines mean nothing. What a frame is longer than
/// `frameBytesMax`, it is an error: the rest of the stream cannot be trusted.
package struct WatchFramer: Sendable {
    /// Beyond what etcd stores for one object by far.
    package static let frameBytesMaxByDefault = 16 << 20

    package struct TooLong: Error, Hashable, Sendable {
        package let frameBytesMax: Int

        package init(frameBytesMax: Int) {
            self.frameBytesMax = frameBytesMax
        }
    }

    package let frameBytesMax: Int
    /// The beginning of a frame whose end has not come.
    private var partial: [UInt8] = []

    package init(frameBytesMax: Int = Self.frameBytesMaxByDefault) {
        precondition(frameBytesMax > 0, "frames of no bytes")
        self.frameBytesMax = frameBytesMax
    }

    /// Whether a frame has begun and not ended: at the end of a stream, it was cut short.
    package var hasPartialFrame: Bool { !self.partial.isEmpty }

    /// Takes more bytes and calls `body` with each frame that they complete, until it says false.
    package mutating func feed(
        _ bytes: RawSpan,
        _ body: (RawSpan) -> Bool
    ) throws(TooLong) {
        var start = 0
        while start < bytes.byteCount {
            let rest = bytes.extracting(start..<bytes.byteCount)
            guard let end = rest.withUnsafeBytes({ $0.firstIndex(of: UInt8(ascii: "\n")) }) else {
                return try self.keep(rest)
            }
            start += end + 1
            if !(try self.complete(rest.extracting(0..<end), body)) { return }
        }
    }

    private mutating func keep(_ bytes: RawSpan) throws(TooLong) {
        if self.partial.count + bytes.byteCount > self.frameBytesMax {
            self.partial = []
            throw TooLong(frameBytesMax: self.frameBytesMax)
        }
        bytes.withUnsafeBytes { self.partial += $0 }
    }

    private mutating func complete(
        _ bytes: RawSpan,
        _ body: (RawSpan) -> Bool
    ) throws(TooLong) -> Bool {
        if self.partial.isEmpty, bytes.byteCount <= self.frameBytesMax {
            return Self.isBlank(bytes) || body(bytes)
        }
        try self.keep(bytes)
        let frame = self.partial
        // One long frame must not keep its memory for the rest of the stream.
        self.partial = []
        return Self.isBlank(frame.span.bytes) || body(frame.span.bytes)
    }

    private static func isBlank(_ bytes: RawSpan) -> Bool {
        bytes.withUnsafeBytes { $0.allSatisfy { $0 == 32 || $0 == 13 || $0 == 9 } }
    }
}
