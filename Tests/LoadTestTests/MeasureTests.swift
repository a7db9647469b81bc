import Core
import Testing

@testable import LoadTest

@Suite("Event streams")
struct EventStreamTests {
    private static let stream = """
        : comment\r
        data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\r
        \r
        data: {"choices":[{"delta":{"content":"say \\"content\\":\\"x\\""}}],"usage":null}

        event: x
        data:{"choices":[{"delta":{"content" : "b"}}]}

        data: {"choices":[{"delta":{},"finish_reason":"stop"}]}

        data: {"choices":[],"usage":{"prompt_tokens":12,"completion_tokens":34,"total_tokens":46}}

        data: [DONE]


        """

    private func scan(_ text: String, piece: Int) -> (AnswerFindings, outputs: Int) {
        let bytes = Array(text.utf8)
        var scanner = EventStreamScanner()
        var outputs = 0
        for start in stride(from: 0, to: bytes.count, by: piece) {
            // A copy of its own: reading past the piece would be found.
            let part = Array(bytes[start..<min(start + piece, bytes.count)])
            scanner.scan(part.span.bytes) { outputs += 1 }
        }
        return (scanner.findings, outputs)
    }

    @Test(arguments: [1, 2, 3, 7, 64, 100_000])
    func findsTokensHoweverTheBytesCome(piece: Int) {
        let (findings, outputs) = self.scan(Self.stream, piece: piece)
        #expect(outputs == 2)
        #expect(findings.outputEvents == 2)
        #expect(findings.inputTokens == 12)
        #expect(findings.outputTokens == 34)
        #expect(findings.isDone)
        #expect(!findings.hasError)
    }

    @Test(arguments: [
        ("{\"text\":\"a\"}", true), ("{\"text\":\"\"}", false), ("{\"content\":null}", false),
        ("{\"note\":\"content\"}", false), ("{\"a\":\"\\\\\",\"content\":\"x\"}", true),
        ("{\"a\":\"\\\",\\\"content\\\":\\\"x\"}", false), ("{\"reasoning_content\":\"x\"}", true),
        ("{\"delta\":\"x\"}", true), ("{\"contents\":\"x\"}", false),
        ("{\"arguments\":\"{\"}", true),
        ("", false), ("{", false), ("\"", false), ("{\"content\":", false),
        ("{\"content\":\"", false),
    ])
    func knowsWhatCarriesOutput(_ document: String, carries: Bool) {
        #expect(self.scan("data: \(document)\n", piece: 100_000).outputs == (carries ? 1 : 0))
    }

    @Test func reportsErrors() {
        #expect(self.scan("data: {\"error\":{\"message\":\"x\"}}\n", piece: 5).0.hasError)
        #expect(!self.scan("data: {\"error\":null}\n", piece: 5).0.hasError)
        #expect(!self.scan("data: {\"content\":\"\\\"error\\\":{}\"}\n", piece: 5).0.hasError)
    }

    @Test func aLineWithoutEndIsBounded() {
        var scanner = EventStreamScanner()
        let part = [UInt8](repeating: 0x61, count: 1 << 20)
        for _ in 0..<4 { scanner.scan(part.span.bytes) {} }
        #expect(!scanner.findings.isTooLong)
        scanner.scan(part.span.bytes) {}
        #expect(scanner.findings.isTooLong)
    }

    @Test func countsSaturate() {
        let (findings, _) = self.scan(
            "data: {\"completion_tokens\":99999999999999999999}\n",
            piece: 9
        )
        #expect(findings.outputTokens == .max)
    }

    @Test func randomBytesAreHarmless() {
        var random = RandomSource(seed: 4)
        let alphabet = Array("data: {}\"content\":\\\n\r[DONE]text1,".utf8)
        for _ in 0..<500 {
            let bytes = (0..<200).map { _ in alphabet[Int(random.next() % UInt64(alphabet.count))] }
            let text = String(decoding: bytes, as: UTF8.self)
            #expect(self.scan(text, piece: 1).0 == self.scan(text, piece: 1_000).0)
        }
    }
}

/// A successful request of so many milliseconds.
func record(at scheduled: UInt64, took: UInt64, _ change: (inout RequestRecord) -> Void = { _ in })
    -> RequestRecord
{
    var record = RequestRecord()
    record.scheduled = scheduled * 1_000_000
    record.dispatched = record.scheduled
    record.sent = record.scheduled
    record.end = (scheduled + took) * 1_000_000
    record.status = 200
    change(&record)
    return record
}

