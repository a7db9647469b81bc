import CFuzzer
import FuzzInvariants
import Glibc

/// Fuzzes the target that `WEIR_FUZZ_TARGET` names, until libFuzzer's options say stop.
///
/// The name is not an argument, as libFuzzer starts this program again with arguments of its own to
/// merge a corpus or to work in parallel.
@main
enum Fuzzer {
    /// Set once, before the only thread starts to fuzz.
    nonisolated(unsafe) private static var violation: ([UInt8]) -> String? = { _ in nil }

    static func main() {
        guard let name = getenv("WEIR_FUZZ_TARGET"),
            let target = FuzzTarget.named(String(cString: name))
        else {
            print("WEIR_FUZZ_TARGET names none of: \(FuzzTarget.all)")
            exit(2)
        }
        Self.violation = target.violation
        var argumentCount = CommandLine.argc
        var arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>? = CommandLine.unsafeArgv
        // A violation, like a crash, ends the process, and libFuzzer stores the input.
        let status = LLVMFuzzerRunDriver(&argumentCount, &arguments) { start, count in
            let input = Array(UnsafeBufferPointer(start: start, count: count))
            if let violation = Fuzzer.violation(input) { fatalError(violation) }
            return 0
        }
        exit(status)
    }
}
