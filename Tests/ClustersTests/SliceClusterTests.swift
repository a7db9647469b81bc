import Core
import EventLoop
import Orchestration
import Testing

@testable import Clusters

@Suite struct SliceClusterTests {
    private final class Seen {
        var changes: [ReplicaChange] = []
    }

    private let loop: EventLoop
    private let cluster: SliceCluster
    private let seen = Seen()

    init() throws {
        self.loop = try EventLoop()
        self.cluster = SliceCluster(loop: self.loop)
        let seen = self.seen
        self.cluster.onChange = { seen.changes.append($0) }
        self.cluster.follow(["g": .init(service: "ns/chat", port: .automatic)])
    }

    private func slice(_ pods: [String: EndpointCondition]) -> EndpointSlice {
        EndpointSlice(
            key: "ns/s",
            service: "ns/chat",
            ports: [.init(number: 8_000)],
            endpoints: pods.sorted { $0.key < $1.key }.map { uid, condition in
                .init(
                    addresses: ["10.0.0.\(uid.utf8.last ?? 0)"],
                    ready: condition == .ready,
                    terminating: condition == .terminating,
                    podUID: uid,
                    podName: uid
                )
            }
        )
    }

    private func states() -> [ReplicaState] {
        self.cluster.group("g")?.replicas.map(\.state) ?? []
    }

    private func id(_ index: Int) throws -> ReplicaID {
        try #require(self.cluster.group("g")?.replicas.first { $0.id.index == index }?.id)
    }

    @Test func servesWhatIsReadyAlone() {
        self.cluster.put(self.slice(["a": .ready, "b": .notReady, "c": .terminating]))
        #expect(self.states() == [.ready, .notReady, .stopping])
        #expect(self.cluster.group("g")?.replicas[0].address?.port == 8_000)
    }

    @Test func drainsWhatTerminatesUntilNothingIsInFlight() throws {
        self.cluster.put(self.slice(["a": .ready]))
        self.cluster.put(self.slice(["a": .terminating]))
        #expect(self.states() == [.draining])
        self.cluster.drained(try self.id(0))
        #expect(self.states() == [.stopping])
        let id = try self.id(0)
        self.cluster.put(self.slice([:]))
        #expect(self.states() == [])
        #expect(self.seen.changes.last == .removed(id))
    }

    @Test func drainsWhatTheControllerAsksAndNoLonger() throws {
        self.cluster.put(self.slice(["a": .ready, "b": .ready]))
        self.cluster.drain(["a", "unknown"], for: .seconds(60))
        #expect(self.states() == [.draining, .ready])
        var states = self.cluster.drainStates(of: ["a", "b", "unknown"])
        #expect(states.map(\.isDrained) == [false, false, true])
        self.cluster.drained(try self.id(0))
        states = self.cluster.drainStates(of: ["a", "b", "unknown"])
        #expect(states.map(\.isDrained) == [true, false, true])
        self.cluster.drain(["b"], for: .seconds(60))
        #expect(self.states() == [.ready, .draining])
        #expect(self.cluster.drainStates(of: ["a"]).map(\.isDrained) == [false])
        self.cluster.drain([], for: .zero)
        #expect(self.states() == [.ready, .ready])
    }

    @Test func servesAgainWhenTheControllerIsGone() {
        self.cluster.put(self.slice(["a": .ready]))
        self.cluster.drain(["a"], for: .milliseconds(1))
        #expect(self.states() == [.draining])
        while self.states() != [.ready] { self.loop.turn(mayBlock: true) }
    }

    @Test func aPodThatComesWhileItIsDrainedGetsNothing() {
        self.cluster.drain(["a"], for: .seconds(60))
        self.cluster.put(self.slice(["a": .ready]))
        #expect(self.states() == [.stopping])
    }

    @Test func givesPlacesOutAgainUnderAnotherSerial() throws {
        self.cluster.put(self.slice(["a": .ready, "b": .ready]))
        let first = try self.id(0)
        self.cluster.put(self.slice(["b": .ready, "c": .ready]))
        let second = try self.id(0)
        #expect(first.index == second.index)
        #expect(first.serial < second.serial)
        #expect(self.cluster.byIdentity(["g-0": 3, "g-1": 4, "x-0": 5]) == ["c": 3, "b": 4])
    }

    @Test func tellsOfGroupsThatAreNotFollowedAnyMore() throws {
        self.cluster.put(self.slice(["a": .ready]))
        let id = try self.id(0)
        self.cluster.follow([:])
        #expect(self.cluster.group("g") == nil)
        #expect(self.seen.changes.last == .removed(id))
        self.cluster.follow(["h": .init(service: "ns/chat", port: .number(9_000))])
        #expect(self.cluster.group("h")?.replicas.map(\.state) == [.ready])
        #expect(self.cluster.group("h")?.replicas[0].address?.port == 9_000)
    }
}
