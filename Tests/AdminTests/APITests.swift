import Control
import Core
import HTTP
import HTTPService
import LoopTestSupport
import Proxy
import Testing

@testable import Admin

@Suite struct APITests {
    private func serving() throws -> AdminFixture {
        let fixture = try AdminFixture(models: Documents.river)
        try fixture.serve(replicas: 2)
        return fixture
    }

    @Test func healthIsThereBeforeTheGatewayIs() throws {
        let fixture = try AdminFixture(models: Documents.river)
        #expect(try fixture.get("/healthz").status == 200)
        let early = try fixture.get("/readyz")
        #expect(early.status == 503)
        #expect(early.text == "the listeners are not open\n")
        try fixture.serve(replicas: 2)
        #expect(try fixture.get("/readyz").status == 200)
    }

    @Test func isNotReadyWhileDraining() throws {
        let fixture = try self.serving()
        var isDown = false
        fixture.control.shutDown(within: .seconds(5)) { isDown = true }
        let answer = try fixture.get("/readyz")
        #expect(answer.status == 503)
        #expect(answer.text == "draining\n")
        #expect(try fixture.fetch(.post, "/api/v1/reload").status == 409)
        try fixture.harness.run(until: "the end") { isDown }
        #expect(try fixture.get("/api/v1/listeners").text.contains("\"listeners\":[]"))
    }

    @Test func modelsHaveVariantsWithWeightsAndReplicas() throws {
        let fixture = try self.serving()
        let models = try JSONValue(fixture.get("/api/v1/models").body)["models"]
        let model = models[0]
        #expect(models.elements.count == 1)
        #expect(model["name"] == .string("river"))
        #expect(model["protocol"] == .string("OpenAI"))
        #expect(model["aliases"] == .array([.string("stream")]))
        #expect(model["live"] == .null)
        #expect(model["queueDepth"] == .number(0))
        let first = model["variants"][0]
        #expect(first["name"] == .string("v1"))
        #expect(first["weight"] == .number(3))
        #expect(first["replicas"] == ["desired": 1, "ready": 1])
        #expect(first["states"]["ready"] == .number(1))
        #expect(first["states"]["crashLooping"] == .number(0))
        #expect(first["coldStartSeconds"] == .null)
    }

    @Test func replicasTellWhoseTheyAre() throws {
        let fixture = try self.serving()
        let replicas = try JSONValue(fixture.get("/api/v1/replicas").body)["replicas"]
        #expect(replicas.elements.count == 2)
        let first = replicas[0]
        #expect(first["id"] == .string("river.v1-0"))
        #expect(first["model"] == .string("river"))
        #expect(first["variant"] == .string("v1"))
        #expect(first["deployment"] == .null)
        #expect(first["state"] == .string("ready"))
        #expect(first["pid"] == .null)
        #expect(first["restarts"] == .number(0))
        #expect(first["inFlight"] == .number(0))
    }

    @Test func snapshotIsWhatTheWorkersUse() throws {
        let fixture = try self.serving()
        let snapshot = try JSONValue(fixture.get("/api/v1/snapshot").body)
        #expect(snapshot["generation"] == .number(Double(fixture.control.generation)))
        #expect(snapshot["acknowledged"] == snapshot["generation"])
        let variant = snapshot["models"][0]["variants"][1]
        #expect(variant["weight"] == .number(1))
        #expect(variant["endpoints"].elements.count == 1)
        #expect(variant["endpoints"][0]["ejected"] == .bool(false))
    }

    @Test func listenersHaveTheirPorts() throws {
        let fixture = try self.serving()
        let answer = try JSONValue(fixture.get("/api/v1/listeners").body)
        let address = try #require(fixture.control.gateway?.addresses.first?.address)
        #expect(answer["listeners"][0]["name"] == .string("http"))
        #expect(answer["listeners"][0]["address"] == .string("\(address)"))
        #expect(answer["admin"] == .string("\(fixture.admin.address)"))
    }

