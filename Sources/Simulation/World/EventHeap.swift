/// What happens when: a heap with four children per node, whose depth is half of a binary one's and
/// whose children share a cache line.
///
/// Events at one time come in an order that depends on the calls alone, so that a run can be
/// repeated.
struct EventHeap: Sendable {
    struct Event: Sendable {
        var time: UInt64
        /// What it is, packed by `World`.
        var payload: UInt64
    }

    private var events: [Event] = []

    var isEmpty: Bool { self.events.isEmpty }
    var count: Int { self.events.count }

    /// The time of the next one; `UInt64.max` where there is none.
    var nextTime: UInt64 { self.events.isEmpty ? .max : self.events[0].time }

    mutating func push(time: UInt64, payload: UInt64) {
        let event = Event(time: time, payload: payload)
        var index = self.events.count
        self.events.append(event)
        while index > 0 {
            let parent = (index &- 1) >> 2
            if self.events[parent].time <= time { break }
            self.events[index] = self.events[parent]
            index = parent
        }
        self.events[index] = event
    }

    /// Takes the next one; the heap must not be empty.
    mutating func pop() -> Event {
        let first = self.events[0]
        let moved = self.events.removeLast()
        let count = self.events.count
        if count == 0 { return first }
        var index = 0
        while true {
            let start = index &* 4 &+ 1
            if start >= count { break }
            var least = start
            var leastTime = self.events[start].time
            let end = min(start &+ 4, count)
            var child = start &+ 1
            while child < end {
                let time = self.events[child].time
                if time < leastTime {
                    least = child
                    leastTime = time
                }
                child &+= 1
            }
            if leastTime >= moved.time { break }
            self.events[index] = self.events[least]
            index = least
        }
        self.events[index] = moved
        return first
    }
}
