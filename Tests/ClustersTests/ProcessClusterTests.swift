import Core
import EventLoop
import Foundation
import Testing

@testable import Clusters

/// Real processes. One test at a time: they compete for the machine, not for ports.
@Suite(.serialized)
struct ProcessClusterTests {
    @Test func startsServersAndTellsWhenTheyAreReady() throws {
        let rig = try ClusterRig()
        try rig.cluster.apply(serverSpec(replicas: 2))
        #expect(rig.waitFor(2, .ready))
        let replicas = rig.replicas()
        #expect(Set(replicas.compactMap(\.address?.port)).count == 2)
        #expect(replicas.map(\.id.index) == [0, 1])
        #expect(replicas.allSatisfy { $0.coldStart.map { $0 > .milliseconds(10) } ?? false })
        #expect(rig.history() == [.starting, .ready])
        #expect(rig.cluster.group("g")?.coldStarts.samples.count == 2)
        let pids = replicas.compactMap(\.pid)
        #expect(pids.allSatisfy(isAlive))
        rig.finish()
        #expect(!pids.contains(where: isAlive))
        #expect(rig.history() == [.starting, .ready, .draining, .stopping])
        #expect(rig.changes.suffix(2).allSatisfy { if case .removed = $0 { true } else { false } })
    }

    @Test func isReadyOnceItListensWhereThereIsNoPath() throws {
        let rig = try ClusterRig()
        var spec = serverSpec()
        spec.readiness.path = nil
        try rig.cluster.apply(spec)
        #expect(rig.waitFor(1, .ready))
        rig.finish()
    }

    @Test func startsAKilledReplicaAgainUnderItsName() throws {
        let rig = try ClusterRig()
        try rig.cluster.apply(serverSpec())
        #expect(rig.waitFor(1, .ready))
        let before = try #require(rig.replicas().first)
        kill(try #require(before.pid), SIGKILL)
        #expect(rig.driver.run { rig.replicas().first?.restarts == 1 && rig.count(.ready) == 1 })
        let after = try #require(rig.replicas().first)
        #expect(after.id == before.id)
        #expect(after.pid != before.pid)
        #expect(after.lastExit?.hasPrefix("was ended by SIGKILL") ?? false)
        #expect(rig.history() == [.starting, .ready, .pending, .starting, .ready])
        rig.finish()
    }

    @Test func saysThatAReplicaCrashLoopsAndWhatItSaidLast() throws {
        let rig = try ClusterRig()
        try rig.cluster.apply(shellSpec("echo starting; echo no such model >&2; exit 3"))
        #expect(rig.waitFor(1, .crashLooping))
        let status = try #require(rig.replicas().first)
        #expect(status.restarts == 2)
        #expect(status.message.hasPrefix("exited with code 3 after "))
        #expect(status.message.contains("no such model"))
        #expect(status.message.contains("; starts again in 200 ms"))
        #expect(status.address == nil)
        #expect(rig.cluster.output(of: status.id)?.contains("starting\n") ?? false)
        #expect(rig.lines.contains("g-0 stderr no such model"))
        rig.finish()
    }

    @Test func givesEachStartOtherPorts() throws {
        let rig = try ClusterRig()
        try rig.cluster.apply(shellSpec("echo $(PORT) $(PORT_grpc) $PORT_grpc; exit 1"))
        #expect(rig.driver.run { rig.lines.count >= 3 })
        rig.finish()
        let ports = rig.lines.prefix(3).map { $0.split(separator: " ").suffix(3).map(String.init) }
        #expect(ports.allSatisfy { $0[1] == $0[2] })
        #expect(Set(ports.flatMap { $0 }).count == 6)
    }

    @Test func stopsWhatIsNotReadyInTime() throws {
        let rig = try ClusterRig()
        var spec = shellSpec("exec sleep 1000")
        spec.startupTimeout = .milliseconds(200)
        try rig.cluster.apply(spec)
        #expect(rig.driver.run { rig.replicas().first?.restarts == 1 })
        let status = try #require(rig.replicas().first)
        #expect(
            status.lastExit?.hasPrefix(
                "was not ready within its start-up time of 200 ms (cannot connect"
            )
                ?? false
        )
        rig.finish()
    }

    @Test func noticesWhenAServerIsNoLongerReady() throws {
        let rig = try ClusterRig()
        let marker = rig.directory.path + "/unready"
        var spec = serverSpec()
        spec.environment = [EnvironmentVariable(name: "UNREADY", value: marker)]
        try rig.cluster.apply(spec)
        #expect(rig.waitFor(1, .ready))
        _ = try rig.directory.write("unready", "")
        #expect(rig.waitFor(1, .notReady))
        #expect(rig.replicas().first?.message == "/ready is answered with 503")
        try FileManager.default.removeItem(atPath: marker)
        #expect(rig.waitFor(1, .ready))
        #expect(rig.replicas().first?.restarts == 0)
        rig.finish()
    }

