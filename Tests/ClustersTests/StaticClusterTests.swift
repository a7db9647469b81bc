import Core
import EventLoop
import Foundation
import Synchronization
import Testing

@testable import Clusters

/// A listener that answers every connection with the same bytes, on a thread of its own.
private final class Responder: @unchecked Sendable {
    // @unchecked: set before the thread starts and never changed; the descriptor is a number.
    /// Connections so far.
    private let accepted = Atomic<Int>(0)
    let port: UInt16
    private let descriptor: Int32
    private let answer: [UInt8]

    init(_ answer: String) throws {
        self.answer = Array(answer.utf8)
        self.descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let descriptor = self.descriptor
        let result = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, length) == 0 && listen(descriptor, 16) == 0
                    && getsockname(descriptor, $0, &length) == 0
            }
        }
        try #require(result)
        self.port = UInt16(bigEndian: address.sin_port)
        Thread.detachNewThread { [self] in self.serve() }
    }

    var address: ReplicaAddress { ReplicaAddress(host: "127.0.0.1", port: self.port) }

    var count: Int { self.accepted.load(ordering: .relaxed) }

    /// Ends the listening, and with it the thread.
    func stop() { shutdown(self.descriptor, Int32(SHUT_RDWR)) }

    private func serve() {
        while true {
            let connection = accept(self.descriptor, nil, nil)
            if connection < 0 { break }
            self.accepted.add(1, ordering: .relaxed)
            var request = [UInt8](repeating: 0, count: 2_048)
            _ = read(connection, &request, request.count)
            _ = send(connection, self.answer, self.answer.count, Int32(MSG_NOSIGNAL))
            close(connection)
        }
        close(self.descriptor)
    }
}

private let good = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

@Suite(.serialized)
struct StaticClusterTests {
    private let driver: LoopDriver
    private let cluster: StaticCluster

    init() throws {
        self.driver = try LoopDriver()
        self.cluster = StaticCluster(loop: self.driver.loop)
    }

    private func spec(_ endpoints: [ReplicaAddress], path: String? = "/ready") -> FixedGroupSpec {
        FixedGroupSpec(
            name: "g",
            endpoints: endpoints,
            readiness: ReadinessSpec(
                path: path,
                period: .milliseconds(20),
                timeout: .milliseconds(200),
                failureThreshold: 2
            ),
            drainDeadline: .milliseconds(200)
        )
    }

    private var states: [ReplicaState] { self.cluster.group("g")?.replicas.map(\.state) ?? [] }

    private func finish() {
        var isDone = false
        self.cluster.shutdown(within: .milliseconds(100)) { isDone = true }
        #expect(self.driver.run { isDone })
    }

