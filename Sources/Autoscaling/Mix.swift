/// The cheapest mix of interchangeable variants for a demand.
enum Mix {
    struct Option: Sendable {
        /// Requests per second that a replica holds the objective at; more than 0.
        var perReplica: Double
        var cost: Double
        var least: Int
        var most: Int
        /// Replicas that are there: keeping one is preferred to starting another at the same cost.
        var present: Int
    }

    /// A started replica counts so much more than one that runs.
    private static let startSurcharge = 0.05
    /// The search gives up to what it has found after so many steps; the first find is the greedy
    /// one, and with two or three variants the search is complete.
    static let stepsMax = 4_000

    /// Replicas of each option; all `most` where even they do not suffice.
    /// - Parameter leastTogether: so many in all, as far as there are so many, whatever the demand.
    static func choose(demand: Double, leastTogether: Int = 0, _ options: [Option]) -> [Int] {
        var search = Search(options)
        var start = options.map { max(0, min($0.least, $0.most)) }
        var rest = demand
        for index in options.indices { rest -= Double(start[index]) * options[index].perReplica }
        search.run(0, rest: rest, cost: 0, &start)
        var counts = search.best ?? options.map { max(0, $0.most) }
        Self.fill(&counts, leastTogether, options)
        return counts
    }

    /// Adds what costs least until there are `count` in all.
    private static func fill(_ counts: inout [Int], _ count: Int, _ options: [Option]) {
        var total = counts.reduce(0, +)
        while total < count {
            let open = counts.indices.filter { counts[$0] < options[$0].most }
            func price(_ index: Int) -> Double {
                let isThere = counts[index] < options[index].present
                return options[index].cost * (isThere ? 1 : 1 + self.startSurcharge)
            }
            guard let cheapest = open.min(by: { price($0) < price($1) }) else { return }
            let isThere = counts[cheapest] < options[cheapest].present
            let most =
                isThere
                ? min(options[cheapest].present, options[cheapest].most) : options[cheapest].most
            let more = min(count - total, most - counts[cheapest])
            counts[cheapest] += more
            total += more
        }
    }

    private struct Search {
        let options: [Option]
        /// Indices by cost for each request per second, the cheapest first.
        let order: [Int]
        var best: [Int]?
        var bestCost = Double.infinity
        var steps = 0
        /// Requests per second that are rounding and not need, as `replicasRoundedUp` has it.
        private let hair: Double

        init(_ options: [Option]) {
            self.options = options
            self.hair = 1e-9 * (options.map(\.perReplica).max() ?? 1)
            self.order = options.indices.sorted { left, right in
                let costs = (
                    options[left].cost / options[left].perReplica,
                    options[right].cost / options[right].perReplica
                )
                return costs.0 != costs.1 ? costs.0 < costs.1 : left < right
            }
        }

        mutating func run(_ depth: Int, rest: Double, cost: Double, _ counts: inout [Int]) {
            self.steps += 1
            if rest <= self.hair {
                if cost < self.bestCost {
                    self.bestCost = cost
                    self.best = counts
                }
                return
            }
            guard depth < self.order.count, self.steps < Mix.stepsMax else { return }
            let index = self.order[depth]
            let option = self.options[index]
            // Nothing that follows is cheaper for each request.
            if cost + rest * option.cost / option.perReplica >= self.bestCost { return }
            let from = counts[index]
            let needed = (rest / option.perReplica).replicasRoundedUp
            let most = max(from, option.most)
            for count in stride(from: min(most, from + needed), through: from, by: -1) {
                counts[index] = count
                let started = max(0, count - max(from, option.present))
                let price = Double(count - from) + Double(started) * Mix.startSurcharge
                self.run(
                    depth + 1,
                    rest: rest - Double(count - from) * option.perReplica,
                    cost: cost + price * option.cost,
                    &counts
                )
                if self.steps >= Mix.stepsMax { break }
            }
            counts[index] = from
        }
    }
}
