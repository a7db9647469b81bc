import CPlatform
import Core
import Glibc

/// Ends what a Weir that was killed left running.
///
/// A process is an orphan of a state directory when any of these holds, and none else is touched:
///
/// * its environment holds the directory's marker. Children inherit it, so this finds
///   grandchildren, those that made sessions of their own, and a process started in the very moment
///   before Weir died;
/// * a record has its number, its start time and the present boot. This finds servers that
///   overwrite their environment to show a title;
/// * it is in the session of such a recorded process that still runs.
///
/// A process that was given a number anew has another start time and no marker. Each is opened
/// as a pidfd before it is looked at and signalled through it, so that it cannot be exchanged in
/// between. What remains: a grandchild that overwrote its environment, whose session leader has
/// ended, is not recognised; killing on less evidence could hit somebody else's process.
///
/// SIGKILL at once: whoever they served is gone, and their ports are wanted.
package enum OrphanReaper {
    /// Scans of the process table, at most; each finds what the ones before could not see yet.
    private static let roundsMax = 50
    /// For the killed to be gone, in one round.
    private static let roundMilliseconds: Int32 = 1_000
    /// Rounds that may pass without everything found being gone.
    private static let stuckRoundsMax = 5

    package struct Report: Equatable, Sendable {
        package var killed: [Int32] = []
        /// Did not end although killed: stuck in the kernel.
        package var remaining: [Int32] = []
    }

    /// Blocks until they are gone; for use before there is a loop. The caller holds the lock.
    package static func reap(_ directory: StateDirectory) -> Report {
        var report = Report()
        var stuckRounds = 0
        for _ in 0..<self.roundsMax {
            let orphans = self.find(directory)
            defer { for orphan in orphans { close(orphan.descriptor) } }
            if orphans.isEmpty {
                report.remaining = []
                break
            }
            for orphan in orphans where !report.killed.contains(orphan.pid) {
                report.killed.append(orphan.pid)
            }
            report.remaining = self.kill(orphans)
            if !report.remaining.isEmpty { stuckRounds += 1 }
            if stuckRounds >= self.stuckRoundsMax { break }
        }
        if report.remaining.isEmpty { directory.removeAllRecords() }
        return report
    }

    /// Ends those processes that carry the marker of one replica, given exactly. Does not wait.
    ///
    /// - Parameter startTime: younger processes alone are looked at.
    /// - Returns: how many there were.
    static func sweep(marker: EnvironmentVariable, notBefore startTime: UInt64) -> Int {
        let wanted = Array("\(marker.name)=\(marker.value)".utf8)
        let found = self.find { entry in
            entry.startTime >= startTime
                && (ProcessTable.environment(entry.pid) ?? []).contains { $0.elementsEqual(wanted) }
        }
        for orphan in found {
            weir_pidfd_send_signal(orphan.descriptor, SIGKILL)
            close(orphan.descriptor)
        }
        return found.count
    }

    // MARK: Helpers

    private struct Orphan {
        let pid: Int32
        let descriptor: Int32
    }

    private static func find(_ directory: StateDirectory) -> [Orphan] {
        let prefix = Array(directory.markerPrefix.utf8)
        let boot = ProcessTable.bootID()
        let recorded = Dictionary(
            directory.records().filter { $0.bootID == boot }.map { ($0.pid, $0.startTime) },
            uniquingKeysWith: { first, _ in first }
        )
        return self.find { entry in
            if recorded[entry.pid] == entry.startTime { return true }
            let leader = recorded[entry.session]
            if let leader, ProcessTable.entry(entry.session)?.startTime == leader { return true }
            return (ProcessTable.environment(entry.pid) ?? []).contains { $0.starts(with: prefix) }
        }
    }

    /// Opens before it looks, so that what it looked at is what was opened.
    private static func find(_ isOrphan: (ProcessTable.Entry) -> Bool) -> [Orphan] {
        ProcessTable.pids().compactMap { pid in
            let descriptor = weir_pidfd_open(pid)
            guard descriptor >= 0 else { return nil }
            _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
            if let entry = ProcessTable.entry(pid), !entry.isDead, isOrphan(entry) {
                return Orphan(pid: pid, descriptor: descriptor)
            }
            close(descriptor)
            return nil
        }
    }

    /// Those that have not ended within the round.
    private static func kill(_ orphans: [Orphan]) -> [Int32] {
        for orphan in orphans { weir_pidfd_send_signal(orphan.descriptor, SIGKILL) }
        return orphans.compactMap { orphan in
            var query = pollfd(fd: orphan.descriptor, events: Int16(POLLIN), revents: 0)
            return poll(&query, 1, self.roundMilliseconds) > 0 ? nil : orphan.pid
        }
    }
}