@Suite("Statistics")
struct StatisticsTests {
    private func statistics(_ objectives: [Objective] = []) -> RunStatistics {
        RunStatistics(
            window: MeasuredWindow(start: 1_000_000_000, end: 3_000_000_000),
            objectives: objectives,
            targetCount: 2,
            sliceWidth: 500_000_000
        )
    }

    @Test func warmUpAndCoolDownDoNotCount() {
        var statistics = self.statistics()
        for at: UInt64 in [0, 999, 1_000, 2_999, 3_000] {
            statistics.start(scheduled: at * 1_000_000, dispatched: at * 1_000_000 + 5)
            statistics.end(record(at: at, took: at == 1_000 ? 10 : 500))
        }
        statistics.finish()
        #expect(statistics.total == 2)
        #expect(statistics.ended == 5)
        // By their ends, 1.499 s and 1.010 s lie in the window; 3.499 s does not.
        #expect(statistics.succeededInWindow == 2)
        #expect(statistics.latency.minimum == 10_000_000)
        #expect(statistics.latency.maximum == 500_000_000)
        #expect(statistics.lag.count == 5)
        #expect(RunSummary(statistics: statistics).rate == 1)
    }

    @Test func failuresDoNotLookFast() {
        var statistics = self.statistics()
        statistics.end(record(at: 1_000, took: 100))
        statistics.end(
            record(at: 1_001, took: 1) {
                $0.outcome = .httpError
                $0.status = 503
            }
        )
        statistics.finish()
        let summary = RunSummary(statistics: statistics)
        #expect(summary.errorShare == 0.5)
        #expect(statistics.latency.count == 1)
        #expect(statistics.statuses == [200: 1, 503: 1])
        #expect(statistics.outcomes[Int(Outcome.httpError.rawValue)] == 1)
    }

    @Test func threadsAddUpToTheSame() {
        var whole = self.statistics([Objective(metric: .latency, bound: 0.05)])
        var parts = [whole, whole, whole]
        for index in 0..<300 {
            let at = UInt64(900 + index * 7)
            func make(_ statistics: inout RunStatistics) {
                let variant = statistics.variant(named: index % 3 == 0 ? "a" : "b")
                statistics.start(
                    scheduled: at * 1_000_000,
                    dispatched: at * 1_000_000 + UInt64(index)
                )
                statistics.end(
                    record(at: at, took: UInt64(index)) {
                        $0.variant = variant
                        $0.target = UInt8(index % 2)
                        $0.outcome = index % 50 == 0 ? .timedOut : .ok
                    }
                )
            }
            make(&whole)
            make(&parts[index % 3])
        }
        whole.finish()
        for index in parts.indices { parts[index].finish() }
        var sum = parts[0]
        sum.merge(parts[1])
        sum.merge(parts[2])
        #expect(sum.total == whole.total && sum.good == whole.good)
        #expect(sum.latency.quantile(0.9) == whole.latency.quantile(0.9))
        #expect(sum.variants.keys.sorted() == ["a", "b"])
        #expect(sum.variants["a"]?.total == whole.variants["a"]?.total)
        #expect(sum.targets.map(\.total) == whole.targets.map(\.total))
        #expect(sum.slices.map(\.scheduled) == whole.slices.map(\.scheduled))
        #expect(sum.statuses == whole.statuses && sum.outcomes == whole.outcomes)
        #expect(sum.lag.maximum == whole.lag.maximum)
    }

    @Test func variantsAndSlicesAreBounded() {
        var statistics = self.statistics()
        for index in 0..<500 { _ = statistics.variant(named: "v\(index)") }
        #expect(statistics.variantName(statistics.variant(named: "new")) == "(other)")
        statistics.end(record(at: 100_000_000, took: 1))
        #expect(statistics.slices.count == LoadLimits.slicesMax)
    }

