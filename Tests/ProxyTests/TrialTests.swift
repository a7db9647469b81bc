import Core
import EventLoop
import Rollouts
import Synchronization
import Testing
import Traffic

@testable import Proxy

/// What a worker gathers of a rollout between two collections.
@Suite struct TrialRecorderTests {
    private let endpoint: Endpoint
    private let alarms = Alarms()

    private final class Alarms: Sendable {
        let count = Atomic<Int>(0)
        var value: Int { self.count.load(ordering: .relaxed) }
    }

    init() throws {
        let address = try #require(SocketAddress("127.0.0.1:9000"))
        self.endpoint = Endpoint(slot: 0, name: "v2-0", address: address, limit: .max)
    }

    private func trial(_ number: Int = 1, failuresMax: Int = 3) -> Trial {
        Trial(number: number, inspectsAnswers: false, failuresMax: failuresMax) {
            [alarms] in alarms.count.add(1, ordering: .relaxed)
        }
    }

    private func good(milliseconds: UInt64) -> TrialOutcome {
        var outcome = TrialOutcome()
        outcome.latencyNanoseconds = milliseconds * 1_000_000
        return outcome
    }

    private var failure: TrialOutcome {
        var outcome = TrialOutcome()
        outcome.insert(.error)
        outcome.isFailure = true
        return outcome
    }

