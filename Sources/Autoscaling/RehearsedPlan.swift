/// A way to scale: how much room there is above the forecast, and what else asks for replicas.
package struct RehearsedPlan: Sendable, Hashable {
    /// Times the forecast.
    package internal(set) var factor: Double
    /// Standard deviations of the requests in flight, added.
    package internal(set) var deviations: Double
    /// Of the load at which the objective holds: what is there now is to fill no more of it. 0: the
    /// forecast alone counts.
    package internal(set) var utilization = 0.0
    /// The least, as a share of the highest need of the last day.
    package internal(set) var floor = 0.0
    /// What is expected comes also from so long ago; an index into `periods`.
    var period: Int?
    /// That in seconds.
    package var periodSeconds: Double? { self.period.map { Self.periods[$0] } }

    /// In seconds: what jobs that repeat have.
    static let periods: [Double] = [300, 360, 600, 720, 900, 1_200, 1_800, 3_600]

    static let all: [RehearsedPlan] = {
        let plain = [
            (0.92, 0), (1, 0), (1, 0.5), (1, 1), (1, 1.5), (1, 2), (1, 2.5), (1, 3.25),
            (1.15, 2.5), (1.3, 2.5), (1.5, 2.5), (1.8, 2.5), (2.2, 2.5),
        ].map { RehearsedPlan(factor: $0.0, deviations: $0.1) }
        let quick = [(0, 0.95), (0.5, 0.95), (1, 0.85), (1.5, 0.75), (2.5, 0.6), (3.25, 0.5)].map {
            RehearsedPlan(factor: 1, deviations: $0.0, utilization: $0.1)
        }
        let standing = [0.4, 0.55, 0.7, 0.85, 1, 1.15, 1.3].flatMap { floor in
            [plain[2], plain[4], plain[9], plain[11], quick[2], quick[4]].map { plan in
                var plan = plan
                plan.floor = floor
                return plan
            }
        }
        let periodic = Self.periods.indices.flatMap { period in
            [plain[2], plain[9], quick[2]].map { plan in
                var plan = plan
                plan.period = period
                return plan
            }
        }
        return plain + quick + standing + periodic
    }()

    /// Replicas wanted at a forecast rate.
    /// - Parameter dispersion: the variance of arrivals as a multiple of that of independent ones.
    func need(rate: Double, dispersion: Double, _ staffing: Staffing) -> Double {
        if rate <= 0 { return 0 }
        let capacity = max(1e-9, staffing.rateAtObjective)
        // In flight are rate · seconds, with a variance as large as that where arrivals are
        // independent; each of them is worth 1 / seconds of rate.
        let seconds = staffing.loadAtObjective / capacity
        let deviation = (dispersion * rate / max(1e-6, seconds)).squareRoot()
        return (rate * self.factor + self.deviations * deviation) / capacity
    }
}
