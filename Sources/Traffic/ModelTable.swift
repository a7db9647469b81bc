/// Finds a model by one of its names, in a few nanoseconds and without making a string.
///
/// Open addressing with linear probing, at most half full, built once. Names are compared byte by
/// byte: letter case counts, and no form of Unicode normalisation is applied; `gpt-4` and `GPT-4`
/// are two models. Only the configuration puts names in, so nobody can make it slow from outside.
package struct ModelTable: Sendable {
    package struct DuplicateName: Error, Equatable, Sendable {
        package let name: [UInt8]
    }

    /// Names in a table, aliases included.
    package static let namesMax = 1_000_000

    private struct Slot: Sendable {
        /// Upper bits of the name's hash, compared before the name is.
        var tag: UInt32 = 0
        /// 0 for an empty slot.
        var value: Int32 = 0
        var start: UInt32 = 0
        var count: UInt32 = 0
    }

    private var slots: [Slot]
    private var names: [UInt8] = []
    /// Answers for names that are not in the table: the model that takes all names, if there is
    /// one.
    private let catchAll: Int?
    package private(set) var count = 0

    /// A table of no names.
    package init() {
        self.slots = [Slot()]
        self.catchAll = nil
    }

    /// Each name stands for a number from 0 to `Int32.max - 1`. The same name twice is an error
    /// unless the numbers are equal too. `catchAll` is the answer for all other names.
    package init(
        names: [(name: [UInt8], index: Int)],
        catchAll: Int? = nil
    ) throws(DuplicateName) {
        precondition(names.count <= Self.namesMax, "\(names.count) names")
        var capacity = 2
        while capacity < names.count * 2 { capacity *= 2 }
        self.slots = Array(repeating: Slot(), count: capacity)
        self.names.reserveCapacity(names.reduce(0) { $0 + $1.name.count })
        self.catchAll = catchAll
        for (name, index) in names where try self.insert(name, index) { self.count += 1 }
    }

    /// The number that the name stands for, or `catchAll`.
    package func lookup(_ name: RawSpan) -> Int? {
        self.exact(name) ?? self.catchAll
    }

    /// The number that the name stands for, `catchAll` left aside.
    package func exact(_ name: RawSpan) -> Int? {
        let slot = self.slots[self.probe(name, ByteHash.hash(name))]
        return slot.value == 0 ? nil : Int(slot.value) - 1
    }

    /// The slot that holds the name, or the empty one where it would go.
    private func probe(_ name: RawSpan, _ hash: UInt64) -> Int {
        let mask = self.slots.count &- 1
        let tag = UInt32(truncatingIfNeeded: hash &>> 32)
        var position = Int(truncatingIfNeeded: hash) & mask
        while true {
            let slot = self.slots[position]
            if slot.value == 0 { return position }
            if slot.tag == tag, Int(slot.count) == name.byteCount {
                let start = Int(slot.start)
                // Sound: the span lives only for the comparison, and nothing writes meanwhile.
                let known = unsafe self.names.span.bytes.extracting(
                    start..<(start &+ Int(slot.count))
                )
                if known.isEqual(to: name) { return position }
            }
            position = (position &+ 1) & mask
        }
    }

    /// Whether the name is new.
    private mutating func insert(_ name: [UInt8], _ index: Int) throws(DuplicateName) -> Bool {
        precondition(index >= 0 && index < Int(Int32.max), "an index of \(index)")
        // Sound: the array outlives the call, and nothing writes to it.
        let hash = unsafe ByteHash.hash(name.span.bytes)
        let position = unsafe self.probe(name.span.bytes, hash)
        if self.slots[position].value != 0 {
            if Int(self.slots[position].value) == index + 1 { return false }
            throw DuplicateName(name: name)
        }
        self.slots[position] = Slot(
            tag: UInt32(truncatingIfNeeded: hash &>> 32),
            value: Int32(index + 1),
            start: UInt32(self.names.count),
            count: UInt32(name.count)
        )
        self.names.append(contentsOf: name)
        return true
    }
}
