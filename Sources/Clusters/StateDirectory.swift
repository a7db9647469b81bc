import CPlatform
import Glibc

/// What a Weir must know of the processes of its predecessor, and what it measured of them.
///
/// ```
/// DIRECTORY/processes/lock          held (flock(2)) while a Weir, or its clean-up, uses it
///                     id            names this directory in the markers of processes
///                     running/NAME  one file per process that was started and has not ended
///                     cold-starts/GROUP
/// ```
///
/// Everything in it may be lost or torn without harm: the markers in the processes' environments
/// find them as well, and cold starts are measured again. Limits: files that are too long or do not
/// parse are passed over.
package final class StateDirectory {
    /// Who uses the directory; others wait for a clean-up, which is short, and not for a Weir.
    package enum Role: String, Sendable {
        case weir
        case cleanUp = "clean-up"
    }

    /// Tries for the lock, a `pauseMilliseconds` apart.
    package struct Patience: Sendable {
        let forWeir: Int
        let forCleanUp: Int
        static let pauseMilliseconds: Int32 = 20

        /// Long enough for the lock of a process that is being killed to vanish.
        package static let normal = Patience(forWeir: 25, forCleanUp: 500)
        package static let none = Patience(forWeir: 0, forCleanUp: 0)
    }

    package let path: String
    /// 32 hexadecimal digits, made once.
    package let id: String
    private var lock: Int32
    private static let fileBytesMax = 64 * 1024
    private static let filesMax = 100_000

    /// Creates the directory where it is missing and locks it.
    ///
    /// It may wait, without a loop to wait on, for `patience`: this runs before anything else does.
    package init(
        _ directory: String,
        role: Role = .weir,
        patience: Patience = .normal
    ) throws(ClusterError) {
        self.path = directory + "/processes"
        try makeDirectories(self.path)
        try makeDirectories(self.path + "/running")
        try makeDirectories(self.path + "/cold-starts")
        self.lock = try Self.acquire(self.path + "/lock", directory, role, patience)
        do {
            self.id = try Self.loadID(self.path + "/id")
        } catch {
            Glibc.close(self.lock)
            self.lock = -1
            throw error
        }
    }

    deinit { self.close() }

    /// Gives the lock back; idempotent.
    package func close() {
        if self.lock >= 0 {
            // Closing alone would not do: a child between fork and exec holds the descriptor too.
            flock(self.lock, LOCK_UN)
            Glibc.close(self.lock)
        }
        self.lock = -1
    }

    /// The name and the beginning of the value that every process of this directory has in its
    /// environment; the replica's name follows.
    package var markerPrefix: String { "\(Self.markerName)=\(self.id)/" }

    package static let markerName = "WEIR_REPLICA"

    package func marker(for replica: ReplicaID) -> EnvironmentVariable {
        EnvironmentVariable(
            name: Self.markerName,
            value: "\(self.id)/\(replica.group)-\(replica.index)-\(replica.serial)"
        )
    }

    // MARK: Records of processes

    /// Errno, or 0.
    func write(_ record: ProcessRecord) -> Int32 {
        replaceFile(self.recordPath(record.name), with: record.encoded)
    }

    func removeRecord(_ replica: ReplicaID) {
        unlink(self.recordPath(ProcessRecord.name(of: replica)))
    }

    func records() -> [ProcessRecord] {
        self.names(in: "running").compactMap { name in
            readFile(self.recordPath(name), limit: Self.fileBytesMax).flatMap {
                ProcessRecord(name: name, encoded: String(decoding: $0, as: UTF8.self))
            }
        }
    }

    func removeAllRecords() {
        for name in self.names(in: "running") { unlink(self.recordPath(name)) }
    }

    // MARK: Cold starts

    func coldStarts(of group: String) -> ColdStarts {
        guard let bytes = readFile(self.coldStartPath(group), limit: Self.fileBytesMax) else {
            return ColdStarts()
        }
        return ColdStarts(encoded: String(decoding: bytes, as: UTF8.self))
    }

    /// Errno, or 0.
    func save(_ coldStarts: ColdStarts, of group: String) -> Int32 {
        replaceFile(self.coldStartPath(group), with: coldStarts.encoded)
    }

    // MARK: Helpers

    private func recordPath(_ name: String) -> String { "\(self.path)/running/\(name)" }
    private func coldStartPath(_ group: String) -> String { "\(self.path)/cold-starts/\(group)" }

    private func names(in folder: String) -> [String] {
        guard let directory = opendir("\(self.path)/\(folder)") else { return [] }
        defer { closedir(directory) }
        var names: [String] = []
        while names.count < Self.filesMax, let entry = readdir(directory) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { raw in
                String(decoding: raw.prefix { $0 != 0 }, as: UTF8.self)
            }
            if !name.hasPrefix(".") { names.append(name) }
        }
        return names
    }

    private static func acquire(
        _ path: String,
        _ directory: String,
        _ role: Role,
        _ patience: Patience
    ) throws(ClusterError) -> Int32 {
        let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            throw ClusterError(
                "the state directory \(quoted(directory)) cannot be written: \(errorText(errno))"
            )
        }
        var attempts = 0
        while flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
            let code = errno
            let holder = readFile(path, limit: 64).map { String(decoding: $0, as: UTF8.self) } ?? ""
            let isCleanUp = holder.contains(Role.cleanUp.rawValue)
            let isHeld = code == EWOULDBLOCK || code == EINTR
            guard isHeld, attempts < (isCleanUp ? patience.forCleanUp : patience.forWeir) else {
                Glibc.close(descriptor)
                throw self.lockError(directory, holder, code)
            }
            attempts += 1
            poll(nil, 0, Patience.pauseMilliseconds)
        }
        let note = Array("\(getpid()) \(role.rawValue)\n".utf8)
        if ftruncate(descriptor, 0) == 0 { _ = Glibc.write(descriptor, note, note.count) }
        return descriptor
    }

    private static func lockError(_ directory: String, _ holder: String, _ code: Int32)
        -> ClusterError
    {
        guard code == EWOULDBLOCK else {
            return ClusterError(
                "the state directory \(quoted(directory)) cannot be locked: \(errorText(code))"
            )
        }
        let pid =
            holder.split(whereSeparator: \.isWhitespace).first.map { " (process \($0))" } ?? ""
        return ClusterError(
            "the state directory \(quoted(directory)) is in use by another Weir\(pid): stop that "
                + "one, or give this one a `stateDirectory` of its own"
        )
    }

    private static func loadID(_ path: String) throws(ClusterError) -> String {
        if let bytes = readFile(path, limit: 64) {
            let text = String(decoding: bytes.filter { $0 > 0x20 }, as: UTF8.self)
            if text.utf8.count == 32, text.allSatisfy(\.isHexDigit) { return text }
        }
        var random = [UInt8](repeating: 0, count: 16)
        guard weir_fill_random(&random, random.count) == 0 else {
            throw ClusterError("the kernel gives no random bytes: \(errorText(errno))")
        }
        let digits = Array("0123456789abcdef")
        let id = String(random.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] })
        let code = replaceFile(path, with: id + "\n")
        guard code == 0 else {
            throw ClusterError("\(quoted(path)) cannot be written: \(errorText(code))")
        }
        return id
    }
}

