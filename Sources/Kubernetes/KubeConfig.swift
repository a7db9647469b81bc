import Curl
import Foundation
import HTTPService
import Yams

/// The contents of kubeconfig files: clusters, users, and contexts that join one of each.
///
/// Parsing and merging are pure; `load` reads the files. Merged as `kubectl` merges: for each name
/// and for the current context, the first file that has it wins as a whole. Paths inside are
/// relative to their file.
package struct KubeConfig: Sendable {
    /// An entry and the file that it stands in.
    struct Entry: Sendable {
        var value: JSONValue
        var file: String
    }

    /// Bytes of a file and entries of a list at most.
    package static let bytesMax = 4 << 20
    package static let entriesMax = 10_000
    package static let filesMax = 100

    private(set) var currentContext: (name: String, file: String)?
    private var clusters: [String: Entry] = [:]
    private var users: [String: Entry] = [:]
    private var contexts: [String: Entry] = [:]
    /// Names the files to people.
    private var files: [String] = []
    /// Reads the files that entries name.
    private let surroundings: AccessSurroundings

    package init(_ surroundings: AccessSurroundings) {
        self.surroundings = surroundings
    }

    /// Names of the contexts, sorted.
    package var contextNames: [String] { self.contexts.keys.sorted() }

    // MARK: Reading

    /// Reads one file, or those that the environment names. Files of a list that are not there are
    /// left out, as `kubectl` does.
    package static func load(
        _ surroundings: AccessSurroundings,
        file: String? = nil
    ) throws(AccessProblem) -> KubeConfig {
        var config = KubeConfig(surroundings)
        let listed = surroundings.environment["KUBECONFIG"] ?? ""
        let paths: [String]
        if let file {
            paths = [file]
        } else if !listed.isEmpty {
            paths = listed.split(separator: ":").map(String.init)
        } else {
            paths = ["\(surroundings.environment["HOME"] ?? "")/.kube/config"]
        }
        if paths.count > self.filesMax {
            throw AccessProblem(
                place: "KUBECONFIG",
                message: "\(paths.count) files",
                hint: "list at most \(self.filesMax)"
            )
        }
        var problems: [AccessProblem] = []
        for path in paths {
            switch surroundings.read(path) {
            case .success(let bytes): try config.add(bytes, file: path)
            case .failure(let problem):
                problems.append(
                    AccessProblem(
                        place: path,
                        message: problem.reason,
                        hint: "set KUBECONFIG to the file that describes the cluster"
                    )
                )
            }
        }
        if config.files.isEmpty, let first = problems.first { throw first }
        return config
    }

    /// Adds a file behind those added before.
    package mutating func add(_ bytes: [UInt8], file: String) throws(AccessProblem) {
        let value = try Self.parse(bytes, file: file)
        self.files.append(file)
        if let name = value["current-context"].string, !name.isEmpty, self.currentContext == nil {
            self.currentContext = (name, file)
        }
        try Self.merge(value["clusters"], "clusters", file, into: &self.clusters)
        try Self.merge(value["users"], "users", file, into: &self.users)
        try Self.merge(value["contexts"], "contexts", file, into: &self.contexts)
    }

    private static func merge(
        _ list: JSONValue,
        _ what: String,
        _ file: String,
        into entries: inout [String: Entry]
    ) throws(AccessProblem) {
        if list.isNull { return }
        guard case .array(let elements) = list, elements.count <= self.entriesMax else {
            throw AccessProblem(
                place: "\(file): \(what)",
                message: "not a list of at most \(self.entriesMax) entries",
                hint: "write a list of entries with a name each"
            )
        }
        for (index, element) in elements.enumerated() {
            guard let name = element["name"].string, !name.isEmpty else {
                throw AccessProblem(
                    place: "\(file): \(what)[\(index)]",
                    message: "it has no name",
                    hint: "add `name:`"
                )
            }
            let inner = element[String(what.dropLast())]
            if entries[name] == nil { entries[name] = Entry(value: inner, file: file) }
        }
    }

    private static func parse(_ bytes: [UInt8], file: String) throws(AccessProblem) -> JSONValue {
        let text = String(decoding: bytes, as: UTF8.self)
        if bytes.count > self.bytesMax {
            throw AccessProblem(
                place: file,
                message: "it has \(bytes.count) bytes",
                hint: "the largest kubeconfig taken has \(self.bytesMax)"
            )
        }
        if let line = YAMLTree.aliasLine(in: text) {
            throw AccessProblem(
                place: "\(file):\(line)",
                message: "an alias (`*name`)",
                hint: "write the value out: aliases are not read in a kubeconfig"
            )
        }
        do {
            guard let value = try YAMLTree.value(of: text) else { return .null }
            guard case .object = value else {
                throw FileProblem(reason: "not a mapping")
            }
            return value
        } catch {
            let reason = (error as? FileProblem)?.reason ?? "\(error)"
            throw AccessProblem(
                place: file,
                message: "not a kubeconfig: \(reason.prefix(500))",
                hint: "check it with `kubectl config view`"
            )
        }
    }

    // MARK: Resolving

    /// The access that a context describes.
    ///
    /// - Parameter context: nil for the current one.
    package func access(context: String? = nil) throws(AccessProblem) -> ClusterAccess {
        let place = self.files.joined(separator: ":")
        guard let name = context ?? self.currentContext?.name else {
            throw AccessProblem(
                place: place,
                message: "no current-context",
                hint: "choose one with `kubectl config use-context`\(self.choices)"
            )
        }
        guard let entry = self.contexts[name] else {
            throw AccessProblem(
                place: place,
                message: "no context is called `\(name)`",
                hint: "choose another one\(self.choices)"
            )
        }
        let contextPlace = "\(entry.file): context `\(name)`"
        guard let clusterName = entry.value["cluster"].string,
            let cluster = self.clusters[clusterName]
        else {
            throw AccessProblem(
                place: contextPlace,
                message: "its cluster `\(entry.value["cluster"].string ?? "")` is not described",
                hint: "add it under `clusters`"
            )
        }
        let reader = EntryReader(
            entry: cluster,
            what: "cluster `\(clusterName)`",
            self.surroundings
        )
        var access = try reader.cluster(named: name)
        if let namespace = entry.value["namespace"].string, !namespace.isEmpty {
            access.namespace = namespace
        }
        if let userName = entry.value["user"].string, !userName.isEmpty {
            guard let user = self.users[userName] else {
                throw AccessProblem(
                    place: contextPlace,
                    message: "its user `\(userName)` is not described",
                    hint: "add it under `users`"
                )
            }
            try EntryReader(entry: user, what: "user `\(userName)`", self.surroundings)
                .user(into: &access, cluster: reader)
        }
        return access
    }

    private var choices: String {
        let names = self.contextNames.prefix(20)
        return names.isEmpty ? "" : " (there are: \(names.joined(separator: ", ")))"
    }
}

