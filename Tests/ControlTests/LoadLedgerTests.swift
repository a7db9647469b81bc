import Autoscaling
import Control
import Core
import HTTPService
import Proxy
import Testing

@Suite struct LoadLedgerTests {
    private let start = Instant(nanoseconds: 1_000_000_000)

    private func ledger(_ limit: Duration? = nil) -> LoadLedger {
        var ledger = LoadLedger()
        let objectives = Objectives(latency: limit.map { TimeObjective(quantile: 0.9, below: $0) })
        ledger.follow([("river", ObjectiveLimits(objectives))])
        ledger.take(WorkerLoad(worker: 0, at: self.start, models: []))
        return ledger
    }

    @Test func countsWhatIsNewOnce() {
        var ledger = self.ledger()
        var worker = FakeWorker()
        worker.serve("river", "main", 3, seconds: 0.5)
        ledger.take(worker.load(at: self.start + .seconds(1)))
        let first = ledger.delta(of: "river")
        #expect(first.arrivals == 3)
        #expect(first.variants.map(\.completions) == [3])
        #expect(first.variants[0].inFlightSeconds == 1.5)
        #expect(first.variants[0].latency.count == 3)
        let second = ledger.delta(of: "river")
        #expect(second.arrivals == 0 && second.variants[0].completions == 0)
        #expect(second.variants[0].latency.count == 0)
    }

    @Test func aReportThatIsMissedLosesNothing() {
        var ledger = self.ledger()
        var worker = FakeWorker()
        worker.serve("river", "main", 3)
        _ = worker.load(at: self.start + .seconds(1))
        worker.serve("river", "main", 4)
        ledger.take(worker.load(at: self.start + .seconds(2)))
        #expect(ledger.delta(of: "river").arrivals == 7)
    }

    @Test func severalWorkersAddUpAndStartWhereTheyAre() {
        var ledger = self.ledger()
        var first = FakeWorker(0)
        var second = FakeWorker(1)
        second.serve("river", "main", 100)
        ledger.take(second.load(at: self.start))
        #expect(ledger.delta(of: "river").arrivals == 0, "what was before is not new")
        first.serve("river", "main", 2)
        second.serve("river", "main", 5)
        ledger.take(first.load(at: self.start + .seconds(1)))
        ledger.take(second.load(at: self.start + .seconds(1)))
        #expect(ledger.delta(of: "river").arrivals == 7)
    }

    @Test func whatIsUnderWayStaysKnownUntilItIsSaidToBeOver() {
        var ledger = self.ledger()
        var worker = FakeWorker()
        worker.serve("river", "main", 1)
        worker.models["river"]?.variants[0].inFlight = 4
        worker.queue("river", 2)
        ledger.take(worker.load(at: self.start + .seconds(1)))
        for _ in 0..<3 {
            let delta = ledger.delta(of: "river")
            #expect(delta.queued == 2 && delta.variants[0].inFlight == 4)
        }
        worker.models["river"]?.variants[0].inFlight = 1
        ledger.take(worker.load(at: self.start + .seconds(2)))
        #expect(ledger.delta(of: "river").variants[0].inFlight == 1)
    }

    @Test func countersThatBeginAnewCountFromZero() {
        var ledger = self.ledger()
        var worker = FakeWorker()
        worker.serve("river", "main", 50)
        ledger.take(worker.load(at: self.start + .seconds(1)))
        _ = ledger.delta(of: "river")
        worker = FakeWorker()
        worker.serve("river", "main", 60)
        worker.models["river"]?.epoch = 7
        ledger.take(worker.load(at: self.start + .seconds(2)))
        let delta = ledger.delta(of: "river")
        #expect(delta.arrivals == 60 && delta.variants[0].latency.count == 60)
    }

