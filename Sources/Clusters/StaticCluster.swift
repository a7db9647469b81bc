import Core
import EventLoop
import Glibc

/// Fixed addresses of one group, run by somebody else.
package struct FixedGroupSpec: Hashable, Sendable {
    package var name: String
    /// In order; each is one replica. Hosts may be names.
    package var endpoints: [ReplicaAddress]
    /// Nil: they are not asked, and taken to be ready.
    package var readiness: ReadinessSpec?
    /// How long requests in flight may hold up the removal of an endpoint.
    package var drainDeadline: Duration

    package init(
        name: String,
        endpoints: [ReplicaAddress],
        readiness: ReadinessSpec? = ReadinessSpec(period: .seconds(2)),
        drainDeadline: Duration = .seconds(30)
    ) {
        self.name = name
        self.endpoints = endpoints
        self.readiness = readiness
        self.drainDeadline = drainDeadline
    }

    package func validate() throws(ClusterError) {
        try validateGroupName(self.name)
        guard self.endpoints.count <= ClusterLimits.replicasMax else {
            throw ClusterError(
                "\(self.name): more than \(ClusterLimits.replicasMax) endpoints are given"
            )
        }
        guard Set(self.endpoints).count == self.endpoints.count else {
            throw ClusterError("\(self.name): an endpoint is given twice")
        }
        for endpoint in self.endpoints {
            let isPlain = endpoint.host.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F }
            guard !endpoint.host.isEmpty, isPlain, endpoint.host.utf8.count <= 253,
                endpoint.port > 0
            else {
                throw ClusterError("\(self.name): \(quoted("\(endpoint)")) is no address")
            }
        }
        guard self.drainDeadline >= .zero else {
            throw ClusterError("\(self.name): the drain deadline cannot be negative")
        }
        try self.readiness?.validate(self.name)
    }
}

