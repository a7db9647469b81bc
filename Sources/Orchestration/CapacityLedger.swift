/// What the nodes of a cluster have of counted resources such as `nvidia.com/gpu`, what pods take
/// of it, and what quotas allow: kept up to date change by change.
///
/// Counted are pods that are bound to a node and not over. Where only some namespaces are read,
/// what the pods of others take is not known, and `used` is the least that it can be.
package struct CapacityLedger: Sendable {
    package struct Node: Sendable, Hashable {
        /// What nodes of one kind have in common; empty where nothing says.
        package var pool: String
        /// By the resource's name.
        package var allocatable: [String: Int]
        /// Ready, and not cordoned.
        package var takesPods: Bool

        package init(pool: String, allocatable: [String: Int], takesPods: Bool = true) {
            self.pool = pool
            self.allocatable = allocatable
            self.takesPods = takesPods
        }
    }

    /// One pool's part of one resource.
    package struct Pool: Sendable, Hashable {
        package var name: String
        package var nodes: Int
        package var allocatable: Int
        package var used: Int
        /// The most that one node has left for new pods: a pod must fit on one.
        package var largestFree: Int
    }

    package struct Quota: Sendable, Hashable {
        package var hard: Int
        package var used: Int

        package init(hard: Int, used: Int) {
            self.hard = hard
            self.used = used
        }

        package var free: Int { max(0, self.hard - self.used) }
    }

    /// Nodes and quotas at most; the rest are left out.
    package static let nodesMax = 10_000
    package static let quotasMax = 10_000

    private struct Share: Sendable {
        var node: String
        var resources: [String: Int]
    }

    private var nodes: [String: Node] = [:]
    private var shares: [String: Share] = [:]
    /// By node, then by resource.
    private var used: [String: [String: Int]] = [:]
    /// By the quota's name: its namespace, and what it says of each resource.
    private var quotas: [String: (namespace: String, limits: [String: Quota])] = [:]

    package init() {}

    package var hasNodes: Bool { !self.nodes.isEmpty }

    // MARK: What there is

    /// - Parameter node: nil where it is gone.
    package mutating func set(_ node: Node?, named name: String) {
        if node != nil, self.nodes[name] == nil, self.nodes.count >= Self.nodesMax { return }
        self.nodes[name] = node
    }

    /// What a pod takes on a node; nothing while it has none, and once it is over.
    package mutating func set(_ resources: [String: Int], ofPod uid: String, on node: String) {
        if let old = self.shares.removeValue(forKey: uid) { self.add(old, sign: -1) }
        if resources.isEmpty || node.isEmpty { return }
        let share = Share(node: node, resources: resources)
        self.shares[uid] = share
        self.add(share, sign: 1)
    }

    private mutating func add(_ share: Share, sign: Int) {
        for (resource, count) in share.resources {
            let sum = (self.used[share.node]?[resource] ?? 0) &+ sign &* count
            self.used[share.node, default: [:]][resource] = sum == 0 ? nil : sum
        }
        if self.used[share.node]?.isEmpty == true { self.used[share.node] = nil }
    }

    /// - Parameter limits: by the resource's name; empty where the quota is gone.
    package mutating func set(
        _ limits: [String: Quota],
        ofQuota name: String,
        in namespace: String
    ) {
        if limits.isEmpty {
            self.quotas[name] = nil
        } else if self.quotas[name] != nil || self.quotas.count < Self.quotasMax {
            self.quotas[name] = (namespace, limits)
        }
    }

    // MARK: What it comes to

    /// The resource in each pool that has any of it, by the pools' names.
    package func pools(of resource: String) -> [Pool] {
        var pools: [String: Pool] = [:]
        for (name, node) in self.nodes {
            guard let allocatable = node.allocatable[resource], allocatable > 0 else { continue }
            let used = self.used[name]?[resource] ?? 0
            var pool =
                pools[node.pool]
                ?? Pool(name: node.pool, nodes: 0, allocatable: 0, used: 0, largestFree: 0)
            pool.nodes += 1
            pool.allocatable += allocatable
            pool.used += used
            if node.takesPods { pool.largestFree = max(pool.largestFree, allocatable - used) }
            pools[node.pool] = pool
        }
        return pools.values.sorted { $0.name < $1.name }
    }

    /// How many pods that take so many units each find room now.
    package func fitting(_ units: Int, of resource: String) -> Int {
        precondition(units > 0, "\(units) units")
        return self.nodes.reduce(0) { sum, entry in
            guard entry.value.takesPods, let total = entry.value.allocatable[resource] else {
                return sum
            }
            let free = total - (self.used[entry.key]?[resource] ?? 0)
            return sum + max(0, free) / units
        }
    }

    /// The quota of the namespace that leaves the least of the resource; nil where none limits it.
    package func quota(of resource: String, in namespace: String) -> Quota? {
        self.quotas.values.lazy.filter { $0.namespace == namespace }
            .compactMap { $0.limits[resource] }
            .min { ($0.free, $0.hard) < ($1.free, $1.hard) }
    }
}
