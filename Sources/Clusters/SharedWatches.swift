import Core
import EventLoop

// Thousands of models may be served by the same few servers. What is asked of an address or a name
// is asked once, however many endpoints want to know, and they are told only what is new: an answer
// that says what the last one said costs the same for one endpoint as for a hundred thousand.

/// Probes of addresses for whoever subscribes, one at a time for each address and way of asking.
///
/// Limits: `underWayMax` probes at the same time; those that are due meanwhile wait their turn.
final class HealthChecks<Subscriber: AnyObject> {
    static var underWayMax: Int { 256 }

    struct Key: Hashable {
        /// Numeric.
        var target: ReplicaAddress
        var readiness: ReadinessSpec
    }

    final class Check {
        let key: Key
        fileprivate var watch: HealthWatch
        fileprivate var probe: ReadinessProbe?
        fileprivate var timer: LoopTimer?
        fileprivate var subscribers: [ObjectIdentifier: Subscriber] = [:]

        fileprivate init(_ key: Key, _ watch: HealthWatch) {
            self.key = key
            self.watch = watch
        }

        /// Nil before the first answer.
        var verdict: HealthVerdict? { self.watch.verdict }
    }

    /// Called with those that a new verdict is for.
    var tell: ([Subscriber], HealthVerdict) -> Void = { _, _ in }
    private let loop: EventLoop
    private var checks: [Key: Check] = [:]
    private var underWay = 0
    /// Those that are due, in order.
    private var waiting: ArraySlice<Check> = []

    init(loop: EventLoop) {
        self.loop = loop
    }

    deinit {
        // Checks and subscribers hold each other.
        for check in self.checks.values {
            check.subscribers = [:]
            check.timer?.cancel()
            check.probe?.cancel()
        }
    }

    /// Subscribes; a check that is not there is begun, with the results of `former` where that
    /// asked the same address in another way.
    func join(_ subscriber: Subscriber, _ key: Key, after former: Check?) -> Check {
        let check = self.checks[key] ?? self.begin(key, after: former)
        check.subscribers[ObjectIdentifier(subscriber)] = subscriber
        return check
    }

    /// The last to leave ends the check.
    func leave(_ subscriber: Subscriber, _ check: Check) {
        check.subscribers[ObjectIdentifier(subscriber)] = nil
        guard check.subscribers.isEmpty, self.checks[check.key] === check else { return }
        self.checks[check.key] = nil
        check.timer?.cancel()
        check.timer = nil
        guard let probe = check.probe else { return }
        check.probe = nil
        probe.cancel()
        self.underWay -= 1
        self.startWaiting()
    }

    // MARK: Helpers

    private func begin(_ key: Key, after former: Check?) -> Check {
        let isSameAddress = former?.key.target == key.target
        let watch = HealthWatch(
            key.readiness,
            tally: (isSameAddress ? former?.watch.tally : nil) ?? ProbeTally(),
            phase: key.target.phase,
            now: self.loop.refreshNow()
        )
        let check = Check(key, watch)
        self.checks[key] = check
        self.probe(check)
        return check
    }

    private func probe(_ check: Check) {
        guard self.underWay < Self.underWayMax else { return self.waiting.append(check) }
        guard self.checks[check.key] === check else { return }
        guard check.watch.begin(now: self.loop.refreshNow()) else { return self.arm(check) }
        self.underWay += 1
        let probe = ReadinessProbe(check.key.target, spec: check.key.readiness) {
            [weak self, weak check] result in
            guard let self, let check else { return }
            self.answered(check, result)
        }
        check.probe = probe
        probe.start(on: self.loop)
    }

    private func answered(_ check: Check, _ result: ProbeResult) {
        check.probe = nil
        self.underWay -= 1
        self.startWaiting()
        let isNew = check.watch.note(result, now: self.loop.refreshNow())
        self.arm(check)
        if isNew, let verdict = check.watch.verdict {
            self.tell(Array(check.subscribers.values), verdict)
        }
    }

