import Core
import Testing

@testable import ModelSimulator

/// Random operations, checked against what must hold whatever the order.
@Suite struct BatchingEnginePropertyTests {
    @Test(arguments: 1...60 as ClosedRange<UInt64>)
    func everySequenceEndsOnceAndNothingIsLost(seed: UInt64) {
        var world = EngineWorld(seed: seed)
        for _ in 0..<400 { world.operate() }
        world.runOut()
        #expect(world.problems == [], "seed \(seed)")
        #expect(world.accepted > 0, "seed \(seed) tested nothing")
    }

    @Test(arguments: 1...30 as ClosedRange<UInt64>)
    func theGranularityOfAdvanceDoesNotMatter(seed: UInt64) {
        var random = RandomSource(seed: seed)
        let coarse = Held(BatchingEngine(model: .random(&random), seed: seed))
        let fine = Held(coarse.value)
        let requests = (0..<30).map { SequenceRequest.random(UInt64($0), &random) }
        for request in requests {
            #expect(coarse.submit(request, now: .zero) == fine.submit(request, now: .zero))
        }
        let end = Instant(nanoseconds: 3_600_000_000_000)
        let whole = coarse.advance(to: end)
        var pieces: [EngineEvent] = []
        var clock = Instant.zero
        while let next = fine.nextEventTime {
            // Half-way first: advancing where nothing is due must change nothing.
            let rest = next.nanoseconds - clock.nanoseconds
            let middle = Instant(nanoseconds: clock.nanoseconds + rest / 2)
            pieces += fine.advance(to: middle)
            pieces += fine.advance(to: next)
            clock = next
        }
        #expect(whole == pieces, "seed \(seed)")
        #expect(coarse.totals == fine.totals, "seed \(seed)")
    }

    @Test func theSeedsReachWhatTheyShould() {
        var preemptions: UInt64 = 0
        var finished: UInt64 = 0
        for seed in 1...60 as ClosedRange<UInt64> {
            var world = EngineWorld(seed: seed)
            for _ in 0..<400 { world.operate() }
            preemptions += world.engine.totals.preemptions
            finished += world.engine.totals.finished
        }
        #expect(preemptions > 100)
        #expect(finished > 1_000)
    }
}

extension BatchingModel {
    fileprivate static func random(_ random: inout RandomSource) -> BatchingModel {
        var model = BatchingModel()
        model.stepBase = .microseconds(Int.random(in: 0...5_000, using: &random))
        model.stepPerSequence = .microseconds(Int.random(in: 0...500, using: &random))
        model.prefillTokensPerSecond = Double.random(in: 100...50_000, using: &random)
        model.batchMax = Int.random(in: 1...12, using: &random)
        model.stepTokensMax = Int.random(in: 1...200, using: &random)
        model.blockTokens = Int.random(in: 1...16, using: &random)
        model.blocks = Int.random(in: 10...60, using: &random)
        model.waitingMax = Int.random(in: 1...40, using: &random)
        model.jitter = Bool.random(using: &random) ? 0.4 : 0
        return model
    }
}

extension SequenceRequest {
    fileprivate static func random(_ id: UInt64, _ random: inout RandomSource) -> SequenceRequest {
        SequenceRequest(
            id: SequenceID(id),
            promptTokens: Int.random(in: 0...150, using: &random),
            outputTokens: Int.random(in: 0...60, using: &random),
            cachedTokens: Int.random(in: 0...50, using: &random)
        )
    }
}

/// Keeps its own account of every sequence and compares the engine's events with it.
private struct EngineWorld {
    var engine: BatchingEngine
    var problems: [String] = []
    var accepted = 0
    private var random: RandomSource
    private var now = Instant.zero
    private var lastEvent = Instant.zero
    private var nextID: UInt64 = 0
    private var live: [SequenceID: (request: SequenceRequest, tokens: Int, isRunning: Bool)] = [:]
    private var finished: UInt64 = 0
    private var tokens: UInt64 = 0

