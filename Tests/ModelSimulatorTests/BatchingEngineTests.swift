import Core
import Testing

@testable import ModelSimulator

/// Steps of 10 ms plus 1 ms per decoding sequence, 1 ms per prompt token.
private func simpleModel() -> BatchingModel {
    var model = BatchingModel()
    model.stepBase = .milliseconds(10)
    model.stepPerSequence = .milliseconds(1)
    model.prefillTokensPerSecond = 1_000
    model.batchMax = 4
    model.stepTokensMax = 100
    model.blockTokens = 4
    model.blocks = 1_000
    model.waitingMax = 10
    return model
}

private func at(_ milliseconds: UInt64) -> Instant {
    Instant(nanoseconds: milliseconds * 1_000_000)
}

private func request(_ id: UInt64, _ prompt: Int, _ output: Int) -> SequenceRequest {
    SequenceRequest(id: SequenceID(id), promptTokens: prompt, outputTokens: output)
}

/// `12 1 token 0` and the like, for timelines that people can read.
private func lines(_ events: [EngineEvent]) -> [String] {
    events.map { event in
        let time = "\(event.at.nanoseconds / 1_000_000) \(event.id.rawValue) "
        switch event.kind {
        case .admitted: return time + "admitted"
        case .token(let index): return time + "token \(index)"
        case .finished: return time + "finished"
        case .preempted: return time + "preempted"
        }
    }
}

