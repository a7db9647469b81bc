import CPlatform
import Core
import Glibc

/// Starts processes with posix_spawn(3): each in its own session, with default signals, an empty
/// mask, no descriptor of ours but its standard ones, and nothing to read from.
package enum ProcessSpawner {
    /// A started process and the reading ends of its output, which are the caller's to close.
    package struct Spawned {
        package let pid: Int32
        package let standardOutput: Int32
        package let standardError: Int32
    }

    /// Starts it. What can be checked beforehand is, for the sake of the message.
    ///
    /// - Throws: why it cannot be started, for people, without naming the replica.
    package static func spawn(_ invocation: Invocation) throws(ClusterError) -> Spawned {
        try self.checkDirectory(invocation.workingDirectory)
        let program = try self.find(invocation)
        let output = try Pipe()
        let errors: Pipe
        do { errors = try Pipe() } catch {
            output.close()
            throw error
        }
        let (pid, code) = self.launch(program, invocation, output.writing, errors.writing)
        output.closeWriting()
        errors.closeWriting()
        guard code == 0 else {
            output.close()
            errors.close()
            throw ClusterError("\(quoted(program)) could not be started: \(self.reason(code))")
        }
        return Spawned(pid: pid, standardOutput: output.reading, standardError: errors.reading)
    }

    // MARK: Before the start

    private static func checkDirectory(_ path: String?) throws(ClusterError) {
        guard let path, !path.isEmpty else { return }
        var information = stat()
        guard stat(path, &information) == 0 else {
            throw ClusterError(
                "the working directory \(quoted(path)) cannot be used: \(errorText(errno))"
            )
        }
        guard information.st_mode & S_IFMT == S_IFDIR else {
            throw ClusterError("the working directory \(quoted(path)) is not a directory")
        }
        guard access(path, X_OK) == 0 else {
            throw ClusterError(
                "the working directory \(quoted(path)) cannot be entered: \(errorText(errno))"
            )
        }
    }

    /// The file to execute: a name without a slash is looked for on the PATH that the process will
    /// have, any other is relative to its working directory.
    private static func find(_ invocation: Invocation) throws(ClusterError) -> String {
        guard let program = invocation.command.first, !program.isEmpty else {
            throw ClusterError("the command is empty")
        }
        let directory = invocation.workingDirectory.flatMap { $0.isEmpty ? nil : $0 }
        if program.contains("/") {
            let isRelative = !program.hasPrefix("/")
            let seen = isRelative ? (directory.map { $0 + "/" } ?? "") + program : program
            try self.checkExecutable(seen, named: program)
            return program
        }
        let path = invocation.environment.first { $0.name == "PATH" }?.value ?? "/usr/bin:/bin"
        var unusable: String?
        for entry in path.split(separator: ":") {
            let candidate = "\(entry)/\(program)"
            let seen = entry.hasPrefix("/") ? candidate : "\(directory ?? ".")/\(candidate)"
            if self.isExecutable(seen) { return candidate }
            if unusable == nil, access(seen, F_OK) == 0 { unusable = candidate }
        }
        if let unusable { throw ClusterError("\(quoted(unusable)) is not executable") }
        throw ClusterError("\(quoted(program)) is not on PATH (\(path))")
    }

    private static func checkExecutable(
        _ seen: String,
        named program: String
    ) throws(ClusterError) {
        if self.isExecutable(seen) { return }
        guard access(seen, F_OK) == 0 else {
            throw ClusterError("\(quoted(program)) cannot be used: \(errorText(errno))")
        }
        throw ClusterError("\(quoted(program)) is not executable")
    }

    private static func isExecutable(_ path: String) -> Bool {
        var information = stat()
        return stat(path, &information) == 0 && information.st_mode & S_IFMT == S_IFREG
            && access(path, X_OK) == 0
    }

    /// What an error of execve(2) means once we know that the file is there and executable.
    private static func reason(_ code: Int32) -> String {
        switch code {
        case ENOENT: "its interpreter (the `#!` line or the loader) does not exist"
        case ENOEXEC: "it is neither a program nor a script with a `#!` line"
        case E2BIG: "its arguments and environment are too long"
        default: errorText(code)
        }
    }

    // MARK: The start

    /// The process's number and 0, or errno.
    private static func launch(
        _ program: String,
        _ invocation: Invocation,
        _ output: Int32,
        _ errors: Int32
    ) -> (pid: Int32, code: Int32) {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_adddup2(&actions, output, 1)
        posix_spawn_file_actions_adddup2(&actions, errors, 2)
        // Ours are close-on-exec anyway; those of libraries in this process need not be.
        weir_spawn_close_from(&actions, 3)
        if let directory = invocation.workingDirectory, !directory.isEmpty {
            weir_spawn_change_directory(&actions, directory)
        }
        let environment = invocation.environment.map { "\($0.name)=\($0.value)" }
        return self.start(program, invocation.command, environment, &actions)
    }

    /// Starts a helper of Weir's own: `input` is its standard input, what it writes goes where ours
    /// goes. The process's number and 0, or errno.
    static func launchHelper(
        _ command: [String],
        _ environment: [String: String],
        input: Int32
    ) -> (pid: Int32, code: Int32) {
        guard let program = command.first else { return (-1, EINVAL) }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, input, 0)
        weir_spawn_close_from(&actions, 3)
        let variables = environment.map { "\($0.key)=\($0.value)" }
        return self.start(program, command, variables, &actions)
    }

    private static func start(
        _ program: String,
        _ command: [String],
        _ environment: [String],
        _ actions: inout posix_spawn_file_actions_t
    ) -> (pid: Int32, code: Int32) {
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        // A session of its own: a Ctrl-C at our terminal is ours alone to handle, and one number
        // names the whole group.
        weir_spawn_isolate(&attributes)
        var pid: pid_t = 0
        let code = withCStrings(command) { arguments in
            withCStrings(environment) { variables in
                posix_spawn(&pid, program, &actions, &attributes, arguments, variables)
            }
        }
        return (pid, code)
    }
}

/// Both ends close-on-exec, the reading one non-blocking.
private struct Pipe {
    let reading: Int32
    let writing: Int32

    init() throws(ClusterError) {
        var ends: [Int32] = [-1, -1]
        guard weir_pipe(&ends) == 0, weir_set_nonblocking(ends[0]) == 0 else {
            throw ClusterError("no pipe can be opened for its output: \(errorText(errno))")
        }
        self.reading = ends[0]
        self.writing = ends[1]
    }

    func closeWriting() { Glibc.close(self.writing) }
    /// After `closeWriting`, or instead of it where nothing was started.
    func close() { Glibc.close(self.reading) }
}

/// Calls `body` with a NULL-terminated array of C strings that live as long as the call.
private func withCStrings<Result>(
    _ strings: [String],
    _ body: ([UnsafeMutablePointer<CChar>?]) -> Result
) -> Result {
    let pointers = strings.map { strdup($0) }
    defer { for pointer in pointers { free(pointer) } }
    return body(pointers + [nil])
}