    init(seed: UInt64) {
        self.random = RandomSource(seed: seed)
        self.engine = BatchingEngine(model: .random(&self.random), seed: seed)
    }

    mutating func operate() {
        switch Int.random(in: 0..<10, using: &self.random) {
        case 0..<4: self.submit()
        case 4: self.cancel()
        default: self.advance(by: Int64.random(in: 0...20_000_000, using: &self.random))
        }
        self.checkState()
    }

    mutating func runOut() {
        var rounds = 0
        while self.engine.nextEventTime != nil && rounds < 100_000 {
            self.advance(by: 1_000_000_000)
            rounds += 1
        }
        if !self.live.isEmpty { self.problems.append("\(self.live.count) never ended") }
        if !self.engine.isIdle { self.problems.append("not idle without work") }
        if self.engine.blocksUsed != 0 { self.problems.append("blocks were kept") }
        let totals = self.engine.totals
        if totals.accepted != totals.finished + totals.cancelled {
            self.problems.append("accepted \(totals.accepted) of which ended \(totals)")
        }
        if totals.finished != self.finished { self.problems.append("finished differs") }
        if totals.outputTokens != self.tokens { self.problems.append("tokens differ") }
    }

    private mutating func submit() {
        let request = SequenceRequest.random(self.nextID, &self.random)
        self.nextID += 1
        let mustFit =
            request.promptTokens + request.outputTokens <= self.engine.model.cacheTokens
            && self.engine.waitingCount < self.engine.model.waitingMax
        let isAccepted = self.engine.submit(request, now: self.now) == .accepted
        if isAccepted != mustFit { self.problems.append("\(request) was accepted: \(isAccepted)") }
        if isAccepted {
            self.accepted += 1
            self.live[request.id] = (request, 0, false)
        }
    }

    private mutating func cancel() {
        let victims = self.live.keys.sorted { $0.rawValue < $1.rawValue }
        guard let victim = victims.randomElement(using: &self.random) else { return }
        self.live[victim] = nil
        if !self.engine.cancel(victim, now: self.now) { self.problems.append("lost \(victim)") }
    }

    private mutating func advance(by nanoseconds: Int64) {
        self.now = self.now.advanced(byNanoseconds: nanoseconds)
        for event in self.engine.advance(to: self.now) { self.note(event) }
        if let next = self.engine.nextEventTime, next <= self.now {
            self.problems.append("left an event behind")
        }
    }

    private mutating func note(_ event: EngineEvent) {
        if event.at < self.lastEvent || event.at > self.now {
            self.problems.append("out of time: \(event)")
        }
        self.lastEvent = event.at
        guard var state = self.live[event.id] else {
            self.problems.append("not live: \(event)")
            return
        }
        switch event.kind {
        case .admitted:
            if state.isRunning { self.problems.append("admitted twice: \(event)") }
            state.isRunning = true
        case .preempted:
            if !state.isRunning { self.problems.append("preempted while waiting: \(event)") }
            state.isRunning = false
        case .token(let index):
            if index != state.tokens || !state.isRunning {
                self.problems.append("wrong token: \(event)")
            }
            state.tokens += 1
            self.tokens += 1
        case .finished:
            if state.tokens != state.request.outputTokens {
                self.problems.append("finished after \(state.tokens) tokens: \(event)")
            }
            self.finished += 1
            self.live[event.id] = nil
            return
        }
        self.live[event.id] = state
    }

    private mutating func checkState() {
        let model = self.engine.model
        if self.engine.blocksUsed > model.blocks { self.problems.append("cache overrun") }
        if self.engine.runningCount > model.batchMax { self.problems.append("batch overrun") }
        if self.engine.runningCount != self.live.values.filter(\.isRunning).count {
            self.problems.append("running differs")
        }
        if self.engine.runningCount + self.engine.waitingCount != self.live.count {
            self.problems.append("conservation")
        }
    }
}
