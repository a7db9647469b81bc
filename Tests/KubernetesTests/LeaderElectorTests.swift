import Core
import EventLoop
import HTTPService
import Kubernetes
import LoopTestSupport
import Testing

/// A lease at a scripted server, with optimistic locking.
private final class LeaseServer {
    let scene: Scene
    var lease: JSONValue?
    var version = 1
    var isDead = false

    init() throws {
        self.scene = try Scene { _, _ in }
        self.scene.answer = { [unowned self] request, response in
            self.answer(request, response)
        }
    }

    private func answer(_ request: SeenRequest, _ response: ResponseWriter) {
        if self.isDead { return response.abort() }
        let collection = "/apis/coordination.k8s.io/v1/namespaces/weir/leases"
        switch request.method {
        case "GET":
            #expect(request.path == collection + "/weir-controller")
            guard let lease = self.lease else { return response.refuse(404, reason: "NotFound") }
            response.respond(lease)
        case "POST":
            #expect(request.path == collection)
            if self.lease != nil { return response.refuse(409, reason: "AlreadyExists") }
            self.store(request.json, response)
        case "PUT":
            let sent = request.json["metadata"]["resourceVersion"]
            guard let lease = self.lease, lease["metadata"]["resourceVersion"] == sent else {
                return response.refuse(409, reason: "Conflict")
            }
            self.store(request.json, response)
        default: response.refuse(405)
        }
    }

    private func store(_ lease: JSONValue, _ response: ResponseWriter) {
        self.version += 1
        var lease = lease
        lease["metadata"]["resourceVersion"] = .string("\(self.version)")
        self.lease = lease
        response.respond(lease)
    }

    /// An elector with times that a test can wait for.
    func elector(_ name: String, _ log: Log) -> LeaderElector {
        var options = LeaderElectionOptions(identity: name)
        options.leaseDuration = .seconds(1)
        options.renewDeadline = .milliseconds(600)
        options.retryPeriod = .milliseconds(20)
        return LeaderElector(
            self.scene.client,
            lease: ObjectKey(namespace: "weir", name: "weir-controller"),
            options: options,
            seed: 1,
            handlers: LeaderHandlers(
                onBegan: { log.lines.append("\(name) began") },
                onEnded: { _ in log.lines.append("\(name) ended") },
                onHolder: { log.lines.append("\(name) follows \($0)") }
            )
        )
    }

    final class Log {
        var lines: [String] = []
    }
}

@Suite struct LeaderElectorTests {
    @Test func makesTheLeaseAndRenewsIt() throws {
        let server = try LeaseServer()
        let log = LeaseServer.Log()
        let elector = server.elector("a", log)
        elector.start()
        try server.scene.run(until: "five renewals") { server.version > 6 }
        #expect(log.lines == ["a began"] && elector.isLeader && elector.mayWrite)
        let spec = server.lease?["spec"] ?? .null
        #expect(spec["holderIdentity"] == "a" && spec["leaseDurationSeconds"] == 1)
        #expect(spec["leaseTransitions"] == 0)
        for name in ["acquireTime", "renewTime"] {
            let text = try #require(spec[name].string)
            #expect(WallTime.seconds(rfc3339: text) != nil && text.utf8.count == 27)
        }
    }

    /// What others keep in the lease stays there.
    @Test func leavesLabelsAndUnknownFieldsAlone() throws {
        let server = try LeaseServer()
        server.lease = [
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": [
                "name": "weir-controller", "namespace": "weir", "resourceVersion": "1",
                "labels": ["a": "b"],
            ],
            "spec": ["strategy": "OldestEmulationVersion"],
        ]
        let log = LeaseServer.Log()
        let elector = server.elector("a", log)
        elector.start()
        try server.scene.run(until: "the lead") { elector.isLeader }
        #expect(server.lease?["metadata"]["labels"] == ["a": "b"])
        #expect(server.lease?["spec"]["strategy"] == "OldestEmulationVersion")
        #expect(server.lease?["spec"]["leaseTransitions"] == 1)
    }

    @Test func stopsWhenTheServerIsGoneAndLeadsAgainWhenItIsBack() throws {
        let server = try LeaseServer()
        let log = LeaseServer.Log()
        let elector = server.elector("a", log)
        elector.start()
        try server.scene.run(until: "the lead") { elector.isLeader }
        server.isDead = true
        try server.scene.run(until: "the end") { !elector.isLeader }
        #expect(!elector.mayWrite)
        server.isDead = false
        try server.scene.run(until: "the lead again") { elector.isLeader }
        #expect(log.lines == ["a began", "a ended", "a began"])
    }

    @Test func givesTheLeaseBackAndAnotherTakesIt() throws {
        let server = try LeaseServer()
        let log = LeaseServer.Log()
        let first = server.elector("a", log)
        let second = server.elector("b", log)
        first.start()
        try server.scene.run(until: "the lead") { first.isLeader }
        second.start()
        try server.scene.run(until: "b to follow") { second.holder == "a" }
        var isReleased = false
        first.release { isReleased = true }
        #expect(!isReleased)
        try server.scene.run(until: "the release") { isReleased }
        #expect(server.lease?["spec"]["holderIdentity"] == "")
        #expect(server.lease?["spec"]["leaseDurationSeconds"] == 1)
        #expect(!first.isLeader && !first.mayWrite)
        try server.scene.run(until: "b to lead") { second.isLeader }
        #expect(log.lines.last == "b began")
    }

    @Test func aFollowerHasNothingToGiveBack() throws {
        let server = try LeaseServer()
        server.isDead = true
        let elector = server.elector("a", LeaseServer.Log())
        elector.start()
        server.scene.harness.settle()
        var isReleased = false
        elector.release { isReleased = true }
        try server.scene.run(until: "the release") { isReleased }
        #expect(!server.scene.requests.contains { $0.method == "PUT" })
    }
}