    // MARK: What cannot be started

    @Test func saysInWordsWhyItCannotStart() throws {
        let directory = TemporaryDirectory()
        let plain = try directory.write("plain", "text")
        let orphaned = try directory.write("script", "#!/no/such/interpreter\n", mode: 0o755)
        let cases: [(command: [String], directory: String?, message: String)] = [
            (["no-such-program"], nil, "`no-such-program` is not on PATH (/usr/bin:/bin)"),
            (["/no/such/file"], nil, "`/no/such/file` cannot be used: No such file or directory"),
            ([plain], nil, "`\(plain)` is not executable"),
            ([orphaned], nil, "its interpreter (the `#!` line or the loader) does not exist"),
            (["true"], "/no/such/place", "the working directory `/no/such/place` cannot be used"),
            (["true"], plain, "the working directory `\(plain)` is not a directory"),
        ]
        for (index, test) in cases.enumerated() {
            let rig = try ClusterRig()
            var spec = shellSpec("")
            spec.command = test.command
            spec.workingDirectory = test.directory
            try rig.cluster.apply(spec)
            let status = try #require(rig.replicas().first)
            #expect(status.state == .failed)
            #expect(status.message.hasPrefix("cannot start g-0: "), "case \(index)")
            #expect(status.message.contains(test.message), "\(status.message)")
            rig.finish()
        }
    }

    @Test func findsAProgramRelativeToItsWorkingDirectory() throws {
        let rig = try ClusterRig()
        _ = try rig.directory.write(
            "serve",
            "#!/bin/sh\necho here $1\nexec sleep 1000\n",
            mode: 0o755
        )
        var spec = shellSpec("")
        spec.command = ["./serve", "$(REPLICA)"]
        spec.workingDirectory = rig.directory.path
        try rig.cluster.apply(spec)
        #expect(rig.driver.run { rig.lines == ["g-0 stdout here 0"] })
        rig.finish()
    }

    @Test func startsOnceTheCauseIsGone() throws {
        let rig = try ClusterRig()
        var spec = serverSpec()
        spec.workingDirectory = rig.directory.path + "/later"
        try rig.cluster.apply(spec)
        #expect(rig.count(.failed) == 1)
        try FileManager.default.createDirectory(
            atPath: rig.directory.path + "/later",
            withIntermediateDirectories: false
        )
        #expect(rig.waitFor(1, .ready))
        #expect(rig.replicas().first?.message == "")
        rig.finish()
    }

    @Test func refusesAGroupWithUnknownReferences() throws {
        let rig = try ClusterRig()
        #expect(throws: ClusterError.self) { try rig.cluster.apply(shellSpec("$(NOBODY)")) }
        #expect(rig.cluster.groups.isEmpty)
        #expect(throws: ClusterError.self) { try rig.cluster.scale("g", to: 1) }
        rig.finish()
    }

