import Clusters
import Core
import HTTPService
import Kubernetes
import Rollouts
import Testing

@testable import Control

/// What a controller of a cluster writes into a Model and reads there.
@Suite struct RolloutPublicationTests {
    private let variants = [
        VariantReference("v1", revision: "aaa"), VariantReference("v2", revision: "bbb"),
    ]

    private func running() throws -> (RolloutStatus, RolloutSpec) {
        var plan = RolloutPlan(steps: [.weight(20, hold: .seconds(60))])
        plan.analysis.metrics = [
            .successRate(maxDrop: 0),
            MetricPlan(name: "answers", .pairs(.different, maxIncrease: 0)),
        ]
        let spec = RolloutSpec(live: "v1", variants: self.variants, plan: plan)
        var machine = try RolloutMachine(spec)
        var now = RolloutMoment(instant: Instant(nanoseconds: 0), wall: 1_700_000_000_000)
        _ = try machine.perform(.start(variant: "v2"), at: now)
        for _ in 0..<3 {
            now.instant = now.instant + .seconds(1)
            now.wall += 1_000
            let observation = RolloutObservation(variants: [
                "v1": VariantObservation(ready: 2, replicasForAll: 2),
                "v2": VariantObservation(ready: 2, replicasForAll: 2),
            ])
            _ = machine.handle(.tick(observation), at: now)
        }
        return (machine.status, spec)
    }

    @Test func anotherControllerGoesOnFromWhatIsWritten() throws {
        let (status, spec) = try self.running()
        #expect(status.traffic.weight(of: "v2") == 20)
        let value = try #require(RolloutPublication.value(status, spec))
        #expect(try RolloutPublication.status(in: value) == status)
        #expect(value["phase"].string == "Progressing")
        #expect(value["canary"]["revision"].string == "bbb")
        #expect(value["startTime"].string == "2023-11-14T22:13:20Z")
        #expect(value["history"].elements.count == status.records.count)
        #expect(try RolloutPublication.status(in: .object([])) == nil)
        #expect(throws: (any Error).self) {
            try RolloutPublication.status(in: ["checkpoint": "{"])
        }
    }

    @Test func gatewaysReadWhatIsWritten() throws {
        var (status, spec) = try self.running()
        status.traffic.headerRoute = HeaderRoute(name: "x-canary", value: "yes")
        status.traffic.mirrorTo = "v2"
        status.traffic.mirrorPercent = 5
        let value = try #require(RolloutPublication.value(status, spec))
        let traffic = try #require(RolloutPublication.traffic(in: value))
        #expect(traffic == RolloutPublication.traffic(of: status, spec))
        #expect(traffic.plan == status.traffic)
        #expect(traffic.canary == "v2")
        #expect(traffic.trial?.number == 1)
        #expect(traffic.trial?.repeatsStable == true)
    }

    @Test(arguments: [
        #"{}"#, #"{"traffic":{"weights":[]}}"#,
        #"{"traffic":{"generation":1,"weights":[{"name":"v1","percent":90}]}}"#,
        #"{"traffic":{"generation":1,"weights":[{"name":"v1","percent":101}]}}"#,
        #"{"traffic":{"generation":1,"weights":"v1"}}"#,
    ])
    func nonsenseIsNoTraffic(text: String) throws {
        let value = try JSONValue(parsing: text)
        #expect(RolloutPublication.traffic(in: value) == nil)
    }

    @Test func aLongHistoryIsCutToWhatAnObjectMayHold() throws {
        var (status, spec) = try self.running()
        var report = MetricReport(name: "successRate", threshold: 200, isDryRun: false)
        report.evidence = .infinity
        report.reason = String(repeating: "x", count: 4_000)
        var record = try #require(status.records.last)
        record.reports = Array(repeating: report, count: 16)
        record.message = String(repeating: "y", count: 2_000)
        status.records = Array(repeating: record, count: RolloutStatus.recordsMax)
        let value = try #require(RolloutPublication.value(status, spec))
        let text = try #require(value["checkpoint"].string)
        #expect(text.utf8.count <= RolloutPublication.checkpointBytesMax)
        let read = try #require(try RolloutPublication.status(in: value))
        #expect(read.traffic == status.traffic && read.evidence == status.evidence)
        #expect(!read.records.isEmpty && read.records.count <= RolloutPublication.recordsMax)
    }
}

