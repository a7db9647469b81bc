import Core

/// One replica that batches continuously, in flat arrays and with steps taken together.
///
/// It does to time what `ModelSimulator`'s `BatchingEngine` does, whose design note says how a step
/// goes; a test plays both. The difference is the speed: while nothing but decoding goes on and
/// nobody can join, all steps up to the next end of an answer have the same length and are one
/// event. A request that comes meanwhile shortens that run to the end of the step at hand.
struct BatchReplica: Sendable {
    private struct Sequence: Sendable {
        var slot: Int32
        var prompt: Int
        var output: Int
        var generated = 0
        var computed = 0
        var scheduled = 0
        var blocks = 0

        var remaining: Int { self.prompt + self.generated - self.computed }
        var isDecoding: Bool { self.generated > 0 && self.remaining == 1 }
        var isComplete: Bool {
            self.output == 0 ? self.remaining == 0 : self.generated == self.output
        }
    }

    let setup: BatchingSetup
    private var running: [Sequence] = []
    private var waiting: [Sequence] = []
    private var blocksUsed = 0
    private var start: UInt64 = 0
    private var stepLength: UInt64 = 0
    /// Steps of the run at hand; 0 between runs.
    private var steps = 0
    private(set) var preemptions = 0

    init(setup: BatchingSetup) {
        self.setup = setup
    }

    var runningCount: Int { self.running.count }
    var waitingCount: Int { self.waiting.count }
    var cacheUse: Double { Double(self.blocksUsed) / Double(self.setup.blocks) }
    var cacheTokens: Int { self.blocksUsed * self.setup.blockTokens }
    /// When the run at hand ends; nil between runs.
    var end: UInt64? { self.steps == 0 ? nil : self.start + UInt64(self.steps) * self.stepLength }

    /// Takes a request. True where `end` has changed or come to be.
    mutating func submit(slot: Int32, prompt: Int, output: Int, now: UInt64) -> Bool {
        let couldJoin = self.waiting.isEmpty && self.running.count < self.setup.batchMax
        self.waiting.append(Sequence(slot: slot, prompt: max(1, prompt), output: output))
        if self.steps == 0 {
            self.startRun(at: now)
            return true
        }
        guard couldJoin, self.steps > 1 else { return false }
        let over = Int((now - self.start) / self.stepLength) + 1
        if over >= self.steps { return false }
        self.steps = over
        return true
    }

    /// Forgets everything: the process is gone.
    mutating func reset() {
        self.running.removeAll(keepingCapacity: true)
        self.waiting.removeAll(keepingCapacity: true)
        self.blocksUsed = 0
        self.steps = 0
    }

    /// Ends the run at hand and starts the next one. Slots whose first token came go to `first`,
    /// those that are done to `done`.
    mutating func advance(now: UInt64, first: inout [Int32], done: inout [Int32]) {
        assert(self.end == now, "a run ends at another time")
        let steps = self.steps
        self.steps = 0
        var hasCompleted = false
        for index in self.running.indices where self.running[index].scheduled > 0 {
            // In a run of several steps each computes one token per sequence.
            self.running[index].computed += steps > 1 ? steps : self.running[index].scheduled
            self.running[index].scheduled = 0
            if steps > 1 { self.running[index].generated += steps - 1 }
            guard self.running[index].remaining == 0 else { continue }
            if self.running[index].generated < self.running[index].output {
                if self.running[index].generated == 0 { first.append(self.running[index].slot) }
                self.running[index].generated += 1
            }
            if self.running[index].isComplete { hasCompleted = true }
        }
        if steps > 1 { self.recountBlocks() }
        if hasCompleted { self.release(&done) }
        if !self.running.isEmpty || !self.waiting.isEmpty { self.startRun(at: now) }
    }

    private mutating func release(_ done: inout [Int32]) {
        for sequence in self.running where sequence.isComplete {
            self.blocksUsed -= sequence.blocks
            done.append(sequence.slot)
        }
        self.running.removeAll(where: \.isComplete)
    }

