import ArgumentParser
import Configuration
import Glibc

/// `weir crds`: the definitions that a cluster needs for Weir's resources.
struct CRDs: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "crds",
        abstract: "Print the CustomResourceDefinitions of Weir's resources.",
        discussion: """
            They are as large as they are well described: apply them on the server's side.

            Example: weir crds | kubectl apply --server-side -f -
            """
    )

    @Argument(help: "Only these kinds, such as Model.")
    var kinds: [String] = []

    @Option(help: "Write a file for each into this folder instead.", completion: .directory)
    var directory: String?

    mutating func validate() throws {
        let names = CustomResourceDefinitions.kinds.map(\.rawValue)
        for kind in self.kinds where !names.contains(kind) {
            let list = names.joined(separator: ", ")
            throw ValidationError("no cluster has a kind \(kind): there are \(list)")
        }
    }

    mutating func run() throws {
        var documents: [(name: String, text: String)] = []
        for kind in CustomResourceDefinitions.kinds {
            guard self.kinds.isEmpty || self.kinds.contains(kind.rawValue),
                let name = CustomResourceDefinitions.fileName(of: kind),
                let text = CustomResourceDefinitions.yaml(of: kind)
            else { continue }
            documents.append((name, text))
        }
        guard let directory = self.directory else {
            Output.write(documents.map(\.text).joined(separator: "---\n"), to: STDOUT_FILENO)
            return
        }
        for document in documents {
            try Self.write(document.text, to: "\(directory)/\(document.name)")
        }
    }

    private static func write(_ text: String, to path: String) throws {
        guard let file = fopen(path, "w") else {
            throw RuntimeError(
                description: "cannot write \(path): \(String(cString: strerror(errno)))"
            )
        }
        let isWritten = fputs(text, file) >= 0
        if fclose(file) == 0 && isWritten { return }
        throw RuntimeError(description: "cannot write \(path): \(String(cString: strerror(errno)))")
    }
}
