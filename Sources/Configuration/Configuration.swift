/// A checked configuration: the resources of all files, with every default filled in.
///
/// This module turns what users write into values that the rest of Weir can trust. `Schemas` says
/// what may be written; `ConfigurationLoader` reads it and reports every mistake with its place;
/// `ConfigurationDiff` says what a new configuration changes. References between resources have
/// been checked, so that a lookup by a name found in one of them succeeds.
///
/// It asks nothing of the network or the file system besides reading the files themselves: whether
/// a command, a certificate or a server exists is found out where it is used. What is bounded:
/// bytes, documents, depth and values of a file (`YAMLReader.Limits`), problems per file, files,
/// resources, and every list and number (`Schemas`).
package struct Configuration: Sendable, Equatable {
    /// The defaults where no `Gateway` was written.
    package var gateway: GatewayResource
    /// In the order of the files, as are all below.
    package var models: [ModelResource]
    package var processDeployments: [ProcessDeploymentResource]
    package var scalingPolicies: [ScalingPolicyResource]
    package var rolloutPolicies: [RolloutPolicyResource]
    package var tenants: [TenantResource]
    package var resourceBudgets: [ResourceBudgetResource]
    /// The checked trees behind the resources, for comparing and writing them.
    let documents: [ResourceID: Record]

    package static func == (left: Configuration, right: Configuration) -> Bool {
        // Not the trees: relative paths are resolved only in the resources.
        left.gateway == right.gateway && left.models == right.models
            && left.processDeployments == right.processDeployments
            && left.scalingPolicies == right.scalingPolicies
            && left.rolloutPolicies == right.rolloutPolicies && left.tenants == right.tenants
            && left.resourceBudgets == right.resourceBudgets
    }

    package func model(
        _ name: String,
        namespace: String = Metadata.defaultNamespace
    ) -> ModelResource? {
        Self.find(name, namespace, self.models)
    }

    package func processDeployment(
        _ name: String,
        namespace: String = Metadata.defaultNamespace
    ) -> ProcessDeploymentResource? {
        Self.find(name, namespace, self.processDeployments)
    }

    package func scalingPolicy(
        _ name: String,
        namespace: String = Metadata.defaultNamespace
    ) -> ScalingPolicyResource? {
        Self.find(name, namespace, self.scalingPolicies)
    }

    package func rolloutPolicy(
        _ name: String,
        namespace: String = Metadata.defaultNamespace
    ) -> RolloutPolicyResource? {
        Self.find(name, namespace, self.rolloutPolicies)
    }

    package func tenant(
        _ name: String,
        namespace: String = Metadata.defaultNamespace
    ) -> TenantResource? {
        Self.find(name, namespace, self.tenants)
    }

    package func resourceBudget(
        _ name: String,
        namespace: String = Metadata.defaultNamespace
    ) -> ResourceBudgetResource? {
        Self.find(name, namespace, self.resourceBudgets)
    }

    /// The model of every name that no other one has, if there is one.
    package var catchAllModel: ModelResource? {
        self.models.first { $0.spec.isCatchAll }
    }

    private static func find<Spec>(
        _ name: String,
        _ namespace: String,
        _ resources: [Resource<Spec>]
    ) -> Resource<Spec>? {
        resources.first { $0.metadata.name == name && $0.metadata.namespace == namespace }
    }
}

extension Configuration: CustomStringConvertible {
    package var description: String {
        "Configuration(" + self.documents.keys.sorted().map(\.description).joined(separator: ", ")
            + ")"
    }
}

extension Configuration {
    init(_ set: ResourceSet) {
        let first = set.all.first?.source ?? .program
        self.gateway = set.gateways.first?.resource ?? Self.standardGateway(first)
        self.models = set.models.map(\.resource)
        self.processDeployments = set.processDeployments.map(\.resource)
        self.scalingPolicies = set.scalingPolicies.map(\.resource)
        self.rolloutPolicies = set.rolloutPolicies.map(\.resource)
        self.tenants = set.tenants.map(\.resource)
        self.resourceBudgets = set.resourceBudgets.map(\.resource)
        var documents = set.documents
        if set.gateways.isEmpty {
            // So that a Gateway of nothing but defaults compares equal to none.
            let root = Record(fields: [
                "metadata": Located(.record(Self.standardMetadata), at: nil),
                "spec": Located(.record(Schemas.defaults(of: .gateway)), at: nil),
            ])
            documents[ResourceID.gateway] = root
        }
        self.documents = documents
    }

    /// The Gateway that nobody wrote: its paths start from the folder of the first file.
    private static func standardGateway(_ source: ResourceSource) -> GatewayResource {
        GatewayResource(
            metadata: Metadata(self.standardMetadata),
            spec: GatewaySpec(Schemas.defaults(of: .gateway), source: source),
            source: source
        )
    }

    private static var standardMetadata: Record {
        var record = SchemaDefaults.record(of: Schemas.metadata)
        record.fields["name"] = Located(.text("default"), at: nil)
        return record
    }

    /// A gateway of defaults in front of servers that run already: one model that takes every name,
    /// spread over `upstreams`.
    ///
    /// - Parameter upstreams: `http://host:port` each.
    /// - Parameter listen: where to serve, instead of the default; `host:port`.
    /// - Parameter admin: where to serve the admin API, instead of the default; `host:port`.
    /// - Returns: problems name the file `--upstream`.
    package static func serving(
        upstreams: [String],
        listen: String? = nil,
        admin: String? = nil
    ) -> LoadResult {
        var text =
            "apiVersion: \(Schemas.apiVersion)\nkind: Gateway\nmetadata: {name: default}\nspec:\n"
        if let listen {
            text += "  listeners: [{name: http, address: \(QuotedText.yaml(listen))}]\n"
        }
        if let admin { text += "  admin: {address: \(QuotedText.yaml(admin))}\n" }
        text += """
            ---
            apiVersion: \(Schemas.apiVersion)
            kind: Model
            metadata: {name: upstream}
            spec:
              protocol: OpenAI
              aliases: ["\(ModelSpec.catchAllAlias)"]
              variants:
              - name: upstream
                endpoints:

            """
        for upstream in upstreams { text += "    - \(QuotedText.yaml(upstream))\n" }
        if upstreams.isEmpty { text += "    []\n" }
        return ConfigurationLoader.load(files: [(name: "--upstream", text: text)])
    }
}