    @Test func countsByArmGenerationAndStratum() throws {
        let trial = self.trial()
        let recorder = TrialRecorder(trial, model: "m")
        let canary = TrialArm(trial, .canary, generation: 7)
        recorder.record(self.good(milliseconds: 10), canary, at: self.endpoint)
        recorder.record(self.failure, canary, at: self.endpoint)
        var long = self.good(milliseconds: 30)
        long.stratum = 2
        recorder.record(long, canary, at: self.endpoint)
        let later = TrialArm(trial, .canary, generation: 8)
        recorder.record(self.good(milliseconds: 10), later, at: self.endpoint)
        let stable = TrialArm(trial, .stable, generation: 7)
        recorder.record(self.good(milliseconds: 5), stable, at: self.endpoint)
        let report = recorder.take()
        #expect(report.samples.count == 4)
        let first = try #require(
            report.samples.first { $0.generation == 7 && $0.stratum == 0 && $0.arm == .canary }
        )
        #expect(first.requests == 2)
        #expect(first[.error] == 1)
        #expect(first[LatencyKind.latency]?.total == 1)
        #expect(first.replica == "v2-0")
        #expect(report.canary.requests == 4)
        #expect(report.canary.errors == 1)
        #expect(report.stable.requests == 1)
        // What was taken is not taken again.
        #expect(recorder.take().samples.isEmpty)
    }

    @Test func latterTriesAndChosenVariantsAreForTheGuardrailsAlone() {
        let trial = self.trial()
        let recorder = TrialRecorder(trial, model: "m")
        var chosen = self.failure
        chosen.isCompared = false
        recorder.record(chosen, TrialArm(trial, .canary, generation: 1), at: self.endpoint)
        let report = recorder.take()
        #expect(report.samples.isEmpty)
        #expect(report.canary.errors == 1)
    }

    @Test func whoeverLeftIsNoFailureAndNoSuccess() {
        let trial = self.trial()
        let recorder = TrialRecorder(trial, model: "m")
        let arm = TrialArm(trial, .canary, generation: 1)
        recorder.record(self.failure, arm, at: self.endpoint)
        var left = TrialOutcome()
        left.insert(.cancelled)
        recorder.record(left, arm, at: self.endpoint)
        recorder.record(self.failure, arm, at: self.endpoint)
        let report = recorder.take()
        #expect(report.canary.requests == 2)
        #expect(trial.takeLongestRun() == 2)
        #expect(report.samples.reduce(0) { $0 + $1[EventKind.cancelled] } == 1)
    }

    @Test func anEarlierRolloutsRequestsAreNobodys() {
        let old = self.trial(1)
        let new = self.trial(2)
        let recorder = TrialRecorder(old, model: "m")
        recorder.record(self.failure, TrialArm(old, .canary, generation: 1), at: self.endpoint)
        recorder.follow(new)
        recorder.follow(old)
        recorder.record(self.failure, TrialArm(old, .canary, generation: 1), at: self.endpoint)
        let report = recorder.take()
        #expect(report.trial == 2)
        #expect(report.samples.isEmpty)
        #expect(report.canary.requests == 0)
    }

    @Test func whatDoesNotFitIsCountedAsDropped() {
        let trial = self.trial()
        let recorder = TrialRecorder(trial, model: "m")
        for generation in 0..<(TrialRecorder.cellsMax + 5) {
            let arm = TrialArm(trial, .stable, generation: generation)
            recorder.record(self.good(milliseconds: 1), arm, at: self.endpoint)
        }
        let report = recorder.take()
        #expect(report.samples.count == TrialRecorder.cellsMax)
        #expect(report.dropped == 5)
        // Guardrails see them all.
        #expect(report.stable.requests == TrialRecorder.cellsMax + 5)
    }

    @Test func runsOfFailuresAreCountedOverWorkersAndRaiseTheAlarmOnce() {
        let trial = self.trial(failuresMax: 3)
        let workers = [TrialRecorder(trial, model: "m"), TrialRecorder(trial, model: "m")]
        let arm = TrialArm(trial, .canary, generation: 1)
        for index in 0..<5 { workers[index % 2].record(self.failure, arm, at: self.endpoint) }
        #expect(self.alarms.value == 1)
        #expect(trial.takeLongestRun() == 5)
        workers[0].record(self.good(milliseconds: 1), arm, at: self.endpoint)
        // The run reached into this time, and no further.
        #expect(trial.takeLongestRun() == 5)
        #expect(trial.takeLongestRun() == 0)
        // The old variant's failures are none of the new one's.
        let stable = TrialArm(trial, .stable, generation: 1)
        for _ in 0..<9 { workers[0].record(self.failure, stable, at: self.endpoint) }
        #expect(trial.takeLongestRun() == 0)
    }

    @Test func pairsCountWhatDiffers() {
        var pairs = PairCounts()
        func answer(_ milliseconds: UInt64, hash: UInt64? = 1, isFailure: Bool = false)
            -> TrialPair.Answer
        {
            .init(isFailure: isFailure, nanoseconds: milliseconds * 1_000_000, hash: hash)
        }
        pairs.add(stable: answer(100), canary: answer(101))
        pairs.add(stable: answer(100), canary: answer(200, hash: 2))
        pairs.add(stable: answer(200), canary: answer(100, hash: nil))
        pairs.add(stable: answer(1), canary: answer(1, isFailure: true))
        pairs.add(stable: answer(1, isFailure: true), canary: answer(1))
        #expect(pairs.compared == 5)
        #expect(pairs.canarySlower == 1)
        #expect(pairs.stableSlower == 1)
        #expect(pairs.different == 1)
        #expect(pairs.canaryBad == 1)
        #expect(pairs.stableBad == 1)
        // Two answers of the old variant are none of the new one's.
        pairs.addBaseline(answer(1), answer(50, hash: 2))
        pairs.addBaseline(answer(1), answer(1))
        pairs.addBaseline(answer(1), answer(1, hash: 2, isFailure: true))
        #expect(pairs.baselineCompared == 3 && pairs.baselineDifferent == 1)
        #expect(pairs.compared == 5 && pairs.different == 1)
    }

    @Test func pairsOfTheOldVariantAreItsOwnBaseline() {
        let trial = Trial(
            number: 1,
            inspectsAnswers: true,
            repeatsStable: true,
            failuresMax: 0
        ) {}
        let recorder = TrialRecorder(trial, model: "m")
        for isBaseline in [true, false, false] {
            let pair = TrialPair(isBaseline: isBaseline)
            pair.stable = .init(isFailure: false, nanoseconds: 1, hash: 1)
            recorder.record(pair, of: trial)
            pair.copy = .init(isFailure: false, nanoseconds: 1, hash: 2)
            recorder.record(pair, of: trial)
        }
        let pairs = recorder.take().pairs
        #expect(pairs.hasBaseline)
        #expect(pairs.baselineCompared == 1 && pairs.baselineDifferent == 1)
        #expect(pairs.compared == 2 && pairs.different == 2)
    }
}

