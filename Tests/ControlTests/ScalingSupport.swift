import Autoscaling
import Configuration
import Core
import Logging
import Proxy
import Testing

@testable import Clusters
@testable import Control

/// Groups of replicas that do what a test says, in place of processes.
final class FakeFleet: ScalingFleet {
    var groups: [String: GroupStatus] = [:]
    /// Every number that was written, in order.
    private(set) var writes: [(group: String, count: Int)] = []
    /// Told of what changes, as by a cluster.
    var onChange: (ReplicaChange) -> Void = { _ in }
    /// Refuses everything, as a cluster that is shutting down.
    var refusal: String?
    private var serial: UInt64 = 0
    /// When replicas begin what they do.
    var now = Instant.zero

    init(_ names: [String] = [], replicas: Int = 0) {
        for name in names {
            self.groups[name] = GroupStatus(
                name: name,
                desired: 0,
                replicas: [],
                coldStarts: ColdStarts()
            )
            self.have(replicas, ready: replicas, in: name)
        }
    }

    func group(_ name: String) -> GroupStatus? { self.groups[name] }

    func scale(_ group: String, to count: Int) throws(ClusterError) {
        if let refusal = self.refusal { throw ClusterError(refusal) }
        self.writes.append((group, count))
        self.groups[group]?.desired = count
    }

    func writes(of group: String) -> [Int] {
        self.writes.filter { $0.group == group }.map(\.count)
    }

    /// Gives the group so many replicas, `ready` of them ready and the others starting.
    func have(_ count: Int, ready: Int, in group: String) {
        let before = self.groups[group]?.replicas ?? []
        defer {
            for replica in before { self.onChange(.removed(replica.id)) }
            for replica in self.groups[group]?.replicas ?? [] { self.onChange(.updated(replica)) }
        }
        self.groups[group]?.desired = count
        self.groups[group]?.replicas = (0..<count).map { index in
            self.serial += 1
            return Self.replica(
                group,
                index,
                serial: self.serial,
                state: index < ready ? .ready : .starting,
                since: self.now
            )
        }
    }

    static func replica(
        _ group: String,
        _ index: Int,
        serial: UInt64 = 1,
        state: ReplicaState,
        since: Instant = .zero,
        trouble: StartTrouble? = nil,
        isLeaving: Bool = false,
        restarts: Int = 0,
        message: String = ""
    ) -> ReplicaStatus {
        ReplicaStatus(
            id: ReplicaID(group: group, index: index, serial: serial),
            state: state,
            since: since,
            restarts: restarts,
            message: message,
            revision: 1,
            trouble: trouble,
            isLeaving: isLeaving
        )
    }
}

/// Cumulative counters of one model on one worker, as a test makes them grow.
struct FakeWorker {
    let number: Int
    var models: [String: ModelStatistics] = [:]

    init(_ number: Int = 0) { self.number = number }

    func load(at now: Instant) -> WorkerLoad {
        WorkerLoad(worker: self.number, at: now, models: Array(self.models.values))
    }

    /// As a worker reports: the models alone that changed since the last report, or have requests
    /// under way.
    func changes(since reported: Self, at now: Instant) -> WorkerLoad {
        let changed = self.models.values.filter { model in
            model.arrivals != reported.models[model.name]?.arrivals || model.queue.count > 0
                || model.variants.contains { $0.inFlight > 0 }
        }
        return WorkerLoad(worker: self.number, at: now, models: changed)
    }

    /// `count` requests came for a variant, took `seconds` each, and are over.
    mutating func serve(
        _ model: String,
        _ variant: String,
        _ count: Int,
        seconds: Double = 0.1,
        status: UInt16 = 200
    ) {
        var statistics = self.models[model] ?? ModelStatistics(name: model)
        statistics.arrivals += UInt64(count)
        let index =
            statistics.variants.firstIndex { $0.name == variant } ?? statistics.variants.count
        if index == statistics.variants.count {
            statistics.variants.append(VariantStatistics(name: variant))
        }
        let nanoseconds = UInt64(seconds * 1e9)
        statistics.variants[index].requestsByCode[status, default: 0] += UInt64(count)
        statistics.variants[index].inFlightNanoseconds &+= nanoseconds * UInt64(count)
        for _ in 0..<count {
            statistics.variants[index].duration.record(nanoseconds: nanoseconds)
            statistics.queueWait.record(nanoseconds: 0)
        }
        self.models[model] = statistics
    }

    /// `count` requests came and wait for a replica.
    mutating func queue(_ model: String, _ count: Int) {
        var statistics = self.models[model] ?? ModelStatistics(name: model)
        statistics.arrivals += UInt64(count)
        statistics.queue = TimedCount(
            count: statistics.queue.count + count,
            nanoseconds: statistics.queue.nanoseconds
        )
        self.models[model] = statistics
    }
}

