import Glibc
import Testing

@testable import Configuration

@Suite struct ReferenceTests {
    private static let path = Examples.folder.replacing(
        "/configs/",
        with: "/docs/reference/configuration.md"
    )

    /// `WEIR_UPDATE_REFERENCE=1 swift test --filter ReferenceTests` writes it anew.
    @Test func theReferenceIsCurrent() throws {
        let wanted = ConfigurationReference.markdown()
        if getenv("WEIR_UPDATE_REFERENCE") != nil {
            let file = try #require(fopen(Self.path, "w"))
            fputs(wanted, file)
            fclose(file)
        }
        let found = try ConfigurationFile.read(path: Self.path).get()
        #expect(
            String(decoding: found.bytes, as: UTF8.self) == wanted,
            "run WEIR_UPDATE_REFERENCE=1 swift test --filter ReferenceTests"
        )
    }

    @Test(arguments: ResourceKind.allCases)
    func theReferenceNamesEveryField(kind: ResourceKind) {
        let text = ConfigurationReference.markdown()
        #expect(text.contains("## \(kind.rawValue)\n"))
        for field in Schemas.schema(of: kind).spec.fields {
            #expect(text.contains("| `\(field.name)` |"))
            #expect(!field.documentation.isEmpty)
        }
    }

    @Test(arguments: ResourceKind.allCases)
    func everyDefaultFitsItsSchema(kind: ResourceKind) {
        // Traps where one does not.
        let record = Schemas.defaults(of: kind)
        for field in Schemas.schema(of: kind).spec.fields {
            guard case .standard = field.presence else { continue }
            #expect(record.has(field.name), "\(kind) \(field.name)")
        }
    }

    @Test func theExampleOfEverythingHasEveryField() throws {
        let configuration = try Examples.load("full-reference.yaml")
        for kind in ResourceKind.allCases {
            var given: Set<String> = []
            for (id, root) in configuration.documents where id.kind == kind {
                given.formUnion(root.record("spec").keyPositions.keys)
            }
            let all = Set(Schemas.schema(of: kind).spec.fields.map(\.name))
            #expect(all.subtracting(given) == [], "\(kind)")
        }
    }

    @Test func defaultsAreThoseOfTheInterface() {
        let gateway = GatewaySpec.defaults
        #expect(gateway.listeners.map(\.address.description) == ["127.0.0.1:8080"])
        #expect(gateway.admin.address.description == "127.0.0.1:9901")
        #expect(gateway.limits.maxConnections == 10_000)
        #expect(gateway.limits.maxHeaderBytes == 32_768)
        #expect(gateway.limits.maxRequestBody == 512 * 1_024 * 1_024)
        #expect(gateway.limits.headerTimeout == .seconds(10))
        #expect(gateway.stateDirectory == ".weir")
        let model = ModelSpec.defaults
        #expect(model.loadBalancing.policy == .leastLoaded)
        #expect(model.concurrency == .unlimited)
        #expect(model.queue.capacity == 1_000)
        #expect(model.timeouts.request == .seconds(300))
        #expect(model.retry.budget == Percent(text: "20%"))
        #expect(model.outlier.maxEjected == Percent(text: "50%"))
        let processes = ProcessDeploymentSpec.defaults
        #expect(processes.replicas == 1 && processes.workingDirectory == ".")
        #expect(processes.readiness.period == .milliseconds(200))
        #expect(ScalingPolicySpec.defaults.forecastHorizon == .automatic)
        #expect(ScalingPolicySpec.defaults.scaleUp.stabilization == .fixed(.zero))
        #expect(RolloutPolicySpec.defaults.analysis.alpha == 0.01)
        #expect(RolloutPolicySpec.defaults.onInconclusive == .pause)
        #expect(TenantSpec.defaults.limits.concurrency == nil)
    }
}