/// What names a process beyond doubt: its number, when it began, and in which boot.
struct ProcessRecord: Equatable, Sendable {
    let name: String
    let pid: Int32
    let startTime: UInt64
    let bootID: String

    static func name(of replica: ReplicaID) -> String {
        "\(replica.group)-\(replica.index)-\(replica.serial)"
    }

    init(name: String, pid: Int32, startTime: UInt64, bootID: String) {
        self.name = name
        self.pid = pid
        self.startTime = startTime
        self.bootID = bootID
    }

    var encoded: String { "\(self.pid) \(self.startTime) \(self.bootID)\n" }

    /// Nil for anything but what `encoded` writes.
    init?(name: String, encoded: String) {
        let fields = encoded.split(whereSeparator: \.isWhitespace)
        guard fields.count == 3, let pid = Int32(fields[0]), let start = UInt64(fields[1]), pid > 1
        else { return nil }
        self.init(name: name, pid: pid, startTime: start, bootID: String(fields[2]))
    }
}

/// Like `mkdir -p`, for us alone.
private func makeDirectories(_ path: String) throws(ClusterError) {
    var partial = path.hasPrefix("/") ? "/" : ""
    for part in path.split(separator: "/") {
        partial += partial.isEmpty || partial.hasSuffix("/") ? "\(part)" : "/\(part)"
        if mkdir(partial, 0o700) != 0, errno != EEXIST {
            let code = errno
            throw ClusterError(
                "the state directory \(quoted(path)) cannot be made: \(errorText(code))"
            )
        }
    }
}
