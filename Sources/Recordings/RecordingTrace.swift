import Core
import Workload

/// Makes the trace that simulation and replay start from out of recorded requests.
///
/// Requests are added in the order of their arrivals. Those that asked no model to work (unknown
/// models, metadata, readiness) are left out; those that were refused or failed are not: they were
/// load, and another policy might have served them. What nobody counted is estimated, so that such
/// requests weigh what they might have: the tokens of a prompt by its bytes, those of an answer by
/// the mean of the model's other answers.
package struct RecordingTrace {
    /// Bytes of JSON per token of a prompt.
    package static let bytesPerToken = 4
    /// A recorded hash stands for so many blocks of `PromptHash`: 2 KiB, about as many tokens as a
    /// block of a trace has.
    package static let blocksPerHash = 32

    private struct Answers {
        var tokens: UInt64 = 0
        var count: UInt64 = 0

        var mean: UInt64 { self.count == 0 ? 0 : self.tokens / self.count }
    }

    /// Seconds without a request that count as a hole; nil accepts any.
    private let gapMax: Double?
    /// Only this model's requests; nil for all.
    private let model: [UInt8]?
    private var trace = RequestTrace(requests: [])
    private var origin: UInt64?
    private var previous: UInt64 = 0
    private var answers: [[UInt8]: Answers] = [:]
    /// Requests whose answer was not counted, by their index.
    private var uncounted: [(index: Int, model: [UInt8])] = []

    package init(gapMax: Double?, model: String? = nil) {
        self.gapMax = gapMax
        self.model = model.map { Array($0.utf8) }
    }

    /// Routes by which no model is asked to work.
    private static let idleRoutes: [[UInt8]] = [
        Array(RecordedRoute.metadata.utf8), Array(RecordedRoute.readiness.utf8),
    ]

    package mutating func add(_ request: RecordedRequest) throws(RecordingError) {
        guard !request.model.isEmpty, !Self.idleRoutes.contains(request.route),
            self.model.map({ $0 == request.model }) ?? true
        else { return }
        let origin = self.origin ?? request.arrival
        if self.origin == nil { (self.origin, self.previous) = (origin, origin) }
        precondition(request.arrival >= self.previous, "recorded requests out of order")
        let gap = Double(request.arrival - self.previous) / 1e6
        if let gapMax, gap > gapMax {
            throw RecordingError(
                "the recording has a hole of \(Int(gap)) s, \(Int(self.seconds(origin))) s after "
                    + "its beginning: replay a part of it, or allow it with --max-gap"
            )
        }
        let offset = request.arrival - origin
        guard Double(offset) / 1e6 <= WorkloadLimits.durationMaxSeconds,
            self.trace.requests.count < WorkloadLimits.traceRequestsMax
        else { throw RecordingError("the recording is longer than can be replayed") }
        self.previous = request.arrival
        self.append(request, offset: offset)
    }

    private func seconds(_ origin: UInt64) -> Double { Double(self.previous - origin) / 1e6 }

    private mutating func append(_ request: RecordedRequest, offset: UInt64) {
        let limit = UInt64(WorkloadLimits.promptTokensMax)
        let input = min(request.inputTokens ?? request.bytesIn / UInt64(Self.bytesPerToken), limit)
        if let tokens = request.outputTokens {
            self.answers[request.model, default: Answers()].tokens &+= min(tokens, limit)
            self.answers[request.model, default: Answers()].count += 1
        } else {
            self.uncounted.append((self.trace.requests.count, request.model))
        }
        let start = UInt32(clamping: self.trace.blocks.count)
        // A prompt has no more blocks than tokens for them, whatever its bytes were.
        let blocksMax = (Int(input) + RequestTrace.blockTokens - 1) / RequestTrace.blockTokens
        self.trace.blocks += request.prefix.prefix(blocksMax)
        self.trace.requests.append(
            TraceRequest(
                offset: offset * 1_000,
                inputTokens: UInt32(input),
                outputTokens: UInt32(min(request.outputTokens ?? 0, limit)),
                blocks: start..<UInt32(clamping: self.trace.blocks.count)
            )
        )
    }

    /// The trace of all that was added.
    package consuming func finish() throws(RecordingError) -> RequestTrace {
        guard !self.trace.requests.isEmpty else {
            let whose = self.model.map { " of model `\(String(decoding: $0, as: UTF8.self))`" }
            throw RecordingError("the recording has no requests\(whose ?? "")")
        }
        for (index, model) in self.uncounted {
            let mean = self.answers[model]?.mean ?? 0
            self.trace.requests[index].outputTokens = UInt32(clamping: mean)
        }
        return self.trace
    }
}

/// Names of kinds of requests, where it is not the path of the API itself.
package enum RecordedRoute {
    package static let inference = "inference"
    package static let metadata = "metadata"
    package static let readiness = "readiness"
    package static let other = "other"
}
