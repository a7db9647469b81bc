import Core
import EventLoop
import Foundation
import Testing

@testable import Clusters

/// What happens when Weir dies, and who may use a state directory.
@Suite(.serialized)
struct OrphanTests {
    private static let script =
        "sleep 1000 & echo $! >> $OUT; setsid sleep 1000 & echo $! >> $OUT; "
        + "echo $$$$ >> $OUT; echo up; wait"

    private static func spec(_ output: String) -> ProcessGroupSpec {
        var spec = shellSpec(self.script, replicas: 2)
        spec.environment = [EnvironmentVariable(name: "OUT", value: output)]
        return spec
    }

    private static func pids(in path: String) -> [Int32] {
        let text = (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
        return text.split(separator: "\n").compactMap { Int32($0) }
    }

    /// A Weir that starts two replicas with two children each and is then killed with SIGKILL.
    ///
    /// In a process of its own: the orphans become init's children, whereas zombies of this one
    /// would keep the testing library from seeing the end of its own children.
    private static func leaveOrphans(in directory: TemporaryDirectory) async -> [Int32] {
        await #expect(processExitsWith: .signal(SIGKILL)) { [path = directory.path as String] in
            try OrphanTests.runUntilKilled(in: path)
        }
        let pids = self.pids(in: directory.path + "/pids")
        #expect(pids.count == 6)
        #expect(pids.allSatisfy(isAlive))
        return pids
    }

    /// Serves until all processes have noted their numbers. Its sentinel only notes that it was
    /// told.
    static func runUntilKilled(in path: String) throws {
        let driver = try LoopDriver()
        var options = ProcessCluster.Options(
            stateDirectory: path + "/state",
            environment: testEnvironment,
            seed: 1
        )
        options.sentinelCommand = ["/bin/sh", "-c", "cat; echo >\(path)/seen"]
        let cluster = try ProcessCluster(loop: driver.loop, options: options)
        try cluster.apply(Self.spec(path + "/pids"))
        guard driver.run(until: { Self.pids(in: path + "/pids").count == 6 }) else { exit(1) }
        guard !FileManager.default.fileExists(atPath: path + "/seen") else { exit(2) }
        kill(getpid(), SIGKILL)
    }

    @Test func theSentinelIsToldAndTheNextStartEndsWhatTheLastOneLeft() async throws {
        let directory = TemporaryDirectory()
        let orphans = await Self.leaveOrphans(in: directory)
        try Self.startAgain(in: directory, orphans: orphans)
    }

    /// Not asynchronous: a loop stays on its thread.
    private static func startAgain(in directory: TemporaryDirectory, orphans: [Int32]) throws {
        let driver = try LoopDriver()
        let seen = directory.path + "/seen"
        #expect(driver.run { FileManager.default.fileExists(atPath: seen) })
        let bystanders = try ClusterRig()
        try bystanders.cluster.apply(serverSpec())
        #expect(bystanders.waitFor(1, .ready))
        let rig = try ClusterRig(directory: directory)
        #expect(Set(rig.cluster.reaped.killed).isSuperset(of: orphans))
        #expect(rig.cluster.reaped.remaining.isEmpty)
        #expect(!orphans.contains(where: isAlive))
        bystanders.driver.run(within: .milliseconds(100)) { false }
        #expect(bystanders.replicas().map(\.restarts) == [0])
        let left = try FileManager.default.contentsOfDirectory(
            atPath: directory.path + "/state/processes/running"
        )
        #expect(left.isEmpty)
        rig.finish()
        bystanders.finish()
    }

