/// The checks that span several fields or resources.
///
/// They run on resources that may have had problems before: a text that was wrong is empty here and
/// is skipped, so that one mistake is told once.
struct ConfigurationChecker {
    let set: ResourceSet
    private(set) var sink = ProblemSink()
    /// Of a tenant that may use a model that does not exist.
    private let missingModels: Problem.Severity

    init(_ set: ResourceSet, missingModels: Problem.Severity = .error) {
        self.set = set
        self.missingModels = missingModels
    }

    mutating func check() {
        self.checkDuplicates()
        self.checkGateways()
        self.checkModels()
        self.checkProcessDeployments()
        self.checkScalingPolicies()
        self.checkRolloutPolicies()
        self.checkTenants()
        self.checkUse()
    }

    // MARK: Reporting

    /// - Parameter isKey: the problem is with the name of the last field, not with its value.
    mutating func report(
        _ origin: LoadedResource,
        _ path: ConfigurationPath,
        _ message: String,
        hint: String? = nil,
        isKey: Bool = false,
        severity: Problem.Severity = .error
    ) {
        self.sink.add(
            Problem(
                severity: severity,
                file: origin.source.file,
                position: origin.position(of: path, isKey: isKey),
                path: path,
                message: message,
                hint: hint
            )
        )
    }

    /// Reports a name that nothing has.
    mutating func reportMissing(
        _ noun: String,
        _ name: String,
        among names: [String],
        _ origin: LoadedResource,
        _ path: ConfigurationPath,
        isKey: Bool = false,
        severity: Problem.Severity = .error
    ) {
        let there: String
        switch names.count {
        case 0: there = "there is none"
        case 1: there = "there is \(Words.list(names, conjunction: "and"))"
        default: there = "there are \(Words.list(names.sorted(), conjunction: "and"))"
        }
        let hint = Words.nearest(to: name, among: names).map { "did you mean `\($0)`?" }
        self.report(
            origin,
            path,
            "\(noun) `\(Excerpt.of(name))` does not exist; \(there)",
            hint: hint ?? "define it, or name another one",
            isKey: isKey,
            severity: severity
        )
    }

    // MARK: All kinds

    private mutating func checkDuplicates() {
        // As many names as resources: there is nothing to look for.
        if self.set.documents.count == self.set.all.count { return }
        var first: [ResourceID: LoadedResource] = [:]
        for resource in self.set.all {
            let id = ResourceSet.id(of: resource)
            guard let earlier = first[id] else {
                first[id] = resource
                continue
            }
            let place = "\(earlier.source.file), line \(earlier.position.line)"
            if resource.kind == .gateway {
                self.report(
                    resource,
                    ConfigurationPath(),
                    "there is a second Gateway",
                    hint: "the first is in \(place); put all settings into one"
                )
            } else if !id.name.isEmpty {
                self.report(
                    resource,
                    ConfigurationPath("metadata", "name"),
                    "\(id) is a duplicate",
                    hint: "the first is in \(place)"
                )
            }
        }
    }

    private mutating func checkGateways() {
        for gateway in self.set.gateways {
            let spec = ConfigurationPath("spec")
            self.checkHTTP2(of: gateway)
            var taken: [ListenAddress: String] = [gateway.spec.admin.address: "the admin API"]
            for (index, listener) in gateway.spec.listeners.enumerated() {
                // Port 0 is another port each time; an address that was wrong has it too.
                if listener.address.port == 0 { continue }
                if let owner = taken[listener.address] {
                    self.report(
                        gateway.origin,
                        spec.field("listeners").index(index).field("address"),
                        "`\(listener.address)` is a duplicate",
                        hint: "\(owner) listens there already"
                    )
                } else {
                    taken[listener.address] = "listener `\(listener.name)`"
                }
            }
            let admin = gateway.spec.admin
            if !admin.address.isLoopback && admin.tokenFile == nil {
                self.report(
                    gateway.origin,
                    spec.field("admin").field("address"),
                    "writes to the admin API need a token on an address that is not loopback",
                    hint: "set `tokenFile`, or listen on 127.0.0.1; without one only reading works",
                    severity: .warning
                )
            }
        }
    }

