import Core
import Testing

@testable import Traffic

func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

func text(_ bytes: RawSpan) -> String {
    String(
        decoding: (0..<bytes.byteCount).map {
            bytes.unsafeLoad(fromByteOffset: $0, as: UInt8.self)
        },
        as: UTF8.self
    )
}

extension Instant {
    static func milliseconds(_ value: Int) -> Instant {
        Instant(nanoseconds: UInt64(value) * 1_000_000)
    }

    static func seconds(_ value: Int) -> Instant { .milliseconds(value * 1_000) }
}

extension RandomSource {
    /// A number in `0..<bound`.
    mutating func below(_ bound: Int) -> Int { Int(self.next() % UInt64(bound)) }
    mutating func chance(_ percent: Int) -> Bool { self.below(100) < percent }
}

/// Endpoints as a test wants them.
struct FakeEndpoints: BalancedEndpoints {
    var loads: [Int]
    var limits: [Int]
    var eligible: [Bool]
    var identities: [UInt64]

    init(loads: [Int], limit: Int = .max) {
        self.loads = loads
        self.limits = Array(repeating: limit, count: loads.count)
        self.eligible = Array(repeating: true, count: loads.count)
        self.identities = loads.indices.map { ByteHash.mix(UInt64($0) + 1) }
    }

    var count: Int { self.loads.count }
    func inFlight(_ index: Int) -> Int { self.loads[index] }
    func limit(_ index: Int) -> Int { self.limits[index] }
    func isEligible(_ index: Int) -> Bool { self.eligible[index] }
    func identity(_ index: Int) -> UInt64 { self.identities[index] }
}

extension BalancerChoice {
    var index: Int? {
        switch self {
        case .free(let index), .saturated(let index): index
        case .none: nil
        }
    }
}