    @Test func timesAreCountedAtTheObjectiveItself() {
        var ledger = self.ledger(.milliseconds(200))
        var worker = FakeWorker()
        worker.serve("river", "main", 7, seconds: 0.1)
        worker.serve("river", "main", 3, seconds: 0.4)
        ledger.take(worker.load(at: self.start + .seconds(1)))
        let latency = ledger.delta(of: "river").variants[0].latency
        #expect(latency.within == 7 && latency.count == 10)
    }

    @Test func refusalsForWantOfRoomAreCounted() {
        var ledger = self.ledger()
        var worker = FakeWorker()
        worker.models["river"] = ModelStatistics(name: "river")
        worker.models["river"]?.unrouted = [429: 3, 503: 2, 404: 9]
        worker.models["river"]?.arrivals = 14
        ledger.take(worker.load(at: self.start + .seconds(1)))
        #expect(ledger.delta(of: "river").refused == 5)
    }

    @Test func otherModelsAreNotWorkedOut() {
        var ledger = self.ledger()
        var worker = FakeWorker()
        worker.serve("lake", "main", 5)
        ledger.take(worker.load(at: self.start + .seconds(1)))
        #expect(ledger.delta(of: "lake").arrivals == 0)
        ledger.follow([("lake", ObjectiveLimits())])
        worker.serve("lake", "main", 2)
        ledger.take(worker.load(at: self.start + .seconds(2)))
        #expect(ledger.delta(of: "lake").arrivals == 2, "from when it was followed")
    }

    /// A model gets its policy while it works: what ends later began before.
    @Test func aModelThatIsFollowedLaterBeginsWithWhatIsUnderWay() {
        var ledger = self.ledger()
        var worker = FakeWorker()
        worker.serve("lake", "main", 1)
        worker.models["lake"]?.variants[0].inFlight = 4
        worker.queue("lake", 3)
        ledger.take(worker.load(at: self.start + .seconds(1)))
        ledger.follow([("lake", ObjectiveLimits())])
        #expect(ledger.delta(of: "lake").queued == 3)
        ledger.take(worker.load(at: self.start + .seconds(2)))
        let delta = ledger.delta(of: "lake")
        #expect(delta.arrivals == 0 && delta.queued == 3 && delta.variants[0].inFlight == 4)
        worker.models["lake"]?.variants[0].inFlight = 1
        worker.models["lake"]?.queue = TimedCount()
        ledger.take(worker.load(at: self.start + .seconds(3)))
        let later = ledger.delta(of: "lake")
        #expect(later.queued == 0 && later.variants[0].inFlight == 1)
    }

    /// Reports of which nobody asked anything are not worked out one by one.
    @Test func aModelThatBeginsAnewBetweenTwoQuestionsLosesNothing() {
        var ledger = self.ledger()
        var worker = FakeWorker()
        worker.serve("river", "main", 50)
        ledger.take(worker.load(at: self.start + .seconds(1)))
        worker = FakeWorker()
        worker.models["river"] = ModelStatistics(name: "river")
        worker.models["river"]?.epoch = 7
        worker.serve("river", "main", 60)
        ledger.take(worker.load(at: self.start + .seconds(2)))
        worker.serve("river", "main", 3)
        ledger.take(worker.load(at: self.start + .seconds(3)))
        let delta = ledger.delta(of: "river")
        #expect(delta.arrivals == 113 && delta.variants[0].latency.count == 113)
    }

    @Test func whatALaterReportLeavesOutIsStillCounted() {
        var ledger = LoadLedger()
        ledger.follow(["river", "lake", "sea"].map { ($0, ObjectiveLimits()) })
        ledger.take(WorkerLoad(worker: 0, at: self.start, models: []))
        var worker = FakeWorker()
        for name in ["river", "lake", "sea"] { worker.serve(name, "main", 2) }
        ledger.take(worker.load(at: self.start + .seconds(1)))
        let reported = worker
        worker.serve("sea", "main", 5)
        ledger.take(worker.changes(since: reported, at: self.start + .seconds(2)))
        worker.serve("river", "main", 4)
        ledger.take(worker.load(at: self.start + .seconds(3)))
        #expect(ledger.delta(of: "river").arrivals == 6)
        #expect(ledger.delta(of: "lake").arrivals == 2)
        #expect(ledger.delta(of: "sea").arrivals == 7)
    }

