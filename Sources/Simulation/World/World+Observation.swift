import Core
import Traffic

/// What policies are shown, and what must hold whatever they do.
extension World {
    /// A model as it is now, with what its tick has counted so far.
    func snapshot(_ model: ModelState, _ seconds: Double) -> Observation {
        var seen = model.tick
        let now = Instant(nanoseconds: self.clock)
        seen.now = now
        seen.inFlight = model.inFlight
        seen.queued = model.queued
        seen.inFlightMean = Double(seen.inFlight)
        seen.queuedMean = Double(seen.queued)
        seen.oldestWait = Double(model.oldestWaitNanoseconds(now: now)) / 1e9
        seen.desired = model.desired
        seen.rolloutWeight = model.rolloutWeight
        seen.rolloutFloor = model.rolloutFloor
        self.count(model, &seen)
        let isOut = self.setup.outages.contains { $0.contains(seconds) }
        if self.traits.needsReplicas, !isOut { seen.replicas = self.samples(model) }
        if self.traits.needsSamples { seen.samples = model.samples }
        seen.isBlind = self.setup.blackouts.contains { $0.contains(seconds) }
        return seen
    }

    /// Failed starts in a row that make a crash loop.
    private static let failuresOfLoop: UInt64 = 2
    /// Seconds without GPUs after which a cluster says that there are none: what its scheduler says
    /// at once where nothing can grow, and an autoscaler of nodes after a while.
    private static let patience = 120.0

    private func count(_ model: ModelState, _ seen: inout Observation) {
        var oldest = self.clock
        for id in model.members {
            let replica = self.replicas[Int(id)]
            switch replica.state {
            case .ready: seen.ready += 1
            case .starting:
                seen.starting += 1
                if replica.attempts >= Self.failuresOfLoop {
                    seen.stuck += 1
                    seen.isCrashLoop = true
                } else {
                    seen.startingAges.append(Double(self.clock - replica.createdAt) / 1e9)
                }
            case .pending:
                seen.pending += 1
                oldest = min(oldest, replica.createdAt)
                let age = Double(self.clock - replica.createdAt) / 1e9
                if age >= Self.patience { seen.stuck += 1 } else { seen.startingAges.append(age) }
            case .draining, .exiting: seen.draining += 1
            case .gone: break
            }
        }
        seen.pendingAge = Double(self.clock - oldest) / 1e9
    }

    private func samples(_ model: ModelState) -> [ReplicaSample] {
        let batches = if case .batching = model.setup.engine { true } else { false }
        return model.ready.ids.map { id in
            let index = Int(id)
            let inFlight = Int(self.replicas[index].inFlight)
            let age = Double(self.clock - self.replicas[index].readyAt) / 1e9
            guard batches else {
                let limit = model.setup.concurrency ?? 0
                let use = limit > 0 ? min(1, Double(inFlight) / Double(limit)) : 0
                return ReplicaSample(
                    inFlight: inFlight,
                    running: inFlight,
                    waiting: 0,
                    cacheUse: use,
                    cacheTokens: inFlight,
                    cacheCapacity: max(limit, inFlight),
                    age: age
                )
            }
            let engine = self.engines[index]
            return ReplicaSample(
                inFlight: inFlight,
                running: engine.runningCount,
                waiting: engine.waitingCount,
                cacheUse: engine.cacheUse,
                cacheTokens: engine.cacheTokens,
                cacheCapacity: engine.setup.cacheTokens,
                age: age
            )
        }
    }

    func record(_ index: Int, _ seconds: Double) {
        guard self.clock > 0, self.clock <= UInt64(self.setup.duration * 1e9) else { return }
        self.models[index].addToSeries(self.observations[index], seconds, bucket: self.bucket)
    }

    func checkBudget() {
        self.giveGPUs()
        if let budget = self.setup.budget, self.gpusUsed > budget {
            self.result.violations.budget += 1
        }
        assert(
            self.gpusUsed == self.models.reduce(0) { $0 + $1.billed * $1.setup.gpusPerReplica },
            "GPUs were lost count of"
        )
    }
}