/// YAML as a JSON tree: all that kubeconfig files use.
enum YAMLTree {
    static let depthMax = 64

    /// Nil for an empty document.
    static func value(of text: String) throws -> JSONValue? {
        try Yams.compose(yaml: text).map { try self.value(of: $0, depth: 0) }
    }

    /// The first line with an alias. Parsing one can take time exponential in the file's size.
    static func aliasLine(in text: String) -> Int? {
        for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false)
            .enumerated()
        {
            var before: Character = " "
            var quote: Character?
            let characters = Array(line)
            for (column, character) in characters.enumerated() {
                defer { before = character }
                if let open = quote {
                    if character == open { quote = nil }
                    continue
                }
                let isStart = " [{,:-".contains(before)
                if character == "#", before == " " { break }
                if isStart, character == "\"" || character == "'" { quote = character }
                guard isStart, character == "*", column + 1 < characters.count else { continue }
                if characters[column + 1].isLetter || characters[column + 1].isNumber {
                    return index + 1
                }
            }
        }
        return nil
    }

    private static func value(of node: Node, depth: Int) throws -> JSONValue {
        if depth > self.depthMax { throw FileProblem(reason: "nested too deep") }
        switch node {
        case .scalar(let scalar): return self.scalar(scalar, node)
        case .sequence(let sequence):
            return .array(try sequence.map { try self.value(of: $0, depth: depth + 1) })
        case .mapping(let mapping):
            return .object(
                try mapping.map { key, value in
                    guard let name = key.scalar?.string else {
                        throw FileProblem(reason: "a key that is no text")
                    }
                    return JSONValue.Member(name, try self.value(of: value, depth: depth + 1))
                }
            )
        case .alias: throw FileProblem(reason: "an alias")
        }
    }

    private static func scalar(_ scalar: Node.Scalar, _ node: Node) -> JSONValue {
        guard scalar.style == .plain else { return .string(scalar.string) }
        if node.null != nil { return .null }
        if let bool = node.bool { return .bool(bool) }
        if let integer = node.int { return .integer(integer) }
        if let number = node.float { return .number(number) }
        return .string(scalar.string)
    }
}
