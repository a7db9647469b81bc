import Core
import HTTPService
import Kubernetes

/// The frames of a watch, the events in them, and the refusals of an API server.
///
/// Frames are the same however the bytes are cut, and none is longer than the limit. An event that
/// was read has an object with metadata; with a projection it is the same kind of event with a part
/// of the object. What was read and written reads as the same.
enum WatchInvariants {
    static let frameBytesMax = 1_024

    static let seeds: [[UInt8]] = [
        #"{"type":"ADDED","object":{"metadata":{"name":"x","resourceVersion":"1"}}}"# + "\n",
        #"{"object":{"metadata":{}},"type":"MODIFIED"}"# + "\r\n\n"
            + #"{"type":"DELETED","object":{"metadata":{"name":"é"}}}"# + "\n",
        #"{"type":"BOOKMARK","object":{"kind":"Pod","metadata":{"resourceVersion":"9","#
            + #""annotations":{"k8s.io/initial-events-end":"true"}}}}"# + "\n",
        #"{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired"}}"# + "\n",
        #"{"kind":"Status","code":409,"message":"m","details":{"causes":[{"reason":"r","#
            + #""field":"f"}],"retryAfterSeconds":1}}"#,
        #"{"kind":"Status","code":99999999999,"details":{"retryAfterSeconds":1e300}}"#,
        "\n\n{}\n[]\n", String(repeating: "x", count: 1_024) + "\n",
        String(repeating: "x", count: 1_025) + "\n",
    ].map { Array($0.utf8) }

    static func violation(_ bytes: [UInt8]) -> String? {
        let whole = Self.frames(bytes, .whole)
        for cut in Cut.allCases where Self.frames(bytes, cut) != whole {
            return "frames depend on where the bytes are cut: \(cut)"
        }
        for frame in whole.frames {
            if frame.count > Self.frameBytesMax { return "a frame of \(frame.count) bytes" }
            if let violation = Self.violation(frame: frame) { return violation }
        }
        return Self.violation(status: bytes)
    }

    private struct Outcome: Equatable {
        var frames: [[UInt8]] = []
        var isTooLong = false
        var isPartial = false
    }

    private static func frames(_ bytes: [UInt8], _ cut: Cut) -> Outcome {
        var outcome = Outcome()
        var framer = WatchFramer(frameBytesMax: Self.frameBytesMax)
        cut.pieces(of: bytes) { piece in
            if outcome.isTooLong { return }
            do {
                try framer.feed(piece) {
                    outcome.frames.append($0.array)
                    return true
                }
            } catch {
                outcome.isTooLong = true
            }
        }
        outcome.isPartial = !outcome.isTooLong && framer.hasPartialFrame
        return outcome
    }

    private static func violation(frame: [UInt8]) -> String? {
        guard let event = try? WatchEvent(frame.span.bytes) else { return nil }
        guard
            let small = try? WatchEvent(
                frame.span.bytes,
                keeping: JSONProjection.paths(["metadata.name"]).keepingIdentity
            )
        else { return "read as a whole, not in part: \(frame.text)" }
        switch (event, small) {
        case (.added(let object), .added(let part)),
            (.modified(let object), .modified(let part)),
            (.deleted(let object), .deleted(let part)):
            if object.key != part.key { return "\(object.key) became \(part.key)" }
            return self.violation(value: object.value)
        case (.bookmark(let version, _), .bookmark(let other, _)):
            return version == other && !version.isEmpty ? nil : "another version"
        case (.error(let status), .error(let other)):
            return status == other ? nil : "another status"
        default: return "another kind of event: \(frame.text)"
        }
    }

    private static func violation(value: JSONValue) -> String? {
        guard let again = try? JSONValue(value.bytes) else { return "cannot be read again" }
        return again == value && again.text == value.text
            ? nil : "\(value.text) became \(again.text)"
    }

    private static func violation(status bytes: [UInt8]) -> String? {
        for field in [nil, "7", "-1", "99999999999999999999"] as [String?] {
            let status = Status(code: 429, body: bytes, retryAfter: field)
            if status.code != 429 { return "the answer's own code was lost" }
            if let wait = status.retryAfter, wait < .zero || wait > .seconds(3_600) {
                return "a wait of \(wait)"
            }
            if status.message.utf8.count > 8_192 || status.causes.count > 100 {
                return "a refusal without bounds"
            }
            if "\(status)".isEmpty { return "a refusal without words" }
        }
        return nil
    }
}
