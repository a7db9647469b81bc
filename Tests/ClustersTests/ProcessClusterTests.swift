import Core
import EventLoop
import Foundation
import Testing

@testable import Clusters

@Suite(.serialized)
struct ProcessClusterTests {
    @Test func startsAServerAndTellsWhenItIsReady() throws {
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
        #expect(rig.changes.last.map(\.id.group) == "g")
    }
}
