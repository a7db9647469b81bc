/// The entries of one priority: flows that take turns by work.
///
/// Each flow has a tag: the work it has been served, counted from the virtual time at which it
/// began to wait. The flow with the smallest tag is next, and its tag becomes the virtual time.
/// Flows that went away are remembered while their tag lies ahead of the virtual time, so that
/// leaving and coming back gains nothing.
struct AdmissionBand: Sendable {
    /// Flows that are remembered though nobody of theirs waits.
    static let absentMax = 4_096

    struct Flow: Sendable {
        var key: UInt64
        var tag: Int
        var line = SlotLine()
    }

    let priority: Int
    private(set) var count = 0
    private(set) var bytes = 0
    /// Those that wait, in no order.
    private(set) var flows: [Flow] = []
    private var places: [UInt64: Int] = [:]
    private var absent: [UInt64: Int] = [:]
    private var virtualTime = 0

    init(priority: Int) {
        self.priority = priority
    }

    /// Where the flow with the smallest tag stands, of equal ones that with the smallest key; the
    /// band must not be empty.
    var next: Int {
        var best = 0
        for index in self.flows.indices.dropFirst() where self.isBefore(index, best) {
            best = index
        }
        return best
    }

    /// All of them, in the order of their turns.
    var inOrder: [Int] { self.flows.indices.sorted { self.isBefore($0, $1) } }

    private func isBefore(_ left: Int, _ right: Int) -> Bool {
        (self.flows[left].tag, self.flows[left].key)
            < (self.flows[right].tag, self.flows[right].key)
    }

    mutating func enter(_ slot: Int32, _ key: UInt64, bytes: Int, _ links: inout SlotLinks) {
        let place: Int
        if let known = self.places[key] {
            place = known
        } else {
            let tag = max(self.absent.removeValue(forKey: key) ?? 0, self.virtualTime)
            place = self.flows.count
            self.places[key] = place
            self.flows.append(Flow(key: key, tag: tag))
        }
        links.insert(slot, after: self.flows[place].line.last, in: &self.flows[place].line)
        self.count += 1
        self.bytes += bytes
    }

    mutating func leave(_ slot: Int32, _ key: UInt64, bytes: Int, _ links: inout SlotLinks) {
        guard let place = self.places[key] else { preconditionFailure("flow \(key) waits nowhere") }
        links.remove(slot, from: &self.flows[place].line)
        self.count -= 1
        self.bytes -= bytes
        if self.flows[place].line.first >= 0 { return }
        let gone = self.flows[place]
        self.places[key] = nil
        let last = self.flows.removeLast()
        if last.key != key {
            self.flows[place] = last
            self.places[last.key] = place
        }
        self.remember(gone.key, gone.tag)
    }

    /// The first of the flow is served: its turn costs that much.
    mutating func charge(_ place: Int, work: Int) {
        self.virtualTime = max(self.virtualTime, self.flows[place].tag)
        self.flows[place].tag &+= work
    }

    /// What was served cost more, or less, than was charged for it.
    mutating func settle(_ key: UInt64, by difference: Int) {
        if let place = self.places[key] {
            self.flows[place].tag = max(0, self.flows[place].tag &+ difference)
        } else {
            let tag = max(self.absent.removeValue(forKey: key) ?? 0, self.virtualTime)
            self.remember(key, max(0, tag &+ difference))
        }
    }

    private mutating func remember(_ key: UInt64, _ tag: Int) {
        guard tag > self.virtualTime else { return }
        if self.absent.count >= Self.absentMax {
            let now = self.virtualTime
            self.absent = self.absent.filter { $0.value > now }
            // All still ahead: whoever is forgotten is treated as new.
            if self.absent.count >= Self.absentMax { self.absent.removeAll() }
        }
        self.absent[key] = tag
    }
}

/// The ends of a doubly linked list of slot numbers; -1 stands for none.
struct SlotLine: Sendable {
    fileprivate(set) var first: Int32 = -1
    fileprivate(set) var last: Int32 = -1
}

/// The links of any number of lists; a slot is in one of them at most.
struct SlotLinks: Sendable {
    private struct Link: Sendable {
        var previous: Int32 = -1
        var next: Int32 = -1
    }

    private var links: [Link] = []

    func next(_ slot: Int32) -> Int32 { self.links[Int(slot)].next }
    func previous(_ slot: Int32) -> Int32 { self.links[Int(slot)].previous }

    /// Links a slot that is in no list in behind `after`, at the front where that is -1.
    mutating func insert(_ slot: Int32, after: Int32, in line: inout SlotLine) {
        while self.links.count <= Int(slot) { self.links.append(Link()) }
        let next = after < 0 ? line.first : self.links[Int(after)].next
        self.links[Int(slot)] = Link(previous: after, next: next)
        if after < 0 { line.first = slot } else { self.links[Int(after)].next = slot }
        if next < 0 { line.last = slot } else { self.links[Int(next)].previous = slot }
    }

    mutating func remove(_ slot: Int32, from line: inout SlotLine) {
        let old = self.links[Int(slot)]
        assert(old.previous >= 0 || line.first == slot, "slot \(slot) is not in the list")
        if old.previous < 0 {
            line.first = old.next
        } else {
            self.links[Int(old.previous)].next = old.next
        }
        if old.next < 0 {
            line.last = old.previous
        } else {
            self.links[Int(old.next)].previous = old.previous
        }
        self.links[Int(slot)] = Link()
    }
}

/// One list with links of its own.
struct SlotList: Sendable {
    private var line = SlotLine()
    private var links = SlotLinks()

    var first: Int32 { self.line.first }
    var last: Int32 { self.line.last }
    func next(_ slot: Int32) -> Int32 { self.links.next(slot) }
    func previous(_ slot: Int32) -> Int32 { self.links.previous(slot) }

    mutating func insert(_ slot: Int32, after: Int32) {
        self.links.insert(slot, after: after, in: &self.line)
    }

    mutating func remove(_ slot: Int32) {
        self.links.remove(slot, from: &self.line)
    }
}
