import Core

// Design note
//
// A continuous-batching text generator as a value: what vLLM's scheduler does to time, without the
// GPU. It knows no clock, socket or event loop: every call carries `now`, `nextEventTime` says when
// something happens next, and `advance` returns what did. The server beside it plays it in real
// time; a discrete-event simulation can play it as fast as it likes. Same seed, same calls: same
// events.
//
// Time passes in steps. At a step's start every running sequence gets a share of the step's token
// budget, in order of admission: one token where it decodes, a chunk where its prompt is still to
// be read; then waiting ones are admitted, first come first served, while batch, budget and KV
// cache last. At the step's end each sequence that has caught up with its text emits one token. A
// sequence that needs a block when none is free takes them from the youngest running one, which
// goes back to the head of the queue and later computes its prompt and output so far again. The
// oldest sequence is therefore never preempted, and since nothing is accepted that cannot fit
// alone, it always ends.
//
// What it leaves out: prefix sharing between sequences, priorities, speculative decoding, swapping.

/// See the design note above. One owner; calls in the order of time.
package struct BatchingEngine: Sendable {
    package private(set) var model: BatchingModel
    package private(set) var totals = EngineTotals()
    package private(set) var blocksUsed = 0
    private var running: [Sequence] = []
    private var waiting = WaitingLine()
    private var live: Set<SequenceID> = []
    /// The end of the step at hand; nil between steps.
    private var stepEnd: Instant?
    private var lastStepEnd: Instant = .zero
    /// No call and no event may be earlier than this.
    private var clock: Instant = .zero
    private var random: RandomSource

    fileprivate struct Sequence: Sendable {
        let request: SequenceRequest
        let arrival: Instant
        /// Output tokens emitted.
        var generated = 0
        /// Tokens whose keys and values are in the cache.
        var computed = 0
        /// Tokens that the step at hand computes.
        var scheduled = 0
        var blocks = 0
        var wasPreempted = false

        var id: SequenceID { self.request.id }
        /// Tokens still to compute before the next one comes out.
        var remaining: Int { self.request.promptTokens + self.generated - self.computed }
        var isDecoding: Bool { self.generated > 0 && self.remaining == 1 }
        /// Whether the last output token is out, or the prompt is read where there is no output.
        var isComplete: Bool {
            self.request.outputTokens == 0
                ? self.remaining == 0 : self.generated == self.request.outputTokens
        }
    }

    /// - Parameter model: must have no `problems`.
    package init(model: BatchingModel, seed: UInt64) {
        precondition(model.problems.isEmpty, "\(model.problems)")
        self.model = model
        self.random = RandomSource(seed: seed)
    }

    // MARK: What callers do

    /// Offers a request. Bring the engine up to `now` first (`advance`), or the queue's bound is
    /// judged by a state of the past.
    package mutating func submit(_ request: SequenceRequest, now: Instant) -> OnSubmit {
        self.moveClock(to: now)
        if let reason = self.reasonToReject(request) {
            self.totals.rejected += 1
            return .rejected(reason)
        }
        self.live.insert(request.id)
        self.waiting.append(Sequence(request: request, arrival: now))
        self.totals.accepted += 1
        self.checkInvariants()
        return .accepted
    }

    /// Takes a sequence out, wherever it is, and frees its memory at once; the step at hand takes
    /// as long as it would have. False where the ID is not live.
    @discardableResult
    package mutating func cancel(_ id: SequenceID, now: Instant) -> Bool {
        self.moveClock(to: now)
        guard self.live.remove(id) != nil else { return false }
        if let index = self.running.firstIndex(where: { $0.id == id }) {
            self.blocksUsed -= self.running[index].blocks
            self.running.remove(at: index)
        } else {
            let found = self.waiting.remove(id)
            precondition(found, "\(id) is live, and neither runs nor waits")
        }
        self.totals.cancelled += 1
        self.checkInvariants()
        return true
    }

    /// Plays everything up to and including `now`, and returns it in the order of time.
    package mutating func advance(to now: Instant) -> [EngineEvent] {
        var events: [EngineEvent] = []
        self.advance(to: now, into: &events)
        return events
    }

    /// Like `advance(to:)`, appending to an array that the caller reuses. The work is bounded by
    /// the tokens that the live sequences still have to compute.
    package mutating func advance(to now: Instant, into events: inout [EngineEvent]) {
        while let next = self.nextEventTime, next <= now {
            if self.stepEnd != nil { self.finishStep(at: next, into: &events) }
            self.startStep(at: next, into: &events)
        }
        self.moveClock(to: now)
        self.checkInvariants()
    }

    /// When `advance` will next have something to do; nil while there is no work.
    package var nextEventTime: Instant? {
        if let stepEnd = self.stepEnd { return stepEnd }
        guard let first = self.waiting.first else { return nil }
        return max(first.arrival, self.lastStepEnd)
    }

    /// From the next step on.
    package mutating func setSlowdown(_ factor: Double) {
        var changed = self.model
        changed.slowdown = factor
        precondition(changed.problems.isEmpty, "\(changed.problems)")
        self.model = changed
    }

    // MARK: What callers see

    package var runningCount: Int { self.running.count }
    package var waitingCount: Int { self.waiting.count }
    package var isIdle: Bool { self.live.isEmpty && self.stepEnd == nil }

    /// The share of KV blocks in use, 0 to 1.
    package var cacheUse: Double { Double(self.blocksUsed) / Double(self.model.blocks) }

    // MARK: Steps

    private mutating func finishStep(at end: Instant, into events: inout [EngineEvent]) {
        self.stepEnd = nil
        self.lastStepEnd = end
        for index in self.running.indices where self.running[index].scheduled > 0 {
            self.running[index].computed += self.running[index].scheduled
            self.running[index].scheduled = 0
            if self.running[index].remaining == 0 {
                self.emit(from: index, at: end, into: &events)
            }
        }
        self.releaseCompleted()
    }

    private mutating func emit(from index: Int, at: Instant, into events: inout [EngineEvent]) {
        let id = self.running[index].id
        if self.running[index].generated < self.running[index].request.outputTokens {
            let token = self.running[index].generated
            events.append(EngineEvent(at: at, id: id, kind: .token(index: token)))
            self.running[index].generated += 1
            self.totals.outputTokens += 1
        }
        if self.running[index].isComplete {
            events.append(EngineEvent(at: at, id: id, kind: .finished))
        }
    }

    private mutating func releaseCompleted() {
        for sequence in self.running where sequence.isComplete {
            self.blocksUsed -= sequence.blocks
            self.live.remove(sequence.id)
            self.totals.finished += 1
        }
        self.running.removeAll(where: \.isComplete)
    }

    private mutating func startStep(at start: Instant, into events: inout [EngineEvent]) {
        assert(self.stepEnd == nil, "a step starts inside another")
        var budget = self.model.stepTokensMax
        let preempted = self.scheduleRunning(budget: &budget, at: start, into: &events)
        if !preempted { self.admit(budget: &budget, at: start, into: &events) }
        if self.running.isEmpty { return }
        let duration = self.stepNanoseconds()
        self.stepEnd = start.advanced(byNanoseconds: duration)
        self.totals.steps += 1
        self.totals.busyNanoseconds &+= UInt64(duration)
    }

    /// Shares the budget among the running. True where one had to be preempted: then memory is
    /// short and nobody is admitted in this step.
    private mutating func scheduleRunning(
        budget: inout Int,
        at start: Instant,
        into events: inout [EngineEvent]
    ) -> Bool {
        var index = 0
        var preempted = false
        while index < self.running.count && budget > 0 {
            let tokens = min(self.running[index].remaining, budget)
            let isVictim = !self.makeRoom(for: tokens, of: index) {
                events.append(EngineEvent(at: start, id: $0, kind: .preempted))
                preempted = true
            }
            if isVictim { break }
            self.running[index].scheduled = tokens
            budget -= tokens
            index += 1
        }
        return preempted
    }

    /// Gives the sequence the blocks it needs, preempting from the end of the batch. False where it
    /// was itself the last one and went.
    private mutating func makeRoom(
        for tokens: Int,
        of index: Int,
        onPreempt: (SequenceID) -> Void
    ) -> Bool {
        while true {
            if let taken = self.takeBlocks(for: tokens, of: self.running[index]) {
                self.running[index].blocks += taken
                return true
            }
            onPreempt(self.preemptYoungest())
            if index == self.running.count { return false }
        }
    }

    private mutating func preemptYoungest() -> SequenceID {
        var victim = self.running.removeLast()
        self.blocksUsed -= victim.blocks
        victim.blocks = 0
        victim.computed = 0
        victim.scheduled = 0
        victim.wasPreempted = true
        self.totals.preemptions += 1
        self.waiting.prepend(victim)
        return victim.id
    }

    private mutating func admit(
        budget: inout Int,
        at start: Instant,
        into events: inout [EngineEvent]
    ) {
        while budget > 0, self.running.count < self.model.batchMax,
            var sequence = self.waiting.first, sequence.arrival <= start
        {
            if !sequence.wasPreempted { sequence.computed = sequence.request.cachedTokens }
            let tokens = min(sequence.remaining, budget)
            guard let taken = self.takeBlocks(for: tokens, of: sequence) else { return }
            sequence.blocks += taken
            sequence.scheduled = tokens
            budget -= tokens
            self.waiting.removeFirst()
            events.append(EngineEvent(at: start, id: sequence.id, kind: .admitted))
            self.running.append(sequence)
        }
    }

    /// Takes the blocks that the sequence lacks for `tokens` more. Nil, and nothing changed, where
    /// they are not free; else how many were taken.
    private mutating func takeBlocks(for tokens: Int, of sequence: Sequence) -> Int? {
        let size = self.model.blockTokens
        let needed = (sequence.computed + tokens + size - 1) / size - sequence.blocks
        guard self.blocksUsed + needed <= self.model.blocks else { return nil }
        self.blocksUsed += needed
        return needed
    }

    private mutating func stepNanoseconds() -> Int64 {
        var decoding = 0
        var prefillTokens = 0
        for sequence in self.running where sequence.scheduled > 0 {
            if sequence.isDecoding {
                decoding += 1
            } else {
                prefillTokens += sequence.scheduled
            }
        }
        self.totals.promptTokens += UInt64(prefillTokens)
        var nanoseconds = Double(self.model.stepBase.nanosecondsClamped)
        nanoseconds += Double(self.model.stepPerSequence.nanosecondsClamped) * Double(decoding)
        nanoseconds += Double(prefillTokens) / self.model.prefillTokensPerSecond * 1e9
        nanoseconds *= self.model.slowdown
        if self.model.jitter > 0 {
            nanoseconds *= self.random.nextLogNormal(sigma: self.model.jitter)
        }
        // At least one, so that time moves; at most a day, so that it never overflows.
        return Int64(min(max(1, nanoseconds.rounded()), 86_400e9))
    }

    // MARK: Checks

    private func reasonToReject(_ request: SequenceRequest) -> RejectReason? {
        if self.live.contains(request.id) { return .duplicate }
        let (tokens, overflow) = request.promptTokens.addingReportingOverflow(request.outputTokens)
        if overflow || tokens > self.model.cacheTokens { return .tooLong }
        return self.waiting.count >= self.model.waitingMax ? .queueFull : nil
    }

    private mutating func moveClock(to now: Instant) {
        precondition(now >= self.clock, "time went back from \(self.clock) to \(now)")
        self.clock = now
    }

    private func checkInvariants() {
        assert(self.running.reduce(0) { $0 + $1.blocks } == self.blocksUsed, "blocks were lost")
        assert(self.blocksUsed <= self.model.blocks, "more blocks than there are")
        assert(self.running.count <= self.model.batchMax, "the batch is too large")
        assert(self.running.count + self.waiting.count == self.live.count, "a sequence was lost")
    }
}

/// A first-in first-out line that preempted sequences rejoin at the head.
private struct WaitingLine: Sendable {
    private var items: [BatchingEngine.Sequence] = []
    private var head = 0

    var count: Int { self.items.count - self.head }
    var first: BatchingEngine.Sequence? {
        self.head < self.items.count ? self.items[self.head] : nil
    }

    mutating func append(_ sequence: BatchingEngine.Sequence) {
        self.items.append(sequence)
    }

    mutating func prepend(_ sequence: BatchingEngine.Sequence) {
        if self.head > 0 {
            self.head -= 1
            self.items[self.head] = sequence
        } else {
            self.items.insert(sequence, at: 0)
        }
    }

    mutating func removeFirst() {
        self.head += 1
        // Gives the dead half back now and then, so that the cost per removal stays constant.
        if self.head > 32 && self.head * 2 > self.items.count {
            self.items.removeFirst(self.head)
            self.head = 0
        }
    }

    mutating func remove(_ id: SequenceID) -> Bool {
        guard let index = self.items[self.head...].firstIndex(where: { $0.id == id }) else {
            return false
        }
        self.items.remove(at: index)
        return true
    }
}
