import Core
import Traffic

/// The observer of response bodies. The input's first byte chooses the kind.
///
/// It must see the same however the body is cut. In event streams, a slow reader of lines says how
/// many events there are.
enum ResponseStreamInvariants {
    static var seeds: [[UInt8]] {
        let role = #"data: {"choices":[{"delta":{"role":"assistant"}}]}"#
        let text = #"data: {"choices":[{"delta":{"content":"hi"}}]}"#
        let usage = #"data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5}}"#
        let long = role.dropLast() + String(repeating: " ", count: 17_000) + "}"
        return [
            "0\(role)\n\n\(text)\n\n\(usage)\n\ndata: [DONE]\n\n", "0data:x\r\ndata:\rdata: y\r\n",
            "0data: [DONE]x\n", "0event: a\ndata: {\"type\":\"delta\",\"delta\":\"\\\"\"}\n\n",
            "0\(text)\r\r\n\n\(text)", "0data: \(String(repeating: "a", count: 40))\n",
            "0\(long)\n\(text)\n", "0\(text)\n\(long)\n", "0:\n\ndata\ndata :\n datum\n",
            #"1{"usage":{"prompt_tokens":1,"completion_tokens":2}}"#, #"1"usage"usage":{}"#,
            #"1{"usage":{"input_tokens":1,"x":{"output_tokens":9}},"usage":{"output_tokens":4}}"#,
            #"1"us"usage" : { "prompt_tokens" : 123456789012345678 }"#, #"1"usage":{"a":{"#,
            "1\"usage\":{" + String(repeating: " ", count: 1030) + "\"prompt_tokens\":1}",
            "2data: x\n",
        ].map { Array($0.utf8) }
    }

    static func violation(_ bytes: [UInt8]) -> String? {
        guard let first = bytes.first else { return nil }
        let kind = ResponseObserver.Kind(rawValue: first % 3) ?? .opaque
        let body = Array(bytes.dropFirst())
        let whole = Seen(body, kind, .whole)
        for cut in Cut.allCases where cut != .whole {
            let pieces = Seen(body, kind, cut)
            if pieces != whole { return "whole: \(whole), \(cut): \(pieces)" }
        }
        guard whole.contentEvents <= whole.events else { return "more content than events" }
        guard whole.hasContent == (whole.contentEvents > 0) else { return "content at no time" }
        switch kind {
        case .eventStream: return Self.compareLines(whole, body)
        case .json: return whole.events == 0 && !whole.isDone ? nil : "events in JSON"
        case .opaque: return whole == Seen([], kind, .whole) ? nil : "seen in opaque bytes"
        }
    }

    private struct Seen: Equatable {
        var events: Int
        var contentEvents: Int
        var hasContent: Bool
        var isDone: Bool
        var usage: TokenUsage?

        init(_ bytes: [UInt8], _ kind: ResponseObserver.Kind, _ cut: Cut) {
            var observer = ResponseObserver(kind: .eventStream)
            // An observer is reused: what it saw before must leave no trace.
            let before = Array("data: x\ndata: [DONE]\n\"usage\":{\"prompt_tokens\":7}\"usa\r".utf8)
            observer.observe(before.span.bytes, now: Instant.zero)
            observer.reset(kind: kind)
            cut.pieces(of: bytes) { observer.observe($0, now: Instant.zero) }
            self.events = observer.events
            self.contentEvents = observer.contentEvents
            self.hasContent = observer.firstContentAt != nil
            self.isDone = observer.isDone
            self.usage = observer.usage
        }
    }

    private static func compareLines(_ seen: Seen, _ bytes: [UInt8]) -> String? {
        var data: [[UInt8]] = []
        var line: [UInt8] = []
        var last: UInt8 = 0
        for byte in bytes {
            if byte == 13 || byte == 10 {
                if byte == 13 || last != 13 {
                    if line.starts(with: "data:".utf8) { data.append(Self.data(line)) }
                    line = []
                }
            } else {
                line.append(byte)
            }
            last = byte
        }
        let isDone = data.contains { $0.elementsEqual("[DONE]".utf8) }
        let events = data.count { !$0.elementsEqual("[DONE]".utf8) }
        return seen.isDone == isDone && seen.events == events
            ? nil : "\(events) events, done: \(isDone), but seen: \(seen)"
    }

    private static func data(_ line: [UInt8]) -> [UInt8] {
        let data = line.dropFirst(5)
        return Array(data.first == 32 ? data.dropFirst() : data)
    }
}
