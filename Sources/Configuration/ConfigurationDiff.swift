/// What a new configuration changes, and whether a running Weir can follow.
package struct ConfigurationDiff: Sendable, Equatable {
    /// Resources of one kind, by name (`namespace/name` outside the default namespace), sorted.
    package struct Names: Sendable, Equatable {
        package var added: [String] = []
        package var removed: [String] = []
        package var changed: [String] = []

        package var isEmpty: Bool {
            self.added.isEmpty && self.removed.isEmpty && self.changed.isEmpty
        }
    }

    /// A field whose value differs.
    package struct FieldChange: Sendable, Equatable {
        package var resource: ResourceID
        package var path: ConfigurationPath
        package var needsRestart: Bool
    }

    package private(set) var names: [ResourceKind: Names] = [:]
    /// Listeners of the Gateway by name.
    package private(set) var listeners = Names()
    /// Of the resources that both have, in the order of kind, name and path.
    package private(set) var fields: [FieldChange] = []

    package var models: Names { self.names[.model] ?? Names() }
    package var processDeployments: Names { self.names[.processDeployment] ?? Names() }
    package var isGatewayChanged: Bool { self.fields.contains { $0.resource.kind == .gateway } }

    package var isEmpty: Bool {
        self.fields.isEmpty && self.listeners.isEmpty && self.names.values.allSatisfy(\.isEmpty)
    }

    /// What takes effect only after a restart, such as a listener's address; the rest can be
    /// applied at once.
    package var needingRestart: [FieldChange] { self.fields.filter(\.needsRestart) }

    package init(from old: Configuration, to new: Configuration) {
        for id in Self.differing(old.documents, new.documents) {
            let label =
                id.namespace == Metadata.defaultNamespace ? id.name : "\(id.namespace)/\(id.name)"
            switch (old.documents[id], new.documents[id]) {
            case (nil, .some): self.names[id.kind, default: Names()].added.append(label)
            case (.some, nil): self.names[id.kind, default: Names()].removed.append(label)
            case (nil, nil): break
            case (.some(let before), .some(let after)):
                let count = self.fields.count
                self.compare(before, after, id)
                if self.fields.count > count && id.kind != .gateway {
                    self.names[id.kind, default: Names()].changed.append(label)
                }
            }
        }
        self.compareListeners(old.gateway.spec.listeners, new.gateway.spec.listeners)
    }

    /// Sorted. Few as a rule: the others, of which there may be very many, are looked at once.
    private static func differing(
        _ old: [ResourceID: Record],
        _ new: [ResourceID: Record]
    ) -> [ResourceID] {
        var differing: [ResourceID] = []
        for (id, after) in new {
            // The same tree, not read again, is known to be equal without a look inside.
            if let before = old[id], before == after { continue }
            differing.append(id)
        }
        for id in old.keys where new[id] == nil { differing.append(id) }
        return differing.sorted()
    }

    // MARK: Comparing

    private mutating func compare(_ old: Record, _ new: Record, _ id: ResourceID) {
        if id.kind != .gateway {
            self.compare(
                old.record("metadata"),
                new.record("metadata"),
                Schemas.metadata,
                ConfigurationPath("metadata"),
                id,
                needsRestart: false
            )
        }
        self.compare(
            old.record("spec"),
            new.record("spec"),
            Schemas.schema(of: id.kind).spec,
            ConfigurationPath("spec"),
            id,
            needsRestart: false
        )
    }

    /// Goes down into objects that both sides have, so that the path names the field that changed.
    private mutating func compare(
        _ old: Record,
        _ new: Record,
        _ schema: ObjectSchema,
        _ path: ConfigurationPath,
        _ id: ResourceID,
        needsRestart: Bool
    ) {
        for field in schema.fields where old.fields[field.name] != new.fields[field.name] {
            let needsRestart = needsRestart || field.change == .restart
            let place = path.field(field.name)
            if case .object(let inner) = field.schema,
                let before = old.optionalRecord(field.name),
                let after = new.optionalRecord(field.name)
            {
                self.compare(before, after, inner, place, id, needsRestart: needsRestart)
            } else {
                self.fields.append(
                    FieldChange(resource: id, path: place, needsRestart: needsRestart)
                )
            }
        }
    }

    private mutating func compareListeners(_ old: [ListenerSpec], _ new: [ListenerSpec]) {
        for listener in new {
            guard let before = old.first(where: { $0.name == listener.name }) else {
                self.listeners.added.append(listener.name)
                continue
            }
            if before != listener { self.listeners.changed.append(listener.name) }
        }
        for listener in old where !new.contains(where: { $0.name == listener.name }) {
            self.listeners.removed.append(listener.name)
        }
    }
}
