import Configuration

/// One custom resource, as it was read.
package struct ResourceText: Sendable, Equatable {
    /// `models.weir.dev ns/name`: problems name it so.
    package var name: String
    /// RFC 3339; the older of two that cannot both be has the right.
    package var createdAt: String
    package var kind: ResourceDirectory.Kind
    /// JSON, which is YAML.
    package var text: String

    package init(
        name: String,
        createdAt: String,
        kind: ResourceDirectory.Kind,
        text: String
    ) {
        self.name = name
        self.createdAt = createdAt
        self.kind = kind
        self.text = text
    }

    /// Models and tenants end with their object; what models refer to is kept while they need it.
    var isKeptForModels: Bool {
        switch self.kind {
        case .scalingPolicy, .rolloutPolicy, .resourceBudget: true
        case .model, .tenant: false
        }
    }
}

/// Makes a configuration of many resources that change one by one, where each may be wrong.
///
/// A mistake concerns the resource it is in and no other one: what is new and wrong is left out,
/// and its last good state, if there was one, stays in force. What models refer to stays with them
/// when it is deleted. Nobody who serves well stops serving because of what somebody else wrote.
package struct ResourceKeeper {
    /// What became of one resource.
    package enum Verdict: Sendable, Equatable {
        case accepted
        /// It is wrong; the last good state is in force.
        case keptOld([Problem])
        /// It is wrong, and nothing of it is in force.
        case refused([Problem])

        package var problems: [Problem] {
            switch self {
            case .accepted: []
            case .keptOld(let problems), .refused(let problems): problems
            }
        }
    }

    package struct Outcome: Sendable {
        package var configuration: Configuration
        /// By the resources' names.
        package var verdicts: [String: Verdict]
        /// What the verdicts are about.
        package var judged: [String: ResourceText]
        /// Somebody made a tenant: whatever is wrong with it, the gateway is not open to everybody.
        package var requiresKeys: Bool

        /// Nil of what is new, or has changed since: nothing can be said of it yet.
        func verdict(of text: ResourceText) -> Verdict? {
            self.judged[text.name] == text ? self.verdicts[text.name] : nil
        }
    }

    /// What is always there, such as the Gateway.
    private let base: [ConfigurationFile]
    private let cache = ConfigurationCache()
    /// What the configuration in force was made of.
    private var good: [String: ResourceText] = [:]

    package init(base: [ConfigurationFile]) {
        self.base = base
    }

    /// - Returns: nil where the base itself is wrong.
    package mutating func assemble(_ resources: [ResourceText]) -> Outcome? {
        var choice = Dictionary(resources.map { ($0.name, $0) }) { first, _ in first }
        let asked = choice
        var problems: [String: [Problem]] = [:]
        var hasGhosts = false
        // Each round takes back at least one choice.
        for _ in 0...(2 * choice.count + self.good.count + 1) {
            let result = self.load(choice)
            if let configuration = result.configuration {
                self.good = choice
                return Outcome(
                    configuration: configuration,
                    verdicts: Self.verdicts(asked, choice, problems),
                    judged: asked,
                    requiresKeys: resources.contains { $0.kind == .tenant }
                )
            }
            let bad = Dictionary(
                grouping: result.problems.filter { $0.severity == .error },
                by: \.file
            )
            let names = bad.keys.filter { choice[$0] != nil }
            if names.isEmpty { return nil }
            for name in names where problems[name] == nil { problems[name] = bad[name] }
            if self.takeBack(names, &choice) { continue }
            if !hasGhosts, names.contains(where: { self.good[$0] != nil }) {
                hasGhosts = true
                for (name, old) in self.good where choice[name] == nil && old.isKeptForModels {
                    if asked[name] == nil { choice[name] = old }
                }
                continue
            }
            for name in names { choice[name] = nil }
        }
        return nil
    }

    /// Puts the last good state in the place of what is wrong.
    private func takeBack(_ names: [String], _ choice: inout [String: ResourceText]) -> Bool {
        var hasChanged = false
        for name in names {
            guard let old = self.good[name], old != choice[name] else { continue }
            choice[name] = old
            hasChanged = true
        }
        return hasChanged
    }

    private func load(_ choice: [String: ResourceText]) -> LoadResult {
        let ordered = choice.values.sorted { ($0.createdAt, $0.name) < ($1.createdAt, $1.name) }
        let files = ordered.map { ConfigurationFile(name: $0.name, text: $0.text) }
        return ConfigurationLoader.load(
            self.base + files,
            cache: self.cache,
            filesMax: ConfigurationLoader.maxResources,
            // A model that comes later, or is gone, must not shut its tenants out of the others.
            tenantsMayNameMissingModels: true
        )
    }

    private static func verdicts(
        _ asked: [String: ResourceText],
        _ choice: [String: ResourceText],
        _ problems: [String: [Problem]]
    ) -> [String: Verdict] {
        asked.reduce(into: [:]) { verdicts, entry in
            let found = problems[entry.key] ?? []
            if choice[entry.key] == entry.value {
                verdicts[entry.key] = .accepted
            } else {
                verdicts[entry.key] =
                    choice[entry.key] == nil ? .refused(found) : .keptOld(found)
            }
        }
    }
}
