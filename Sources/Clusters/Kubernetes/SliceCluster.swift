import Core
import EventLoop
import Orchestration

/// Replicas that somebody else runs and that can be asked about by the name of their group.
package protocol ReplicaSource: AnyObject {
    var onChange: ((ReplicaChange) -> Void)? { get set }
    var groups: [GroupStatus] { get }
    func group(_ name: String) -> GroupStatus?
    /// Nothing is in flight to the replica and nobody will send it more.
    func drained(_ replica: ReplicaID)
}

/// The endpoints of Services as a gateway sees them: replicas to send requests to, and no others.
///
/// A group is a Service and a port. Slices come and go by `put` and `remove`; endpoints that
/// terminate, or that the controller asks to drain, are `draining` until nothing is in flight
/// there, and then `stopping`. What the controller asks holds for a while only, so that replicas
/// come back by themselves where it is gone. On the control loop's thread.
package final class SliceCluster: ReplicaSource {
    /// Where a group's endpoints come from.
    package struct Backend: Hashable {
        /// `namespace/name`.
        package var service: String
        package var port: PortChoice

        package init(service: String, port: PortChoice) {
            self.service = service
            self.port = port
        }
    }

    /// What became of an endpoint that is to be drained.
    package struct DrainState: Hashable, Sendable {
        package var identity: String
        /// Nil where no group has such an endpoint: nothing is sent there.
        package var replica: ReplicaID?
        /// Nothing is in flight, and no worker can choose it any more.
        package var isDrained: Bool
    }

    package var onChange: ((ReplicaChange) -> Void)?

    private struct Entry {
        var endpoint: PodEndpoint
        var status: ReplicaStatus
        /// The owner has said that nothing is in flight.
        var isDrained = false
    }

    private struct Group {
        var backend: Backend
        var endpoints: [PodEndpoint] = []
        var entries: [String: Entry] = [:]
        var freeIndices: [Int] = []
        var nextIndex = 0
    }

    private let loop: EventLoop
    private var table = EndpointTable()
    private var groupsByName: [String: Group] = [:]
    private var groupsByService: [String: Set<String>] = [:]
    /// By the names of replicas.
    private var identities: [String: String] = [:]
    private var drains: Set<String> = []
    private var drainTimer: LoopTimer?
    private var nextSerial: UInt64 = 1
    private var changes: [ReplicaChange] = []
    private var isDelivering = false

    package init(loop: EventLoop) {
        self.loop = loop
    }

    deinit {
        self.drainTimer?.cancel()
    }

    // MARK: What is followed

    /// The groups there are from now on, by name.
    package func follow(_ backends: [String: Backend]) {
        for (name, group) in self.groupsByName where backends[name] != group.backend {
            self.update(name, to: [])
            self.groupsByName[name] = nil
            self.groupsByService[group.backend.service]?.remove(name)
        }
        for (name, backend) in backends where self.groupsByName[name] == nil {
            self.groupsByName[name] = Group(backend: backend)
            self.groupsByService[backend.service, default: []].insert(name)
            self.refresh(name)
        }
        self.deliver()
    }

    /// Whether the Service of a group has any slice.
    package func hasService(_ name: String) -> Bool {
        self.groupsByName[name].map { self.table.hasService($0.backend.service) } ?? false
    }

    /// Groups that nothing can be sent to, and why.
    package var unserved: [String: EndpointGap] {
        self.groupsByName.compactMapValues { group in
            if !self.table.hasService(group.backend.service) { return .serviceMissing }
            return group.endpoints.isEmpty ? .noEndpoint : nil
        }
    }

    package func put(_ slice: EndpointSlice) {
        for service in self.table.put(slice) { self.refresh(service: service) }
        self.deliver()
    }

    package func remove(slice key: String) {
        for service in self.table.remove(key) { self.refresh(service: service) }
        self.deliver()
    }

    private func refresh(service: String) {
        for name in self.groupsByService[service] ?? [] { self.refresh(name) }
    }

    private func refresh(_ name: String) {
        guard let backend = self.groupsByName[name]?.backend else { return }
        self.update(name, to: self.table.endpoints(of: backend.service, port: backend.port))
    }

    // MARK: Draining

    /// The endpoints, by identity, that get no new request for as long as `time`, unless this is
    /// called again; those of the last call that are not named serve again.
    package func drain(_ identities: Set<String>, for time: Duration) {
        self.drainTimer?.cancel()
        self.drainTimer = nil
        if !identities.isEmpty {
            self.drainTimer = self.loop.schedule(after: time) { [weak self] in
                self?.drain([], for: .zero)
            }
        }
        let changed = self.drains.symmetricDifference(identities)
        self.drains = identities
        if changed.isEmpty { return }
        for name in self.groupsByName.keys {
            for identity in changed where self.groupsByName[name]?.entries[identity] != nil {
                self.restate(name, identity)
            }
        }
        self.deliver()
    }

    package func drainStates(of identities: [String]) -> [DrainState] {
        identities.map { identity in
            let entries = self.groupsByName.values.compactMap { $0.entries[identity] }
            return DrainState(
                identity: identity,
                replica: entries.first?.status.id,
                isDrained: entries.allSatisfy {
                    $0.isDrained || !$0.status.state.takesRequests && $0.status.state != .draining
                }
            )
        }
    }

    /// Numbers by the names of replicas as numbers by identity.
    package func byIdentity(_ counts: [String: Int]) -> [String: Int] {
        counts.reduce(into: [:]) { result, entry in
            guard let identity = self.identities[entry.key] else { return }
            result[identity, default: 0] += entry.value
        }
    }

    /// Of a replica by its name; nil where it is gone.
    package func identity(of replica: String) -> String? { self.identities[replica] }

    package func drained(_ id: ReplicaID) {
        guard let group = self.groupsByName[id.group],
            let identity = group.entries.first(where: { $0.value.status.id == id })?.key,
            group.entries[identity]?.status.state == .draining
        else { return }
        self.groupsByName[id.group]?.entries[identity]?.isDrained = true
        self.restate(id.group, identity)
        self.deliver()
    }

    // MARK: Replicas

    package var groups: [GroupStatus] {
        self.groupsByName.keys.sorted().compactMap { self.group($0) }
    }

    package func group(_ name: String) -> GroupStatus? {
        guard let group = self.groupsByName[name] else { return nil }
        return GroupStatus(
            name: name,
            desired: group.entries.values.count { !$0.status.isLeaving },
            replicas: group.entries.values.map(\.status).sorted { $0.id < $1.id },
            coldStarts: ColdStarts()
        )
    }

    private func update(_ name: String, to endpoints: [PodEndpoint]) {
        guard let before = self.groupsByName[name]?.endpoints else { return }
        for change in EndpointChange.between(before, endpoints) {
            switch change {
            case .removed(let endpoint): self.take(endpoint, from: name)
            case .added(let endpoint): self.add(endpoint, to: name)
            case .changed(let old, let new):
                if old.address == new.address, old.port == new.port {
                    self.groupsByName[name]?.entries[new.identity]?.endpoint = new
                    self.restate(name, new.identity)
                } else {
                    self.take(old, from: name)
                    self.add(new, to: name)
                }
            }
        }
        self.groupsByName[name]?.endpoints = endpoints
    }

    private func take(_ endpoint: PodEndpoint, from name: String) {
        guard let entry = self.groupsByName[name]?.entries.removeValue(forKey: endpoint.identity)
        else { return }
        self.groupsByName[name]?.freeIndices.append(entry.status.id.index)
        self.identities[entry.status.id.description] = nil
        self.changes.append(.removed(entry.status.id))
    }

    private func add(_ endpoint: PodEndpoint, to name: String) {
        guard var group = self.groupsByName[name] else { return }
        let index: Int
        if let free = group.freeIndices.popLast() {
            index = free
        } else {
            index = group.nextIndex
            group.nextIndex += 1
        }
        let status = ReplicaStatus(
            id: ReplicaID(group: name, index: index, serial: self.nextSerial),
            state: .pending,
            address: ReplicaAddress(host: endpoint.address, port: endpoint.port),
            since: self.loop.now,
            restarts: 0,
            message: "",
            revision: 1
        )
        self.nextSerial += 1
        self.identities[status.id.description] = endpoint.identity
        group.entries[endpoint.identity] = Entry(endpoint: endpoint, status: status)
        self.groupsByName[name] = group
        self.restate(name, endpoint.identity)
    }

    /// Works the state of an endpoint out anew.
    private func restate(_ name: String, _ identity: String) {
        guard var entry = self.groupsByName[name]?.entries[identity] else { return }
        let isLeaving =
            entry.endpoint.condition == .terminating || self.drains.contains(identity)
        if !isLeaving { entry.isDrained = false }
        let state: ReplicaState
        if isLeaving {
            // One that never took a request has nothing to finish.
            let hadRequests = entry.status.state != .pending
            state = entry.isDrained || !hadRequests ? .stopping : .draining
        } else {
            state = entry.endpoint.condition == .ready ? .ready : .notReady
        }
        let message = self.message(entry.endpoint, isLeaving: isLeaving)
        if entry.status.state != state { entry.status.since = self.loop.now }
        let before = entry.status
        entry.status.state = state
        entry.status.isLeaving = isLeaving
        entry.status.message = message
        self.groupsByName[name]?.entries[identity] = entry
        if entry.status != before { self.changes.append(.updated(entry.status)) }
    }

    private func message(_ endpoint: PodEndpoint, isLeaving: Bool) -> String {
        if !isLeaving { return "pod \(endpoint.name)" }
        return endpoint.condition == .terminating
            ? "pod \(endpoint.name) terminates" : "pod \(endpoint.name) is to go"
    }

    /// Tells of what changed, now that everything fits together again.
    private func deliver() {
        if self.isDelivering { return }
        self.isDelivering = true
        while !self.changes.isEmpty {
            let changes = self.changes
            self.changes = []
            for change in changes { self.onChange?(change) }
        }
        self.isDelivering = false
    }
}