    @Test func saysThatThePortRangeIsExhausted() throws {
        let port = try freePort()
        let rig = try ClusterRig { $0.portRange = port...port }
        try rig.cluster.apply(shellSpec("exec sleep 1000", replicas: 2))
        #expect(rig.replicas().map(\.state) == [.starting, .failed])
        #expect(
            rig.replicas().last?.message.contains("no free port is left in \(port)…\(port)")
                ?? false
        )
        rig.finish()
    }

    // MARK: What a process gets

    @Test func givesAProcessACleanEnvironment() throws {
        let rig = try ClusterRig()
        var spec = shellSpec(
            """
            echo cwd $(REPLICA) $PWD; echo secret $SECRET $OWN $LANG
            echo fds $$(ls -m /proc/self/fd)
            grep -E 'Sig(Blk|Ign)' /proc/self/status; read line || echo no input
            echo session $$(cut -d' ' -f6 /proc/$$$$/stat) $$$$; exec sleep 1000
            """
        )
        spec.workingDirectory = "/tmp"
        spec.environment = [EnvironmentVariable(name: "OWN", value: "mine-$(PORT)")]
        // Descriptors that are not close-on-exec, as a careless library would leave them.
        let leaks = (0..<3).map { _ in dup(1) }
        defer { leaks.forEach { close($0) } }
        // What a gateway does for itself and its children must not inherit.
        signal(SIGPIPE, SIG_IGN)
        var blocked = sigset_t()
        sigemptyset(&blocked)
        sigaddset(&blocked, SIGUSR1)
        pthread_sigmask(SIG_BLOCK, &blocked, nil)
        defer { pthread_sigmask(SIG_UNBLOCK, &blocked, nil) }
        try rig.cluster.apply(spec)
        #expect(rig.driver.run { rig.lines.contains { $0.contains("session") } })
        let pid = try #require(rig.replicas().first?.pid)
        let port = try #require(rig.replicas().first?.address?.port)
        let said = rig.lines.map { $0.replacingOccurrences(of: "g-0 stdout ", with: "") }
        #expect(said.contains("cwd 0 /tmp"))
        #expect(said.contains("secret mine-\(port) C.UTF-8"))
        #expect(said.contains("fds 0, 1, 2, 3"), "\(said)")
        #expect(said.contains { $0.hasPrefix("SigBlk:") && $0.hasSuffix("\t0000000000000000") })
        // glibc's posix_spawn leaves 32 and 33, which it keeps for itself, ignored.
        let ignored = ["SigIgn:\t0000000000000000", "SigIgn:\t0000000180000000"]
        #expect(!Set(said).isDisjoint(with: ignored))
        #expect(said.contains("no input"))
        #expect(said.contains("session \(pid) \(pid)"))
        rig.finish()
    }

    @Test func keepsABoundedAmountOfOutput() throws {
        let rig = try ClusterRig()
        var spec = shellSpec("")
        spec.command = [
            "python3", "-c",
            "import time\nfor i in range(40000): print('line', i)\n"
                + "print(end='', flush=True); time.sleep(1000)",
        ]
        spec.outputLimit = 4_096
        try rig.cluster.apply(spec)
        #expect(rig.driver.run { rig.lines.last == "g-0 stdout line 39999" })
        #expect(rig.lines.count == 40_000)
        let id = try #require(rig.replicas().first?.id)
        let output = try #require(rig.cluster.output(of: id))
        #expect(output.utf8.count == 4_096)
        #expect(output.hasSuffix("line 39998\nline 39999\n"))
        rig.finish()
    }

    // MARK: Ending

    @Test func endsGrandchildrenThatIgnoreEverythingAndLeftTheSession() throws {
        let rig = try ClusterRig()
        var spec = shellSpec(
            "trap '' TERM; sleep 1000 & echo child $!; setsid sleep 1000 & sleep 0.1; "
                + "echo child $!; echo up; wait"
        )
        spec.terminationGracePeriod = .milliseconds(150)
        try rig.cluster.apply(spec)
        #expect(rig.driver.run { rig.lines.contains("g-0 stdout up") })
        let leader = try #require(rig.replicas().first?.pid)
        let children = rig.lines.compactMap { $0.split(separator: " ").last.flatMap { Int32($0) } }
        #expect(children.count == 2)
        #expect((children + [leader]).allSatisfy(isAlive))
        try rig.cluster.scale("g", to: 0)
        #expect(rig.replicas().map(\.state) == [.stopping])
        #expect(rig.driver.run { rig.replicas().isEmpty })
        #expect(!(children + [leader]).contains(where: isAlive))
        rig.finish()
    }

    @Test func givesTheRestOfTheGroupTheGraceItsLeaderDidNotUse() throws {
        let rig = try ClusterRig()
        let worker =
            "trap 'sleep 0.3; echo tidied up; exit' TERM; echo up; while :; do sleep 0.05; done"
        try rig.cluster.apply(shellSpec("sh -c \"\(worker)\" & trap 'exit 0' TERM; wait"))
        #expect(rig.driver.run { rig.lines.contains("g-0 stdout up") })
        try rig.cluster.scale("g", to: 0)
        #expect(rig.driver.run { rig.replicas().isEmpty })
        #expect(rig.lines.contains("g-0 stdout tidied up"))
        rig.finish()
    }

    @Test func takesTheGroupAlongWhenItsLeaderCrashes() throws {
        let rig = try ClusterRig()
        try rig.cluster.apply(shellSpec("sleep 1000 & echo $!; exit 1"))
        #expect(rig.waitFor(1, .crashLooping))
        let children = rig.lines.compactMap { $0.split(separator: " ").last.flatMap { Int32($0) } }
        #expect(children.count >= 3)
        rig.finish()
        #expect(!children.contains(where: isAlive))
    }

    @Test func endsAtOnceWhenAShutdownIsForced() throws {
        let rig = try ClusterRig()
        rig.drainsAtOnce = false
        try rig.cluster.apply(serverSpec(replicas: 2))
        #expect(rig.waitFor(2, .ready))
        var isDone = false
        rig.cluster.shutdown(within: .seconds(600)) { isDone = true }
        #expect(rig.count(.draining) == 2)
        rig.cluster.killEverything()
        #expect(rig.driver.run { isDone })
    }

    @Test func startsNothingAgainOnceEverythingWasKilled() throws {
        let rig = try ClusterRig()
        rig.drainsAtOnce = false
        try rig.cluster.apply(serverSpec(replicas: 2))
        #expect(rig.waitFor(2, .ready))
        rig.cluster.killEverything()
        #expect(rig.driver.run { rig.replicas().isEmpty })
        #expect(throws: ClusterError.self) { try rig.cluster.scale("g", to: 1) }
        rig.finish()
    }

    @Test func killsWhatOutlastsTheShutdownDeadline() throws {
        let rig = try ClusterRig()
        rig.drainsAtOnce = false
        var spec = shellSpec("trap '' TERM; echo up; while :; do sleep 1; done")
        spec.terminationGracePeriod = .seconds(600)
        try rig.cluster.apply(spec)
        try rig.cluster.apply(serverSpec("served"))
        #expect(rig.waitFor(1, .ready, "served"))
        #expect(rig.driver.run { rig.lines.contains("g-0 stdout up") })
        rig.finish(within: .milliseconds(200))
        #expect(rig.cluster.groups.allSatisfy { $0.replicas.isEmpty })
        #expect(throws: ClusterError("Weir is shutting down")) { try rig.cluster.apply(spec) }
    }
}

