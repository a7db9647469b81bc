import Clusters
import Configuration
import Control
import Core
import EventLoop
import Foundation
import LoopTestSupport
import Proxy
import Testing

@Suite struct StaticUpstreamTests {
    private static func river(_ addresses: [String]) throws -> Configuration {
        try Documents.load(
            Documents.fixed("river", at: addresses, protocol: "HTTP", "paths: [{prefix: /}]")
        )
    }

    @Test func requestsReachAFixedAddress() throws {
        let harness = try LoopHarness()
        let server = try HeldServer(harness)
        server.holds = false
        let rig = try ControlRig(harness, try Self.river([server.address]))
        try rig.awaitEndpoints([server.address])
        #expect(rig.control.isServing)
        #expect(try rig.get("/") == "HTTP/1.1 200 OK")
        #expect(server.requests == 1)
        try rig.stop()
        server.close()
    }

    @Test func anEndpointThatLeavesEndsItsRequestsFirst() throws {
        let harness = try LoopHarness()
        let leaving = try HeldServer(harness)
        let staying = try HeldServer(harness)
        let rig = try ControlRig(harness, try Self.river([leaving.address, staying.address]))
        try rig.awaitEndpoints([leaving.address, staying.address])
        // Least loaded: with two requests each server has one.
        let clients = try (0..<2).map { _ in try rig.client() }
        for client in clients { try client.send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n") }
        try harness.run(until: "a request at each") {
            leaving.held.count == 1 && staying.held.count == 1
        }
        staying.holds = false
        rig.control.apply(try Self.river([staying.address]))
        try rig.awaitEndpoints([staying.address])
        for _ in 0..<4 { #expect(try rig.get("/") == "HTTP/1.1 200 OK") }
        #expect(leaving.requests == 1, "nothing new for who leaves")
        #expect(rig.control.groups[0].count(.draining) == 1, "not before its request is answered")
        leaving.answerAll()
        try harness.run(until: "the endpoint to go") { rig.control.groups[0].replicas.count == 1 }
        staying.answerAll()
        for client in clients { try client.wait(for: "200 OK") }
        try rig.stop()
        leaving.close()
        staying.close()
    }

    @Test func anIdleEndpointLeavesAtOnce() throws {
        let harness = try LoopHarness()
        let one = try HeldServer(harness)
        let other = try HeldServer(harness)
        let rig = try ControlRig(harness, try Self.river([one.address, other.address]))
        try rig.awaitEndpoints([one.address, other.address])
        rig.control.apply(try Self.river([other.address]))
        try harness.run(until: "the endpoint to go") { rig.control.groups[0].replicas.count == 1 }
        #expect(rig.endpoints == [other.address])
        try rig.stop()
        one.close()
        other.close()
    }

    @Test func anEndpointThatComesBackServesAgain() throws {
        let harness = try LoopHarness()
        let server = try HeldServer(harness)
        let other = try HeldServer(harness)
        other.holds = false
        let rig = try ControlRig(harness, try Self.river([server.address]))
        try rig.awaitEndpoints([server.address])
        let client = try rig.client()
        try client.send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
        try harness.run(until: "the request") { server.held.count == 1 }
        rig.control.apply(try Self.river([other.address]))
        try rig.awaitEndpoints([other.address])
        rig.control.apply(try Self.river([server.address]))
        try rig.awaitEndpoints([server.address])
        server.answerAll()
        try client.wait(for: "200 OK")
        server.holds = false
        #expect(try rig.get("/") == "HTTP/1.1 200 OK")
        #expect(server.requests == 2)
        try rig.stop()
        server.close()
        other.close()
    }

    @Test func aRemovedModelIsForgotten() throws {
        let harness = try LoopHarness()
        let server = try HeldServer(harness)
        server.holds = false
        let both = try Documents.load(
            Documents.fixed(
                "river",
                at: [server.address],
                protocol: "HTTP",
                "paths: [{prefix: /r}]"
            )
                + Documents.fixed(
                    "sea",
                    at: [server.address],
                    protocol: "HTTP",
                    "paths: [{prefix: /s}]"
                )
        )
        let rig = try ControlRig(harness, both)
        try rig.awaitEndpoints([server.address, server.address])
        #expect(try rig.get("/r") == "HTTP/1.1 200 OK")
        rig.control.apply(
            try Documents.load(
                Documents.fixed(
                    "sea",
                    at: [server.address],
                    protocol: "HTTP",
                    "paths: [{prefix: /s}]"
                )
            )
        )
        try rig.awaitEndpoints([server.address])
        #expect(try rig.get("/r") == "HTTP/1.1 404 Not Found")
        #expect(try rig.get("/s") == "HTTP/1.1 200 OK")
        try harness.run(until: "the group to go") { rig.control.groups.count == 1 }
        try rig.stop()
        server.close()
    }

    @Test func aRefusedConfigurationChangesNothing() throws {
        let harness = try LoopHarness()
        let server = try HeldServer(harness)
        let rig = try ControlRig(harness, try Self.river([server.address]))
        try rig.awaitEndpoints([server.address])
        let generation = rig.control.generation
        rig.control.refuse("line 3 is wrong")
        rig.control.refuse("line 4 is wrong")
        harness.settle()
        #expect(rig.control.configurationErrors == 2)
        #expect(rig.control.lastProblem == "line 4 is wrong")
        #expect(rig.control.generation == generation && rig.endpoints == [server.address])
        rig.control.apply(rig.control.configuration)
        #expect(rig.control.lastProblem == nil)
        #expect(rig.control.configurationErrors == 2, "the count is for good")
        try rig.stop()
        server.close()
    }

    @Test func scalingSaysWhatThereIs() throws {
        let harness = try LoopHarness()
        let rig = try ControlRig(harness, try Self.river(["127.0.0.1:1"]))
        let error = #expect(throws: ClusterError.self) { try rig.control.scale("lake", to: 2) }
        #expect(error?.description.contains("no ProcessDeployment `lake`") == true)
        try rig.stop()
    }
}

@Suite struct ShutDownTests {
    private static func configuration(_ server: HeldServer) throws -> Configuration {
        try Documents.load(
            Documents.fixed("river", at: [server.address], protocol: "HTTP", "paths: [{prefix: /}]")
        )
    }

    @Test func requestsUnderWayAreFinished() throws {
        let harness = try LoopHarness()
        let server = try HeldServer(harness)
        let rig = try ControlRig(harness, try Self.configuration(server))
        try rig.awaitEndpoints([server.address])
        let client = try rig.client()
        try client.send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
        try harness.run(until: "the request") { server.held.count == 1 }
        var isDone = false
        rig.control.shutDown(within: .seconds(60)) { isDone = true }
        #expect(rig.control.isDraining && !rig.control.isServing)
        harness.settle()
        #expect(!isDone, "a request is under way")
        server.answerAll()
        try client.wait(for: "water")
        try harness.run(until: "the end") { isDone }
        try rig.stopped()
        server.close()
    }

    @Test func theDeadlineCutsRequestsOff() throws {
        let harness = try LoopHarness()
        let server = try HeldServer(harness)
        let rig = try ControlRig(harness, try Self.configuration(server))
        try rig.awaitEndpoints([server.address])
        let client = try rig.client()
        try client.send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
        try harness.run(until: "the request") { server.held.count == 1 }
        var isDone = false
        rig.control.shutDown(within: .milliseconds(50)) { isDone = true }
        try harness.run(until: "the end") { isDone }
        try client.waitForEnd()
        #expect(!client.text.contains("200 OK"))
        try rig.stopped()
        server.close()
    }
}

@Suite struct WakeTests {
    private static let sleeper = """
        apiVersion: weir.dev/v1alpha1
        kind: ProcessDeployment
        metadata: {name: river-main}
        spec:
          replicas: 0
          command: [python3, -m, http.server, --bind, 127.0.0.1, "$(PORT)"]
          workingDirectory: FOLDER
          readiness: {path: /, period: 50ms}
          terminationGracePeriod: 1s
        ---

        """

    /// A request for a model with no replica starts one, waits for it, and is answered by it.
    @Test func aRequestWakesItsModel() throws {
        let harness = try LoopHarness()
        let folder = try TemporaryFolder()
        try folder.write("hello.txt", "good morning")
        let processes = try Self.cluster(harness, folder)
        let text =
            Self.sleeper.replacing("FOLDER", with: folder.path)
            + Documents.model(
                "river",
                protocol: "HTTP",
                "paths: [{prefix: /}]\nvariants:\n- name: main\n"
                    + "  workloadRef: {kind: ProcessDeployment, name: river-main}"
            )
        let rig = try ControlRig(harness, try Documents.load(text), processes: processes)
        harness.settle()
        #expect(rig.control.groups.map(\.desired) == [0], "it sleeps until somebody asks")
        #expect(try rig.get("/hello.txt") == "HTTP/1.1 200 OK")
        #expect(rig.control.groups.map(\.desired) == [1])
        #expect(rig.control.coldStarts(ofGroup: "river-main").count == 1)
        try rig.stop()
        #expect(processes.groups.flatMap(\.replicas).isEmpty)
    }

    private static func cluster(_ harness: LoopHarness, _ folder: TemporaryFolder) throws
        -> ProcessCluster
    {
        try ProcessCluster(
            loop: harness.loop,
            options: ProcessCluster.Options(
                stateDirectory: folder.file("state"),
                environment: ["PATH": "/usr/local/bin:/usr/bin:/bin"],
                seed: 1
            )
        )
    }

    private static let policy = """
        apiVersion: weir.dev/v1alpha1
        kind: ScalingPolicy
        metadata: {name: standard}
        spec:
          targets: [{type: Concurrency, value: 1}]
        ---

        """

    /// One replica by itself, and as many as `scaling` says with the policy.
    private static func scaled(_ folder: TemporaryFolder, _ scaling: String) -> String {
        Self.sleeper.replacing("FOLDER", with: folder.path).replacing(
            "replicas: 0",
            with: "replicas: 1"
        )
            + Self.policy
            + Documents.model(
                "river",
                protocol: "HTTP",
                "paths: [{prefix: /}]\nvariants:\n- name: main\n"
                    + "  workloadRef: {kind: ProcessDeployment, name: river-main}\n" + scaling
            )
    }

    @Test func withoutItsPolicyADeploymentHasItsOwnNumber() throws {
        let harness = try LoopHarness()
        let folder = try TemporaryFolder()
        let processes = try Self.cluster(harness, folder)
        let text = Self.scaled(
            folder,
            "scaling: {policy: standard, minReplicas: 3, maxReplicas: 3}"
        )
        let rig = try ControlRig(harness, try Documents.load(text), processes: processes)
        try harness.run(until: "the policy's number") {
            rig.control.groups.map(\.desired) == [3]
        }
        rig.control.apply(try Documents.load(text + "---\n"))
        #expect(rig.control.groups.map(\.desired) == [3], "nothing has changed")
        rig.control.apply(try Documents.load(Self.scaled(folder, "")))
        #expect(rig.control.groups.map(\.desired) == [1])
        try rig.control.scale("river-main", to: 2)
        rig.control.apply(try Documents.load(Self.scaled(folder, "")))
        #expect(rig.control.groups.map(\.desired) == [2], "what was set by hand stays")
        try rig.stop()
    }

    @Test func aDeploymentThatComesBackWhileItDrainsBeginsAnew() throws {
        let harness = try LoopHarness()
        let folder = try TemporaryFolder()
        let processes = try Self.cluster(harness, folder)
        let text = Self.scaled(
            folder,
            "scaling: {policy: standard, minReplicas: 0, maxReplicas: 3}"
        )
        let rig = try ControlRig(harness, try Documents.load(text), processes: processes)
        try harness.run(until: "a replica") { rig.endpoints.count == 1 }
        rig.control.apply(try Documents.load(Self.policy))
        let leaving = try #require(processes.group("river-main"))
        #expect(leaving.desired == 0 && leaving.isRemoved && !leaving.replicas.isEmpty)
        rig.control.apply(try Documents.load(text))
        let back = try #require(processes.group("river-main"))
        #expect(back.desired == 1 && !back.isRemoved, "what its own specification says")
        try rig.stop()
    }
}
