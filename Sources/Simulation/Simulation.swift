/// A world in which time is a number: requests arrive, replicas start, serve, drain and fail, and a
/// policy decides every second how many there should be.
///
/// Purpose: to find out before a GPU is paid for what a scaling policy does with a given traffic,
/// beside what others would have done and what somebody who knew the future could have done. The
/// decisions are the shipped ones: `LeastLoaded` chooses replicas, `PoolWeights` and
/// `WeightedPicker` variants, `AdmissionQueue` holds those that wait, `RolloutMachine` judges a new
/// variant by what the simulated requests show, and Weir's own policy is the autoscaler that also
/// runs for real.
///
///   World/      the event loop, replicas, queues, GPUs, faults, what is measured
///   Baselines/  what others do, each in its file, from their sources and documents
///   Optimum/    the clairvoyant bound
///   Study/      scenarios, one run, tuning of a knob, comparison of several policies
///
/// Time is in nanoseconds. Arrivals come one by one from a schedule, everything else from one heap
/// of events; ties go to what was scheduled first. The same setup and seed give the same run, and
/// two policies meet the same requests, service times and cold starts: the k-th start of a model
/// takes as long under each of them.
///
/// A request goes to the ready replica with the fewest, below the concurrency limit; where there is
/// none it waits in the model's queue, first come first served, until a slot is free or its time is
/// up. A replica is billed from the moment it has its GPUs, loading and draining included.
///
/// Limits: `SimulationLimits`. What it leaves out: the network, prefix caches, several gateways
/// that know each other late, the price of a node that idles.
package enum SimulationLimits {
    /// Models that share one world.
    package static let modelsMax = 64
    /// Replicas that one model may have at once, draining ones included.
    package static let replicasMax = 4_096
    /// Points of a plot over time.
    package static let pointsMax = 480
    /// Requests under way at once; an arrival past it is turned away.
    package static let liveMax = 4_000_000
    /// Events that one run may process: past it the world is broken, not busy.
    package static let eventsMax: UInt64 = 1 << 44
}