    @Test func theSentinelEndsThemAtOnce() async throws {
        let directory = TemporaryDirectory()
        let orphans = await Self.leaveOrphans(in: directory)
        // Its input has ended already, as when Weir is dead.
        await #expect(processExitsWith: .exitCode(0)) {
            [path = (directory.path + "/state") as String] in
            exit(Sentinel.run(stateDirectory: path, descriptor: open("/dev/null", O_RDONLY)))
        }
        #expect(!orphans.contains(where: isAlive))
    }

    @Test func endsTheSentinelWithTheCluster() throws {
        let directory = TemporaryDirectory()
        let note = directory.path + "/pid"
        let command = ["/bin/sh", "-c", "echo $$ >\(note); cat; echo >\(directory.path)/seen"]
        let rig = try ClusterRig(directory: directory, sentinel: command)
        #expect(rig.driver.run { !Self.pids(in: note).isEmpty })
        let pid = try #require(Self.pids(in: note).first)
        #expect(isAlive(pid))
        rig.finish()
        #expect(!isAlive(pid))
        #expect(!FileManager.default.fileExists(atPath: directory.path + "/seen"))
    }

    @Test func saysThatASentinelCannotBeStarted() throws {
        let error = #expect(throws: ClusterError.self) {
            _ = try ClusterRig(sentinel: ["/no/such/sentinel"])
        }
        #expect(error?.description.contains("`/no/such/sentinel` could not be started") ?? false)
    }

    @Test func killsARecordedProcessOnlyWithItsStartTimeAndBoot() throws {
        let directory = TemporaryDirectory()
        let stranger = Process()
        stranger.executableURL = URL(fileURLWithPath: "/bin/sleep")
        stranger.arguments = ["1000"]
        try stranger.run()
        defer { stranger.terminate() }
        let pid = stranger.processIdentifier
        let started = try #require(ProcessTable.entry(pid)?.startTime)
        let state = try StateDirectory(directory.path)
        func reap(start: UInt64, boot: String) -> [Int32] {
            let record = ProcessRecord(name: "g-0-1", pid: pid, startTime: start, bootID: boot)
            #expect(state.write(record) == 0)
            return OrphanReaper.reap(state).killed
        }
        #expect(reap(start: started + 1, boot: ProcessTable.bootID()).isEmpty)
        #expect(reap(start: started, boot: "another").isEmpty)
        #expect(isAlive(pid))
        #expect(reap(start: started, boot: ProcessTable.bootID()) == [pid])
        #expect(!isAlive(pid))
        state.close()
    }

    @Test func recordsAProcessForAsLongAsItExists() throws {
        let rig = try ClusterRig()
        let folder = rig.directory.path + "/state/processes/running"
        func names() throws -> [String] {
            try FileManager.default.contentsOfDirectory(atPath: folder)
        }
        try rig.cluster.apply(shellSpec("exec sleep 1000"))
        let pid = try #require(rig.replicas().first?.pid)
        #expect(try names() == ["g-0-1"])
        let text = try String(contentsOfFile: folder + "/g-0-1", encoding: .utf8)
        let record = try #require(ProcessRecord(name: "g-0-1", encoded: text))
        #expect(record.pid == pid && record.bootID == ProcessTable.bootID())
        #expect(record.startTime == ProcessTable.entry(pid)?.startTime)
        try rig.cluster.scale("g", to: 0)
        #expect(rig.driver.run { rig.replicas().isEmpty })
        #expect(try names().isEmpty)
        rig.finish()
    }

    @Test func refusesAStateDirectoryThatIsInUse() throws {
        let rig = try ClusterRig()
        let path = rig.directory.path + "/state"
        let error = #expect(throws: ClusterError.self) {
            _ = try StateDirectory(path, patience: .none)
        }
        #expect(
            error?.description.hasPrefix(
                "the state directory `\(path)` is in use by another Weir (process \(getpid()))"
            ) ?? false
        )
        rig.finish()
        #expect(throws: Never.self) { try StateDirectory(path, patience: .none).close() }
    }

    @Test func isPatientWithACleanUpAndNotWithAWeir() throws {
        let directory = TemporaryDirectory()
        let patience = StateDirectory.Patience(forWeir: 0, forCleanUp: 4)
        func wait(for role: StateDirectory.Role) throws -> Duration {
            let holder = try StateDirectory(directory.path, role: role)
            defer { holder.close() }
            let start = EventLoop.readClock()
            #expect(throws: ClusterError.self) {
                _ = try StateDirectory(directory.path, patience: patience)
            }
            return EventLoop.readClock() - start
        }
        let pauses = Duration.milliseconds(4 * Int(StateDirectory.Patience.pauseMilliseconds))
        #expect(try wait(for: .cleanUp) >= pauses)
        #expect(try wait(for: .weir) < pauses)
    }

    @Test func saysThatTheStateDirectoryCannotBeMade() throws {
        let directory = TemporaryDirectory()
        let file = try directory.write("file", "")
        let error = #expect(throws: ClusterError.self) { _ = try StateDirectory(file + "/state") }
        #expect(error?.description.contains("cannot be made: Not a directory") ?? false)
    }

    @Test func survivesTornFiles() throws {
        let directory = TemporaryDirectory()
        let state = try StateDirectory(directory.path)
        let id = state.id
        for (name, text) in [
            ("a", ""), ("b", "12"), ("c", "1 1 x"), ("d", "x y z"), ("e", "-4 5 x"),
        ] {
            _ = try directory.write("processes/running/\(name)", text)
        }
        #expect(state.records().isEmpty)
        #expect(OrphanReaper.reap(state) == OrphanReaper.Report())
        state.close()
        _ = try directory.write("processes/id", "short")
        let again = try StateDirectory(directory.path)
        #expect(again.id != id && again.id.utf8.count == 32)
        again.close()
    }

    @Test func remembersColdStarts() throws {
        let directory = TemporaryDirectory()
        let first = try ClusterRig(directory: directory)
        try first.cluster.apply(serverSpec())
        #expect(first.waitFor(1, .ready))
        let measured = try #require(first.cluster.group("g")?.coldStarts.median)
        first.finish()
        let second = try ClusterRig(directory: directory)
        try second.cluster.apply(serverSpec(replicas: 0))
        let kept = try #require(second.cluster.group("g")?.coldStarts.median)
        #expect(measured - kept < .microseconds(1) && kept > .zero)
        second.finish()
    }

    @Test func leaksNeitherDescriptorsNorZombies() async {
        // In a process of its own, where nobody else opens anything.
        await #expect(processExitsWith: .success) {
            func open() -> Int {
                (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count) ?? -1
            }
            func round() throws {
                let rig = try ClusterRig(sentinel: ["/bin/cat"])
                try rig.cluster.apply(serverSpec(replicas: 2))
                try rig.cluster.apply(shellSpec("exit 1", name: "failing"))
                rig.waitFor(2, .ready)
                rig.waitFor(1, .crashLooping, "failing")
                rig.finish()
            }
            try round()
            let before = open()
            for _ in 0..<3 { try round() }
            precondition(open() == before, "\(before) descriptors became \(open())")
            var status: Int32 = 0
            precondition(waitpid(-1, &status, WNOHANG) == -1 && errno == ECHILD, "a child is left")
        }
    }
}