    private mutating func checkHTTP2(of gateway: Loaded<GatewaySpec>) {
        let listeners = gateway.spec.listeners
        for (index, listener) in listeners.enumerated() {
            let http2 = listener.http2
            if http2.initialConnectionWindowSize >= http2.initialStreamWindowSize { continue }
            let path = ConfigurationPath("spec", "listeners").index(index).field("http2")
            self.report(
                gateway.origin,
                path.field("initialConnectionWindowSize"),
                "is smaller than that of one stream",
                hint: "write at least that of `initialStreamWindowSize`",
                severity: .warning
            )
        }
        if listeners.isEmpty || listeners.contains(where: \.http2.enabled) { return }
        for model in self.set.models where model.spec.protocol == .grpc {
            self.report(
                model.origin,
                ConfigurationPath("spec", "protocol"),
                "no listener speaks HTTP/2, which gRPC needs",
                hint: "remove `http2: {enabled: false}` from one of them",
                severity: .warning
            )
        }
    }

    private mutating func checkScalingPolicies() {
        for policy in self.set.scalingPolicies {
            self.checkPrometheusTargets(of: policy)
            let windows = policy.spec.windows
            guard windows.burst > windows.stable else { continue }
            self.report(
                policy.origin,
                ConfigurationPath("spec", "windows", "burst"),
                "the burst window is longer than the stable one",
                hint: "make it shorter than \(DurationText.format(windows.stable))"
            )
        }
    }

    private mutating func checkPrometheusTargets(of policy: Loaded<ScalingPolicySpec>) {
        for (index, target) in policy.spec.targets.enumerated() {
            guard case .prometheus(let query, _) = target, query.server?.scheme == .http else {
                continue
            }
            let path = ConfigurationPath("spec", "targets").index(index)
            if query.caFile != nil {
                self.report(
                    policy.origin,
                    path.field("caFile"),
                    "a server asked over http:// has no certificate",
                    hint: "write `server: https://…`, or remove `caFile`"
                )
            }
            let isSecret = query.tokenFile != nil || query.basicAuth != nil
            guard isSecret, !HostText.isLoopback(query.server?.host ?? "") else { continue }
            self.report(
                policy.origin,
                path.field(query.tokenFile == nil ? "basicAuth" : "tokenFile"),
                "would be sent over http://, where everybody on the way can read it",
                hint: "write `server: https://…`",
                severity: .warning
            )
        }
    }

    private mutating func checkTenants() {
        var owners: [KeyPlace: String] = [:]
        // Names of models are the same for all namespaces.
        let names = self.set.models.map(\.name)
        let known = Set(names)
        for tenant in self.set.tenants {
            let models = ConfigurationPath("spec", "models")
            for (index, name) in tenant.spec.models.enumerated()
            where !name.isEmpty && !known.contains(name) {
                self.reportMissing(
                    "model",
                    name,
                    among: names,
                    tenant.origin,
                    models.index(index),
                    severity: self.missingModels
                )
            }
            self.checkKeys(of: tenant, &owners)
        }
    }

    /// A key, or where it is: Secrets are in the tenant's namespace.
    private struct KeyPlace: Hashable {
        var key: TenantKey
        var namespace: String?

        init?(_ record: Record, in namespace: String) {
            guard let key = TenantKey(record) else { return nil }
            self.key = key
            if case .secret = key { self.namespace = namespace }
        }
    }

    private mutating func checkKeys(
        of tenant: Loaded<TenantSpec>,
        _ owners: inout [KeyPlace: String]
    ) {
        let path = ConfigurationPath("spec", "keys")
        for (index, record) in tenant.origin.spec.records("keys").enumerated() {
            guard let key = KeyPlace(record, in: tenant.namespace) else { continue }
            if let owner = owners[key] {
                self.report(
                    tenant.origin,
                    path.index(index),
                    "the key is a duplicate",
                    hint: owner == tenant.name
                        ? "it stands above already" : "tenant `\(owner)` has it already"
                )
            } else {
                owners[key] = tenant.name
            }
        }
    }

    /// What is defined and never referred to is probably misspelt somewhere.
    private mutating func checkUse() {
        var used: Set<ResourceID> = []
        for model in self.set.models {
            used.formUnion(ModelReferences(model).all.map(\.id))
        }
        for resource in self.set.all {
            switch resource.kind {
            case .processDeployment, .scalingPolicy, .rolloutPolicy, .resourceBudget: break
            case .gateway, .model, .tenant: continue
            }
            let id = ResourceSet.id(of: resource)
            guard !id.name.isEmpty, !used.contains(id) else { continue }
            self.report(
                resource,
                ConfigurationPath("metadata", "name"),
                "no model uses \(id)",
                hint: "refer to it, or remove it",
                severity: .warning
            )
        }
    }
}
