import Core

/// How many requests would be in service in each slot if none ever waited: the demand that a
/// clairvoyant plans for.
package struct DemandSeries: Sendable {
    /// Seconds.
    package let slot: Double
    /// Means over each slot, and arrivals in it.
    package private(set) var concurrency: [Double]
    package private(set) var arrivals: [Double]
    /// Most requests in service in any slot.
    package var peak: Double { self.concurrency.reduce(0, max) }
    package var mean: Double {
        self.concurrency.isEmpty
            ? 0 : self.concurrency.reduce(0, +) / Double(self.concurrency.count)
    }

    /// Slots that a series has at most.
    package static let slotsMax = 400_000

    package init(_ model: SimulatedModel, duration: Double, slot: Double) {
        precondition(slot > 0 && duration > 0, "a series over \(duration) s in slots of \(slot) s")
        let count = max(1, Int((duration / slot).rounded(.up)))
        self.slot = slot
        self.arrivals = Array(repeating: 0, count: count)
        self.concurrency = []
        // Differences of a sum: each request adds its share at its beginning and takes it at its
        // end.
        var busy = Array(repeating: 0.0, count: count + 1)
        var level = Array(repeating: 0.0, count: count + 2)
        var stream = model.requests
        var buffer: [SimulatedRequest] = []
        reading: while true {
            stream.refill(&buffer, count: 1_024)
            if buffer.isEmpty { break }
            for request in buffer {
                let start = Double(request.time) / 1e9 / slot
                guard start < Double(count) else { break reading }
                let length = Self.seconds(request, model.engine) / slot
                self.arrivals[Int(start)] += 1
                Self.add(start, start + length, count, &busy, &level)
            }
        }
        var whole = 0.0
        self.concurrency.reserveCapacity(count)
        for index in 0..<count {
            whole += level[index]
            self.concurrency.append(max(0, busy[index] + whole))
        }
    }

    /// Where requests batch, the time of one in a half-full batch.
    private static func seconds(_ request: SimulatedRequest, _ engine: ReplicaEngine) -> Double {
        switch engine {
        case .simple(let slowdown):
            return Double(request.service) / 1e9 * (1 + slowdown)
        case .batching(let setup):
            let step =
                Double(setup.stepBase) + Double(setup.stepPerSequence) * Double(setup.batchMax) / 2
            let prefill = Double(request.input) / setup.prefillTokensPerSecond
            return prefill + Double(request.output) * step / 1e9
        }
    }

    /// Adds 1 from `start` to `end`, in slots: parts of a slot to `busy`, whole ones to `level`.
    private static func add(
        _ start: Double,
        _ end: Double,
        _ count: Int,
        _ busy: inout [Double],
        _ level: inout [Double]
    ) {
        let end = min(end, Double(count))
        let first = Int(start)
        let last = min(Int(end), count)
        if first == last {
            busy[first] += end - start
            return
        }
        busy[first] += Double(first + 1) - start
        busy[last] += end - Double(last)
        level[first + 1] += 1
        level[last] -= 1
    }
}
