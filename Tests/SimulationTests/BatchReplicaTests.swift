import Core
import ModelSimulator
import Testing

@testable import Simulation

/// Plays the flat replica beside the engine of the pretend model server.
@Suite("Batching replica")
struct BatchReplicaTests {
    private struct Outcome: Equatable {
        var first: [UInt64]
        var end: [UInt64]
    }

    private struct Job {
        var time: UInt64
        var prompt: Int
        var output: Int
    }

    private func setup(_ random: inout RandomSource) -> BatchingSetup {
        var setup = BatchingSetup()
        setup.batchMax = 1 + Int(random.next() % 12)
        setup.stepTokensMax = 64 << Int(random.next() % 6)
        setup.blockTokens = 16
        setup.blocks = 40 + Int(random.next() % 200)
        setup.stepBase = 1_000_000 + random.next() % 20_000_000
        setup.stepPerSequence = random.next() % 1_000_000
        setup.prefillTokensPerSecond = Double(500 + random.next() % 30_000)
        return setup
    }

    private func jobs(_ random: inout RandomSource, _ setup: BatchingSetup) -> [Job] {
        var time: UInt64 = 0
        return (0..<60).map { _ in
            // Sometimes several at once, sometimes a pause.
            if random.next() % 3 > 0 { time += random.next() % 400_000_000 }
            let most = setup.cacheTokens / 2
            return Job(
                time: time,
                prompt: 1 + Int(random.next() % UInt64(most)),
                output: 1 + Int(random.next() % UInt64(min(most, 120)))
            )
        }
    }

    private func engine(_ setup: BatchingSetup, _ jobs: [Job]) -> Outcome {
        var model = BatchingModel()
        model.prefillTokensPerSecond = setup.prefillTokensPerSecond
        model.stepBase = .nanoseconds(setup.stepBase)
        model.stepPerSequence = .nanoseconds(setup.stepPerSequence)
        model.batchMax = setup.batchMax
        model.stepTokensMax = setup.stepTokensMax
        model.blockTokens = setup.blockTokens
        model.blocks = setup.blocks
        var engine = BatchingEngine(model: model, seed: 1)
        var outcome = Outcome(
            first: Array(repeating: 0, count: jobs.count),
            end: Array(repeating: 0, count: jobs.count)
        )
        func take(_ events: [EngineEvent]) {
            for event in events {
                let index = Int(event.id.rawValue)
                switch event.kind {
                case .token(0): outcome.first[index] = event.at.nanoseconds
                case .finished: outcome.end[index] = event.at.nanoseconds
                default: break
                }
            }
        }
        for (index, job) in jobs.enumerated() {
            let now = Instant(nanoseconds: job.time)
            take(engine.advance(to: now))
            let request = SequenceRequest(
                id: SequenceID(UInt64(index)),
                promptTokens: job.prompt,
                outputTokens: job.output
            )
            #expect(engine.submit(request, now: now) == .accepted)
            // Requests of the same moment begin one after the other.
            take(engine.advance(to: now))
        }
        take(engine.advance(to: Instant(nanoseconds: 1 << 55)))
        return outcome
    }

    private func replica(_ setup: BatchingSetup, _ jobs: [Job]) -> (Outcome, Int) {
        var replica = BatchReplica(setup: setup)
        var outcome = Outcome(
            first: Array(repeating: 0, count: jobs.count),
            end: Array(repeating: 0, count: jobs.count)
        )
        var runs = 0
        func play(until limit: UInt64) {
            while let end = replica.end, end <= limit {
                var first: [Int32] = []
                var done: [Int32] = []
                replica.advance(now: end, first: &first, done: &done)
                for slot in first { outcome.first[Int(slot)] = end }
                for slot in done { outcome.end[Int(slot)] = end }
                runs += 1
                #expect(replica.cacheUse <= 1)
            }
        }
        for (index, job) in jobs.enumerated() {
            play(until: job.time)
            _ = replica.submit(
                slot: Int32(index),
                prompt: job.prompt,
                output: job.output,
                now: job.time
            )
        }
        play(until: .max)
        return (outcome, runs)
    }

    @Test(arguments: 1...40)
    func agreesWithTheEngineStepByStep(seed: UInt64) {
        var random = RandomSource(seed: seed)
        let setup = self.setup(&random)
        let jobs = self.jobs(&random, setup)
        let (outcome, runs) = self.replica(setup, jobs)
        let expected = self.engine(setup, jobs)
        #expect(outcome == expected, "seed \(seed), \(setup)")
        #expect(expected.end.allSatisfy { $0 > 0 })
        // Taking steps together is the point.
        #expect(runs < jobs.reduce(0) { $0 + $1.output } * 4)
    }

    @Test func preemptsTheYoungestWhenTheCacheIsFull() {
        var setup = BatchingSetup()
        setup.blocks = 8
        setup.blockTokens = 4
        let jobs = [Job(time: 0, prompt: 8, output: 16), Job(time: 0, prompt: 8, output: 16)]
        var replica = BatchReplica(setup: setup)
        for index in jobs.indices {
            _ = replica.submit(slot: Int32(index), prompt: 8, output: 16, now: 0)
        }
        var done: [Int32] = []
        var first: [Int32] = []
        while let end = replica.end { replica.advance(now: end, first: &first, done: &done) }
        #expect(done == [0, 1])
        #expect(replica.preemptions > 0)
    }
}