/// Numbers of replicas, drains and changes of the template.
@Suite(.serialized)
struct ProcessClusterScalingTests {
    @Test func scalesUpAndDownByNumber() throws {
        let rig = try ClusterRig()
        try rig.cluster.apply(serverSpec())
        try rig.cluster.scale("g", to: 4)
        #expect(rig.waitFor(4, .ready))
        let before = rig.replicas().map(\.id)
        rig.cluster.inFlight = { $0.index == 3 ? 0 : $0.index == 1 ? 1 : 2 }
        try rig.cluster.scale("g", to: 2)
        #expect(rig.driver.run { rig.replicas().count == 2 })
        #expect(rig.replicas().map(\.id) == [before[0], before[2]])
        try rig.cluster.scale("g", to: 3)
        #expect(rig.replicas().map(\.id.index) == [0, 1, 2])
        #expect(rig.replicas()[1].id != before[1])
        try rig.cluster.scale("g", to: 0)
        #expect(rig.driver.run { rig.replicas().isEmpty })
        #expect(rig.cluster.group("g")?.desired == 0)
        rig.finish()
    }

    @Test func refusesImpossibleNumbers() throws {
        let rig = try ClusterRig()
        try rig.cluster.apply(shellSpec("exit", replicas: 0))
        #expect(throws: ClusterError.self) { try rig.cluster.scale("g", to: -1) }
        #expect(throws: ClusterError.self) {
            try rig.cluster.scale("g", to: ClusterLimits.replicasMax + 1)
        }
        rig.finish()
    }

    @Test func waitsForTheOwnerBeforeItStopsAReplica() throws {
        let rig = try ClusterRig()
        rig.drainsAtOnce = false
        try rig.cluster.apply(serverSpec())
        #expect(rig.waitFor(1, .ready))
        let status = try #require(rig.replicas().first)
        try rig.cluster.scale("g", to: 0)
        #expect(rig.count(.draining) == 1)
        rig.driver.run(within: .milliseconds(300)) { false }
        #expect(rig.count(.draining) == 1)
        #expect(isAlive(try #require(status.pid)))
        rig.cluster.drained(status.id)
        #expect(rig.count(.stopping) == 1)
        #expect(rig.driver.run { rig.replicas().isEmpty })
        #expect(rig.history() == [.starting, .ready, .draining, .stopping])
        rig.cluster.drained(status.id)
        rig.finish()
    }

    @Test func stopsAReplicaWhoseDrainTakesTooLong() throws {
        let rig = try ClusterRig()
        rig.drainsAtOnce = false
        var spec = serverSpec()
        spec.drainDeadline = .milliseconds(150)
        try rig.cluster.apply(spec)
        #expect(rig.waitFor(1, .ready))
        try rig.cluster.scale("g", to: 0)
        #expect(rig.driver.run { rig.replicas().isEmpty })
        rig.finish()
    }

    @Test func takesADrainingReplicaBack() throws {
        let rig = try ClusterRig()
        rig.drainsAtOnce = false
        try rig.cluster.apply(serverSpec(replicas: 2))
        #expect(rig.waitFor(2, .ready))
        let before = rig.replicas()
        try rig.cluster.scale("g", to: 1)
        #expect(rig.replicas().map(\.state) == [.ready, .draining])
        #expect(rig.cluster.group("g")?.takeable == 1)
        try rig.cluster.scale("g", to: 2)
        #expect(rig.cluster.group("g")?.takeable == 0)
        #expect(rig.replicas().map(\.state) == [.ready, .ready])
        #expect(rig.replicas().map(\.pid) == before.map(\.pid))
        rig.cluster.drained(before[1].id)
        #expect(rig.count(.ready) == 2)
        rig.drainsAtOnce = true
        rig.finish()
    }

    @Test func startsASuccessorWhereTheOldOneWasToldToStop() throws {
        let rig = try ClusterRig()
        try rig.cluster.apply(serverSpec())
        #expect(rig.waitFor(1, .ready))
        let old = try #require(rig.replicas().first?.id)
        try rig.cluster.scale("g", to: 0)
        try rig.cluster.scale("g", to: 1)
        #expect(rig.replicas().count == 2)
        #expect(rig.driver.run { rig.replicas().count == 1 && rig.count(.ready) == 1 })
        #expect(rig.replicas().first?.id != old)
        rig.finish()
    }

    @Test func replacesReplicasOneByOneWhenTheTemplateChanges() throws {
        let rig = try ClusterRig()
        try rig.cluster.apply(serverSpec(replicas: 2))
        #expect(rig.waitFor(2, .ready))
        let old = Set(rig.replicas().map(\.id))
        var spec = serverSpec(replicas: 2)
        spec.environment = [EnvironmentVariable(name: "GENERATION", value: "2")]
        try rig.cluster.apply(spec)
        var fewestReady = 2
        var most = 0
        let isDone = rig.driver.run {
            fewestReady = min(fewestReady, rig.count(.ready))
            most = max(most, rig.replicas().count { $0.state == .ready || $0.state == .starting })
            return rig.replicas().count == 2 && rig.replicas().allSatisfy { $0.revision == 2 }
                && rig.count(.ready) == 2
        }
        #expect(isDone)
        #expect(fewestReady == 2)
        #expect(most == 3)
        #expect(old.isDisjoint(with: rig.replicas().map(\.id)))
        rig.finish()
    }

    @Test func leavesReplicasAloneWhenOnlyTheirSupervisionChanges() throws {
        let rig = try ClusterRig()
        try rig.cluster.apply(serverSpec(replicas: 1))
        try rig.cluster.scale("g", to: 2)
        #expect(rig.waitFor(2, .ready))
        let before = rig.replicas().map(\.id)
        var spec = serverSpec(replicas: 1)
        spec.readiness = ReadinessSpec(path: "/nothing", period: .milliseconds(20))
        try rig.cluster.apply(spec)
        #expect(rig.cluster.group("g")?.desired == 2)
        #expect(rig.waitFor(2, .notReady))
        #expect(rig.replicas().map(\.id) == before)
        rig.finish()
    }

    @Test func forgetsARemovedGroupUnlessItComesBack() throws {
        let rig = try ClusterRig()
        rig.drainsAtOnce = false
        try rig.cluster.apply(serverSpec())
        #expect(rig.waitFor(1, .ready))
        let id = try #require(rig.replicas().first?.id)
        rig.cluster.remove(group: "g")
        #expect(rig.count(.draining) == 1)
        #expect(throws: ClusterError.self) { try rig.cluster.scale("g", to: 1) }
        try rig.cluster.apply(serverSpec())
        #expect(rig.count(.ready) == 1 && rig.replicas().first?.id == id)
        rig.drainsAtOnce = true
        rig.cluster.remove(group: "g")
        #expect(rig.driver.run { rig.cluster.groups.isEmpty })
        rig.cluster.remove(group: "g")
        rig.finish()
    }

    @Test func maybeCalledFromItsOwnCallback() throws {
        let rig = try ClusterRig()
        let inner = rig.cluster.onChange
        rig.cluster.onChange = { change in
            inner?(change)
            if case .updated(let status) = change, status.state == .ready, status.id.index == 0 {
                try? rig.cluster.scale("g", to: 2)
            }
        }
        try rig.cluster.apply(serverSpec())
        #expect(rig.waitFor(2, .ready))
        rig.cluster.onChange = inner
        rig.finish()
    }
}

/// A port that nobody has, outside of the range that clusters take theirs from.
func freePort() throws -> UInt16 {
    var random = RandomSource(seed: UInt64.random(in: 0 ... .max))
    let lease = try PortAllocator(range: 10_000...18_000, random: &random).lease([""])
    defer { lease.release() }
    return try #require(lease.ports[""])
}