@Suite struct BatchingEngineTests {
    @Test func oneSequenceHasTheTimelineOfTheFormula() {
        let engine = Held(BatchingEngine(model: simpleModel(), seed: 1))
        #expect(engine.submit(request(1, 20, 3), now: at(5)) == .accepted)
        #expect(engine.nextEventTime == at(5))
        #expect(
            lines(engine.advance(to: at(1_000))) == [
                "5 1 admitted", "35 1 token 0", "46 1 token 1", "57 1 token 2", "57 1 finished",
            ]
        )
        #expect(engine.isIdle)
        #expect(engine.nextEventTime == nil)
        #expect(engine.blocksUsed == 0)
    }

    @Test func longPromptsAreReadInChunksThatShareStepsWithDecoding() {
        var model = simpleModel()
        model.stepTokensMax = 10
        let engine = Held(BatchingEngine(model: model, seed: 1))
        _ = engine.submit(request(1, 4, 4), now: at(0))
        _ = engine.submit(request(2, 20, 1), now: at(0))
        // Step 1: 4 + 6 prompt tokens; then 1 decodes beside chunks of 9 and 5.
        #expect(
            lines(engine.advance(to: at(1_000))) == [
                "0 1 admitted", "0 2 admitted", "20 1 token 0", "40 1 token 1", "56 1 token 2",
                "56 2 token 0", "56 2 finished", "67 1 token 3", "67 1 finished",
            ]
        )
    }

    @Test func theBatchIsBoundedAndTheQueueIsFirstComeFirstServed() {
        var model = simpleModel()
        model.batchMax = 2
        let engine = Held(BatchingEngine(model: model, seed: 1))
        for id in 1...4 { _ = engine.submit(request(UInt64(id), 1, 1), now: at(0)) }
        let events = engine.advance(to: at(11))
        #expect(engine.runningCount == 2)
        #expect(engine.waitingCount == 2)
        #expect(lines(events) == ["0 1 admitted", "0 2 admitted"])
        let rest = lines(engine.advance(to: at(100)))
        #expect(
            rest == [
                "12 1 token 0", "12 1 finished", "12 2 token 0", "12 2 finished",
                "12 3 admitted", "12 4 admitted",
                "24 3 token 0", "24 3 finished", "24 4 token 0", "24 4 finished",
            ]
        )
    }

    @Test func aFullCachePreemptsTheYoungestWhichLosesNoToken() {
        var model = simpleModel()
        model.blocks = 4
        let engine = Held(BatchingEngine(model: model, seed: 1))
        _ = engine.submit(request(1, 4, 8), now: at(0))
        _ = engine.submit(request(2, 4, 8), now: at(0))
        let events = engine.advance(to: at(10_000))
        let tokens = Dictionary(grouping: events, by: \.id).mapValues { events in
            events.compactMap { event -> Int? in
                if case .token(let index) = event.kind { index } else { nil }
            }
        }
        #expect(tokens[SequenceID(1)] == Array(0..<8))
        #expect(tokens[SequenceID(2)] == Array(0..<8))
        #expect(engine.totals.preemptions == 1)
        #expect(events.filter { $0.kind == .preempted }.map(\.id) == [SequenceID(2)])
        // Sequence 1 was never disturbed: 18 ms for both prompts, then pairs, then alone.
        #expect(events.last { $0.id == SequenceID(1) }?.kind == .finished)
        #expect(engine.totals.promptTokens > 8)
        #expect(engine.blocksUsed == 0)
    }

    @Test func theQueueIsBounded() {
        var model = simpleModel()
        model.waitingMax = 2
        let engine = Held(BatchingEngine(model: model, seed: 1))
        #expect(engine.submit(request(1, 1, 1), now: at(0)) == .accepted)
        #expect(engine.submit(request(2, 1, 1), now: at(0)) == .accepted)
        #expect(engine.submit(request(3, 1, 1), now: at(0)) == .rejected(.queueFull))
        _ = engine.advance(to: at(0))
        #expect(engine.submit(request(3, 1, 1), now: at(0)) == .accepted)
        #expect(engine.totals.rejected == 1)
    }

    @Test func whatCanNeverFitIsRejected() {
        var model = simpleModel()
        model.blocks = 5
        let engine = Held(BatchingEngine(model: model, seed: 1))
        #expect(engine.submit(request(1, 15, 6), now: at(0)) == .rejected(.tooLong))
        #expect(engine.submit(request(2, .max, .max), now: at(0)) == .rejected(.tooLong))
        #expect(engine.submit(request(3, 15, 5), now: at(0)) == .accepted)
        #expect(engine.submit(request(3, 1, 1), now: at(0)) == .rejected(.duplicate))
        #expect(engine.advance(to: at(10_000)).last?.kind == .finished)
        #expect(engine.submit(request(3, 1, 1), now: at(10_000)) == .accepted)
    }

    @Test func aPromptAloneFinishesWithoutAToken() {
        let engine = Held(BatchingEngine(model: simpleModel(), seed: 1))
        _ = engine.submit(request(1, 30, 0), now: at(0))
        #expect(lines(engine.advance(to: at(100))) == ["0 1 admitted", "40 1 finished"])
        #expect(engine.totals.outputTokens == 0)
    }

    @Test func cachedPromptTokensNeedNoPrefill() {
        let engine = Held(BatchingEngine(model: simpleModel(), seed: 1))
        let cached = SequenceRequest(
            id: SequenceID(1),
            promptTokens: 30,
            outputTokens: 1,
            cachedTokens: 24
        )
        _ = engine.submit(cached, now: at(0))
        _ = engine.advance(to: at(1))
        #expect(engine.blocksUsed == 8)
        #expect(lines(engine.advance(to: at(100))) == ["16 1 token 0", "16 1 finished"])
    }

    @Test(arguments: [0, 12, 31, 40] as [UInt64])
    func aCancelledSequenceFreesItsMemoryAndSaysNothingMore(_ time: UInt64) {
        let engine = Held(BatchingEngine(model: simpleModel(), seed: 1))
        _ = engine.submit(request(1, 20, 10), now: at(0))
        _ = engine.advance(to: at(time))
        #expect(engine.cancel(SequenceID(1), now: at(time)))
        #expect(!engine.cancel(SequenceID(1), now: at(time)))
        #expect(engine.blocksUsed == 0)
        #expect(engine.advance(to: at(1_000)).isEmpty)
        #expect(engine.isIdle)
        #expect(engine.totals.cancelled == 1)
        #expect(engine.totals.finished == 0)
    }

    @Test func cancellingOneWaiterKeepsTheOthersInOrder() {
        var model = simpleModel()
        model.batchMax = 1
        let engine = Held(BatchingEngine(model: model, seed: 1))
        for id in 1...4 { _ = engine.submit(request(UInt64(id), 1, 1), now: at(0)) }
        #expect(engine.cancel(SequenceID(3), now: at(0)))
        let finished = engine.advance(to: at(100)).filter { $0.kind == .finished }
        #expect(finished.map(\.id.rawValue) == [1, 2, 4])
    }

    @Test func laterSubmissionsDoNotJoinAnEarlierStep() {
        let engine = Held(BatchingEngine(model: simpleModel(), seed: 1))
        _ = engine.submit(request(1, 10, 1), now: at(0))
        _ = engine.submit(request(2, 10, 1), now: at(5))
        let events = lines(engine.advance(to: at(100)))
        #expect(
            events == [
                "0 1 admitted", "20 1 token 0", "20 1 finished", "20 2 admitted", "40 2 token 0",
                "40 2 finished",
            ]
        )
    }

    @Test func slowdownAppliesFromTheNextStep() {
        let engine = Held(BatchingEngine(model: simpleModel(), seed: 1))
        _ = engine.submit(request(1, 10, 2), now: at(0))
        _ = engine.advance(to: at(0))
        engine.value.setSlowdown(3)
        #expect(engine.nextEventTime == at(20))
        #expect(engine.advance(to: at(100)).last?.at == at(20 + 33))
    }

    @Test func moreConcurrencyGivesMoreTokensPerSecondAndSlowerStreams() {
        func run(_ count: Int) -> (seconds: Double, tokens: UInt64) {
            let engine = Held(BatchingEngine(model: BatchingModel(), seed: 1))
            for id in 0..<count { _ = engine.submit(request(UInt64(id), 100, 100), now: at(0)) }
            let events = engine.advance(to: at(1_000_000))
            return (events.last?.at.seconds(since: at(0)) ?? 0, engine.totals.outputTokens)
        }
        let (one, oneTokens) = run(1)
        let (many, manyTokens) = run(64)
        #expect(many > one)
        #expect(Double(manyTokens) / many > 20 * Double(oneTokens) / one)
    }

    @Test func jitterIsDeterministicBySeed() {
        var model = simpleModel()
        model.jitter = 0.3
        func run(_ seed: UInt64) -> [EngineEvent] {
            let engine = Held(BatchingEngine(model: model, seed: seed))
            _ = engine.submit(request(1, 10, 20), now: at(0))
            return engine.advance(to: at(10_000))
        }
        #expect(run(7) == run(7))
        #expect(run(7) != run(8))
        #expect(run(7).count == 22)
    }

    @Test func aModelSaysAllThatIsWrongWithIt() {
        var model = BatchingModel()
        #expect(model.problems.isEmpty)
        model.prefillTokensPerSecond = .nan
        model.batchMax = 0
        model.blocks = -1
        model.jitter = .infinity
        model.stepBase = .seconds(4_000)
        #expect(model.problems.count == 5)
    }
}
