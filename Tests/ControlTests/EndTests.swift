import Clusters
import Configuration
import Control
import Core
import EventLoop
import Logging
import LoopTestSupport
import Proxy
import Testing
import Traffic

/// What is left when a gateway and a control plane have ended: nothing.
@Suite struct EndTests {
    private static func snapshot(_ generation: UInt64) -> TrafficSnapshot {
        TrafficSnapshot(
            generation: generation,
            models: [],
            table: ModelTable(),
            limits: GatewayLimits()
        )
    }

    private static func gateway(_ harness: LoopHarness) throws -> Gateway {
        var options = Gateway.Options()
        options.listeners = [("http", try #require(SocketAddress("127.0.0.1:0")))]
        return try Gateway(
            options: options,
            snapshot: Self.snapshot(1),
            control: harness.loop
        )
    }

    @Test func whatComesAfterTheStopKeepsNoGateway() throws {
        let harness = try LoopHarness()
        var gateway: Gateway? = try Self.gateway(harness)
        weak let remains = gateway
        gateway?.stop()
        gateway?.stop()
        var isAcknowledged = false
        gateway?.publish(Self.snapshot(2)) { isAcknowledged = true }
        #expect(isAcknowledged, "stopped workers start nothing with the older snapshot")
        #expect(gateway?.acknowledgedGeneration == 2)
        var statistics: GatewayStatistics?
        gateway?.collect { statistics = $0 }
        #expect(statistics?.models.isEmpty == true)
        var isDrained = false
        gateway?.drain { isDrained = true }
        #expect(isDrained)
        harness.settle()
        gateway = nil
        #expect(remains == nil)
    }

    @Test func aControlPlaneThatGoesLeavesNoTimer() throws {
        let harness = try LoopHarness()
        let server = try HeldServer(harness)
        defer { server.close() }
        let text = Documents.fixed("m", at: [server.address])
        var rig: ControlRig? = try ControlRig(harness, try Documents.load(text))
        try rig?.awaitEndpoints([server.address])
        weak let remains = rig?.control
        weak let gateway = rig?.control.gateway
        rig?.control.gateway?.stop()
        // Its endpoint drains from now on, which nobody is left to see the end of.
        try rig?.stopped()
        rig = nil
        #expect(remains == nil)
        #expect(gateway == nil)
        var isLater = false
        harness.loop.schedule(after: .milliseconds(60)) { isLater = true }
        try harness.run(until: "three periods of the drain's timer") { isLater }
    }

    @Test func aProcessClusterThatWasShutDownIsLetGo() throws {
        let harness = try LoopHarness()
        let folder = try TemporaryFolder()
        var processes: ProcessCluster? = try ProcessCluster(
            loop: harness.loop,
            options: ProcessCluster.Options(
                stateDirectory: folder.file("state"),
                environment: [:],
                seed: 1
            )
        )
        weak let remains = processes
        let text = Documents.fixed("m", at: ["127.0.0.1:1"])
        let configuration = try Documents.load(text)
        var rig: ControlRig? = try ControlRig(harness, configuration, processes: processes)
        processes = nil
        try rig?.stop()
        rig = nil
        #expect(remains == nil)
    }

    @Test func aControlPlaneThatWasShutDownIsLetGo() throws {
        let harness = try LoopHarness()
        let text = Documents.fixed("m", at: ["127.0.0.1:1"])
        var rig: ControlRig? = try ControlRig(harness, try Documents.load(text))
        weak let remains = rig?.control
        // Done long before the deadline, for which nothing may be kept.
        try rig?.stop(within: .seconds(3600))
        rig = nil
        #expect(remains == nil)
    }
}
