/// What is fuzzed: a parser, inputs to begin with, and what must hold for every input.
///
/// The fuzzer, the writer of the first corpus and the tests that replay findings all go by `all`,
/// so that a parser listed here is fuzzed, has seeds and has its findings replayed. The invariants
/// are stronger than not to crash: the same answer in pieces as in one, agreement with a slower or
/// another reader, and that what was accepted reads the same once it was written canonically.
package struct FuzzTarget: Sendable, CustomStringConvertible {
    /// Names the target on the command line and the folder of its findings in `Fuzz/FailCases`.
    package var name: String
    package var seeds: @Sendable () -> [[UInt8]]
    /// The longest input the fuzzer makes, in bytes.
    package var inputBytesMax: Int
    /// What does not hold for an input, or nil.
    package var violation: @Sendable ([UInt8]) -> String?

    init(
        _ name: String,
        inputBytesMax: Int = 4096,
        seeds: @escaping @Sendable () -> [[UInt8]],
        _ violation: @escaping @Sendable ([UInt8]) -> String?
    ) {
        self.name = name
        self.seeds = seeds
        self.inputBytesMax = inputBytesMax
        self.violation = violation
    }

    package var description: String { self.name }

    package static func named(_ name: String) -> FuzzTarget? {
        Self.all.first { $0.name == name }
    }
}