/// What is read in answers.
@Suite struct AnswerInspectionTests {
    /// The findings, the bytes taken whole and byte by byte.
    private func findings(
        _ text: String,
        _ format: AnswerInspection.Format = .json,
        asksForJSON: Bool = false
    ) -> AnswerInspection.Findings? {
        let bytes = Array(text.utf8)
        let whole = AnswerInspection(style: .openAI, format: format, asksForJSON: asksForJSON)
        bytes.withUnsafeBytes { whole.take($0) }
        let pieces = AnswerInspection(style: .openAI, format: format, asksForJSON: asksForJSON)
        for byte in bytes { withUnsafeBytes(of: byte) { pieces.take($0) } }
        #expect(whole.findings() == pieces.findings())
        return whole.findings()
    }

    private func chat(_ content: String, reason: String = "stop") -> String {
        #"{"id":"1","choices":[{"index":0,"message":{"role":"assistant","content":"#
            + "\(content)},\"finish_reason\":\"\(reason)\"}],\"usage\":{}}"
    }

    private func response(_ output: String, _ more: String = "") -> String {
        #"{"id":"1","object":"response","status":"completed","output":["#
            + "{\"type\":\"reasoning\",\"summary\":[]},\(output)]\(more)}"
    }

    private func message(_ part: String) -> String {
        #"{"type":"message","role":"assistant","content":["# + "\(part)]}"
    }

