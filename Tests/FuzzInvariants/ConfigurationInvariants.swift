import Configuration
import Glibc

/// Configuration files. Time is bounded by the fuzzer's timeout, and by the limits of the reader.
///
/// A file is usable or has an error, never both; every problem can be shown and has its place in
/// the file; what was accepted reads the same once it was written out.
enum ConfigurationInvariants {
    static var seeds: [[UInt8]] {
        let examples = ["canary", "digits", "full-reference", "simulator", "static"].map {
            Self.example("\($0).yaml")
        }
        let head = "apiVersion: weir.dev/v1alpha1\nkind: Model\nmetadata: {name: m}\nspec: "
        let odd = #""\x7f\u0085\u2028\ufeff\u0001\u009f\U0010fe00\U0001f600""#
        let process =
            "apiVersion: weir.dev/v1alpha1\nkind: ProcessDeployment\nmetadata: {name: p}\nspec: "
        return examples
            + [
                process + "{command: [a, \(odd)]}\n", head + "{} # x\r# y\u{2028}\n",
                head + "{a: &a [*b]}\n", head + "&x {y: *x}\n", "a: 1\na: 2\n---\n- b\n---\n*c\n",
                "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: [*c,*c]\n", "? [a]\n: b\n<<: {}\n",
                "\u{FEFF}kind: Model\n", "a: \"\\x\"\n", "%YAML 9.9\n---\n!!binary x\n", "\ta: b\n",
                String(repeating: "[", count: 2000), String(repeating: "- ", count: 2000),
                String(repeating: "{a: ", count: 2000), String(repeating: "? ", count: 2000),
                String(repeating: "a: 1\n", count: 200), String(repeating: "---\n", count: 500),
                "a: |+2\n  x\n\n", "a: >-\n x\n", "'a''b': \"\u{1F600}\"\n", "a: b: c\n", "*",
            ].map { Array($0.utf8) }
    }

    /// The bytes of a file in `configs`; empty if it cannot be read, which a test notices.
    private static func example(_ name: String, from file: String = #filePath) -> [UInt8] {
        let root = file.split(separator: "/").dropLast(3).joined(separator: "/")
        switch ConfigurationFile.read(path: "/\(root)/configs/\(name)") {
        case .success(let file): return file.bytes
        case .failure: return []
        }
    }

    static func violation(_ bytes: [UInt8]) -> String? {
        let file = ConfigurationFile(name: "f.yaml", bytes: bytes)
        let result = ConfigurationLoader.load([file])
        let hasErrors = result.problems.contains { $0.severity == .error }
        guard result.hasErrors == hasErrors else { return "neither usable nor wrong" }
        let lines = bytes.count { $0 == 10 } + 1
        for problem in result.problems {
            guard !problem.message.isEmpty, problem.message.utf8.count < 4000 else {
                return "a message of \(problem.message.utf8.count) bytes"
            }
            guard let position = problem.position else { continue }
            guard (1...lines).contains(position.line), position.column >= 1 else {
                return "a problem at \(position) of \(lines) lines"
            }
        }
        guard result.problems.isEmpty == Problem.render(result.problems).isEmpty else {
            return "problems are not shown"
        }
        guard let configuration = result.configuration else { return nil }
        let written = ConfigurationWriter.yaml(configuration)
        let again = ConfigurationLoader.load(files: [(name: "f.yaml", text: written)])
        return again.configuration == configuration ? nil : "reads differently: \(written)"
    }
}
