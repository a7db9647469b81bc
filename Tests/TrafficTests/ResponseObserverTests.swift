import Core
import Testing

@testable import Traffic

@Suite struct ResponseObserverTests {
    /// Feeds pieces that end at `cuts`, the n-th at n milliseconds.
    static func observe(
        _ body: String,
        cuts: [Int] = [],
        kind: ResponseObserver.Kind = .eventStream
    ) -> ResponseObserver {
        var observer = ResponseObserver(kind: kind)
        let body = bytes(body)
        var start = 0
        for (number, end) in (cuts + [body.count]).enumerated() where end > start {
            let piece = Array(body[start..<end])
            observer.observe(piece.span.bytes, now: .milliseconds(number))
            start = end
        }
        return observer
    }

    static let role =
        #"data: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#
    static let content =
        #"data: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":" river"}}]}"#
    static let end = #"data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#
    static let usage =
        #"data: {"choices":[],"usage":{"prompt_tokens":12,"completion_tokens":34,"total_tokens":46,"completion_tokens_details":{"prompt_tokens":1}}}"#

    static func chat(_ newline: String) -> String {
        [role, content, content, ": comment", end, usage, "data: [DONE]"]
            .map { $0 + newline + newline }.joined()
    }

    @Test(arguments: ["\n", "\r\n", "\r"])
    func readsAChatStreamInEverySplit(newline: String) {
        let stream = Self.chat(newline)
        let whole = Self.observe(stream)
        #expect(whole.events == 5)
        #expect(whole.contentEvents == 4, "all data after the first content counts")
        #expect(whole.isDone)
        #expect(whole.usage == TokenUsage(prompt: 12, completion: 34))
        for cut in 1..<stream.utf8.count {
            let split = Self.observe(stream, cuts: [cut])
            #expect(split.events == 5 && split.contentEvents == 4 && split.isDone, "cut at \(cut)")
            #expect(split.usage == whole.usage, "cut at \(cut)")
        }
        let single = Self.observe(stream, cuts: Array(1..<stream.utf8.count))
        #expect(single.events == 5 && single.contentEvents == 4 && single.isDone)
        #expect(single.usage == whole.usage)
    }

    @Test func theFirstTokenIsWhenItsEventIsComplete() {
        let role = Self.role + "\n\n"
        let content = Self.content + "\n\n"
        let cuts = [role.utf8.count, role.utf8.count + 20, role.utf8.count + content.utf8.count]
        let observer = Self.observe(role + content + content, cuts: cuts)
        #expect(observer.firstContentAt == .milliseconds(2))
        #expect(observer.lastContentAt == .milliseconds(3))
    }

