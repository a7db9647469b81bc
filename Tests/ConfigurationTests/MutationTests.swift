import Core
import Testing

@testable import Configuration

/// Random damage to good files: whatever comes of it, the loader ends, stays in bounds, and what it
/// accepts can be written and read again.
@Suite struct MutationTests {
    private static let fragments: [String] = [
        "---\n", "\n", "  ", "\t", ":", ": ", "- ", "[", "]", "{", "}", ",", "\"", "'", "#", " #",
        "&a ",
        "*a", "*a ", "!", "!!int ", "|", ">", "? ", "<<: *a", "%YAML 1.2", "null", "~", "true",
        "-1",
        "1e99", "99999999999999999999", "0x", "é", "\u{10FFFE}", "\u{10FFFF}", "\u{FEFF}", "\0",
        "\u{85}",
        "\u{2028}", "spec", "name: v1", "weights: {v1: 0}", "$(PORT)", "$(", "%", "\r", "\r\n",
        "\\",
    ]

    private static func mutate(_ bytes: [UInt8], _ random: inout RandomSource) -> [UInt8] {
        var bytes = bytes
        for _ in 0..<Int.random(in: 1...6, using: &random) {
            let place = Int.random(in: 0...bytes.count, using: &random)
            let end = min(bytes.count, place + Int.random(in: 0...30, using: &random))
            switch Int.random(in: 0..<6, using: &random) {
            case 0: bytes.removeSubrange(place..<end)
            case 1:
                let fragment = Self.fragments.randomElement(using: &random) ?? ""
                bytes.insert(contentsOf: Array(fragment.utf8), at: place)
            case 2:
                if place < bytes.count { bytes[place] = UInt8.random(in: 0...255, using: &random) }
            case 3: bytes.insert(contentsOf: bytes[place..<end], at: place)
            case 4: if place < bytes.count { bytes.remove(at: place) }
            default:
                let other = Int.random(in: 0..<max(1, bytes.count), using: &random)
                if place < bytes.count { bytes.swapAt(place, other) }
            }
            if bytes.isEmpty { bytes = [0x0A] }
        }
        return bytes
    }

    @Test(arguments: 1...8)
    func damagedFilesNeverCrash(seed: UInt64) throws {
        var random = RandomSource(seed: seed)
        var accepted = 0
        for round in 0..<250 {
            let name = Examples.names[round % Examples.names.count]
            let original = try ConfigurationFile.read(path: Examples.folder + name).get()
            let bytes = Self.mutate(original.bytes, &random)
            let result = ConfigurationLoader.load([ConfigurationFile(name: name, bytes: bytes)])
            let label = Comment(rawValue: "seed \(seed), round \(round)")
            #expect(result.problems.count <= ProblemSink.maxPerFile + 1, label)
            let hasErrors = result.problems.contains { $0.severity == .error }
            #expect(result.hasErrors == hasErrors, label)
            for problem in result.problems {
                #expect(!problem.message.isEmpty && problem.message.utf8.count < 4_000, label)
                if let position = problem.position {
                    #expect(position.line >= 1 && position.column >= 1, label)
                    #expect(position.line <= bytes.count(where: { $0 == 0x0A }) + 1, label)
                }
            }
            _ = Problem.render(result.problems, colour: true)
            guard let configuration = result.configuration else { continue }
            accepted += 1
            let written = ConfigurationWriter.yaml(configuration)
            let again = ConfigurationLoader.load(files: [(name: name, text: written)])
            #expect(again.configuration == configuration, label)
        }
        // Damage to comments and values leaves some files good; none would mean a dead test.
        #expect(accepted > 5)
    }

    @Test func randomBytesNeverCrash() {
        var random = RandomSource(seed: 99)
        for _ in 0..<300 {
            let count = Int.random(in: 0...200, using: &random)
            let bytes = (0..<count).map { _ in
                let printable = UInt8.random(in: 0x20...0x7E, using: &random)
                return random.next() % 8 == 0 ? 0x0A : printable
            }
            let result = ConfigurationLoader.load([ConfigurationFile(name: "r", bytes: bytes)])
            #expect(result.hasErrors)
        }
    }
}
