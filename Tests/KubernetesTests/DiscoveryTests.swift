import HTTPService
import Kubernetes
import Testing

@Suite struct DiscoveryTests {
    private static let group = "leaderworkerset.x-k8s.io"

    private func scene(_ resources: JSONValue) throws -> Scene {
        try Scene { request, response in
            switch request.path {
            case "/apis/\(Self.group)":
                let version: JSONValue = ["version": "v2"]
                response.respond(["kind": "APIGroup", "preferredVersion": version])
            case "/apis/\(Self.group)/v2":
                response.respond(["kind": "APIResourceList", "resources": resources])
            default: response.refuse(404, reason: "NotFound")
            }
        }
    }

    private func find(_ scene: Scene, _ kind: String) throws -> DiscoveredResource? {
        try scene.result {
            scene.client.discover(group: Self.group, kind: kind, completion: $0)
        }.get()
    }

    @Test func findsHowAKindIsCalled() throws {
        let resources = try JSONValue(
            parsing: """
                [{"name":"sets/scale","kind":"Scale","namespaced":true},
                {"name":"sets/status","kind":"Set","namespaced":true},
                {"name":"sets","kind":"Set","namespaced":true},
                {"name":"plains","kind":"Plain","namespaced":false}]
                """
        )
        let scene = try self.scene(resources)
        let found = try #require(try self.find(scene, "Set"))
        #expect(found.isScalable && found.resource.plural == "sets")
        #expect(found.resource.apiVersion == "\(Self.group)/v2" && found.resource.isNamespaced)
        let plain = try #require(try self.find(scene, "Plain"))
        #expect(!plain.isScalable && !plain.resource.isNamespaced)
        #expect(try self.find(scene, "Nothing") == nil)
    }

    @Test func aGroupThatIsNotThereIsNotFound() throws {
        let scene = try Scene { $1.refuse(404, reason: "NotFound") }
        let result: Result<DiscoveredResource?, APIError> = try scene.result {
            scene.client.discover(group: Self.group, kind: "Set", completion: $0)
        }
        guard case .failure(let error) = result else {
            Issue.record("found \(result)")
            return
        }
        #expect(error.isNotFound)
    }

    @Test(arguments: ["null", "7", "[7]", #"[{"kind":"Set"}]"#])
    func makesNothingOfNonsense(_ text: String) throws {
        let scene = try self.scene(try JSONValue(parsing: text))
        #expect(try self.find(scene, "Set") == nil)
    }
}
