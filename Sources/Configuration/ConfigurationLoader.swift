/// Reads files into a `Configuration`, or says everything that is wrong with them.
///
/// Three passes: YAML into nodes (`YAMLReader`), nodes against the schemas (`SchemaDecoder`), and
/// the checks that span fields and resources (`ConfigurationChecker`). A problem in one pass does
/// not stop the next, as far as there is something left to check.
package enum ConfigurationLoader {
    /// Files of one configuration.
    package static let maxFiles = 1_000
    /// Resources of one configuration.
    package static let maxResources = 20_000

    package static func load(files: [(name: String, text: String)]) -> LoadResult {
        self.load(files.map { ConfigurationFile(name: $0.name, text: $0.text) })
    }

    /// Reads the files at `paths` and loads them; a file that cannot be read is a problem. With a
    /// cache, a file whose bytes are those of the last time is not parsed again, and where all are,
    /// the result is that of the last time.
    package static func load(paths: [String], cache: ConfigurationCache? = nil) -> LoadResult {
        var files: [ConfigurationFile] = []
        var problems: [Problem] = []
        for path in paths.prefix(Self.maxFiles) {
            switch ConfigurationFile.read(path: path) {
            case .success(let file): files.append(file)
            case .failure(let failure): problems.append(failure.problem)
            }
        }
        return self.load(files, unreadable: problems, cache: cache)
    }

    /// - Parameters:
    ///   - filesMax: where the files are single resources, as on a cluster, there may be as many as
    ///     resources.
    ///   - tenantsMayNameMissingModels: that a tenant may use a model that does not exist is a
    ///     warning and no error.
    package static func load(
        _ files: [ConfigurationFile],
        unreadable: [Problem] = [],
        cache: ConfigurationCache? = nil,
        filesMax: Int = Self.maxFiles,
        tenantsMayNameMissingModels: Bool = false
    ) -> LoadResult {
        if unreadable.isEmpty, let known = cache?.result(of: files) { return known }
        var loading = Loading(cache: cache)
        for problem in unreadable { loading.sink.add(problem) }
        for (index, file) in files.enumerated() {
            if index >= filesMax {
                loading.refuse(file, "there are more than \(filesMax) files")
                break
            }
            loading.read(file)
        }
        let result = loading.finish(missingModels: tenantsMayNameMissingModels ? .warning : .error)
        cache?.last = unreadable.isEmpty ? (files, result) : nil
        return result
    }
}

/// What the files of a configuration came to when they were read last, so that a change of one of
/// many does not cost the reading of all. Holds only the files of the last load and what they came
/// to: no more than the configuration itself.
package final class ConfigurationCache {
    fileprivate struct File {
        var bytes: [UInt8]
        var set: ResourceSet
        var count: Int
    }

    /// Those without problems.
    fileprivate var files: [String: File] = [:]
    fileprivate var last: (files: [ConfigurationFile], result: LoadResult)?

    package init() {}

    fileprivate func result(of files: [ConfigurationFile]) -> LoadResult? {
        guard let last = self.last, last.files.count == files.count else { return nil }
        let isSame = zip(last.files, files).allSatisfy {
            $0.name == $1.name && $0.bytes == $1.bytes
        }
        return isSame ? last.result : nil
    }
}

/// What loading gave.
package struct LoadResult: Sendable {
    /// Nil where there was an error.
    package var configuration: Configuration?
    /// All errors and warnings, in the order of the files and from top to bottom.
    package var problems: [Problem]

    package var hasErrors: Bool { self.configuration == nil }
}

/// A configuration on its way from files to resources.
private struct Loading {
    var sink = ProblemSink()
    private var set = ResourceSet()
    private var names: [String] = []
    private let cache: ConfigurationCache?
    private var kept: [String: ConfigurationCache.File] = [:]
    private var texts: [String: ArraySlice<UInt8>] = [:]
    private var count = 0

    init(cache: ConfigurationCache?) {
        self.cache = cache
    }

    mutating func refuse(_ file: ConfigurationFile, _ message: String) {
        self.sink.add(Problem(file: file.name, position: nil, message: message))
    }

    mutating func read(_ file: ConfigurationFile) {
        if self.names.contains(file.name) {
            self.refuse(file, "the file is given twice")
            return
        }
        self.names.append(file.name)
        // A byte order mark says nothing in UTF-8.
        let mark: [UInt8] = [0xEF, 0xBB, 0xBF]
        let bytes = file.bytes.starts(with: mark) ? file.bytes.dropFirst(3) : file.bytes[...]
        self.texts[file.name] = bytes
        if let known = self.cache?.files[file.name], known.bytes == file.bytes,
            self.count + known.count <= ConfigurationLoader.maxResources
        {
            self.count += known.count
            self.set.add(known.set)
            self.kept[file.name] = known
            return
        }
        self.parse(file, bytes)
    }

    private mutating func parse(_ file: ConfigurationFile, _ bytes: ArraySlice<UInt8>) {
        guard let text = String(validating: bytes, as: UTF8.self) else {
            let position = UTF8Check.firstInvalid(in: file.bytes)
            self.sink.add(
                Problem(
                    file: file.name,
                    position: position,
                    message: "not valid UTF-8",
                    hint: "save the file as UTF-8"
                )
            )
            return
        }
        let before = self.count
        var part = ResourceSet()
        var sink = ProblemSink()
        var reader = YAMLReader(file: file.name, text: text)
        reader.read()
        sink.add(reader.sink)
        if reader.documents.isEmpty && reader.problems.isEmpty {
            sink.add(
                Problem(file: file.name, position: nil, message: "the file holds no resources")
            )
        }
        for document in reader.documents { self.decode(document, file.name, &part, &sink) }
        self.set.add(part)
        self.sink.add(sink)
        if self.cache != nil, sink.problems.isEmpty {
            self.kept[file.name] = ConfigurationCache.File(
                bytes: file.bytes,
                set: part,
                count: self.count - before
            )
        }
    }

    private mutating func decode(
        _ document: SourceNode,
        _ file: String,
        _ part: inout ResourceSet,
        _ sink: inout ProblemSink
    ) {
        self.count += 1
        guard self.count <= ConfigurationLoader.maxResources else {
            if self.count == ConfigurationLoader.maxResources + 1 {
                sink.add(
                    Problem(
                        file: file,
                        position: document.position,
                        message: "more than \(ConfigurationLoader.maxResources) resources"
                    )
                )
            }
            return
        }
        var decoder = DocumentDecoder(file: file)
        if let resource = decoder.decode(document) { part.add(resource) }
        sink.add(decoder.sink)
    }

    mutating func finish(missingModels: Problem.Severity) -> LoadResult {
        self.cache?.files = self.kept
        var checker = ConfigurationChecker(self.set, missingModels: missingModels)
        checker.check()
        self.sink.add(checker.sink)
        var problems = self.sink.sorted(files: self.names)
        var lines: [String: [String]] = [:]
        for file in Set(problems.map(\.file)) {
            guard let text = self.texts[file] else { continue }
            lines[file] = SourceText.lines(of: String(decoding: text, as: UTF8.self))
        }
        for index in problems.indices {
            guard let position = problems[index].position else { continue }
            guard let lines = lines[problems[index].file] else { continue }
            let line = position.line - 1
            if lines.indices.contains(line) { problems[index].sourceLine = lines[line] }
        }
        let isUsable = !problems.contains { $0.severity == .error }
        return LoadResult(
            configuration: isUsable ? Configuration(self.set) : nil,
            problems: problems
        )
    }
}
