import Core

/// Names one sequence inside an engine. The caller chooses it and must not reuse one that is live.
package struct SequenceID: Hashable, Sendable, CustomStringConvertible {
    package let rawValue: UInt64

    package init(_ rawValue: UInt64) {
        self.rawValue = rawValue
    }

    package var description: String { "sequence \(self.rawValue)" }
}

/// What one generation asks of the engine.
package struct SequenceRequest: Hashable, Sendable {
    package var id: SequenceID
    /// Tokens of the prompt; at least 1 is taken.
    package var promptTokens: Int
    /// Tokens to generate. 0 means that reading the prompt is all (embeddings, scoring).
    package var outputTokens: Int
    /// Tokens at the prompt's start that need no prefill because a prefix cache holds them. They
    /// take memory like all others; a preempted sequence reads them again.
    package var cachedTokens: Int

    package init(id: SequenceID, promptTokens: Int, outputTokens: Int, cachedTokens: Int = 0) {
        self.id = id
        self.promptTokens = max(1, promptTokens)
        self.outputTokens = max(0, outputTokens)
        self.cachedTokens = min(max(0, cachedTokens), self.promptTokens - 1)
    }
}

/// The hardware and the scheduler that a `BatchingEngine` imitates.
///
/// One step of the engine takes
/// `stepBase + stepPerSequence × decoding sequences + prefill tokens ÷ prefillTokensPerSecond`,
/// times `slowdown`, times a log-normal factor of spread `jitter`. The defaults are near an
/// 8-billion parameter model on one data-centre GPU.
package struct BatchingModel: Hashable, Sendable {
    /// Prompt tokens read per second while nothing else runs. Above 0.
    package var prefillTokensPerSecond: Double = 20_000
    /// What a step costs whatever is in it: weights are read once.
    package var stepBase: Duration = .milliseconds(8)
    /// What each sequence that decodes adds to a step.
    package var stepPerSequence: Duration = .microseconds(100)
    /// Sequences in one batch at most. At least 1.
    package var batchMax: Int = 64
    /// Tokens computed in one step at most, prompts and decoding together: longer prompts are read
    /// in chunks. At least 1.
    package var stepTokensMax: Int = 2_048
    /// Tokens in one block of KV cache. At least 1.
    package var blockTokens: Int = 16
    /// Blocks of KV cache. At least 1.
    package var blocks: Int = 8_192
    /// Requests that may wait for their first admission; the next one is rejected. At least 1.
    package var waitingMax: Int = 1_024
    /// Sigma of the log-normal factor on each step's time. 0 is exact.
    package var jitter: Double = 0
    /// Multiplies every step's time; a fault sets it at run time. Above 0.
    package var slowdown: Double = 1

    package init() {}

    /// Tokens that fit into the KV cache, counted in whole blocks.
    package var cacheTokens: Int { self.blocks * self.blockTokens }

    /// What is wrong with these numbers, each with the field's name; empty where they can be used.
    package var problems: [String] {
        var found: [String] = []
        func require(_ holds: Bool, _ message: String) {
            if !holds { found.append(message) }
        }
        require(
            self.prefillTokensPerSecond.isUsableFactor,
            "prefillTokensPerSecond must be above 0"
        )
        require(self.stepBase >= .zero, "stepBase must not be negative")
        require(self.stepPerSequence >= .zero, "stepPerSequence must not be negative")
        require(self.stepBase + self.stepPerSequence <= Self.stepTimeMax, "a step is too long")
        require((1...65_536).contains(self.batchMax), "batchMax must be 1 to 65536")
        require((1...1_048_576).contains(self.stepTokensMax), "stepTokensMax must be 1 to 1048576")
        require((1...65_536).contains(self.blockTokens), "blockTokens must be 1 to 65536")
        require((1...268_435_456).contains(self.blocks), "blocks must be 1 to 268435456")
        require((1...1_000_000).contains(self.waitingMax), "waitingMax must be 1 to 1000000")
        require(self.jitter >= 0 && self.jitter <= 3, "jitter must be 0 to 3")
        require(self.slowdown.isUsableFactor, "slowdown must be above 0")
        return found
    }

    /// The longest base and per-sequence time together: an hour.
    package static let stepTimeMax = Duration.seconds(3_600)
}

extension Double {
    /// Finite, above zero, and small enough that a step's time stays within an `Int64`.
    fileprivate var isUsableFactor: Bool { self >= 1e-9 && self <= 1e12 }
}

/// Why an engine does not take a request.
package enum RejectReason: String, Hashable, Sendable {
    /// `waitingMax` requests wait already.
    case queueFull = "queue-full"
    /// Prompt and output together can never fit into the KV cache.
    case tooLong = "too-long"
    /// A live sequence has this ID.
    case duplicate = "duplicate"
}

/// What became of a submission.
package enum OnSubmit: Hashable, Sendable {
    case accepted
    case rejected(RejectReason)
}

/// Something that happened inside an engine, and when.
package struct EngineEvent: Hashable, Sendable {
    package enum Kind: Hashable, Sendable {
        /// The sequence left the queue and joined the batch (again, after a preemption).
        case admitted
        /// Its output token of this index (from 0) is there.
        case token(index: Int)
        /// All of its output is there; the ID is free.
        case finished
        /// It lost its memory to others and waits to be computed again; no token is lost.
        case preempted
    }

    package var at: Instant
    package var id: SequenceID
    package var kind: Kind

    package init(at: Instant, id: SequenceID, kind: Kind) {
        self.at = at
        self.id = id
        self.kind = kind
    }
}

/// Counts since the start; they only grow.
package struct EngineTotals: Hashable, Sendable {
    package var accepted: UInt64 = 0
    package var rejected: UInt64 = 0
    package var finished: UInt64 = 0
    package var cancelled: UInt64 = 0
    package var preemptions: UInt64 = 0
    package var steps: UInt64 = 0
    /// Prompt tokens computed, those of preempted sequences again.
    package var promptTokens: UInt64 = 0
    package var outputTokens: UInt64 = 0
    /// Time spent inside steps.
    package var busyNanoseconds: UInt64 = 0

    package init() {}
}