@Suite(.serialized)
struct PortAllocatorTests {
    @Test func neverGivesAPortOutTwice() throws {
        var random = RandomSource(seed: 4)
        let start = try freePort()
        let range = start...(start + 9)
        let allocators = (0..<2).map { _ in PortAllocator(range: range, random: &random) }
        var leases: [PortLease] = []
        var seen: [UInt16] = []
        for turn in 0..<20 {
            guard let lease = try? allocators[turn % 2].lease(["", "b"]) else { continue }
            leases.append(lease)
            seen += lease.ports.values
            // Once it is unbound for its process, the name alone protects it from the other one.
            lease.unbind()
        }
        #expect(seen.count >= 2)
        #expect(Set(seen).count == seen.count)
        for lease in leases { lease.release() }
        let again = try allocators[0].lease([""])
        again.release()
        again.release()
    }

    @Test func passesOverPortsInUse() throws {
        var random = RandomSource(seed: 4)
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        let port = try freePort()
        let address = try #require(NumericAddress(ReplicaAddress(host: "127.0.0.1", port: port)))
        var yes: Int32 = 1
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, 4)
        #expect(address.withPointer { bind(descriptor, $0, $1) } == 0)
        let allocator = PortAllocator(range: port...port, random: &random)
        #expect(throws: ClusterError.self) { try allocator.lease([""]) }
    }

    @Test func passesOverPortsInUseOnIPv6Alone() throws {
        var random = RandomSource(seed: 4)
        let descriptor = socket(AF_INET6, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        let port = try freePort()
        let address = try #require(NumericAddress(ReplicaAddress(host: "::1", port: port)))
        guard address.withPointer({ bind(descriptor, $0, $1) }) == 0 else {
            // A machine without IPv6 has no such port to pass over.
            #expect(errno == EADDRNOTAVAIL || errno == EAFNOSUPPORT || errno == EBADF)
            return
        }
        let allocator = PortAllocator(range: port...port, random: &random)
        #expect(throws: ClusterError.self) { try allocator.lease([""]) }
    }

    @Test func letsTheProcessBindWhatItHeld() throws {
        // Of the default range: nobody is given such a port for a connection of his own meanwhile.
        var random = RandomSource(seed: UInt64(getpid()))
        let lease = try PortAllocator(random: &random).lease([""])
        defer { lease.release() }
        let port = try #require(lease.ports[""])
        let address = try #require(NumericAddress(ReplicaAddress(host: "127.0.0.1", port: port)))
        func tryToBind() -> Bool {
            let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            defer { close(descriptor) }
            return address.withPointer { bind(descriptor, $0, $1) } == 0
        }
        #expect(!tryToBind())
        lease.unbind()
        #expect(tryToBind())
    }

    @Test func staysBelowTheEphemeralPorts() throws {
        let text = try String(
            contentsOfFile: "/proc/sys/net/ipv4/ip_local_port_range",
            encoding: .utf8
        )
        let low = try #require(
            text.split(whereSeparator: \.isWhitespace).first.flatMap { UInt16($0) }
        )
        // Machines that moved the range keep the other protections; the default one is ours.
        #expect(low != 32_768 || PortAllocator.defaultRange.upperBound < low)
    }
}
