/// Sentences for hints.
package enum Words {
    /// `a`, `a and b`, `a, b and c`.
    package static func list(_ items: [String], conjunction: String, limit: Int = 12) -> String {
        var quoted = items.prefix(limit).map { "`\(Excerpt.of($0))`" }
        if items.count > limit { quoted.append("\(items.count - limit) more") }
        guard let last = quoted.last else { return "nothing" }
        if quoted.count == 1 { return last }
        return quoted.dropLast().joined(separator: ", ") + " \(conjunction) \(last)"
    }

    /// Names the nearest candidate, or all where none is near.
    package static func suggestion(for text: String, among candidates: [String]) -> String? {
        if let nearest = Self.nearest(to: text, among: candidates) {
            return "did you mean `\(nearest)`?"
        }
        return candidates.isEmpty
            ? nil : "there is \(Self.list(candidates.sorted(), conjunction: "and"))"
    }

    /// The candidate within a third of the text's length and three edits; none for a text of one or
    /// two characters, which is near to everything.
    package static func nearest(to text: String, among candidates: [String]) -> String? {
        // Long garbage is nobody's misspelling, and the distance costs its square.
        guard text.utf8.count <= 64 else { return nil }
        let limit = min(3, text.count / 3)
        if limit == 0 { return nil }
        var best: (name: String, distance: Int)?
        for candidate in candidates.sorted() where candidate.utf8.count <= 64 {
            let distance = Self.distance(text.lowercased(), candidate.lowercased())
            if distance <= limit && distance < (best?.distance ?? .max) {
                best = (candidate, distance)
            }
        }
        return best?.name
    }

    /// Edit distance with swaps of neighbours (optimal string alignment).
    static func distance(_ left: String, _ right: String) -> Int {
        let left = Array(left.unicodeScalars)
        let right = Array(right.unicodeScalars)
        var beforeLast = [Int](repeating: 0, count: right.count + 1)
        var last = Array(0...right.count)
        for row in left.indices {
            var current = [row + 1]
            current.reserveCapacity(right.count + 1)
            for column in right.indices {
                let isSame = left[row] == right[column]
                var cost = min(last[column + 1] + 1, current[column] + 1)
                cost = min(cost, last[column] + (isSame ? 0 : 1))
                if row > 0, column > 0, left[row] == right[column - 1],
                    left[row - 1] == right[column]
                {
                    cost = min(cost, beforeLast[column - 1] + 1)
                }
                current.append(cost)
            }
            beforeLast = last
            last = current
        }
        return last[right.count]
    }
}
