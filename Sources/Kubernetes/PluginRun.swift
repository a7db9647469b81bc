import CPlatform
import Core
import EventLoop
import Glibc
import HTTPService

/// One run of a credential plugin: its output, collected within bounds, and its end.
///
/// On the loop's thread. Whatever happens, `completion` runs exactly once, later; a plugin that
/// takes too long or writes too much is killed with everything it started.
final class PluginRun {
    typealias Completion = (Result<[UInt8], FileProblem>) -> Void

    private let plugin: ExecPlugin
    private let loop: EventLoop
    private var completion: Completion?
    private var pid: pid_t = -1
    private var output: [UInt8] = []
    private var errors: [UInt8] = []
    private var outputPipe: PipeWatch?
    private var errorPipe: PipeWatch?
    private var exit: PipeWatch?
    private var timer: LoopTimer?
    private var failure: String?

    private init(_ plugin: ExecPlugin, loop: EventLoop, completion: @escaping Completion) {
        self.plugin = plugin
        self.loop = loop
        self.completion = completion
    }

    /// - Parameter environment: ours; the plugin's own variables are added.
    static func start(
        _ plugin: ExecPlugin,
        environment: [String: String],
        loop: EventLoop,
        completion: @escaping Completion
    ) {
        let run = PluginRun(plugin, loop: loop, completion: completion)
        if let problem = run.launch(environment) {
            loop.schedule(after: .zero) { run.finish(problem) }
        }
    }

    // MARK: The start

    /// Starts the program; nil where that worked.
    private func launch(_ environment: [String: String]) -> String? {
        var variables = environment
        for (name, value) in self.plugin.environment { variables[name] = value }
        variables["KUBERNETES_EXEC_INFO"] = self.plugin.information.text
        guard let program = Self.find(self.plugin.command, path: variables["PATH"] ?? "") else {
            return "the program is not there, or not executable"
        }
        guard let output = Self.pipe() else { return "no pipe for its output" }
        guard let errors = Self.pipe() else {
            for end in output { close(end) }
            return "no pipe for its errors"
        }
        let code = self.spawn(program, variables, output[1], errors[1])
        close(output[1])
        close(errors[1])
        guard code == 0 else {
            close(output[0])
            close(errors[0])
            return "it cannot be started: \(String(cString: strerror(code)))"
        }
        let descriptor = weir_pidfd_open(self.pid)
        guard descriptor >= 0 else {
            close(output[0])
            close(errors[0])
            return "it cannot be watched: \(String(cString: strerror(errno)))"
        }
        // Held by what is watched until the end.
        self.outputPipe = PipeWatch(owning: output[0], loop: self.loop) { self.read() }
        self.errorPipe = PipeWatch(owning: errors[0], loop: self.loop) { self.read() }
        self.exit = PipeWatch(owning: descriptor, loop: self.loop) { self.ended() }
        self.timer = self.loop.schedule(after: self.plugin.timeout) {
            self.kill("it has not ended within \(self.plugin.timeout)")
        }
        return nil
    }

    private static func find(_ command: String, path: String) -> String? {
        if command.contains("/") { return access(command, X_OK) == 0 ? command : nil }
        let folders = (path.isEmpty ? "/usr/local/bin:/usr/bin:/bin" : path).split(separator: ":")
        return folders.map { "\($0)/\(command)" }.first { access($0, X_OK) == 0 }
    }

    /// Reading end, writing end.
    private static func pipe() -> [Int32]? {
        var ends: [Int32] = [-1, -1]
        guard weir_pipe(&ends) == 0 else { return nil }
        if weir_set_nonblocking(ends[0]) == 0 { return ends }
        for end in ends { close(end) }
        return nil
    }

    private func spawn(
        _ program: String,
        _ variables: [String: String],
        _ output: Int32,
        _ errors: Int32
    ) -> Int32 {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_adddup2(&actions, output, 1)
        posix_spawn_file_actions_adddup2(&actions, errors, 2)
        weir_spawn_close_from(&actions, 3)
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        // A session of its own: one number names the plugin and all it starts.
        weir_spawn_isolate(&attributes)
        let arguments = ([program] + self.plugin.arguments).map { strdup($0) }
        let environment = variables.map { strdup("\($0.key)=\($0.value)") }
        defer { for text in arguments + environment { free(text) } }
        return posix_spawn(
            &self.pid,
            program,
            &actions,
            &attributes,
            arguments + [nil],
            environment + [nil]
        )
    }

    // MARK: While it runs

    private func read() {
        self.outputPipe?.read(into: &self.output, atMost: ExecPlugin.outputBytesMax + 1)
        // Read on when there is enough: the plugin must not wait for us.
        self.errorPipe?.read(into: &self.errors, atMost: .max)
        if self.errors.count > 2 * ExecPlugin.errorBytesMax {
            self.errors.removeFirst(self.errors.count - ExecPlugin.errorBytesMax)
        }
        if self.output.count > ExecPlugin.outputBytesMax {
            self.kill("it wrote more than \(ExecPlugin.outputBytesMax) bytes")
        }
    }

    private func kill(_ why: String) {
        guard self.failure == nil else { return }
        self.failure = why
        // ESRCH: it has ended; that is what was wanted.
        _ = Glibc.kill(-self.pid, SIGKILL)
    }

    private func ended() {
        self.read()
        var status: Int32 = 0
        while waitpid(self.pid, &status, 0) < 0, errno == EINTR {}
        if let failure { return self.finish(failure) }
        if weir_wifexited(status) != 0, weir_wexitstatus(status) == 0 { return self.finish(nil) }
        let code =
            weir_wifexited(status) != 0
            ? "it ended with status \(weir_wexitstatus(status))"
            : "signal \(weir_wtermsig(status)) ended it"
        let said = String(decoding: self.errors.suffix(ExecPlugin.errorBytesMax), as: UTF8.self)
            .split(whereSeparator: \.isNewline).joined(separator: " ").trimmed
        self.finish(said.isEmpty ? code : "\(code), saying: \(said)")
    }

    private func finish(_ problem: String?) {
        for watch in [self.outputPipe, self.errorPipe, self.exit] { watch?.stop() }
        self.timer?.cancel()
        let completion = self.completion
        self.completion = nil
        guard let problem else {
            completion?(.success(self.output))
            return
        }
        let hint = self.plugin.installHint.trimmed
        let words = "the credential plugin `\(self.plugin.command)` failed: \(problem)"
        completion?(.failure(FileProblem(reason: hint.isEmpty ? words : "\(words) (\(hint))")))
    }
}

/// A descriptor of a plugin's run.
private final class PipeWatch: IOHandler {
    private var body: (() -> Void)?

    init(owning descriptor: Int32, loop: EventLoop, body: @escaping () -> Void) {
        self.body = body
        super.init()
        self.register(descriptor: descriptor, on: loop, interest: .read)
    }

    override func ready(_ events: IOEvents) {
        let body = self.body
        body?()
    }

    /// Appends what is there, until `bytes` has that many.
    func read(into bytes: inout [UInt8], atMost limit: Int) {
        var chunk = [UInt8](repeating: 0, count: 16 << 10)
        while self.isRegistered, bytes.count < limit {
            let count = Glibc.read(self.descriptor, &chunk, chunk.count)
            if count < 0, errno == EINTR { continue }
            if count < 0, errno == EAGAIN { return }
            guard count > 0 else { return self.stop() }
            bytes += chunk[..<count]
        }
    }

    func stop() {
        guard self.isRegistered else { return }
        let descriptor = self.descriptor
        self.deregister()
        self.body = nil
        close(descriptor)
    }
}