extension FakeWorker {
    /// `count` of those that waited wait no more.
    mutating func leaveQueue(_ model: String, _ count: Int) {
        guard let queue = self.models[model]?.queue else { return }
        self.models[model]?.queue = TimedCount(
            count: queue.count - count,
            nanoseconds: queue.nanoseconds
        )
    }
}

enum Plans {
    /// A model with these variants and weights; each variant's group is `model-variant`.
    static func model(
        _ name: String,
        _ variants: [(name: String, weight: Int)] = [("main", 100)],
        policy: ScalingPolicy = ScalingPolicy(
            targets: [.concurrency(1)],
            stableWindow: .seconds(10),
            burstWindow: .seconds(2),
            scaleDown: ScalingSpeed(stabilization: .fixed(.zero), maxPerMinute: 1_000),
            idleAfter: .seconds(5)
        ),
        bounds: ScalingBounds = ScalingBounds(minimum: 0, maximum: 10),
        fixed: [(name: String, weight: Int)] = [],
        budget: ScalingPlan.Share? = nil,
        units: Int = 1
    ) -> ScalingPlan.Model {
        ScalingPlan.Model(
            setup: ModelSetup(
                name: name,
                policy: policy,
                variants: variants.map {
                    VariantSetup(
                        name: $0.name,
                        bounds: bounds,
                        unitsPerReplica: units,
                        assumedColdStart: .seconds(5),
                        assumedDrain: .seconds(1),
                        isServing: $0.weight > 0
                    )
                }
            ),
            policyName: "standard",
            variants: variants.map {
                .init(name: $0.name, group: "\(name)-\($0.name)", weight: $0.weight)
            },
            weights: variants + fixed,
            budget: budget,
            queries: [],
            slotsPerReplica: nil
        )
    }

    static func plan(_ models: [ScalingPlan.Model], budgets: [ScalingPlan.Budget] = [])
        -> ScalingPlan
    {
        var plan = ScalingPlan()
        plan.budgets = budgets
        for model in models { plan.add(model) }
        return plan
    }
}

/// A scaling loop on a clock of the test's own.
final class ScalingRig {
    let fleet: FakeFleet
    let loop: ScalingLoop
    var worker = FakeWorker()
    /// The worker as it was when it reported last.
    private var reported = FakeWorker()
    private(set) var now = Instant(nanoseconds: 1_000_000_000_000)

    init(
        _ plan: ScalingPlan,
        replicas: Int = 0,
        memory: ScalingMemory? = nil,
        restTicks: Int = ScalingLoop.restTicks,
        looksPerTick: Int = ScalingLoop.looksPerTick
    ) {
        self.fleet = FakeFleet(plan.models.flatMap { $0.variants.map(\.group) }, replicas: replicas)
        self.loop = ScalingLoop(
            fleet: self.fleet,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
            restTicks: restTicks,
            looksPerTick: looksPerTick
        )
        self.loop.adopt(plan, memory: memory, at: self.now)
        self.fleet.onChange = { [unowned self] in self.loop.note($0, at: self.now) }
        self.startCounting()
    }

    /// The first report is where counting starts.
    func startCounting() {
        self.loop.take(self.worker.load(at: self.now))
        self.reported = self.worker
    }

    /// Time goes by without a tick.
    func pass(seconds: Double) { self.now = self.now + .seconds(seconds) }

    var wallClock: WallClock {
        WallClock(secondsSince1970: 1_800_000_000 + Int64(self.now.nanoseconds / 1_000_000_000))
    }

    /// A second passes, in which `act` happened on the worker.
    /// - Parameter collects: whether the worker has anything to tell that is later than before.
    func tick(
        hears: Bool = true,
        collects: Bool = true,
        _ act: (inout FakeWorker) -> Void = { _ in }
    ) {
        self.now = self.now + .seconds(1)
        self.fleet.now = self.now
        act(&self.worker)
        if hears, collects {
            self.loop.take(self.worker.changes(since: self.reported, at: self.now))
            self.reported = self.worker
        }
        self.loop.tick(at: self.now, wallClock: self.wallClock, isGatewayHeard: hears)
    }

    func wake(_ model: String, pinnedTo variant: String? = nil) -> Bool {
        self.loop.wake(model, pinnedTo: variant, wallClock: self.wallClock, at: self.now)
    }

    private static func isSettled(_ group: GroupStatus) -> Bool {
        group.replicas.count == group.desired && group.replicas.allSatisfy { $0.state == .ready }
    }

    /// All replicas that were asked for are ready at once.
    func settle() {
        for (name, group) in self.fleet.groups where !Self.isSettled(group) {
            self.fleet.have(group.desired, ready: group.desired, in: name)
        }
    }
}
