import Core

/// One request of a trace.
package struct TraceRequest: Equatable, Sendable {
    /// Nanoseconds from the start of the run.
    package var offset: UInt64
    package var inputTokens: UInt32
    package var outputTokens: UInt32
    /// Where its prefix blocks lie in `RequestTrace.blocks`.
    package var blocks: Range<UInt32>

    package init(offset: UInt64, inputTokens: UInt32, outputTokens: UInt32, blocks: Range<UInt32>) {
        self.offset = offset
        self.inputTokens = inputTokens
        self.outputTokens = outputTokens
        self.blocks = blocks
    }
}

/// Requests with their times, in order, the first one at 0.
package struct RequestTrace: Equatable, Sendable {
    /// Tokens of one prefix block (Mooncake's traces).
    package static let blockTokens = 512

    package var requests: [TraceRequest]
    /// Hashes of prefix blocks, of all requests one after the other.
    package var blocks: [UInt64] = []

    package init(requests: [TraceRequest], blocks: [UInt64] = []) {
        self.requests = requests
        self.blocks = blocks
    }

    /// Seconds from the first to the last request.
    package var duration: Double { Double(self.requests.last?.offset ?? 0) / 1e9 }
}

/// A stretch of time with one rate.
package struct TraceWindow: Equatable, Sendable {
    /// Seconds from the start of the run.
    package var start: Double
    package var duration: Double
    /// Requests per second.
    package var rate: Double
    /// Coefficient of variation of the gaps.
    package var variation: Double

    package init(start: Double, duration: Double, rate: Double, variation: Double) {
        self.start = start
        self.duration = duration
        self.rate = rate
        self.variation = variation
    }
}

package struct WindowTrace: Equatable, Sendable {
    package var windows: [TraceWindow]

    package init(windows: [TraceWindow]) {
        self.windows = windows
    }

    package var duration: Double {
        self.windows.last.map { $0.start + $0.duration } ?? 0
    }
}

/// A trace as it was read.
package enum Trace: Equatable, Sendable {
    case requests(RequestTrace)
    case windows(WindowTrace)

    /// Seconds.
    package var duration: Double {
        switch self {
        case .requests(let trace): trace.duration
        case .windows(let trace): trace.duration
        }
    }
}

/// What part of a trace to replay, how fast and how densely.
package struct TraceSelection: Equatable, Sendable {
    /// Seconds of the trace to leave out at its beginning.
    package var start = 0.0
    /// Seconds of the trace to replay; nil for all that follows.
    package var duration: Double?
    /// 2 plays it twice as fast.
    package var speed = 1.0
    /// Below 1 each request is kept with that probability; above, some are sent more than once, at
    /// times close by.
    package var scale = 1.0

    package init() {}
}

extension Trace {
    /// The part that is to be replayed, with times of the run.
    package func selected(
        _ selection: TraceSelection,
        seed: UInt64
    ) throws(WorkloadError) -> Trace {
        let end = selection.duration.map { selection.start + $0 } ?? .infinity
        let result: Trace
        switch self {
        case .requests(let trace):
            let cut = trace.cut(from: selection.start, to: end)
            result = .requests(
                cut.scaled(by: selection.scale, seed: seed).sped(up: selection.speed)
            )
        case .windows(let trace):
            result = .windows(trace.cut(from: selection.start, to: end).scaled(selection))
        }
        guard result.isNonEmpty else {
            throw WorkloadError("the part of the trace that was chosen has no requests")
        }
        return result
    }

    private var isNonEmpty: Bool {
        switch self {
        case .requests(let trace): !trace.requests.isEmpty
        case .windows(let trace): trace.windows.contains { $0.rate > 0 }
        }
    }
}

extension RequestTrace {
    fileprivate func cut(from start: Double, to end: Double) -> RequestTrace {
        let origin = UInt64(start * 1e9)
        var result = self
        result.requests = self.requests.filter {
            $0.offset >= origin && Double($0.offset) / 1e9 < end
        }
        for index in result.requests.indices { result.requests[index].offset -= origin }
        return result
    }

    fileprivate func sped(up speed: Double) -> RequestTrace {
        var result = self
        for index in result.requests.indices {
            result.requests[index].offset = UInt64(Double(result.requests[index].offset) / speed)
        }
        return result
    }

    fileprivate func scaled(by factor: Double, seed: UInt64) -> RequestTrace {
        if factor == 1 { return self }
        var random = RandomSource(seed: seed)
        // Copies are moved by about one gap, so that they neither coincide nor leave their time.
        let gap = self.duration / Double(max(1, self.requests.count))
        var result = self
        result.requests.removeAll(keepingCapacity: true)
        for request in self.requests {
            var copies = Int(factor)
            if random.nextUnit() < factor - Double(copies) { copies += 1 }
            for copy in 0..<copies {
                guard result.requests.count < WorkloadLimits.traceRequestsMax else { break }
                var moved = request
                if copy > 0 {
                    let shift = random.nextExponential() * gap
                    moved.offset = UInt64(
                        min(Double(request.offset) + shift * 1e9, self.duration * 1e9)
                    )
                }
                result.requests.append(moved)
            }
        }
        result.requests.sort { $0.offset < $1.offset }
        return result
    }
}

extension WindowTrace {
    fileprivate func cut(from start: Double, to end: Double) -> WindowTrace {
        WindowTrace(
            windows: self.windows.compactMap { window in
                let from = max(window.start, start)
                let to = min(window.start + window.duration, end)
                guard from < to else { return nil }
                var part = window
                part.start = from - start
                part.duration = to - from
                return part
            }
        )
    }

    fileprivate func scaled(_ selection: TraceSelection) -> WindowTrace {
        WindowTrace(
            windows: self.windows.map {
                TraceWindow(
                    start: $0.start / selection.speed,
                    duration: $0.duration / selection.speed,
                    rate: $0.rate * selection.scale * selection.speed,
                    variation: $0.variation
                )
            }
        )
    }
}