    private func arm(_ check: Check) {
        guard let deadline = check.watch.deadline else { return }
        check.timer = self.loop.schedule(at: deadline) { [weak self, weak check] in
            guard let self, let check else { return }
            check.timer = nil
            self.probe(check)
        }
    }

    private func startWaiting() {
        while self.underWay < Self.underWayMax, let next = self.waiting.popFirst() {
            self.probe(next)
        }
    }
}

extension ReplicaAddress {
    /// A number that hardly two addresses share (FNV-1a, 64 bits, mixed by a multiplication).
    fileprivate var phase: UInt64 {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in self.host.utf8 { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01B3 }
        hash = (hash ^ UInt64(self.port)) &* 0x9E37_79B9_7F4A_7C15
        return hash ^ hash >> 29
    }
}

/// Lookups of names for whoever subscribes, one at a time for each name.
final class NameLookups<Subscriber: AnyObject> {
    final class Lookup {
        let name: String
        fileprivate var watch: NameWatch
        fileprivate var timer: LoopTimer?
        fileprivate var subscribers: [ObjectIdentifier: Subscriber] = [:]

        fileprivate init(_ name: String, _ watch: NameWatch) {
            self.name = name
            self.watch = watch
        }

        /// Nil before the first answer.
        var answer: NameResolver.Answer? { self.watch.answer }
    }

    /// Called with those that a new answer is for.
    var tell: ([Subscriber], NameResolver.Answer) -> Void = { _, _ in }
    private let loop: EventLoop
    private let resolver: NameResolver
    private var lookups: [String: Lookup] = [:]

    init(loop: EventLoop) {
        self.loop = loop
        self.resolver = NameResolver(loop: loop)
    }

    deinit {
        for lookup in self.lookups.values {
            lookup.subscribers = [:]
            lookup.timer?.cancel()
        }
    }

    func join(_ subscriber: Subscriber, _ name: String) -> Lookup {
        let lookup = self.lookups[name] ?? self.begin(name)
        lookup.subscribers[ObjectIdentifier(subscriber)] = subscriber
        return lookup
    }

    /// The last to leave ends it.
    func leave(_ subscriber: Subscriber, _ lookup: Lookup) {
        lookup.subscribers[ObjectIdentifier(subscriber)] = nil
        guard lookup.subscribers.isEmpty else { return }
        lookup.timer?.cancel()
        lookup.timer = nil
        if self.lookups[lookup.name] === lookup { self.lookups[lookup.name] = nil }
    }

    private func begin(_ name: String) -> Lookup {
        let lookup = Lookup(name, NameWatch(now: self.loop.refreshNow()))
        self.lookups[name] = lookup
        self.ask(lookup)
        return lookup
    }

    private func ask(_ lookup: Lookup) {
        guard lookup.watch.begin(now: self.loop.refreshNow()) else { return self.arm(lookup) }
        self.resolver.resolve(lookup.name) { [weak self, weak lookup] in
            guard let self, let lookup, self.lookups[lookup.name] === lookup else { return }
            self.answered(lookup, $0)
        }
    }

    private func answered(_ lookup: Lookup, _ answer: NameResolver.Answer) {
        let isNew = lookup.watch.note(answer, now: self.loop.refreshNow())
        self.arm(lookup)
        if isNew { self.tell(Array(lookup.subscribers.values), answer) }
    }

    private func arm(_ lookup: Lookup) {
        guard let deadline = lookup.watch.deadline else { return }
        lookup.timer = self.loop.schedule(at: deadline) { [weak self, weak lookup] in
            guard let self, let lookup else { return }
            lookup.timer = nil
            self.ask(lookup)
        }
    }
}

extension EventLoop {
    /// Runs `body` once, at `time` or some milliseconds before: the loop's timers go by a coarse
    /// clock, so that whoever is called looks whether it is due.
    fileprivate func schedule(at time: Instant, _ body: @escaping () -> Void) -> LoopTimer {
        self.schedule(after: max(.zero, time - self.now) + .microseconds(1), body)
    }
}