    @Test func reloadTellsWhatCameOfIt() throws {
        let fixture = try AdminFixture(models: Documents.river)
        fixture.reloads = [.applied, .unchanged, .refused("weir.yaml:3:1: error: \"no\"")]
        let applied = try fixture.fetch(.post, "/api/v1/reload")
        #expect(applied.status == 200)
        #expect(applied.text == #"{"result":"applied"}"#)
        let unchanged = try fixture.fetch(.post, "/api/v1/reload", body: "{}")
        #expect(unchanged.text == #"{"result":"unchanged"}"#)
        let refused = try fixture.fetch(.post, "/api/v1/reload")
        #expect(refused.status == 422)
        #expect(
            try JSONValue(refused.body)["problems"] == .string("weir.yaml:3:1: error: \"no\"")
        )
    }

    @Test(arguments: [
        ("GET", "/api/v1/reload", 405), ("DELETE", "/api/v1/models", 405),
        ("POST", "/api/v1/deployments/x/replicas", 405), ("OPTIONS", "/healthz", 405),
        ("BREW", "/healthz", 405), ("GET", "/index.html", 404), ("GET", "/api/v1", 404),
        ("GET", "/api/v1/models/", 404), ("GET", "/api/v2/models", 404),
        ("GET", "//healthz", 404), ("GET", "/api/v1/replicas//output", 404),
        ("GET", "/api/v1/replicas/river.v1-0/output", 404), ("GET", "/healthz%00", 404),
        ("GET", "/healthz?why=not", 200), ("HEAD", "/healthz", 200),
        // Only the gateway of a cluster knows endpoints to drain.
        ("GET", "/api/v1/drain", 405), ("PUT", "/api/v1/drain", 404),
    ])
    func wrongPathsAndMethods(method: String, target: String, status: Int) throws {
        let fixture = try AdminFixture(models: Documents.river)
        let answer = try fixture.raw(
            "\(method) \(target) HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        )
        #expect(answer.hasPrefix("HTTP/1.1 \(status) "), "\(answer)")
        if status >= 400 { #expect(answer.contains("{\"error\":")) }
        if status == 405 { #expect(answer.contains("\r\nAllow: ")) }
    }

    @Test func theDashboardIsOnePageThatLoadsNothing() throws {
        let fixture = try AdminFixture(models: Documents.river)
        let answer = try fixture.get("/")
        #expect(answer.status == 200)
        #expect(answer.field("content-type") == "text/html; charset=utf-8")
        let policy = answer.field("content-security-policy") ?? ""
        #expect(policy.hasPrefix("default-src 'none';"))
        #expect(policy.contains("frame-ancestors 'none'"))
        #expect(!answer.text.contains("src="), "nothing is loaded")
        #expect(!answer.text.contains("innerHTML"), "nothing from the API becomes markup")
        for part in ["models", "replicas", "statistics", "snapshot"] {
            #expect(answer.text.contains("\"\(part)\""))
            #expect(try fixture.get("/api/v1/\(part)").status == 200)
        }
    }

    @Test func unknownDeploymentsCannotBeScaled() throws {
        let fixture = try AdminFixture(models: Documents.river)
        let answer = try fixture.fetch(
            .put,
            "/api/v1/deployments/lake/replicas",
            body: #"{"replicas": 1}"#
        )
        #expect(answer.status == 404)
        #expect(answer.text.contains("lake"))
    }

    @Test func tooLongContentIsRefused() throws {
        let fixture = try AdminFixture(models: Documents.river)
        let body = String(repeating: " ", count: AdminLimits.bodyBytesMax + 1)
        #expect(try fixture.fetch(.post, "/api/v1/reload", body: body).status == 413)
    }

    @Test(arguments: [
        "", "{", "{}", "[]", "7", "null", #"{"replicas": "two"}"#, #"{"replicas": null}"#,
        #"{"replicas": -1}"#, #"{"replicas": 1.5}"#, #"{"replicas": 1000001}"#,
        #"{"replicas": 1e300}"#, #"{"replicas": 1, "replicas": 2}"#, #"{"replica": 1}"#,
        #"{"replicas": 1} x"#, "\u{FEFF}{}", #"{"replicas": 99999999999999999999}"#,
    ])
    func impossibleNumbersOfReplicasAreRefused(text: String) {
        #expect(throws: JSONError.self) {
            let bytes = Array(text.utf8)
            _ = try ScaleRequest.parse(bytes.span.bytes)
        }
    }

    @Test(arguments: [(#"{"replicas": 0}"#, 0), (" {\"replicas\":3.0}\n", 3)])
    func numbersOfReplicasAreRead(text: String, count: Int) throws {
        let bytes = Array(text.utf8)
        #expect(try ScaleRequest.parse(bytes.span.bytes) == count)
    }
}
