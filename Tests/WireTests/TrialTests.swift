import Proxy
import Rollouts
import Testing

/// What the workers tell of a rollout: real requests, and whom they are counted for.
@Suite struct WireTrialTests {
    private let trial = Trial(number: 3, inspectsAnswers: true, failuresMax: 0) {}

    /// An old and a new variant; the new one answers with `status`.
    private func model(
        _ wire: Wire,
        weights: (Int, Int),
        status: String = "200 OK",
        isListening: Bool = true
    ) throws -> Wire.Model {
        let old = try wire.upstream()
        old.serve { _, socket in try socket.respond("same") }
        let new = try wire.upstream(isListening: isListening)
        if isListening { new.serve { _, socket in try socket.respond("same", status: status) } }
        return Wire.Model(variants: [
            .init(
                name: "v1",
                weight: weights.0,
                endpoints: [wire.endpoint(old, name: "v1-0")],
                trial: TrialArm(self.trial, .stable, generation: 5)
            ),
            .init(
                name: "v2",
                weight: weights.1,
                endpoints: [wire.endpoint(new, name: "v2-0")],
                trial: TrialArm(self.trial, .canary, generation: 5)
            ),
        ])
    }

    private func ask(_ wire: Wire, _ count: Int, fields: String = "") throws {
        let client = try wire.client()
        for _ in 0..<count {
            try client.send(Ask.get(fields: fields))
            _ = try client.readResponse()
        }
    }

    /// The sums over all reports since the last call.
    private struct Sums: Equatable {
        var compared: [Arm: Int] = [:]
        var errors: [Arm: Int] = [:]
        var canary = 0
        var canaryErrors = 0
        var generations: Set<Int> = []
        var replicas: Set<String> = []
        var latencies = 0
    }

    private func sums(_ wire: Wire) -> Sums {
        var sums = Sums()
        for report in wire.trials() {
            #expect(report.trial == 3)
            sums.canary += report.canary.requests
            sums.canaryErrors += report.canary.errors
            for sample in report.samples {
                sums.compared[sample.arm, default: 0] += sample.requests
                sums.errors[sample.arm, default: 0] += sample[EventKind.error]
                sums.latencies += sample[LatencyKind.latency]?.total ?? 0
                sums.generations.insert(sample.generation)
                sums.replicas.insert(sample.replica)
            }
        }
        return sums
    }

    @Test(arguments: [1, 2])
    func everyAnswerIsCountedForItsArm(_ workers: Int) throws {
        try Wire.run(workers: workers) { wire in
            wire.publish([try self.model(wire, weights: (50, 50), status: "500 Oops")])
            try self.ask(wire, 40)
            let sums = self.sums(wire)
            #expect(sums.compared == [.stable: 20, .canary: 20])
            #expect(sums.errors == [.stable: 0, .canary: 20])
            #expect(sums.canary == 20 && sums.canaryErrors == 20)
            #expect(sums.generations == [5])
            #expect(sums.replicas == ["v1-0", "v2-0"])
            // Failures have no latency.
            #expect(sums.latencies == 20)
            #expect(self.trial.takeLongestRun() == 20)
            #expect(self.sums(wire) == Sums())
        }
    }

    /// The client is served by the old variant; the new one is judged all the same.
    @Test func aFailureBehindARetryIsTheFailingVariants() throws {
        try Wire.run { wire in
            var model = try self.model(wire, weights: (50, 50), isListening: false)
            model.settings.attempts = 2
            model.settings.retryBudget = 1
            wire.publish([model])
            let client = try wire.client()
            for _ in 0..<10 {
                try client.send(Ask.get())
                #expect(try client.readResponse().status == 200)
            }
            let sums = self.sums(wire)
            #expect(sums.compared[.canary] == sums.errors[.canary])
            #expect(sums.errors[.canary] ?? 0 >= 4)
            #expect(sums.errors[.stable] == 0)
            // Each request is compared once.
            #expect((sums.compared[.stable] ?? 0) + (sums.compared[.canary] ?? 0) == 10)
        }
    }

    @Test func aBadRequestIsAnErrorAndNoFailure() throws {
        try Wire.run { wire in
            wire.publish([try self.model(wire, weights: (0, 1), status: "400 Bad Request")])
            try self.ask(wire, 5)
            let sums = self.sums(wire)
            #expect(sums.errors[.canary] == 5)
            #expect(sums.canaryErrors == 0)
            #expect(self.trial.takeLongestRun() == 0)
        }
    }

    @Test func whoeverChoseTheVariantIsNotCompared() throws {
        try Wire.run { wire in
            var model = try self.model(wire, weights: (1, 0))
            let name = Array("x-canary".utf8)
            model.settings.headerRoute = (name, Array("yes".utf8), 1)
            wire.publish([model])
            try self.ask(wire, 6, fields: "X-Canary: yes\r\n")
            try self.ask(wire, 3, fields: "X-Canary: yesss\r\n")
            let sums = self.sums(wire)
            #expect(sums.canary == 6)
            #expect(sums.compared == [.stable: 3])
        }
    }

    @Test func copiesArePairedAndInNoShare() throws {
        try Wire.run { wire in
            var model = try self.model(wire, weights: (1, 0), status: "503 Not Now")
            model.settings.mirror = (variant: 1, share: 1)
            wire.publish([model])
            try self.ask(wire, 8)
            try wire.wait(for: "the copies' end") { $0.models["m"]?.variants[1].mirrored == 8 }
            let reports = wire.trials()
            #expect(reports.reduce(0) { $0 + $1.pairs.compared } == 8)
            #expect(reports.reduce(0) { $0 + $1.pairs.canaryBad } == 8)
            #expect(reports.reduce(0) { $0 + $1.canary.errors } == 8)
            #expect(reports.flatMap(\.samples).allSatisfy { $0.arm == .stable })
        }
    }

    @Test func withoutARolloutThereIsNothingToTell() throws {
        try Wire.run { wire in
            var model = try self.model(wire, weights: (1, 1))
            wire.publish([model])
            try self.ask(wire, 4)
            for index in model.variants.indices { model.variants[index].trial = nil }
            wire.publish([model])
            try self.ask(wire, 4)
            // What was measured before it ended is told once.
            #expect(wire.trials().count == 1)
            #expect(wire.trials().isEmpty)
        }
    }
}