    @Test func distributionIsWithinThreeFigures() {
        var distribution = Distribution()
        for value in 1...100_000 { distribution.record(nanoseconds: UInt64(value) * 10_000) }
        for quantile in [0.01, 0.5, 0.9, 0.99, 0.999] {
            let exact = quantile * 1e9
            #expect((Double(distribution.quantile(quantile)) / exact - 1).magnitude < 0.001)
        }
        #expect(distribution.quantile(1) == 1_000_000_000)
        #expect(distribution.minimum == 10_000)
        #expect((distribution.mean / 500_005_000 - 1).magnitude < 1e-9)
        #expect((distribution.deviation / 288_675_134 - 1).magnitude < 1e-3)
        distribution.record(nanoseconds: 1 << 62)
        #expect(distribution.maximum == 1 << 62)
        let spectrum = distribution.spectrum()
        #expect(zip(spectrum.dropFirst(), spectrum).allSatisfy { $0.quantile > $1.quantile })
        #expect(zip(spectrum.dropFirst(), spectrum).allSatisfy { $0.nanoseconds >= $1.nanoseconds })
    }

    @Test func emptyDistributionHasZeros() {
        let distribution = Distribution()
        #expect(distribution.quantile(0.5) == 0 && distribution.mean == 0)
        #expect(distribution.minimum == 0 && distribution.spectrum().isEmpty)
    }

    @Test func timesFollowTheirDefinitions() {
        let made = record(at: 1_000, took: 500) {
            $0.sent = 1_100_000_000
            $0.firstOutput = 1_200_000_000
            $0.lastOutput = 1_440_000_000
            $0.outputTokens = 25
        }
        #expect(made.latency == 500_000_000)
        #expect(made.serviceTime == 400_000_000)
        #expect(made.timeToFirstToken == 200_000_000)
        #expect(made.timePerOutputToken == 10_000_000)
        #expect(record(at: 1, took: 1).timeToFirstToken == nil)
        #expect(record(at: 1, took: 1).timePerOutputToken == nil)
    }

    @Test func objectivesJudgeEachRequest() throws {
        let objectives = try Objective.parse("ttft:200ms,tpot:10ms,e2el:1s")
        func isGood(_ change: (inout RequestRecord) -> Void) -> Bool {
            let made = record(at: 0, took: 500) {
                $0.firstOutput = 200_000_000
                $0.lastOutput = 300_000_000
                $0.outputTokens = 11
                change(&$0)
            }
            return objectives.allSatisfy { $0.isKept(by: made) }
        }
        #expect(isGood { _ in })
        #expect(!isGood { $0.firstOutput += 1_000_000 })
        #expect(!isGood { $0.lastOutput += 1_000_000 })
        #expect(!isGood { $0.end = 1_001_000_000 })
        #expect(!isGood { $0.firstOutput = 0 })
        // One token has no time per further token.
        #expect(isGood { $0.outputTokens = 1 })
    }

    @Test(arguments: ["", "ttft", "ttft:", "ttft:0", "speed:1s", "ttft:1s,", "ttft:1s:2s"])
    func refusesWhatIsNoObjective(_ text: String) {
        #expect(throws: LoadError.self) { try Objective.parse(text) }
    }

    @Test(arguments: [
        ("p99(latency)<=500ms", true), ("p50(latency)<1ms", false), ("mean(latency) < 400ms", true),
        ("max(service)>=500ms", true), ("errors<1%", false), ("errors<=0.25", true),
        ("rate>=1.5", true), ("rate>2", false), ("attainment>=75%", true), ("p99(ttft)<10s", false),
        ("goodput>1", true), ("tokens>=0", true), ("p99.9(lag)<1us", true),
    ])
    func thresholdsJudgeTheRun(_ text: String, isKept: Bool) throws {
        var statistics = self.statistics()
        for index in 0..<4 {
            statistics.start(scheduled: 1_000_000_000, dispatched: 1_000_000_000)
            statistics.end(
                record(at: 1_000, took: index < 2 ? 200 : 500) {
                    if index == 3 { $0.outcome = .connectionLost }
                }
            )
        }
        statistics.finish()
        let threshold = try Threshold(text)
        #expect(threshold.evaluate(RunSummary(statistics: statistics)).isKept == isKept)
    }

    @Test(arguments: [
        "", "latency", "p99(latency)", "p99(latency)<", "p101(latency)<1s", "p99(speed)<1s",
        "p99(latency)<5", "errors<200%", "errors<x", "rate<1s", "median(latency)<1s", "rate=5",
        "p(latency)<1s",
    ])
    func refusesWhatIsNoThreshold(_ text: String) {
        #expect(throws: LoadError.self) { try Threshold(text) }
    }