    @Test func aModelThatIsTwiceInAReportIsCountedOnce() {
        var ledger = self.ledger()
        var worker = FakeWorker()
        worker.serve("river", "main", 5)
        var load = worker.load(at: self.start + .seconds(1))
        load.models.append(load.models[0])
        for _ in 0..<3 { ledger.take(load) }
        #expect(ledger.delta(of: "river").arrivals == 5)
    }

    @Test func aSourceThatGoesLeavesWhatItHadCounted() {
        var ledger = self.ledger()
        var worker = FakeWorker()
        worker.serve("river", "main", 5)
        worker.models["river"]?.variants[0].inFlight = 4
        ledger.take(worker.load(at: self.start + .seconds(1)))
        #expect(ledger.isTouched(0))
        ledger.forget(source: 0)
        let delta = ledger.delta(of: "river")
        #expect(delta.arrivals == 5 && delta.variants[0].inFlight == 0)
    }

    /// Random work on several workers, reports lost at random: in the end every request was counted
    /// once.
    @Test(arguments: 0..<40)
    func everythingIsCountedOnce(seed: UInt64) {
        var random = RandomSource(seed: seed)
        var ledger = self.ledger()
        var workers = (0..<3).map { FakeWorker($0) }
        for worker in workers { ledger.take(worker.load(at: self.start)) }
        var made: UInt64 = 0
        var counted: UInt64 = 0
        var seconds = 0.0
        for round in 1...50 {
            for index in workers.indices {
                let count = Int.random(in: 0...5, using: &random)
                made += UInt64(count)
                workers[index].serve("river", "main", count, seconds: 0.25)
                if Bool.random(using: &random) || round == 50 {
                    ledger.take(workers[index].load(at: self.start + .seconds(round)))
                }
            }
            if Bool.random(using: &random) || round == 50 {
                let delta = ledger.delta(of: "river")
                counted += delta.arrivals
                seconds += delta.variants.reduce(0) { $0 + $1.inFlightSeconds }
                #expect(delta.variants.allSatisfy { $0.completions == delta.arrivals })
            }
        }
        #expect(counted == made, "seed \(seed)")
        #expect((seconds - 0.25 * Double(made)).magnitude < 1e-6, "seed \(seed)")
    }
}

@Suite struct LoadDocumentTests {
    private func text(_ document: LoadDocument) -> [UInt8] {
        let buffer = ByteBuffer(capacity: 1 << 10)
        var writer = JSONWriter(buffer)
        document.write(to: &writer)
        return buffer.readable.withUnsafeBytes { Array($0) }
    }

    private func example() -> LoadDocument {
        var worker = FakeWorker()
        worker.serve("ri\"ver", "main", 5, seconds: 0.2)
        worker.serve("ri\"ver", "canary", 2, seconds: 0.3, status: 500)
        worker.queue("ri\"ver", 3)
        worker.models["ri\"ver"]?.unrouted = [503: 4]
        worker.models["ri\"ver"]?.variants[0].inFlight = 2
        worker.models["ri\"ver"]?.variants[0].inFlightNanoseconds = .max - 5
        worker.models["ri\"ver"]?.variants[1].pinnedArrivals = 1
        return LoadDocument(
            gateway: .max,
            at: Instant(nanoseconds: 12_345_678_901_234_567),
            models: Array(worker.models.values)
        )
    }