    @Test func tellsReadyEndpointsFromOthers() throws {
        let answers = [good, "HTTP/1.1 503 Busy\r\n\r\n", "garbage\r\n\r\n", ""]
        let servers = try answers.map { try Responder($0) }
        let nobody = ReplicaAddress(host: "127.0.0.1", port: try freePort())
        try self.cluster.apply(self.spec(servers.map(\.address) + [nobody]))
        #expect(
            self.driver.run {
                self.states == [.ready, .pending, .pending, .pending, .pending]
                    && !(self.cluster.group("g")?.replicas.dropFirst().contains {
                        $0.message.isEmpty
                    } ?? true)
            }
        )
        let messages = self.cluster.group("g")?.replicas.map(\.message) ?? []
        #expect(messages[0] == "")
        #expect(messages[1] == "/ready is answered with 503")
        #expect(messages[2] == "/ready is not answered in HTTP/1.x")
        #expect(messages[3] == "the connection was closed without an answer")
        #expect(messages[4] == "cannot connect to \(nobody): Connection refused")
        for server in servers { server.stop() }
        self.finish()
    }

    @Test func givesUpOnAServerThatNeverAnswers() throws {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        let port = try freePort()
        let address = ReplicaAddress(host: "127.0.0.1", port: port)
        let target = try #require(NumericAddress(address))
        #expect(target.withPointer { bind(descriptor, $0, $1) } == 0 && listen(descriptor, 4) == 0)
        try self.cluster.apply(self.spec([address]))
        #expect(
            self.driver.run {
                self.cluster.group("g")?.replicas.first?.message == "no answer within 200 ms"
            }
        )
        self.finish()
    }

    @Test func noticesThatAnEndpointWentAway() throws {
        let server = try Responder(good)
        try self.cluster.apply(self.spec([server.address]))
        #expect(self.driver.run { self.states == [.ready] })
        server.stop()
        #expect(self.driver.run { self.states == [.notReady] })
        self.finish()
    }

    @Test func looksNamesUp() throws {
        let server = try Responder(good)
        let named = ReplicaAddress(host: "localhost", port: server.port)
        let unknown = ReplicaAddress(host: "no-such-host.invalid", port: 80)
        try self.cluster.apply(self.spec([named, unknown]))
        #expect(
            self.driver.run {
                self.cluster.group("g")?.replicas.last?.message.isEmpty == false
                    && self.cluster.group("g")?.replicas.first?.address != nil
            }
        )
        let replicas = self.cluster.group("g")?.replicas ?? []
        #expect(replicas.first?.address.map { NumericAddress($0) != nil } ?? false)
        #expect(
            replicas.last?.message.contains("`no-such-host.invalid` cannot be looked up") ?? false
        )
        server.stop()
        self.finish()
    }

    @Test func drainsWhatIsTakenOutAndTakesItBack() throws {
        let servers = try (0..<2).map { _ in try Responder(good) }
        let both = servers.map(\.address)
        try self.cluster.apply(self.spec(both))
        #expect(self.driver.run { self.states == [.ready, .ready] })
        let ids = self.cluster.group("g")?.replicas.map(\.id) ?? []
        try self.cluster.apply(self.spec([both[0]]))
        #expect(self.states == [.ready, .draining])
        try self.cluster.apply(self.spec(both))
        #expect(self.states == [.ready, .ready])
        try self.cluster.apply(self.spec([both[1]]))
        var removed: [ReplicaID] = []
        self.cluster.onChange = { if case .removed(let id) = $0 { removed.append(id) } }
        self.cluster.drained(ids[0])
        #expect(removed == [ids[0]])
        #expect(self.cluster.group("g")?.replicas.map(\.id) == [ids[1]])
        self.cluster.remove(group: "g")
        #expect(self.driver.run { self.cluster.groups.isEmpty })
        for server in servers { server.stop() }
        self.finish()
    }

    @Test func asksAnAddressOnceForAllGroupsThere() throws {
        let server = try Responder(good)
        let names = (0..<50).map { "g\($0)" }
        for name in names {
            var spec = self.spec([server.address])
            spec.name = name
            try self.cluster.apply(spec)
        }
        func states() -> [ReplicaState] {
            names.compactMap { self.cluster.group($0)?.replicas.first?.state }
        }
        #expect(self.driver.run { states().allSatisfy { $0 == .ready } })
        let asked = server.count
        #expect(self.driver.run { server.count >= asked + 10 })
        // Fifty times as many otherwise; the slack is for those that ended meanwhile.
        #expect(server.count < asked + 40)
        // What is known of the address holds for whoever comes later.
        try self.cluster.apply(self.spec([server.address]))
        #expect(self.states == [.ready])
        var changes = 0
        self.cluster.onChange = { _ in changes += 1 }
        let before = server.count
        #expect(self.driver.run { server.count >= before + 3 })
        #expect(changes == 0)
        server.stop()
        #expect(self.driver.run { states().allSatisfy { $0 == .notReady } })
        #expect(changes >= names.count + 1)
        self.finish()
    }

    @Test func asksInTheNewWayWhatItKnew() throws {
        let server = try Responder(good)
        try self.cluster.apply(self.spec([server.address]))
        #expect(self.driver.run { self.states == [.ready] })
        var states: [ReplicaState] = []
        self.cluster.onChange = {
            if case .updated(let status) = $0 { states.append(status.state) }
        }
        try self.cluster.apply(self.spec([server.address], path: "/other"))
        let before = server.count
        #expect(self.driver.run { server.count >= before + 2 })
        #expect(self.states == [.ready] && states.isEmpty)
        server.stop()
        self.finish()
    }

    @Test func refusesWhatItCannotDo() throws {
        let address = ReplicaAddress(host: "127.0.0.1", port: 1)
        try self.cluster.apply(self.spec([address]))
        #expect(throws: Never.self) { try self.cluster.scale("g", to: 1) }
        #expect(throws: ClusterError.self) { try self.cluster.scale("g", to: 2) }
        #expect(throws: ClusterError.self) { try self.cluster.scale("h", to: 1) }
        #expect(throws: ClusterError.self) {
            try self.cluster.apply(self.spec([address, address]))
        }
        for host in ["", "a b", "a\r\nb"] {
            #expect(throws: ClusterError.self) {
                try self.cluster.apply(self.spec([ReplicaAddress(host: host, port: 1)]))
            }
        }
        self.finish()
        #expect(throws: ClusterError.self) { try self.cluster.apply(self.spec([address])) }
    }
}