    @Test func oneLateRequestOfFewIsForgiven() {
        var statistics = self.statistics()
        for index in 0..<20 {
            statistics.start(scheduled: 0, dispatched: index == 7 ? 50_000_000 : 1_000)
        }
        #expect(RunSummary(statistics: statistics).invalidity == nil)
        statistics.start(scheduled: 0, dispatched: 50_000_000)
        #expect(RunSummary(statistics: statistics).invalidity != nil)
    }

    @Test func aLateGeneratorMakesTheRunInvalid() {
        var statistics = self.statistics()
        for _ in 0..<100 { statistics.start(scheduled: 0, dispatched: 20_000_000) }
        var summary = RunSummary(statistics: statistics)
        #expect(summary.invalidity?.contains("late by") == true)
        summary.lagMax = 30_000_000
        #expect(summary.invalidity == nil)
        summary.statistics.dropped = 1
        #expect(summary.invalidity?.contains("never sent") == true)
        summary.isOpenLoop = false
        #expect(summary.invalidity == nil)
    }
}

@Suite("Goodput search")
struct GoodputSearchTests {
    /// Searches on a server that keeps the objectives up to `capacity`.
    private func search(
        capacity: Double,
        from: Double = 1,
        generator: Double = .infinity,
        tolerance: Double = 0.05,
        probesMax: Int = 30
    ) -> (GoodputSearch, GoodputSearch.Next) {
        var search = GoodputSearch(
            from: from,
            target: 0.95,
            tolerance: tolerance,
            probesMax: probesMax
        )
        while case .probe(let rate) = search.next {
            search.add(
                .init(
                    rate: rate,
                    requests: 1_000,
                    good: rate <= capacity ? 990 : 500,
                    isValid: rate <= generator
                )
            )
        }
        return (search, search.next)
    }

    @Test(arguments: [0.3, 1.0, 7.7, 123.0, 99_000.0])
    func findsTheCapacity(_ capacity: Double) {
        let (search, end) = self.search(capacity: capacity)
        guard case .done(let rate?, .converged) = end else {
            Issue.record("\(end)")
            return
        }
        #expect(rate <= capacity && rate >= capacity / 1.05 - 1e-9)
        #expect(search.probes.count < 30)
    }

    @Test func givesUpWhereNothingPasses() {
        let (_, end) = self.search(capacity: 0)
        #expect(end == .done(rate: nil, reason: .noRatePasses))
    }

    @Test func endsWhereTheGeneratorDoes() {
        let (_, end) = self.search(capacity: 1e6, generator: 100)
        #expect(end == .done(rate: 64, reason: .generatorLagged))
    }

    @Test func triesAnUnsentProbeOnceMore() {
        var search = GoodputSearch(from: 8, target: 0.9)
        search.add(.init(rate: 8, requests: 10, good: 10, isValid: false))
        #expect(search.next == .probe(rate: 8))
        search.add(.init(rate: 8, requests: 10, good: 10, isValid: true))
        search.add(.init(rate: 16, requests: 10, good: 10, isValid: false))
        #expect(search.next == .probe(rate: 16))
        search.add(.init(rate: 16, requests: 10, good: 10, isValid: false))
        #expect(search.next == .done(rate: 8, reason: .generatorLagged))
    }

    @Test func endsWhereTheRequestsAreRefused() {
        var search = GoodputSearch(from: 8, target: 0.9)
        search.add(.init(rate: 8, requests: 10, good: 0, isValid: false, isRefused: true))
        #expect(search.next == .done(rate: nil, reason: .refused))
    }

    @Test func endsWithItsProbes() {
        let (search, end) = self.search(capacity: 1_000, probesMax: 5)
        #expect(search.probes.count == 5)
        #expect(end == .done(rate: 16, reason: .probesExhausted))
    }

    @Test func intervalIsWilsons() {
        let probe = GoodputSearch.Probe(rate: 1, requests: 100, good: 95, isValid: true)
        #expect((probe.interval.lowerBound - 0.8882).magnitude < 1e-3)
        #expect((probe.interval.upperBound - 0.9785).magnitude < 1e-3)
        #expect(GoodputSearch.Probe(rate: 1, requests: 0, good: 0, isValid: true).interval == 0...1)
    }
}
