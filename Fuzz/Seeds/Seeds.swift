import Glibc
import TestSupport

/// Writes the first corpus of every fuzzer under the directory given, from the tables of the tests.
@main
enum Seeds {
    static func main() {
        guard CommandLine.arguments.count == 2 else {
            print("usage: FuzzSeeds DIRECTORY")
            exit(2)
        }
        let directory = CommandLine.arguments[1]
        write(FramingCase.all.map(\.bytes), to: "\(directory)/RequestHead")
        write(ResponseCase.all.map(\.bytes), to: "\(directory)/ResponseHead")
        let separator = Array("\r\n\r\n".utf8)
        let bodies = FramingCase.bodies.compactMap { framing in
            framing.bytes.firstRange(of: separator).map { Array(framing.bytes[$0.upperBound...]) }
        }
        write(bodies, to: "\(directory)/ChunkedBody")
    }

    private static func write(_ inputs: [[UInt8]], to directory: String) {
        mkdir(directory, 0o755)
        for (index, input) in inputs.enumerated() {
            let path = "\(directory)/seed-\(index)"
            guard let file = fopen(path, "w") else {
                perror(path)
                exit(1)
            }
            fwrite(input, 1, input.count, file)
            fclose(file)
        }
    }
}