    @Test(arguments: [
        (role, false), (content, true), (end, false), (usage, false), ("data: [DONE]", false),
        ("data:", false), ("data: ", false), ("event: ping", false), (": data: x", false),
        (#"data: {"choices":[{"delta":{"role":"assistant"}}]}"#, false),
        (#"data: {"choices":[{"delta":{"role":"assistant","content":null}}]}"#, false),
        (#"data: {"choices":[{"delta":{"reasoning_content":"Hm"}}]}"#, true),
        (#"data: {"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"{"}}]}}]}"#, true),
        (#"data: {"choices":[{"delta":{"tool_calls":[{"function":{"arguments":""}}]}}]}"#, false),
        (#"data: {"choices":[{"text":"a"}]}"#, true), (#"data: {"choices":[{"text":""}]}"#, false),
        (#"data: {"choices" : [ {"text" : "a"} ] }"#, true),
        (#"data: {"type":"response.created","response":{"id":"r"}}"#, false),
        (#"data: {"type":"response.output_text.delta","delta":"a"}"#, true),
        (#"data: {"type":"ping"}"#, false),
        (#"data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"a"}}"#, true),
        (#"data: {"text_output":"a"}"#, true), ("data: tick", true), ("data:tick", true),
        (#"data: {"choices":[{"delta":{"role":"\"content\":\"x\""}}]}"#, false),
        (#"data: {"choices":[{"delta":{"content":""#, false), (#"data: {"choices":""#, false),
    ])
    func knowsWhatIsOutput(line: String, isContent: Bool) {
        #expect((Self.observe(line + "\n\n").firstContentAt != nil) == isContent, "\(line)")
    }

    @Test func aLineBeyondTheBoundCountsAsOutput() {
        let long = #"data: {"choices":[{"delta":{"role":""# + String(repeating: "x", count: 40_000)
        let observer = Self.observe(long + "\"}}]}\n\n", cuts: [10, 100, 20_000])
        #expect(observer.events == 1)
        #expect(observer.contentEvents == 1)
    }

    @Test func anEventWithoutItsEndDoesNotCount() {
        #expect(Self.observe(Self.content).events == 0)
    }

    @Test(arguments: [
        (#"{"usage":{"prompt_tokens":5,"completion_tokens":7}}"#, 5, 7),
        (#"{"usage" : { "input_tokens" : 5 , "output_tokens" : 7 } }"#, 5, 7),
        (#"{"usage":{"input_tokens":25,"output_tokens":1}}{"usage":{"output_tokens":15}}"#, 25, 15),
        (#"{"usage":{"prompt_tokens":8,"total_tokens":8}}"#, 8, 0),
        (#"{"a":"\"usage\":{\"prompt_tokens\":1}","usage":{"prompt_tokens":2}}"#, 2, 0),
        (#"{"usage":null,"usage":{"prompt_tokens":3}}"#, 3, 0),
        (#"{"usage":{"x":{"prompt_tokens":9},"prompt_tokens":3}}"#, 3, 0),
        (#"""""usage":{"prompt_tokens":3}"#, 3, 0),
    ])
    func findsUsageInPlainJSONInEverySplit(body: String, prompt: Int, completion: Int) {
        let expected = TokenUsage(prompt: prompt, completion: completion)
        for cut in 0..<body.utf8.count {
            #expect(Self.observe(body, cuts: [cut], kind: .json).usage == expected, "cut at \(cut)")
        }
        let bytewise = Self.observe(body, cuts: Array(1..<body.utf8.count), kind: .json)
        #expect(bytewise.usage == expected)
    }

    @Test(arguments: [
        "", #"{"usage":5}"#, #"{"usage":{}}"#, #"{"usage":{"prompt_tokens":"5"}}"#,
        #"{"usage":{"prompt_tokens":-5}}"#, #"{"usage":{"prompt_tokens":99999999999999999999}}"#,
        #"{"usages":{"prompt_tokens":5}}"#, #"{"usage""usage":{"prompt_tokens":5"#,
        #"{"usage"::{"prompt_tokens":5}}"#,
        #"{"usage":{"a":""# + String(repeating: "x", count: 2_000) + #"","prompt_tokens":5}}"#,
    ])
    func reportsNoUsageWhereThereIsNone(body: String) {
        #expect(Self.observe(body, kind: .json).usage == nil)
    }

    @Test func findsUsageBehindEveryAlignment() {
        for offset in 0..<70 {
            let body = String(repeating: "\"", count: offset) + #""usage":{"prompt_tokens":4}"#
            #expect(Self.observe(body, kind: .json).usage?.prompt == 4, "offset \(offset)")
        }
    }

    @Test func opaqueBodiesAreNotLookedAt() {
        let observer = Self.observe(Self.chat("\n"), kind: .opaque)
        #expect(observer.events == 0 && observer.usage == nil)
    }

    @Test func isUsedAgainAfterReset() {
        var observer = Self.observe(Self.chat("\n") + "data: {\"cut", kind: .eventStream)
        observer.reset(kind: .eventStream)
        #expect(observer.events == 0 && observer.usage == nil && !observer.isDone)
        #expect(observer.firstContentAt == nil)
        observer.observe(bytes(Self.content + "\n\n").span.bytes, now: .seconds(9))
        #expect(observer.events == 1 && observer.firstContentAt == .seconds(9))
    }

    @Test(arguments: [1, 2, 3] as [UInt64])
    func anythingAtAllIsHarmless(seed: UInt64) {
        var random = RandomSource(seed: seed)
        let parts = [
            "data:", " ", "[DONE]", "\n", "\r", "\"usage\"", ":", "{", "}", "\"", "\\", "u", "5",
        ]
        for kind in [ResponseObserver.Kind.eventStream, .json] {
            var observer = ResponseObserver(kind: kind)
            for _ in 0..<3_000 {
                var piece = ""
                for _ in 0..<random.below(12) { piece += parts[random.below(parts.count)] }
                observer.observe(bytes(piece).span.bytes, now: .zero)
            }
            #expect(observer.contentEvents <= observer.events)
        }
    }
}
