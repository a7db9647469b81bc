import Core
import Foundation
import Rollouts

/// What a gateway of a cluster measured of rollouts: `GET /api/v1/trials?after=N`.
///
/// Numbered parts, one about each second; a controller asks for those after the last that it has,
/// so that an answer which is lost is given once more, and none is counted twice. `traffic` says by
/// which generation of each model's weights every worker goes.
package struct TrialDocument: Sendable, Equatable, Codable {
    /// Another one after each start of the gateway.
    package var gateway: String
    /// Of the newest part there was; 0 before the first.
    package var last: Int
    package var traffic: [String: Int]
    package var parts: [Part]

    /// What one gateway measured within about a second.
    package struct Part: Sendable, Equatable, Codable {
        package var number: Int
        package var models: [Model]
    }

    package struct Model: Sendable, Equatable, Codable {
        package var name: String
        package var rollout: Int
        /// Failures of the canary in a row.
        package var run: Int
        package var samples: [Sample]
        /// In the order of `PairCounts`' fields.
        package var pairs: [Int]
        package var hasBaseline: Bool
        package var stable: Guardrail
        package var canary: Guardrail
    }

    package struct Sample: Sendable, Equatable, Codable {
        package var isCanary: Bool
        /// The pod's UID.
        package var replica: String
        package var generation: Int
        package var stratum: Int
        package var requests: Int
        package var failures: Int
        /// By the index of the `EventKind`.
        package var events: [Int]
        /// By the index of the `LatencyKind`: pairs of a bucket and its count.
        package var values: [[Int]]
    }

    package struct Guardrail: Sendable, Equatable, Codable {
        package var requests: Int
        package var errors: Int
        /// Pairs of a bucket and its count.
        package var latency: [Int]
    }

    package init(gateway: String, last: Int, traffic: [String: Int], parts: [Part]) {
        self.gateway = gateway
        self.last = last
        self.traffic = traffic
        self.parts = parts
    }

    // MARK: Text

    package var text: [UInt8] {
        // Numbers and names only: nothing that could not be written.
        let data = try? JSONEncoder().encode(self)
        return data.map(Array.init) ?? []
    }

    /// - Throws: what is wrong with the document.
    package init(_ bytes: [UInt8]) throws {
        self = try JSONDecoder().decode(TrialDocument.self, from: Data(bytes))
    }
}

extension TrialDocument.Model {
    /// - Parameter identity: of a replica, by its name here; nil where it is gone.
    init(_ name: String, _ counts: TrialCounts, run: Int, identity: (String) -> String?) {
        self.name = name
        self.rollout = counts.rollout
        self.run = run
        self.samples = counts.samples.compactMap { sample in
            identity(sample.replica).map { TrialDocument.Sample(sample, replica: $0) }
        }
        let pairs = counts.pairs
        self.pairs = [
            pairs.canaryBad, pairs.stableBad, pairs.canarySlower, pairs.stableSlower,
            pairs.compared, pairs.different, pairs.baselineCompared, pairs.baselineDifferent,
        ]
        self.hasBaseline = pairs.hasBaseline
        self.stable = TrialDocument.Guardrail(counts.stable)
        self.canary = TrialDocument.Guardrail(counts.canary)
    }

    /// As the machine wants it. Numbers that cannot be are taken for none.
    package var counts: TrialCounts {
        var pairs = PairCounts()
        func pair(_ index: Int) -> Int {
            self.pairs.indices.contains(index) ? max(0, self.pairs[index]) : 0
        }
        pairs.canaryBad = pair(0)
        pairs.stableBad = pair(1)
        pairs.canarySlower = pair(2)
        pairs.stableSlower = pair(3)
        pairs.compared = pair(4)
        pairs.different = pair(5)
        pairs.baselineCompared = pair(6)
        pairs.baselineDifferent = pair(7)
        pairs.hasBaseline = self.hasBaseline
        return TrialCounts(
            rollout: self.rollout,
            samples: self.samples.map(\.armSample),
            pairs: pairs,
            canary: self.canary.sample,
            stable: self.stable.sample
        )
    }
}

extension TrialDocument.Sample {
    init(_ sample: ArmSample, replica: String) {
        self.isCanary = sample.arm == .canary
        self.replica = replica
        self.generation = sample.generation
        self.stratum = sample.stratum
        self.requests = sample.requests
        self.failures = sample.failures
        self.events = EventKind.allCases.map { sample[$0] }
        self.values = LatencyKind.allCases.map { sample[$0]?.flat ?? [] }
    }

    var armSample: ArmSample {
        var sample = ArmSample(
            arm: self.isCanary ? .canary : .stable,
            replica: self.replica,
            generation: self.generation,
            stratum: self.stratum,
            requests: self.requests
        )
        sample.failures = min(max(0, self.failures), sample.requests)
        for (kind, count) in zip(EventKind.allCases, self.events) { sample[kind] = count }
        for (kind, flat) in zip(LatencyKind.allCases, self.values) where !flat.isEmpty {
            sample[kind] = BucketCounts(flat: flat)
        }
        return sample
    }
}

extension TrialDocument.Guardrail {
    init(_ sample: GuardrailSample) {
        self.requests = sample.requests
        self.errors = sample.errors
        self.latency = sample.latency.flat
    }

    var sample: GuardrailSample {
        var sample = GuardrailSample()
        sample.requests = max(0, self.requests)
        sample.errors = min(max(0, self.errors), sample.requests)
        sample.latency = BucketCounts(flat: self.latency)
        return sample
    }
}

extension BucketCounts {
    fileprivate var flat: [Int] { self.entries.flatMap { [Int($0.bucket), Int($0.count)] } }

    fileprivate init(flat: [Int]) {
        let entries = stride(from: 0, to: flat.count - flat.count % 2, by: 2).map {
            Entry(bucket: UInt16(clamping: flat[$0]), count: UInt32(clamping: flat[$0 + 1]))
        }
        self.init(entries)
    }
}