    /// What a controller elsewhere reads is what the gateway counted.
    @Test func readsBackWhatItWrote() throws {
        let document = self.example()
        let back = try LoadDocument(self.text(document))
        #expect(back.gateway == document.gateway && back.at == document.at)
        #expect(self.text(back) == self.text(document))
        var ledgers = [LoadLedger(), LoadLedger()]
        for (index, source) in [document, back].enumerated() {
            ledgers[index].follow([("ri\"ver", ObjectiveLimits())])
            ledgers[index].take(WorkerLoad(worker: 3, at: .zero, models: []))
            ledgers[index].take(source.load(source: 3))
        }
        let (own, read) = (ledgers[0].delta(of: "ri\"ver"), ledgers[1].delta(of: "ri\"ver"))
        #expect(own.arrivals == read.arrivals && own.refused == 4 && read.refused == 4)
        #expect(own.variants.map(\.name) == read.variants.map(\.name))
        #expect(own.variants.map(\.inFlight) == read.variants.map(\.inFlight))
        #expect(own.variants.map { $0.latency.count } == read.variants.map { $0.latency.count })
        #expect(read.variants.map(\.pinned) == own.variants.map(\.pinned))
    }

    @Test(arguments: [
        "", "[]", "{", "{}", #"{"gateway": 5, "at": "1", "models": []}"#,
        #"{"gateway": "5", "at": "x", "models": []}"#,
        #"{"gateway": "5", "at": "1", "models": [{"arrivals": -1}]}"#,
        #"{"gateway": "5", "at": "1", "models": [{"queueWait": [1]}]}"#,
        #"{"gateway": "5", "at": "1", "models": [{"queueWait": [99999, 1]}]}"#,
        #"{"gateway": "5", "at": "1", "models": [{"queueWait": [3, 0]}]}"#,
        #"{"gateway": "5", "at": "1", "models": [{"unrouted": {"many": 1}}]}"#,
        #"{"gateway": "5", "at": "1", "models": [{"queueWait": [3, 1, 3, 1]}]}"#,
        #"{"gateway": "5", "at": "1", "models": [{"arrivals": 9223372036854775807}]}"#,
        #"{"gateway": "5", "at": "1", "models": [{"queueWait": [3, 9223372036854775807]}]}"#,
        #"{"gateway": "5", "at": "1", "models": []} x"#,
    ])
    func damageIsAnErrorAndNoCrash(text: String) {
        #expect(throws: JSONError.self) { try LoadDocument(Array(text.utf8)) }
    }

    /// Several gateways that count as much as may be counted, in everything.
    @Test func theLargestCountsAddUp() throws {
        let most = LoadDocument.countMax
        let codes = (200..<1_000).map { "\"\($0)\": \(most)" }.joined(separator: ", ")
        let buckets = (0..<LatencyHistogram.bucketCount).map { "\($0), \(most)" }
        let variant = """
            {"name": "main", "inFlight": \(most), "pinnedQueued": \(most), "mirrored": \(most),
            "pinnedArrivals": \(most), "inputTokens": \(most), "requests": {\(codes)},
            "duration": [\(buckets.joined(separator: ", "))]}
            """
        let text = """
            {"gateway": "5", "at": "1", "models": [{"name": "river", "arrivals": \(most),
            "queued": \(most), "unrouted": {\(codes)}, "variants": [\(variant)]}]}
            """
        let document = try LoadDocument(Array(text.utf8))
        var ledger = LoadLedger()
        ledger.follow([("river", ObjectiveLimits())])
        for source in 0..<8 {
            ledger.take(WorkerLoad(worker: source, at: .zero, models: []))
            ledger.take(document.load(source: source))
        }
        let delta = ledger.delta(of: "river")
        #expect(delta.arrivals == 8 * most && delta.variants[0].inFlight == 8 * Int(most))
    }

    @Test(arguments: 0..<200)
    func brokenDocumentsNeverCrash(seed: UInt64) {
        var random = RandomSource(seed: seed)
        var text = self.text(self.example())
        for _ in 0..<Int.random(in: 1...4, using: &random) {
            let place = Int.random(in: 0..<text.count, using: &random)
            if Bool.random(using: &random) {
                text[place] = UInt8.random(in: 0x20...0x7E, using: &random)
            } else {
                text.removeSubrange(place..<min(text.count, place + 3))
            }
        }
        _ = try? LoadDocument(text)
    }
}
