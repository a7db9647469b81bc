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
    static func choose(demand: Double, _ options: [Option]) -> [Int] {
        var search = Search(options)
        var start = options.map { max(0, min($0.least, $0.most)) }
        var rest = demand
        for index in options.indices { rest -= Double(start[index]) * options[index].perReplica }
        search.run(0, rest: rest, cost: 0, &start)
        return search.best ?? options.map { max(0, $0.most) }
    }

    private struct Search {
        let options: [Option]
        /// Indices by cost for each request per second, the cheapest first.
        let order: [Int]
        var best: [Int]?
        var bestCost = Double.infinity
        var steps = 0

        init(_ options: [Option]) {
            self.options = options
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
            if rest <= 1e-9 {
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
