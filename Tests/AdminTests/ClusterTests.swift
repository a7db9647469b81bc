import Clusters
import Control
import Core
import HTTP
import HTTPService
import LoopTestSupport
import Orchestration
import Testing

@testable import Admin

/// What the controller of a cluster asks of a gateway.
@Suite struct ClusterTests {
    private func gateway() throws -> AdminFixture {
        let fixture = try AdminFixture(models: Documents.river)
        let slices = SliceCluster(loop: fixture.harness.loop)
        slices.follow(["g": .init(service: "ns/chat", port: .automatic)])
        fixture.admin.slices = slices
        fixture.admin.wakes = WakeBoard(loop: fixture.harness.loop)
        return fixture
    }

    @Test func drainsByPut() throws {
        let fixture = try self.gateway()
        let body = #"{"endpoints":["u1"],"seconds":15}"#
        let answer = try fixture.fetch(.put, "/api/v1/drain", body: body)
        #expect(answer.status == 200)
        // It sends nothing to one that it does not know.
        #expect(try JSONValue(answer.body)["drained"] == .array([.string("u1")]))
        #expect(try fixture.get("/api/v1/drain").status == 405)
        #expect(try fixture.fetch(.put, "/api/v1/drain", body: "{}").status == 400)
    }

    @Test func takesPartsOfLimitsByPut() throws {
        let fixture = try self.gateway()
        let shares = TenantShares(loop: fixture.harness.loop)
        fixture.admin.shares = shares
        let body = #"{"generation":3,"fallback":0.5,"shares":[]}"#
        let answer = try fixture.fetch(.put, "/api/v1/tenants", body: body)
        #expect(answer.status == 200 && shares.generation == 3 && shares.fallback == 0.5)
        // What is older is answered with what goes.
        let old = try fixture.fetch(
            .put,
            "/api/v1/tenants",
            body: #"{"generation":2,"fallback":1,"shares":[]}"#
        )
        #expect(try JSONValue(old.body)["generation"] == 3 && shares.fallback == 0.5)
        #expect(try fixture.fetch(.put, "/api/v1/tenants", body: "{}").status == 400)
        #expect(try fixture.get("/api/v1/tenants").status == 200)
    }

    /// Much more than other requests may have, for who has many tenants.
    @Test func takesPartsOfLimitsOfManyTenants() throws {
        let fixture = try self.gateway()
        let shares = TenantShares(loop: fixture.harness.loop)
        fixture.admin.shares = shares
        let entries = (0..<5_000).map {
            #"{"tenant":"ns/team-\#($0)","requests":0.123456789,"tokens":0.123456789}"#
        }
        let body = #"{"generation":3,"fallback":0.5,"shares":[\#(entries.joined(separator: ","))]}"#
        #expect(body.utf8.count > AdminLimits.bodyBytesMax)
        #expect(try fixture.fetch(.put, "/api/v1/tenants", body: body).status == 200)
        #expect(shares.generation == 3)
        #expect(try fixture.fetch(.put, "/api/v1/drain", body: body).status == 413)
    }

    @Test func tellsOfWakesAsSoonAsThereAreAny() throws {
        let fixture = try self.gateway()
        fixture.admin.wakes?.note(WakeLog.Wake(model: "chat", variant: "v2"))
        let first = try JSONValue(fixture.get("/api/v1/wakes?after=0&seconds=60").body)
        #expect(first["last"] == .number(1))
        #expect(first["wakes"][0]["model"] == .string("chat"))
        #expect(first["wakes"][0]["variant"] == .string("v2"))
        var answer: FetchResponse?
        var request = FetchRequest(
            address: fixture.admin.address,
            target: "/api/v1/wakes?after=1&seconds=60"
        )
        request.timeout = .seconds(60)
        HTTPFetch.start(request, on: fixture.harness.loop) { answer = try? $0.get() }
        // An answer to a later question: the first one has been taken.
        #expect(try fixture.get("/healthz").status == 200)
        #expect(answer == nil)
        fixture.admin.wakes?.note(WakeLog.Wake(model: "river", variant: nil))
        try fixture.harness.run(until: "the answer") { answer != nil }
        let second = try JSONValue(try #require(answer).body)
        #expect(second["wakes"][0]["model"] == .string("river"))
        #expect(second["wakes"][0]["variant"] == .null)
        #expect(try fixture.get("/api/v1/wakes?seconds=0").status == 400)
    }

    /// Rollouts are the leading controller's.
    @Test(arguments: [
        "rollouts/river/pause", "rollouts/river/promote", "rollouts/river/abort",
        "rollouts/river/retry", "models/river/live", "rollouts/river", "rollouts/river/timeline",
    ])
    func tellsWhereRolloutsAreRun(_ target: String) throws {
        let models = Documents.river.replacing("name: river}", with: "name: river, namespace: ns}")
        let fixture = try AdminFixture(models: models)
        fixture.control.rolloutsElsewhere = { "ask somebody else" }
        let method: HTTPMethod =
            target.hasSuffix("live")
            ? .put
            : target.split(separator: "/").count == 2
                || target.hasSuffix("timeline") ? .get : .post
        let body: String? =
            method == .get ? nil : method == .put ? #"{"variant":"v2"}"# : "{}"
        let answer = try fixture.fetch(method, "/api/v1/\(target)", body: body)
        #expect(answer.status == 409)
        #expect(try JSONValue(answer.body)["error"] == .string("ask somebody else"))
        let unknown = target.replacing("river", with: "lake")
        #expect(try fixture.fetch(method, "/api/v1/\(unknown)", body: body).status == 404)
    }

    @Test func saysWhatItCannotReach() throws {
        let fixture = try self.gateway()
        try fixture.serve(replicas: 2)
        let load = try LoadDocument(fixture.get("/api/v1/load").body)
        #expect(load.unserved == ["g": .serviceMissing])
    }

    @Test(arguments: ["/api/v1/drain", "/api/v1/wakes?seconds=1", "/api/v1/tenants"])
    func onlyTheGatewayOfAClusterHasThese(_ target: String) throws {
        let fixture = try AdminFixture(models: Documents.river)
        let isRead = target.contains("wakes")
        #expect(try fixture.fetch(isRead ? .get : .put, target, body: "{}").status == 404)
    }
}
