import Core

// Design note
//
// Limits that hold over several gateways: each has a share of each limit, and this hands them out.
//
//   what gateways saw asked for ─▶ water-filling ─▶ targets ─▶ what is safe to give ─▶ gateways
//                                                                  ▲ acknowledgements ─────┘
//
// Every second each gateway is told its shares and answers what it goes by and what was asked of
// it. The ledger keeps, for every gateway and limit, the most that it may be using: the largest of
// what it acknowledged last and all that was sent since. A share grows only out of what the sum of
// these leaves of the limit, so that the whole is not exceeded however messages are lost, late or
// told twice: shrinking is acknowledged before somebody else grows.
//
// Shares are leases (`ShareLease`): a gateway that is not told any more goes back to its fallback,
// an equal part: first by shrinking, later by growing. Fallbacks are handed out as shares are, so
// that their sum is never more than the limit either. As soon as a gateway has not acknowledged
// anything for a lease, its fallback is set aside. A new leader knows nothing: whom the last one
// told something gets no more than the fallback at first, and nobody grows until every gateway has
// said what it goes by, or its lease must have ended.
//
// Targets: a floor for everybody, so that one without traffic can begin; then max-min fairness
// ("water-filling", Bertsekas and Gallager, Data Networks, section 6.5.2) over what was asked for;
// what nobody asked for is shared equally. Limits of whole things (requests at a time) are shared
// in whole units, and where there are fewer than gateways who ask, they take turns.
//
// Beyond the limit are: the floor of those who find the whole held by others that cannot be
// reached, `floorFraction` in all; gateways that have just started, which use
// `ShareLease.firstFraction` each until they are told; settings that differ between gateways for a
// moment; and requests at a time that last longer than `ShareLease.growthLeases` leases at a
// gateway that cannot be reached.

