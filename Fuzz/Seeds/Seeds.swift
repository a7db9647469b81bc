import FuzzInvariants
import Glibc

/// Writes the first corpus of every target under the directory given, and prints each target's name
/// with the longest input it takes.
@main
enum Seeds {
    static func main() {
        guard CommandLine.arguments.count == 2 else {
            print("usage: FuzzSeeds DIRECTORY")
            exit(2)
        }
        for target in FuzzTarget.all {
            Self.write(target.seeds(), to: "\(CommandLine.arguments[1])/\(target.name)")
            print(target.name, target.inputBytesMax)
        }
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
