/// What became of a Service's endpoints from one state to the next.
package enum EndpointChange: Sendable, Hashable {
    case added(PodEndpoint)
    /// The same pod: another condition, or another address.
    case changed(from: PodEndpoint, to: PodEndpoint)
    case removed(PodEndpoint)

    /// Both lists sorted by identity, each identity once. Removals first, so that what they held is
    /// free for what comes.
    package static func between(
        _ before: [PodEndpoint],
        _ after: [PodEndpoint]
    ) -> [EndpointChange] {
        var removed: [EndpointChange] = []
        var rest: [EndpointChange] = []
        var left = 0
        var right = 0
        while left < before.count || right < after.count {
            if right == after.count
                || left < before.count && before[left].identity < after[right].identity
            {
                removed.append(.removed(before[left]))
                left += 1
            } else if left == before.count || after[right].identity < before[left].identity {
                rest.append(.added(after[right]))
                right += 1
            } else {
                if before[left] != after[right] {
                    rest.append(.changed(from: before[left], to: after[right]))
                }
                left += 1
                right += 1
            }
        }
        return removed + rest
    }
}