    // MARK: Steps

    private mutating func startRun(at now: UInt64) {
        var budget = self.setup.stepTokensMax
        let preempted = self.scheduleRunning(&budget)
        if !preempted { self.admit(&budget) }
        if self.running.isEmpty { return }
        var decoding = 0
        var prefill = 0
        var idle = 0
        for sequence in self.running {
            if sequence.scheduled == 0 {
                idle += 1
            } else if sequence.isDecoding {
                decoding += 1
            } else {
                prefill += sequence.scheduled
            }
        }
        var length = Double(self.setup.stepBase)
        length += Double(self.setup.stepPerSequence) * Double(decoding)
        length += Double(prefill) / self.setup.prefillTokensPerSecond * 1e9
        self.start = now
        self.stepLength = UInt64(max(1, length.rounded()))
        self.steps = prefill == 0 && idle == 0 && !preempted ? self.uniformSteps() : 1
    }

    /// How many steps from the one just scheduled go alike: until an answer ends or the cache is
    /// full.
    private func uniformSteps() -> Int {
        var most = Int.max
        for sequence in self.running { most = min(most, sequence.output - sequence.generated) }
        var low = 1
        var high = max(1, most)
        if self.blocksNeeded(after: high) <= self.setup.blocks { return high }
        while high - low > 1 {
            let middle = (low + high) / 2
            if self.blocksNeeded(after: middle) <= self.setup.blocks {
                low = middle
            } else {
                high = middle
            }
        }
        return low
    }

    private func blocksNeeded(after steps: Int) -> Int {
        let size = self.setup.blockTokens
        return self.running.reduce(0) { $0 + ($1.computed + steps + size - 1) / size }
    }

    private mutating func recountBlocks() {
        let size = self.setup.blockTokens
        var used = 0
        for index in self.running.indices {
            self.running[index].blocks = (self.running[index].computed + size - 1) / size
            used += self.running[index].blocks
        }
        self.blocksUsed = used
        assert(used <= self.setup.blocks, "a run took more blocks than there are")
    }

    private mutating func scheduleRunning(_ budget: inout Int) -> Bool {
        var index = 0
        var preempted = false
        while index < self.running.count, budget > 0 {
            let tokens = min(self.running[index].remaining, budget)
            var taken = self.takeBlocks(tokens, of: self.running[index])
            while taken == nil {
                preempted = true
                self.preemptYoungest()
                if index == self.running.count { return true }
                taken = self.takeBlocks(tokens, of: self.running[index])
            }
            self.running[index].blocks += taken ?? 0
            self.running[index].scheduled = tokens
            budget -= tokens
            index += 1
        }
        return preempted
    }

    /// How many blocks the sequence got for so many more tokens; nil where they are not free.
    private mutating func takeBlocks(_ tokens: Int, of sequence: Sequence) -> Int? {
        let size = self.setup.blockTokens
        let needed = (sequence.computed + tokens + size - 1) / size - sequence.blocks
        guard self.blocksUsed + needed <= self.setup.blocks else { return nil }
        self.blocksUsed += needed
        return needed
    }

    private mutating func preemptYoungest() {
        var victim = self.running.removeLast()
        self.blocksUsed -= victim.blocks
        victim.blocks = 0
        victim.computed = 0
        victim.scheduled = 0
        self.preemptions += 1
        self.waiting.insert(victim, at: 0)
    }

    private mutating func admit(_ budget: inout Int) {
        var admitted = 0
        while budget > 0, self.running.count < self.setup.batchMax, admitted < self.waiting.count {
            var sequence = self.waiting[admitted]
            let tokens = min(sequence.remaining, budget)
            guard let taken = self.takeBlocks(tokens, of: sequence) else { break }
            sequence.blocks += taken
            sequence.scheduled = tokens
            budget -= tokens
            self.running.append(sequence)
            admitted += 1
        }
        if admitted > 0 { self.waiting.removeFirst(admitted) }
    }
}