/// Groups of fixed addresses with active health checks. Nothing is started or stopped; an endpoint
/// that is taken out of its group is drained like any replica.
package final class StaticCluster: Cluster {
    package var onChange: ((ReplicaChange) -> Void)?
    package var inFlight: (ReplicaID) -> Int = { _ in 0 }
    package var cacheValue: (ReplicaID) -> Double = { _ in 0 }

    private typealias Checks = HealthChecks<Endpoint>
    private typealias Lookups = NameLookups<Endpoint>

    private final class Endpoint {
        let id: ReplicaID
        let address: ReplicaAddress
        var machine: EndpointMachine
        /// Nil for a numeric address.
        var lookup: Lookups.Lookup?
        var check: Checks.Check?
        /// While it is drained.
        var timer: LoopTimer?
        var reported: ReplicaStatus?

        init(id: ReplicaID, address: ReplicaAddress, machine: EndpointMachine) {
            self.id = id
            self.address = address
            self.machine = machine
        }

        /// The numeric address and the port, once there is one.
        var target: ReplicaAddress? {
            self.machine.host.map {
                ReplicaAddress(host: $0, port: self.address.port, security: self.address.security)
            }
        }

        /// What is to be probed; nil where nothing is.
        var wanted: Checks.Key? {
            guard !self.machine.isGone, let readiness = self.machine.readiness,
                let target = self.target
            else { return nil }
            return Checks.Key(target: target, readiness: readiness)
        }

        var status: ReplicaStatus {
            ReplicaStatus(
                id: self.id,
                state: self.machine.state,
                address: self.target,
                since: self.machine.since,
                restarts: 0,
                message: self.machine.message,
                revision: 1
            )
        }
    }

    private final class Group {
        var spec: FixedGroupSpec
        var isRemoved = false
        var endpoints: [Endpoint] = []

        init(_ spec: FixedGroupSpec) { self.spec = spec }
    }

    private let loop: EventLoop
    private let checks: Checks
    private let lookups: Lookups
    private var groupsByName: [String: Group] = [:]
    /// Names of groups that go as soon as they have no endpoints.
    private var removed: Set<String> = []
    private var nextSerial: UInt64 = 1
    private var pendingChanges: [ReplicaChange] = []
    private var isDelivering = false
    private var shutdownCompletion: (() -> Void)?
    private var shutdownTimer: LoopTimer?
    private var wasShutDown = false
    private var isClosed = false

    package init(loop: EventLoop) {
        self.loop = loop
        self.checks = Checks(loop: loop)
        self.lookups = Lookups(loop: loop)
        self.checks.tell = { [unowned self] endpoints, verdict in
            for endpoint in endpoints { self.step(endpoint, .health(verdict)) }
            self.deliver()
        }
        self.lookups.tell = { [unowned self] endpoints, answer in
            for endpoint in endpoints { self.take(answer, endpoint) }
            self.deliver()
        }
    }

    // MARK: Cluster

    package func apply(_ workload: FixedGroupSpec) throws(ClusterError) {
        self.loop.assertOnLoop()
        if self.isClosed { throw ClusterError("Weir is shutting down") }
        try workload.validate()
        let known = self.groupsByName[workload.name]
        guard known != nil || self.groupsByName.count < ClusterLimits.fixedGroupsMax else {
            throw ClusterError(
                "\(workload.name): there are \(ClusterLimits.fixedGroupsMax) groups already"
            )
        }
        // A reload names every group again, and most are what they were.
        if let known, !known.isRemoved, known.spec == workload { return }
        let group = known ?? Group(workload)
        self.groupsByName[workload.name] = group
        group.spec = workload
        group.isRemoved = false
        self.match(group)
        self.deliver()
    }

    package func remove(group name: String) {
        self.loop.assertOnLoop()
        guard let group = self.groupsByName[name] else { return }
        group.isRemoved = true
        self.removed.insert(name)
        self.send(.drain, to: group)
        if group.endpoints.isEmpty { self.groupsByName[name] = nil }
    }

    /// Refuses anything but the number there is.
    package func scale(_ name: String, to count: Int) throws(ClusterError) {
        guard let group = self.groupsByName[name], !group.isRemoved else {
            throw ClusterError("there is no group \(quoted(name))")
        }
        guard count == group.spec.endpoints.count else {
            throw ClusterError(
                "\(name) has \(group.spec.endpoints.count) fixed endpoints and cannot be scaled to "
                    + "\(count): change its `endpoints`"
            )
        }
    }

    package func drained(_ id: ReplicaID) {
        self.loop.assertOnLoop()
        guard let endpoint = self.endpoint(id) else { return }
        self.step(endpoint, .drained)
        self.deliver()
    }

    package var groups: [GroupStatus] {
        self.groupsByName.keys.sorted().compactMap { self.group($0) }
    }

    package func group(_ name: String) -> GroupStatus? {
        guard let group = self.groupsByName[name] else { return nil }
        return GroupStatus(
            name: name,
            desired: group.isRemoved ? 0 : group.spec.endpoints.count,
            replicas: group.endpoints.sorted { $0.id < $1.id }.map(\.status),
            coldStarts: ColdStarts()
        )
    }

    package func output(of replica: ReplicaID) -> String? { nil }

    package func shutdown(within deadline: Duration, completion: @escaping () -> Void) {
        self.loop.assertOnLoop()
        precondition(!self.wasShutDown, "shut down twice")
        self.wasShutDown = true
        self.isClosed = true
        self.shutdownCompletion = completion
        // Held strongly: the cluster lives until it is empty.
        self.shutdownTimer = self.loop.schedule(after: deadline) { self.killEverything() }
        for group in self.groupsByName.values { self.send(.drain, to: group) }
        self.finishIfEmpty()
    }

    package func killEverything() {
        self.loop.assertOnLoop()
        self.isClosed = true
        for group in self.groupsByName.values { self.send(.kill, to: group) }
    }

    // MARK: Endpoints

    /// Makes the group's endpoints those of its specification: keeps, takes back, adds, drains.
    private func match(_ group: Group) {
        for endpoint in group.endpoints {
            endpoint.machine.readiness = group.spec.readiness
            endpoint.machine.drainDeadline = group.spec.drainDeadline
            let isWanted = group.spec.endpoints.contains(endpoint.address)
            self.step(endpoint, isWanted ? .takeBack : .drain)
        }
        for address in group.spec.endpoints
        where !group.endpoints.contains(where: { $0.address == address }) {
            self.add(address, to: group)
        }
    }

    private func add(_ address: ReplicaAddress, to group: Group) {
        let taken = Set(group.endpoints.map(\.id.index))
        var index = 0
        while taken.contains(index) { index += 1 }
        let isNumeric = NumericAddress(address) != nil
        let endpoint = Endpoint(
            id: ReplicaID(group: group.spec.name, index: index, serial: self.nextSerial),
            address: address,
            machine: EndpointMachine(
                numericHost: isNumeric ? address.host : nil,
                readiness: group.spec.readiness,
                drainDeadline: group.spec.drainDeadline,
                now: self.loop.refreshNow()
            )
        )
        self.nextSerial += 1
        group.endpoints.append(endpoint)
        if !isNumeric { endpoint.lookup = self.lookups.join(endpoint, address.host) }
        self.step(endpoint, .tick)
        if let answer = endpoint.lookup?.answer { self.take(answer, endpoint) }
    }

    private func endpoint(_ id: ReplicaID) -> Endpoint? {
        self.groupsByName[id.group]?.endpoints.first { $0.id == id }
    }

    private func send(_ event: EndpointMachine.Event, to group: Group) {
        for endpoint in group.endpoints { self.step(endpoint, event) }
        self.deliver()
    }

    private func take(_ answer: NameResolver.Answer, _ endpoint: Endpoint) {
        switch answer {
        case .address(let host): self.step(endpoint, .resolved(host))
        case .failure(let reason): self.step(endpoint, .notResolved(reason))
        }
    }

    private func step(_ endpoint: Endpoint, _ event: EndpointMachine.Event) {
        let now = self.loop.refreshNow()
        endpoint.machine.handle(event, now: now)
        self.watch(endpoint, now)
        endpoint.timer?.cancel()
        endpoint.timer = endpoint.machine.deadline.map { deadline in
            self.loop.schedule(after: (deadline - now) + .microseconds(1)) {
                [weak self, weak endpoint] in
                guard let self, let endpoint else { return }
                self.step(endpoint, .tick)
                self.deliver()
            }
        }
        self.note(endpoint)
    }

    /// Has probed what is to be probed by now, and looked up what still matters.
    private func watch(_ endpoint: Endpoint, _ now: Instant) {
        if endpoint.machine.isGone, let lookup = endpoint.lookup.take() {
            self.lookups.leave(endpoint, lookup)
        }
        let wanted = endpoint.wanted
        let former = endpoint.check
        if former?.key == wanted { return }
        endpoint.check = wanted.map { self.checks.join(endpoint, $0, after: former) }
        if let former { self.checks.leave(endpoint, former) }
        if let verdict = endpoint.check?.verdict {
            // Others have asked there before.
            endpoint.machine.handle(.health(verdict), now: now)
        }
    }

    private func note(_ endpoint: Endpoint) {
        guard let group = self.groupsByName[endpoint.id.group] else { return }
        if endpoint.machine.isGone {
            guard group.endpoints.contains(where: { $0 === endpoint }) else { return }
            group.endpoints.removeAll { $0 === endpoint }
            self.pendingChanges.append(.removed(endpoint.id))
        } else if endpoint.reported != endpoint.status {
            endpoint.reported = endpoint.status
            self.pendingChanges.append(.updated(endpoint.status))
        }
    }

    /// Tells of what changed, now that everything fits together again.
    private func deliver() {
        if self.isDelivering { return }
        self.isDelivering = true
        while !self.pendingChanges.isEmpty {
            let changes = self.pendingChanges
            self.pendingChanges = []
            for change in changes { self.onChange?(change) }
        }
        self.isDelivering = false
        // Not all groups: there may be very many, and this runs for every answer of a probe.
        for name in self.removed {
            let group = self.groupsByName[name]
            if group?.isRemoved == true, group?.endpoints.isEmpty == false { continue }
            if group?.isRemoved == true { self.groupsByName[name] = nil }
            self.removed.remove(name)
        }
        self.finishIfEmpty()
    }

    private func finishIfEmpty() {
        guard let completion = self.shutdownCompletion,
            self.groupsByName.values.allSatisfy(\.endpoints.isEmpty)
        else { return }
        self.shutdownCompletion = nil
        self.shutdownTimer?.cancel()
        self.shutdownTimer = nil
        completion()
    }
}
