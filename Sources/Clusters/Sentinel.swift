import CPlatform
import Glibc

/// A second process that outlives Weir by a moment and ends what it leaves running.
///
/// It waits at a pipe whose other end Weir alone holds. When Weir dies, of whatever cause, the
/// kernel closes that end; the sentinel then does what the next start of Weir would do, at once.
/// Chosen over PR_SET_PDEATHSIG, which posix_spawn cannot set, which reaches the direct child alone
/// (a model server's workers would survive) and which fires when the *thread* that started it ends.
///
/// If it is killed as well, the next start does the work: nothing relies on it.
package enum Sentinel {
    /// The whole life of the sentinel: blocks until `descriptor` ends, then cleans up.
    ///
    /// - Parameter descriptor: the pipe's reading end; standard input, as `SentinelProcess` starts
    /// it.
    /// - Returns: the exit code.
    package static func run(stateDirectory: String, descriptor: Int32 = 0) -> Int32 {
        // Whoever ends Weir by a signal to everything in sight must not end its clean-up.
        for number in [SIGINT, SIGTERM, SIGHUP, SIGPIPE] { signal(number, SIG_IGN) }
        var byte: UInt8 = 0
        while true {
            let count = read(descriptor, &byte, 1)
            if count == 0 { break }
            if count < 0, errno != EINTR { return 1 }
        }
        do throws(ClusterError) {
            let directory = try StateDirectory(stateDirectory, role: .cleanUp)
            defer { directory.close() }
            return OrphanReaper.reap(directory).remaining.isEmpty ? 0 : 1
        } catch {
            // A new Weir has the directory and does the same work.
            return 0
        }
    }
}

/// The sentinel as Weir sees it.
final class SentinelProcess {
    private let pid: Int32
    private var pipe: Int32

    /// - Parameter command: the file to execute and its arguments; it must call `Sentinel.run`.
    init(command: [String], environment: [String: String]) throws(ClusterError) {
        var ends: [Int32] = [-1, -1]
        guard weir_pipe(&ends) == 0 else {
            throw ClusterError("no pipe can be opened for the sentinel: \(errorText(errno))")
        }
        defer { close(ends[0]) }
        // Without the marker we may carry ourselves as the replica of another Weir: what that one
        // sweeps away with us must not include our clean-up.
        let own = environment.filter { $0.key != StateDirectory.markerName }
        let (pid, code) = ProcessSpawner.launchHelper(command, own, input: ends[0])
        guard code == 0 else {
            close(ends[1])
            throw ClusterError(
                "the sentinel \(quoted(command.first ?? "")) could not be started: "
                    + errorText(code)
            )
        }
        self.pid = pid
        self.pipe = ends[1]
    }

    /// Ends it without a clean-up: there is nothing left to clean. Idempotent.
    func dismiss() {
        guard self.pipe >= 0 else { return }
        kill(self.pid, SIGKILL)
        var status: Int32 = 0
        while waitpid(self.pid, &status, 0) < 0, errno == EINTR {}
        close(self.pipe)
        self.pipe = -1
    }
}
