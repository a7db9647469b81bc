import CFuzzer
import Glibc

/// The check of this process. Set once, before the only thread starts to fuzz.
nonisolated(unsafe) private var check: ([UInt8]) -> String? = { _ in nil }

/// Fuzzes until libFuzzer's options say stop. `violation` returns what is wrong with an input, or
/// nil; a violation, like a crash, ends the process, and libFuzzer stores the input.
package func runFuzzer(_ violation: @escaping ([UInt8]) -> String?) -> Never {
    check = violation
    var argumentCount = CommandLine.argc
    var arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>? = CommandLine.unsafeArgv
    let status = LLVMFuzzerRunDriver(&argumentCount, &arguments) { start, count in
        let input = Array(UnsafeBufferPointer(start: start, count: count))
        if let violation = check(input) { fatalError(violation) }
        return 0
    }
    exit(status)
}
