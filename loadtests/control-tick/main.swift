import Autoscaling
import Clusters
import Control
import Core
import EventLoop
import Glibc
import Logging
import Proxy

// How long one tick of the autoscaler takes: gathering the counters of two workers, deciding for
// every model, writing what changed. Processor time of this thread: the fastest, the median and
// the slowest of many ticks. Where WEIR_ALLOCATIONS names the file in which
// Tests/EndToEnd/allocations.c counts, loaded before the C library, also the blocks asked for in a
// tick.

/// Groups that are there in the number asked for, at once.
final class InstantFleet: ScalingFleet {
    var groups: [String: GroupStatus] = [:]
    private(set) var writes = 0

    func add(_ name: String) {
        self.groups[name] = GroupStatus(
            name: name,
            desired: 1,
            replicas: [Self.replica(name, 0)],
            coldStarts: ColdStarts()
        )
    }

    func group(_ name: String) -> GroupStatus? { self.groups[name] }

    func scale(_ group: String, to count: Int) throws(ClusterError) {
        self.writes += 1
        self.groups[group]?.desired = count
        self.groups[group]?.replicas = (0..<count).map { Self.replica(group, $0) }
    }

    private static func replica(_ group: String, _ index: Int) -> ReplicaStatus {
        ReplicaStatus(
            id: ReplicaID(group: group, index: index, serial: 1),
            state: .ready,
            since: .zero,
            restarts: 0,
            message: "",
            revision: 1
        )
    }
}

/// Blocks that this thread has asked for, as long as somebody counts them.
struct AllocationCounter {
    private let counter: UnsafePointer<UInt64>?

    init() {
        // The counter counts threads of workers: this one works for now.
        let name = open("/proc/self/comm", O_WRONLY)
        _ = write(name, "weir-worker-0", 13)
        close(name)
        guard let path = getenv("WEIR_ALLOCATIONS") else {
            self.counter = nil
            return
        }
        let file = open(path, O_RDONLY)
        let page = mmap(nil, 8, PROT_READ, MAP_SHARED, file, 0)
        close(file)
        self.counter =
            page == MAP_FAILED
            ? nil : page.map { UnsafePointer($0.assumingMemoryBound(to: UInt64.self)) }
    }

    var count: UInt64? { self.counter?.pointee }
}

struct Bench {
    static let models = 10_000
    static let ticks = 60

    let busy: Int
    private let fleet = InstantFleet()
    private let loop: ScalingLoop
    private var statistics: [[ModelStatistics]]
    private var random = RandomSource(seed: 1)
    private var now = Instant(nanoseconds: 1_000_000_000_000)
    private let allocations = AllocationCounter()
    /// Blocks asked for in each tick.
    private(set) var blocks: [UInt64] = []

    /// - Parameter busy: how many models have requests in every second.
    init(busy: Int) {
        self.busy = busy
        let names = (0..<Self.models).map { "model-\($0)" }
        for name in names { self.fleet.add(name) }
        self.loop = ScalingLoop(
            fleet: self.fleet,
            logger: Logger(label: "bench") { _ in SwiftLogNoOpLogHandler() }
        )
        self.statistics = (0..<2).map { _ in
            names.prefix(busy).map { name in
                var model = ModelStatistics(name: name)
                model.variants = [VariantStatistics(name: "main")]
                return model
            }
        }
        self.loop.adopt(Self.plan(names), at: self.now)
        for worker in 0..<2 {
            self.loop.take(WorkerLoad(worker: worker, at: self.now, models: []))
        }
    }

    private static func plan(_ names: [String]) -> ScalingPlan {
        var plan = ScalingPlan()
        for name in names {
            let objectives = Objectives(
                latency: TimeObjective(quantile: 0.95, below: .seconds(1))
            )
            plan.add(
                ScalingPlan.Model(
                    setup: ModelSetup(
                        name: name,
                        policy: ScalingPolicy(targets: [.objective, .concurrency(4)]),
                        objectives: objectives,
                        variants: [
                            VariantSetup(
                                name: "main",
                                bounds: ScalingBounds(minimum: 0, maximum: 20)
                            )
                        ]
                    ),
                    policyName: "bench",
                    variants: [.init(name: "main", group: name, weight: 100)],
                    weights: [("main", 100)],
                    budget: nil,
                    queries: [],
                    slotsPerReplica: nil
                )
            )
        }
        return plan
    }

    /// A second in which every busy model had some requests; processor seconds of the tick alone.
    mutating func tick() -> Double {
        self.now = self.now + .seconds(1)
        for worker in self.statistics.indices {
            for index in self.statistics[worker].indices {
                let count = 1 + Int(self.random.next() % 8)
                self.statistics[worker][index].arrivals += UInt64(count)
                for _ in 0..<count {
                    let nanoseconds = 50_000_000 + self.random.next() % 400_000_000
                    self.statistics[worker][index].variants[0].duration.record(
                        nanoseconds: nanoseconds
                    )
                    self.statistics[worker][index].variants[0].inFlightNanoseconds &+= nanoseconds
                    self.statistics[worker][index].queueWait.record(nanoseconds: 0)
                }
                self.statistics[worker][index].variants[0].requestsByCode[200, default: 0] +=
                    UInt64(count)
            }
        }
        let before = self.allocations.count
        let begin = Self.processorSeconds()
        for worker in self.statistics.indices {
            self.loop.take(
                WorkerLoad(worker: worker, at: self.now, models: self.statistics[worker])
            )
        }
        self.loop.tick(at: self.now, wallClock: WallClock(secondsSince1970: 1_800_000_000))
        let seconds = Self.processorSeconds() - begin
        if let before, let after = self.allocations.count { self.blocks.append(after - before) }
        return seconds
    }

    var writes: Int { self.fleet.writes }

    mutating func forgetBlocks() { self.blocks = [] }

    var medianBlocks: UInt64? {
        self.blocks.isEmpty ? nil : self.blocks.sorted()[self.blocks.count / 2]
    }

    private static func processorSeconds() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }
}

func milliseconds(_ seconds: Double) -> String { "\((seconds * 10_000).rounded() / 10) ms" }

// Numbers of busy models may be given as arguments.
let given = CommandLine.arguments.dropFirst().compactMap { Int($0) }
for busy in given.isEmpty ? [0, 100, 1_000, Bench.models] : given {
    var bench = Bench(busy: busy)
    for _ in 0..<10 { _ = bench.tick() }
    bench.forgetBlocks()
    let times = (0..<Bench.ticks).map { _ in bench.tick() }.sorted()
    print(
        "\(Bench.models) models, \(busy) busy: \(milliseconds(times[0])) fastest, "
            + "\(milliseconds(times[times.count / 2])) median, "
            + "\(milliseconds(times[times.count - 1])) slowest; "
            + "\(bench.medianBlocks.map { "\($0) blocks asked for in the median, " } ?? "")"
            + "\(bench.writes) changes"
    )
}
