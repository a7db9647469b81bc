import HTTPService
import Traffic

/// The scanner of a request's top-level keys.
///
/// It must give the same answer however the body is cut, and agree with `JSONCursor`, a parser that
/// shares no code with it: on what is JSON, and on the values of the keys.
enum JSONKeyInvariants {
    static let seeds: [[UInt8]] = [
        #"{}"#, #"{"model":"m"}"#, #"{"model":"\u00e9\ud83d\ude00","stream":true}"#,
        #"{"max_tokens":12,"stream":false,"model":"a/b"}"#, #"{"model":"a","model":"b"}"#,
        #"{"model":null}"#, #"{"model":"\ud800"}"#, #"{"prompt":"hello","model":"m"}"#,
        #"{"messages":[{"role":"user","content":"\"model\":\"x\""}],"model":"m"}"#,
        #"{"input":[1,2,30,-4.5e+6,0,0.1],"max_completion_tokens":9007199254740992}"#,
        #"{"mod\u0065l":"escaped key","max_output_tokens":1e3}"#, #" {"a":{"model":1},"b":[[]]} "#,
        #"{"stream":true,"stream":1,"max_tokens":-0,"max_tokens":9007199254740993}"#,
        #"{"a":tru"#, #"[]"#, #"{"a":1}x"#, #"{"a":01}"#, #"{"a":1.}"#, #"{"a" "b"}"#, #"{,}"#,
        #"{"a":"\x"}"#, "{\"a\":\"\n\"}", #"{"prompt":["#, #"{"prompt":1,"prompt":2}"#,
        "{\"model\":\"" + String(repeating: "n", count: 257) + "\"}",
        "{\"prompt\":\"" + String(repeating: "text ", count: 60) + "\",\"model\":\"m\"}",
        "{\"a\":" + String(repeating: "[", count: 70) + String(repeating: "]", count: 70) + "}",
        String(repeating: "{\"a\":", count: 513),
    ].map { Array($0.utf8) }

    static func violation(_ bytes: [UInt8]) -> String? {
        let needs: JSONKeyScanner.Needs = [.model, .stream, .maxTokens, .prompt]
        for stopsEarly in [false, true] {
            let whole = Answer(bytes, .whole, needs, stopsEarly: stopsEarly)
            for cut in Cut.allCases where cut != .whole {
                let pieces = Answer(bytes, cut, needs, stopsEarly: stopsEarly)
                if pieces != whole { return "whole: \(whole), \(cut): \(pieces)" }
            }
        }
        let one = Answer(bytes, .whole, .model, stopsEarly: false)
        return Self.compare(Answer(bytes, .whole, needs, stopsEarly: false), bytes)
            ?? Self.compareEarly(one, Answer(bytes, .whole, .model, stopsEarly: true))
    }

    /// What stops early finds the same model, if the whole body is good.
    private static func compareEarly(_ whole: Answer, _ early: Answer) -> String? {
        guard whole.outcome == .complete else { return nil }
        return early.outcome == .complete && early.model == whole.model
            ? nil : "early: \(early), to the end: \(whole)"
    }

    private struct Answer: Equatable {
        var outcome: JSONKeyScanner.OnScan
        var model: [UInt8]?
        var stream: Bool?
        var maxTokens: Int?
        var prompt: [UInt64]?
        var promptKey: UInt64?

        init(_ bytes: [UInt8], _ cut: Cut, _ needs: JSONKeyScanner.Needs, stopsEarly: Bool) {
            var scanner = JSONKeyScanner(needs: needs)
            // A scanner is reused: what it saw before must leave no trace.
            let before = Array(#"{"model":"z","prompt":[1,{"stream":true,"x":"\ud8"#.utf8)
            _ = scanner.scan(before.span.bytes)
            scanner.reset(needs: needs, stopsEarly: stopsEarly)
            cut.pieces(of: bytes) { _ = scanner.scan($0) }
            self.outcome = scanner.finish()
            // What was found before a problem depends on the pieces, and nobody may use it.
            guard self.outcome == .complete else { return }
            self.model = scanner.hasModel ? scanner.model.bytes.array : nil
            self.stream = scanner.stream
            self.maxTokens = scanner.maxTokens
            self.prompt = scanner.prompt.blocks
            self.promptKey = scanner.prompt.last
        }
    }

    // MARK: The other parser

    private static func compare(_ answer: Answer, _ bytes: [UInt8]) -> String? {
        var members = Members()
        let error = members.read(bytes)
        switch answer.outcome {
        case .complete:
            // The cursor allows less nesting.
            if let error { return error.message == "nested too deep" ? nil : "accepted: \(error)" }
            return members.difference(from: answer)
        case .invalid(let problem):
            switch problem.kind {
            case .notAnObject, .unexpectedByte, .controlByte, .invalidEscape, .truncated,
                .trailingBytes, .tooDeep:
                return error == nil ? "refused: \(problem)" : nil
            case .modelNotString, .duplicateModel, .modelTooLong, .modelNotUnicode:
                // It may come before another mistake, which the cursor reports.
                return error != nil || members.isModelBad ? nil : "refused: \(problem)"
            }
        case .needMore, .found: return "neither complete nor invalid at the end"
        }
    }

    /// The top-level members of an object, as `JSONCursor` reads them.
    private struct Members {
        var models = 0
        var model: String?
        var modelIsOther = false
        var stream: Bool?
        var maxTokens: Int?

        mutating func read(_ bytes: [UInt8]) -> JSONError? {
            let span = bytes.span.bytes
            var cursor = JSONCursor()
            do throws(JSONError) {
                try cursor.object(span) { (cursor, key) throws(JSONError) in
                    let quoted = [34] + bytes[key] + [34]
                    var reader = JSONCursor()
                    let name = try reader.string(quoted.span.bytes)
                    let kind = try cursor.peek(span)
                    let text = Array(bytes[try cursor.skip(span)])
                    try self.take(name, kind, text)
                }
                try cursor.end(span)
            } catch {
                return error
            }
            return nil
        }

        private mutating func take(
            _ name: String,
            _ kind: JSONCursor.Kind,
            _ text: [UInt8]
        ) throws(JSONError) {
            switch name {
            case "model":
                self.models += 1
                self.modelIsOther = self.modelIsOther || kind != .string
                if kind == .string {
                    var reader = JSONCursor()
                    self.model = try reader.string(text.span.bytes)
                }
            case "stream": self.stream = kind == .bool ? text == Array("true".utf8) : nil
            case "max_tokens", "max_completion_tokens", "max_output_tokens":
                let isWhole = kind == .number && text.allSatisfy { (48...57).contains($0) }
                let value = isWhole ? Int(text.text) : nil
                self.maxTokens = value.flatMap { $0 <= 1 << 53 ? $0 : nil }
            default: break
            }
        }

        var isModelBad: Bool {
            guard let model = self.model, self.models == 1 else { return true }
            // U+FFFD stands for what is not Unicode, or for itself.
            return self.modelIsOther || model.utf8.count > NameBuffer.capacity
                || model.unicodeScalars.contains("\u{FFFD}")
        }

        func difference(from answer: Answer) -> String? {
            if self.models > 1 || self.modelIsOther { return "a bad model is accepted" }
            if self.model.map({ Array($0.utf8) }) != answer.model {
                return "the model \(self.model ?? "none") is \(answer)"
            }
            if self.stream != answer.stream { return "`stream` is \(answer)" }
            return self.maxTokens == answer.maxTokens ? nil : "the limit of tokens is \(answer)"
        }
    }
}
