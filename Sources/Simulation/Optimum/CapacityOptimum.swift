/// What somebody who knew the demand of every slot in advance would pay at least.
///
/// A replica costs 1 per slot and `switching` slots per start, as it is billed while it loads and
/// drains; starts happen early enough and take no time here. Replicas are whole, none run before
/// the first slot or after the last one.
///
/// The hard form must cover the demand of every slot. The soft form may leave some of it uncovered
/// at a price, so that a share of the requests can be given up where that saves most. Both are
/// exact; tests compare them with all plans there are on small instances.
package enum CapacityOptimum {
    /// A plan and what it costs, in slots of a replica.
    package struct Plan: Equatable, Sendable {
        package var counts: [UInt16]
        package var cost: Double
        /// Starts of replicas.
        package var starts: Int
    }

    /// The least cost of the hard form by levels (Lu and Chen, arXiv 1112.0442): replica k is
    /// needed where the demand reaches k, and stays on over a gap as long as that is cheaper than a
    /// new start. Takes time in proportion to the sum of the demand.
    package static func hardCost(_ demand: [Int], switching: Double) -> Double {
        var cost = 0.0
        var lastNeeded: [Int] = []
        for (slot, needed) in demand.enumerated() {
            for level in 0..<max(0, needed) {
                if level == lastNeeded.count {
                    lastNeeded.append(slot)
                    cost += switching
                } else {
                    cost += min(Double(slot - lastNeeded[level] - 1), switching)
                    lastNeeded[level] = slot
                }
                cost += 1
            }
        }
        return cost
    }

    /// The best plan of the soft form, by dynamic programming over slots and counts.
    /// - Parameters:
    ///   - demand: replicas that each slot would need, in fractions.
    ///   - weights: requests of each slot; a slot that lacks a share of its demand loses that share
    ///     of them.
    ///   - penalty: what a lost request costs; infinite for the hard form.
    ///   - most: replicas at once; at most 65535.
    package static func softPlan(
        demand: [Double],
        weights: [Double],
        penalty: Double,
        switching: Double,
        most: Int
    ) -> Plan {
        precondition(demand.count == weights.count, "a weight for each slot")
        precondition((0...65_535).contains(most), "at most \(most) replicas")
        let width = most + 1
        var values = (0...most).map { switching * Double($0) }
        // Where the best plan that has so many replicas in a slot came from.
        var origins = [UInt16](repeating: 0, count: demand.count * width)
        var next = values
        for slot in demand.indices {
            if slot > 0 {
                Self.relax(values, &next, &origins, at: slot * width, switching)
                swap(&values, &next)
            }
            let needed = demand[slot]
            for count in 0...most {
                let missing = max(0, needed - Double(count))
                let cost = missing > 0 ? penalty * weights[slot] * missing / needed : 0
                values[count] += Double(count) + cost
            }
        }
        return Self.trace(values, origins, demand.count, width)
    }

    /// Prefix and suffix minima: from fewer at a price each, or from more for nothing.
    private static func relax(
        _ values: [Double],
        _ next: inout [Double],
        _ origins: inout [UInt16],
        at base: Int,
        _ switching: Double
    ) {
        var best = values[0]
        var origin = 0
        for count in values.indices {
            best += count > 0 ? switching : 0
            if values[count] <= best {
                best = values[count]
                origin = count
            }
            next[count] = best
            origins[base + count] = UInt16(truncatingIfNeeded: origin)
        }
        best = .infinity
        for count in values.indices.reversed() {
            if values[count] < best {
                best = values[count]
                origin = count
            }
            if best < next[count] {
                next[count] = best
                origins[base + count] = UInt16(truncatingIfNeeded: origin)
            }
        }
    }

    private static func trace(
        _ values: [Double],
        _ origins: [UInt16],
        _ slots: Int,
        _ width: Int
    ) -> Plan {
        var best = 0
        for count in values.indices where values[count] < values[best] { best = count }
        var plan = Plan(counts: Array(repeating: 0, count: slots), cost: values[best], starts: 0)
        var count = best
        for slot in stride(from: slots - 1, through: 0, by: -1) {
            plan.counts[slot] = UInt16(truncatingIfNeeded: count)
            count = slot > 0 ? Int(origins[slot * width + count]) : 0
        }
        var previous = 0
        for count in plan.counts {
            plan.starts += max(0, Int(count) - previous)
            previous = Int(count)
        }
        return plan
    }
}