/// See the design note above. A value; time is a parameter.
package struct ShareLedger: Sendable {
    /// Of a limit, divided by the number of gateways.
    static let floorFraction = 0.05
    /// What is given beyond what was asked for, of that.
    static let slack = 0.05
    /// Of the last second in the mean of what was asked for.
    static let smoothing = 0.2
    /// A second that differs by more standard deviations of a Poisson process begins a new mean.
    static let jumpDeviations = 4.0
    /// Others must have missed so many more unit-seconds before whoever has a unit hands it on.
    static let turnUnits = 3.0
    /// Messages may be under way for so long.
    static let delaySeconds = 1.0
    /// Messages to one gateway that were not acknowledged; beyond, the largest is kept.
    private static let outstandingMax = 32

    package struct Limit: Hashable, Sendable {
        package enum Kind: String, CaseIterable, Sendable, Hashable {
            case requests, tokens, concurrency
        }

        package var tenant: String
        package var kind: Kind

        package init(_ tenant: String, _ kind: Kind) {
            self.tenant = tenant
            self.kind = kind
        }
    }

    /// What a gateway says of one limit.
    package struct Report: Sendable, Equatable {
        /// The part it goes by now.
        package var share: Double
        /// Asked for in units of the limit: per second, per minute, or at a time.
        package var asked: Double
        /// Of what was asked for, what one request was on average, in units of the limit.
        package var grain: Double
        /// In use now, of requests at a time; else 0.
        package var inUse: Double

        package init(share: Double, asked: Double, grain: Double = 0, inUse: Double = 0) {
            self.share = share
            self.asked = asked
            self.grain = grain
            self.inUse = inUse
        }
    }

    /// What to tell one gateway.
    package struct Message: Sendable, Equatable {
        package var generation: Int
        package var fallback: Double
        package var shares: [Limit: Double]

        package init(generation: Int, fallback: Double, shares: [Limit: Double]) {
            self.generation = generation
            self.fallback = fallback
            self.shares = shares
        }
    }

    private struct Gateway {
        /// What it is known of.
        enum Origin { case fresh, inherited, known }

        /// `inherited`: it was there before this leader, and may have been told anything.
        var origin: Origin
        /// Which start of the gateway answered last.
        var run = ""
        /// The generation of what it goes by; 0 where nobody has told it anything.
        var acknowledged = 0
        /// When that was sent; nil where it was by somebody else.
        var acknowledgedSentAt: Instant?
        var heardAt: Instant?
        var goneAt: Instant?
        /// Since `acknowledged`, the oldest first.
        var outstanding: [(message: Message, sentAt: Instant)] = []
        var fallback = 0.0
        /// What it said it goes by.
        var shares: [Limit: Double] = [:]
        var inUse: [Limit: Double] = [:]
        var asked: [Limit: Double] = [:]
        /// Units that it was entitled to and did not get.
        var credit: [Limit: Double] = [:]

        var lastSent: Instant? { self.outstanding.last?.sentAt ?? self.acknowledgedSentAt }

        /// The largest share that it may have been told.
        func told(_ limit: Limit) -> Double {
            let first = self.shares[limit] ?? ShareLease.firstFraction
            return self.outstanding.reduce(first) {
                max($0, $1.message.shares[limit] ?? ShareLease.firstFraction)
            }
        }

        /// The largest fallback that it may go by.
        var fallbackBound: Double {
            self.outstanding.reduce(self.fallback) { max($0, $1.message.fallback) }
        }

        /// It has started again, and knows nothing; what was sent a moment ago may still arrive.
        mutating func startAgain(_ run: String, at now: Instant) {
            self.run = run
            self.origin = .known
            self.acknowledged = 0
            self.acknowledgedSentAt = nil
            self.fallback = 0
            self.shares = [:]
            self.inUse = [:]
            self.outstanding.removeAll {
                now.seconds(since: $0.sentAt) > ShareLedger.delaySeconds
            }
        }

        /// A generation above `least` and all that it was told or says that it was told.
        func generation(above least: Int) -> Int {
            max(least, self.acknowledged, self.outstanding.last?.message.generation ?? 0) + 1
        }

        /// Forgets what is of other limits.
        mutating func keep(_ limits: [Limit: Double]) {
            self.shares = self.shares.filter { limits[$0.key] != nil }
            self.inUse = self.inUse.filter { limits[$0.key] != nil }
            self.asked = self.asked.filter { limits[$0.key] != nil }
            self.credit = self.credit.filter { limits[$0.key] != nil }
        }
    }

    private var limits: [Limit: Double] = [:]
    private var gateways: [String: Gateway] = [:]
    /// Messages have higher ones: those to one gateway rise.
    private let generation: Int
    private let beganAt: Instant
    private var hasRoll = false

    /// - Parameter generation: the first messages have the next one, or what follows on what a
    ///   gateway was told by another leader.
    package init(generation: Int, at now: Instant) {
        self.generation = generation
        self.beganAt = now
    }

    /// The limits that there are, in their units.
    package mutating func adopt(_ limits: [Limit: Double]) {
        if limits == self.limits { return }
        self.limits = limits
        self.gateways = self.gateways.mapValues { gateway in
            var gateway = gateway
            gateway.keep(limits)
            return gateway
        }
    }

    /// The gateways that there are. One that starts again may keep its name.
    package mutating func roll(_ names: Set<String>, at now: Instant) {
        for (name, gateway) in self.gateways where !names.contains(name) {
            if let goneAt = gateway.goneAt {
                // It has ended, or its lease has.
                let end = ShareLease.leaseSeconds * ShareLease.growthLeases
                if now.seconds(since: goneAt) > end { self.gateways[name] = nil }
            } else {
                self.gateways[name]?.goneAt = now
            }
        }
        for name in names {
            if self.gateways[name] == nil {
                self.gateways[name] = Gateway(origin: self.hasRoll ? .fresh : .inherited)
            }
            self.gateways[name]?.goneAt = nil
        }
        if !names.isEmpty { self.hasRoll = true }
    }

    /// The part of every limit that should be each gateway's without a controller.
    private var equalPart: Double {
        1 / Double(max(1, self.gateways.values.count { $0.goneAt == nil }))
    }

    // MARK: Answers

    /// A gateway said what it goes by and what was asked of it.
    ///
    /// - Parameters:
    ///   - run: tells one start of the gateway from the next.
    ///   - generation: of what it was told last, up to `ShareLease.Grant.generationMax`.
    package mutating func heard(
        _ name: String,
        run: String,
        generation: Int,
        fallback: Double,
        _ reports: [Limit: Report],
        at now: Instant
    ) {
        // What the last leader has sent may still arrive.
        if now.seconds(since: self.beganAt) < Self.delaySeconds { return }
        guard var gateway = self.gateways[name] else { return }
        if gateway.run != run {
            if gateway.origin == .known { gateway.startAgain(run, at: now) }
            gateway.run = run
        }
        // An answer that was overtaken by a later one says nothing new.
        if gateway.origin == .known, generation < gateway.acknowledged { return }
        gateway.origin = .known
        gateway.heardAt = now
        if generation != gateway.acknowledged || gateway.acknowledgedSentAt == nil {
            let own = gateway.outstanding.first { $0.message.generation == generation }
            gateway.acknowledgedSentAt = own?.sentAt
        }
        gateway.acknowledged = generation
        gateway.fallback = fallback
        gateway.outstanding.removeAll { $0.message.generation <= generation }
        for (limit, report) in reports where self.limits[limit] != nil {
            gateway.shares[limit] = report.share
            gateway.inUse[limit] = report.inUse
            gateway.asked[limit] = Self.mean(gateway.asked[limit], report, limit.kind)
        }
        self.gateways[name] = gateway
    }

    /// What is asked for per second, or at a time, over the last seconds.
    static func mean(_ before: Double?, _ report: Report, _ kind: Limit.Kind) -> Double {
        guard let before else { return report.asked }
        let step = before + self.smoothing * (report.asked - before)
        if kind == .concurrency { return max(report.asked, step) }
        // Of compound Poisson arrivals the variance is about the mean times the size of one.
        let deviation = (max(before, report.grain) * report.grain).squareRoot()
        let isJump = abs(report.asked - before) > self.jumpDeviations * deviation
        return isJump && report.grain > 0 ? report.asked : step
    }

    // MARK: The most that a gateway may be using

    /// Whether the gateway can be told something.
    private func isHeard(_ gateway: Gateway, _ now: Instant) -> Bool {
        guard gateway.goneAt == nil, gateway.origin == .known, let heardAt = gateway.heardAt
        else { return false }
        return now.seconds(since: heardAt) <= ShareLease.leaseSeconds
    }

    /// Whether it goes by something of this leader's whose lease has not ended, or by what
    /// everybody begins with.
    private func isCurrent(_ gateway: Gateway, _ now: Instant) -> Bool {
        guard self.isHeard(gateway, now) else { return false }
        guard let sentAt = gateway.acknowledgedSentAt else {
            return gateway.acknowledged == 0 && gateway.outstanding.isEmpty
        }
        return now.seconds(since: sentAt) <= ShareLease.leaseSeconds
    }

    /// When a share that is not renewed has surely gone back to the fallback. Requests that were
    /// admitted stay, whatever the share is then.
    private func decaySeconds(_ kind: Limit.Kind) -> Double {
        let leases = kind == .concurrency ? ShareLease.growthLeases : 1
        return ShareLease.leaseSeconds * leases + Self.delaySeconds
    }

    /// Fallbacks that nobody knows, of gateways that were there before this leader: what those of
    /// the others leave, as their sum is never more than the whole.
    private func inheritedFallback() -> Double {
        var known = 0.0
        var unknown = 0
        for gateway in self.gateways.values {
            if gateway.origin == .inherited { unknown += 1 } else { known += gateway.fallbackBound }
        }
        return unknown == 0 ? 0 : max(0, 1 - known) / Double(unknown)
    }

    /// The largest part of a limit that the gateway may be using now.
    private func bound(_ gateway: Gateway, _ limit: Limit, _ now: Instant) -> Double {
        let decay = self.decaySeconds(limit.kind)
        if let goneAt = gateway.goneAt, now.seconds(since: goneAt) > decay { return 0 }
        switch gateway.origin {
        case .fresh: return ShareLease.firstFraction
        case .inherited:
            if now.seconds(since: self.beganAt) <= decay { return 1 }
            return max(ShareLease.firstFraction, self.inheritedFallback())
        case .known: break
        }
        var bound = gateway.told(limit)
        let fallback = gateway.fallbackBound
        let wasTold = gateway.acknowledged > 0 || !gateway.outstanding.isEmpty
        if wasTold, let last = gateway.lastSent ?? gateway.heardAt,
            now.seconds(since: last) > decay
        {
            bound = min(bound, fallback)
        }
        // One that is gone does not grow any more, and of others' messages nobody knows the age.
        if wasTold {
            let growth = ShareLease.leaseSeconds * ShareLease.growthLeases
            let age = gateway.acknowledgedSentAt.map { (gateway.goneAt ?? now).seconds(since: $0) }
            if gateway.acknowledged > 0, age ?? growth >= growth { bound = max(bound, fallback) }
        }
        guard limit.kind == .concurrency, let size = self.limits[limit] else { return bound }
        return max(bound, (gateway.inUse[limit] ?? 0) / size)
    }

    /// What is set aside for a gateway that does not take part: what it may use, or go back to.
    private func reserve(_ gateway: Gateway, _ limit: Limit, _ now: Instant) -> Double {
        if gateway.origin == .inherited {
            return max(ShareLease.firstFraction, self.inheritedFallback())
        }
        let bound = self.bound(gateway, limit, now)
        return gateway.goneAt == nil ? max(bound, gateway.fallbackBound) : bound
    }

    // MARK: Messages

    /// What to tell each gateway now; it counts as sent.
    /// - Parameter canTell: whether a message can be sent to a gateway now.
    package mutating func messages(
        at now: Instant,
        canTell: (String) -> Bool = { _ in true }
    ) -> [String: Message] {
        if self.limits.isEmpty { return [:] }
        let heard = self.gateways.filter { self.isHeard($0.value, now) && canTell($0.key) }
            .keys.sorted()
        var shares: [String: [Limit: Double]] = [:]
        for limit in self.limits.keys {
            for (name, share) in self.share(limit, heard, now) {
                shares[name, default: [:]][limit] = share
            }
        }
        let fallbacks = self.fallbacks(heard)
        var messages: [String: Message] = [:]
        for name in heard {
            let next = self.gateways[name]?.generation(above: self.generation)
            let message = Message(
                generation: next ?? self.generation,
                fallback: fallbacks[name] ?? 0,
                shares: shares[name] ?? [:]
            )
            messages[name] = message
            self.note(message, to: name, at: now)
        }
        return messages
    }

    private mutating func note(_ message: Message, to name: String, at now: Instant) {
        guard var gateway = self.gateways[name] else { return }
        gateway.outstanding.append((message, now))
        if gateway.outstanding.count > Self.outstandingMax {
            // The two oldest become one that is as large as either.
            let oldest = gateway.outstanding.removeFirst().message
            var next = gateway.outstanding[0].message
            next.fallback = max(next.fallback, oldest.fallback)
            next.shares.merge(oldest.shares) { max($0, $1) }
            gateway.outstanding[0].message = next
        }
        self.gateways[name] = gateway
    }

    /// An equal part for each, as far as it is safe.
    private func fallbacks(_ heard: [String]) -> [String: Double] {
        var left =
            1
            - self.gateways.values.reduce(0.0) { sum, gateway in
                sum + (gateway.origin == .inherited ? 0 : gateway.fallbackBound)
            }
        // Of somebody's that is not known, nothing is left.
        if self.gateways.values.contains(where: { $0.origin == .inherited }) { left = 0 }
        var result: [String: Double] = [:]
        for name in heard {
            let bound = self.gateways[name]?.fallbackBound ?? 0
            let given = min(self.equalPart, bound + max(0, left))
            left -= max(0, given - bound)
            result[name] = given
        }
        return result
    }

    /// The parts of one limit for those who were heard.
    private mutating func share(
        _ limit: Limit,
        _ heard: [String],
        _ now: Instant
    ) -> [String: Double] {
        guard let size = self.limits[limit] else { return [:] }
        var bounds: [String: Double] = [:]
        var result: [String: Double] = [:]
        var current: [String] = []
        var left = 1.0
        var available = 1.0
        for (name, gateway) in self.gateways {
            let bound = self.bound(gateway, limit, now)
            bounds[name] = bound
            if self.isCurrent(gateway, now) {
                current.append(name)
                left -= bound
                continue
            }
            let reserve = self.reserve(gateway, limit, now)
            left -= max(bound, reserve)
            available -= reserve
            // It does not grow, and is told no more than what it would go back to.
            let said = gateway.shares[limit] ?? ShareLease.firstFraction
            if heard.contains(name) { result[name] = min(said, gateway.fallbackBound) }
        }
        if current.isEmpty { return result }
        // Of who was gone when this leader began nobody has told it.
        if now.seconds(since: self.beganAt) <= ShareLease.leaseSeconds + Self.delaySeconds {
            left = 0
        }
        current.sort()
        available = max(0, available)
        let asked = current.map { (self.gateways[$0]?.asked[limit] ?? 0) / size }
        let wanted = Self.targets(asked, of: available)
        let isWhole = limit.kind == .concurrency
        let targets =
            isWhole
            ? self.wholeUnits(wanted, of: limit, size, current, available, bounds) : wanted
        // Whoever shrinks does so at once; whoever grows, out of what is left.
        let growth = zip(current, targets).reduce(0.0) { $0 + max(0, $1.1 - (bounds[$1.0] ?? 0)) }
        let part = growth > 0 ? min(1, max(0, left) / growth) : 0
        let credits = current.map { self.gateways[$0]?.credit[limit] ?? 0 }
        // Who has waited longest comes first.
        let order = current.indices.sorted { (credits[$0], $1) > (credits[$1], $0) }
        let floor = isWhole ? 0 : Self.floorFraction * self.equalPart
        for index in order {
            let name = current[index]
            let bound = bounds[name] ?? 0
            var share = min(targets[index], bound)
            if targets[index] > bound {
                let most = isWhole ? ((max(0, left) + 1e-9) * size).rounded(.down) / size : 1
                let more = min((targets[index] - bound) * (isWhole ? 1 : part), most)
                left -= more
                share = bound + more
            }
            // Whatever others hold that cannot be reached: nobody is shut out.
            share = max(share, floor)
            if isWhole { share = (share * size + 1e-9).rounded(.down) / size }
            result[name] = share
            let most = Double(current.count)
            let credit = credits[index] + (wanted[index] - share) * size
            self.gateways[name]?.credit[limit] = min(most, max(-most, credit))
        }
        return result
    }

    /// Max-min fair parts of what there is: a floor for each, then what was asked for, then the
    /// rest in equal parts.
    static func targets(_ asked: [Double], of available: Double) -> [Double] {
        let count = Double(asked.count)
        let floor = min(self.floorFraction, available) / count
        var rest = available - floor * count
        var targets = asked.map { _ in floor }
        var needs = asked.map { max(0, $0 * (1 + self.slack) - floor) }
        var waiting = asked.indices.filter { needs[$0] > 0 }.sorted { needs[$0] < needs[$1] }
        while !waiting.isEmpty {
            let index = waiting.removeFirst()
            let given = min(needs[index], rest / Double(waiting.count + 1))
            targets[index] += given
            needs[index] -= given
            rest -= given
        }
        return targets.map { $0 + max(0, rest) / count }
    }

    /// The same in whole units of the limit. What is lost by rounding goes to those who ask and
    /// lost most, over all rounds.
    private func wholeUnits(
        _ targets: [Double],
        of limit: Limit,
        _ size: Double,
        _ names: [String],
        _ available: Double,
        _ bounds: [String: Double]
    ) -> [Double] {
        var units = targets.map { ($0 * size + 1e-9).rounded(.down) }
        let credits = names.indices.map { index in
            let name = names[index]
            // Who has it keeps it for a while: handing over takes two rounds.
            let kept = (bounds[name] ?? 0) * size > units[index] + 0.5 ? Self.turnUnits : 0
            return (self.gateways[name]?.credit[limit] ?? 0) + kept + targets[index] * size
                - units[index]
        }
        let asks = names.indices.map {
            (self.gateways[names[$0]]?.asked[limit] ?? 0) > units[$0]
        }
        var left = Int((available * size + 1e-9).rounded(.down) - units.reduce(0, +))
        let order = names.indices.sorted { one, other in
            if asks[one] != asks[other] { return asks[one] }
            return (credits[one], other) > (credits[other], one)
        }
        for index in order where left > 0 {
            units[index] += 1
            left -= 1
        }
        return units.map { $0 / size }
    }
}