    @Test func readsResponses() throws {
        let text = self.message(#"{"type":"output_text","text":"Paris"}"#)
        let good = try #require(self.findings(self.response(text)))
        #expect(!good.isEmpty && !good.isRefused && !good.isTruncated && !good.isMalformed)
        let empty = try #require(self.findings(self.response(self.message(""))))
        #expect(empty.isEmpty)
        let tool = try #require(
            self.findings(self.response(#"{"type":"function_call","arguments":"{}"}"#))
        )
        #expect(!tool.isEmpty)
        let refused = self.message(#"{"type":"refusal","refusal":"No."}"#)
        #expect(try #require(self.findings(self.response(refused))).isRefused)
        let cut = self.response(text, #","incomplete_details":{"reason":"max_output_tokens"}"#)
        #expect(try #require(self.findings(cut)).isTruncated)
        let prose = try #require(self.findings(self.response(text), asksForJSON: true))
        #expect(prose.isInvalidJSON)
        let object = self.message(#"{"type":"output_text","text":"{\"a\":1}"}"#)
        let json = try #require(self.findings(self.response(object), asksForJSON: true))
        #expect(!json.isInvalidJSON)
        // The same text under another identity is the same answer.
        let other = self.response(text).replacing(#""id":"1""#, with: #""id":"2""#)
        #expect(try #require(self.findings(other)).hash == good.hash)
    }

    @Test func readsTheLastEventOfAStreamedResponse() throws {
        let text = self.message(#"{"type":"output_text","text":"Paris"}"#)
        let begun = #"{"type":"response.created","response":{"id":"1","output":[]}}"#
        let piece = #"{"type":"response.output_text.delta","delta":"Pa"}"#
        let end = #"{"type":"response.completed","response":"# + self.response(text) + "}"
        let events = [begun, piece, end].map { "data: \($0)\n\n" }.joined()
        let found = try #require(self.findings(events, .eventStream))
        let whole = try #require(self.findings(self.response(text)))
        #expect(!found.isEmpty && found.hash == whole.hash)
    }

    @Test(arguments: [
        (#"{"text":{"format":{"type":"json_schema","schema":{}}}}"#, true),
        (#"{"text":{"format":{"type":"text"}}}"#, false),
        (#"{"text":"plain","response_format":{"type":"json_object"}}"#, true),
        (#"{"text":{}}"#, false),
        (#"{"text""#, false),
    ])
    func seesThatJSONIsAskedFor(body: String, isAsked: Bool) {
        let bytes = Array(body.utf8)
        #expect(AnswerInspection.asksForJSON(bytes.span.bytes) == isAsked)
    }

    @Test func aGoodAnswerHasNothingToTell() throws {
        let found = try #require(self.findings(self.chat("\"Paris\"")))
        #expect(!found.isEmpty && !found.isRefused && !found.isTruncated && !found.isMalformed)
    }

    @Test func findsWhatIsWrongAt200() throws {
        #expect(try #require(self.findings(self.chat("\"\""))).isEmpty)
        #expect(try #require(self.findings(self.chat("null"))).isEmpty)
        #expect(try #require(self.findings(self.chat("\"a\"", reason: "length"))).isTruncated)
        let filtered = try #require(self.findings(self.chat("\"\"", reason: "content_filter")))
        #expect(filtered.isRefused && !filtered.isEmpty)
        let refusal = #"{"choices":[{"message":{"content":null,"refusal":"No."}}]}"#
        #expect(try #require(self.findings(refusal)).isRefused)
        #expect(try #require(self.findings(#"{"choices": ["#)).isMalformed)
        let tools = #"{"choices":[{"message":{"content":null,"tool_calls":[{"id":"1"}]}}]}"#
        #expect(try #require(self.findings(tools)).isEmpty == false)
    }

    @Test(arguments: [
        (#""{\"a\": 1}""#, false), (#""[1, 2]""#, false), (#""Sure! {\"a\": 1}""#, true),
        (#""{\"a\": ""#, true), (#""""#, true),
    ])
    func jsonThatWasAskedForIsChecked(_ content: String, _ isInvalid: Bool) throws {
        let found = try #require(self.findings(self.chat(content), asksForJSON: true))
        #expect(found.isInvalidJSON == isInvalid)
        #expect(try #require(self.findings(self.chat(content))).isInvalidJSON == false)
    }

    @Test func streamsSayTheSameAsAnswers() throws {
        let stream = """
            data: {"choices":[{"delta":{"role":"assistant","content":""}}]}

            data: {"choices":[{"delta":{"content":"Pa"}}]}\r
            \r
            data:{"choices":[{"delta":{"content":"ris"},"finish_reason":"length"}]}

            data: {"choices":[],"usage":{"prompt_tokens":1}}

            data: [DONE]

            """
        let found = try #require(self.findings(stream, .eventStream))
        #expect(found.isTruncated && !found.isEmpty && !found.isMalformed)
        #expect(found.hash == self.findings(self.chat("\"Paris\""))?.hash)
        let empty = "data: {\"choices\":[{\"delta\":{\"content\":\"\"}}]}\n\ndata: [DONE]\n\n"
        #expect(try #require(self.findings(empty, .eventStream)).isEmpty)
    }

    @Test func outputsAreComparedWithoutNamesAndTimes() {
        func hash(_ text: String) -> UInt64? {
            let inspection = AnswerInspection(
                style: .openInference,
                format: .json,
                asksForJSON: false
            )
            Array(text.utf8).withUnsafeBytes { inspection.take($0) }
            return inspection.findings()?.hash
        }
        let first = hash(#"{"id":"a","model_version":"v1","outputs":[{"data":[7]}]}"#)
        #expect(first == hash(#"{"id":"b","model_version":"v2","outputs":[{"data":[7]}]}"#))
        #expect(first != hash(#"{"id":"a","model_version":"v1","outputs":[{"data":[8]}]}"#))
    }

    @Test func ofALongAnswerNothingIsSaid() {
        let text = self.chat("\"" + String(repeating: "x", count: AnswerInspection.bytesMax) + "\"")
        let inspection = AnswerInspection(style: .openAI, format: .json, asksForJSON: false)
        Array(text.utf8).withUnsafeBytes { inspection.take($0) }
        #expect(inspection.findings() == nil)
    }

    @Test(arguments: [
        (#"{"model":"m","response_format":{"type":"json_object"}}"#, true),
        (#"{"response_format":{"type":"json_schema","json_schema":{}}}"#, true),
        (#"{"response_format":{"type":"text"}}"#, false), (#"{"model":"m"}"#, false),
        (#"{"messages":[{"content":"\"response_format\":{\"type\":\"json_object\"}"}]}"#, false),
        (#"{"response_format":"#, false), ("", false),
    ])
    func requestsThatAskForJSONAreKnown(_ body: String, _ expected: Bool) {
        let bytes = Array(body.utf8)
        #expect(AnswerInspection.asksForJSON(bytes.span.bytes) == expected)
    }
}
