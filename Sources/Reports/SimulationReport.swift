import Simulation

/// What a comparison of policies showed on one scenario.
package struct SimulationReport: Sendable {
    /// One policy's line.
    package struct Row: Sendable {
        package var runs: PolicyRuns
        /// Whether it is one of Weir's.
        package var isOwn: Bool
        /// The knob that was tuned or swept; nil where the policy was taken as it is.
        package var sweep: KnobSweep?
        /// Whether it reached the target, where it was tuned for that.
        package var hasReached: Bool

        package init(runs: PolicyRuns, isOwn: Bool, sweep: KnobSweep? = nil, hasReached: Bool) {
            self.runs = runs
            self.isOwn = isOwn
            self.sweep = sweep
            self.hasReached = hasReached
        }
    }

    package var title: String
    package var summary: String
    /// Whether the goals for bursty traffic hold, or those for diurnal.
    package var isBursty: Bool
    package var target: Double
    package var seeds: Int
    package var rows: [Row] = []
    package var optimum: Clairvoyant.Result?
    /// See `Clairvoyant.withoutForesight`.
    package var withoutForesight: PolicyRuns?
    /// Whether the baselines were tuned to the target.
    package var isTuned = false

    package init(title: String, summary: String, isBursty: Bool, target: Double, seeds: Int) {
        self.title = title
        self.summary = summary
        self.isBursty = isBursty
        self.target = target
        self.seeds = seeds
    }

    /// Mean GPU-seconds of a run of the clairvoyant.
    package var optimumSeconds: Double? {
        self.optimum.map { $0.gpuSeconds / Double(max(1, $0.worlds.count)) }
    }

    /// The cheapest baseline that reached the target.
    package var bestBaseline: Row? {
        self.rows.filter { !$0.isOwn && $0.runs.attainment >= self.target }
            .min { $0.runs.gpuSeconds < $1.runs.gpuSeconds }
    }

    /// The most that Weir may use in proportion to the optimum, as a goal.
    package var optimumGoal: Double { self.isBursty ? 1.6 : 1.25 }
}