/// What gateways measured, on its way to the controller.
@Suite struct TrialDocumentTests {
    private func model() -> TrialDocument.Model {
        var sample = ArmSample(arm: .canary, replica: "g-0", generation: 7, stratum: 2, requests: 5)
        sample.failures = 2
        sample[.error] = 3
        sample[LatencyKind.latency] = BucketCounts([.init(bucket: 4, count: 2)])
        var lost = sample
        lost.replica = "gone"
        var counts = TrialCounts(rollout: 3, samples: [sample, lost])
        counts.pairs.compared = 9
        counts.pairs.baselineDifferent = 1
        counts.pairs.hasBaseline = true
        counts.canary.requests = 6
        counts.canary.errors = 2
        counts.stable.latency = BucketCounts([.init(bucket: 1, count: 1)])
        return TrialDocument.Model("m", counts, run: 4) { $0 == "g-0" ? "uid" : nil }
    }

    @Test func whatWasMeasuredArrives() throws {
        let part = TrialDocument.Part(number: 8, models: [self.model()])
        let sent = TrialDocument(gateway: "1", last: 8, traffic: ["m": 7], parts: [part])
        let read = try TrialDocument(sent.text)
        #expect(read == sent)
        let counts = try #require(read.parts.first?.models.first).counts
        #expect(counts.rollout == 3 && counts.samples.count == 1)
        let sample = try #require(counts.samples.first)
        #expect(sample.replica == "uid" && sample.generation == 7 && sample.stratum == 2)
        #expect(sample.arm == .canary && sample.requests == 5 && sample.failures == 2)
        #expect(sample[.error] == 3 && sample[LatencyKind.latency]?.total == 2)
        #expect(counts.pairs.compared == 9 && counts.pairs.baselineDifferent == 1)
        #expect(counts.pairs.hasBaseline)
        #expect(counts.canary.errors == 2 && counts.stable.latency.total == 1)
    }

    @Test func numbersThatCannotBeAreNone() throws {
        var model = self.model()
        model.pairs = [-5]
        model.canary.errors = 99
        model.samples[0].requests = -1
        model.samples[0].values = [[1], [70_000, 1, 3], []]
        let counts = model.counts
        #expect(counts.pairs.canaryBad == 0 && counts.pairs.compared == 0)
        #expect(counts.canary.errors == counts.canary.requests)
        #expect(counts.samples[0].requests == 0 && counts.samples[0].failures == 0)
        #expect(throws: (any Error).self) { try TrialDocument(Array("{}".utf8)) }
    }
}

/// The templates of a process deployment.
@Suite struct ProcessTemplateTests {
    private func template(_ word: String) -> ProcessTemplate {
        ProcessTemplate(ProcessGroupSpec(name: "g", command: ["run", word]))
    }

    @Test func equalTemplatesHaveEqualRevisions() {
        #expect(self.template("a").revision == self.template("a").revision)
        #expect(self.template("a").revision != self.template("b").revision)
        let split = ProcessTemplate(ProcessGroupSpec(name: "g", command: ["run", "a", "b"]))
        let joined = ProcessTemplate(ProcessGroupSpec(name: "g", command: ["run", "ab"]))
        #expect(split.revision != joined.revision)
        let placed = ProcessTemplate(
            ProcessGroupSpec(name: "g", command: ["run", "a"], workingDirectory: "/")
        )
        #expect(placed.revision != self.template("a").revision)
    }

    @Test func aRefusedTemplateIsReplacedUntilItChanges() {
        var templates = ProcessTemplates()
        templates.configure(self.template("good"))
        templates.configure(self.template("bad"))
        let good = self.template("good").revision
        let bad = self.template("bad").revision
        #expect(templates.effective == self.template("bad"))
        let isRefused = templates.refuse(bad, goingBackTo: good)
        #expect(isRefused && templates.effective == self.template("good"))
        // The file is read again, and says the same.
        templates.configure(self.template("bad"))
        #expect(templates.effective == self.template("good"))
        templates.configure(self.template("better"))
        #expect(templates.effective == self.template("better") && templates.hold == nil)
        let isUnknown = templates.refuse(bad, goingBackTo: "unknown")
        #expect(!isUnknown)
    }

    @Test func keepsTheGoodOneOfVeryManyTemplates() {
        var templates = ProcessTemplates()
        templates.configure(self.template("good"))
        templates.configure(self.template("bad"))
        let good = self.template("good").revision
        _ = templates.refuse(self.template("bad").revision, goingBackTo: good)
        for index in 0..<10 { templates.configure(self.template("\(index)")) }
        #expect(templates.templates.count == ProcessTemplates.templatesMax)
        var spec = ProcessGroupSpec(name: "g", command: ["other"])
        templates.effective?.apply(to: &spec)
        #expect(spec.command == ["run", "9"])
    }
}
