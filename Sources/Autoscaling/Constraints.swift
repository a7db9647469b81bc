/// Changes per minute: a bucket of tokens that fills evenly.
struct RateLimit: Sendable {
    private var tokens: Double?
    private var filledAt = 0.0

    /// How many of `wanted` changes may be made now.
    mutating func allowed(_ wanted: Int, perMinute: Int, atSeconds now: Double) -> Int {
        let most = Double(max(1, perMinute))
        let before = self.tokens ?? most
        let filled = min(most, before + max(0, now - self.filledAt) * most / 60)
        self.tokens = filled
        self.filledAt = now
        return min(wanted, Int(filled))
    }

    mutating func take(_ count: Int) {
        self.tokens = max(0, (self.tokens ?? 0) - Double(count))
    }
}

/// How long replicas are kept after they are no longer wanted, beyond the break-even time.
///
/// A scale-down that was wanted back before its break-even time was a mistake: it doubles the hold
/// until four holds have been quiet. And replicas that go and come
/// back are counted: past two per replica-hour the hold grows with the square of their frequency.
struct HoldTime: Sendable {
    private static let backOffMax = 2.0
    private static let cyclesPerHour = 4.0
    private static let pressureMax = 12.0
    private static let memorySeconds = 3_600.0

    private(set) var backOff = 1.0
    private var loweredAt: Double?
    private var changedAt = 0.0
    private var removed = 0.0
    private var cycles = 0.0
    private var replicaHours = 0.0

    /// Counts replicas over time and forgets old counts.
    mutating func pass(seconds: Double, replicas: Int, breakEven: Double, atSeconds now: Double) {
        let factor = 1 / (1 + 0.693 * seconds / Self.memorySeconds)
        self.removed *= factor
        self.cycles *= factor
        self.replicaHours = self.replicaHours * factor + Double(replicas) * seconds / 3_600
        if self.backOff > 1, now - self.changedAt > 4 * breakEven * self.backOff {
            self.backOff = max(1, self.backOff / 2)
            self.changedAt = now
        }
    }

    mutating func raised(by count: Int, breakEven: Double, atSeconds now: Double) {
        let back = min(Double(count), self.removed)
        self.removed -= back
        self.cycles += back
        guard let lowered = self.loweredAt else { return }
        if now - lowered < breakEven {
            self.backOff = min(Self.backOffMax, self.backOff * 2)
            self.changedAt = now
        }
        self.loweredAt = nil
    }

    mutating func lowered(by count: Int, atSeconds now: Double) {
        self.loweredAt = now
        self.removed += Double(count)
    }

    /// How often replicas come back, as a multiple of how often they may. Half a replica-hour is
    /// given, so that the first cycle does not weigh too much.
    private var cycleRatio: Double {
        self.cycles / (self.replicaHours + 0.5) / Self.cyclesPerHour
    }

    /// - Parameter share: of the hold, where some of what comes is foreseen; it counts as long as
    ///   replicas do not come back too often.
    func seconds(breakEven: Double, share: Double = 1) -> Double {
        let ratio = self.cycleRatio
        if ratio <= 1 { return breakEven * self.backOff * share }
        return breakEven * self.backOff * min(Self.pressureMax, ratio * ratio)
    }
}

/// Whether replicas asked for come.
struct Supply: Sendable {
    private static let firstRetrySeconds = 30.0
    private static let lastRetrySeconds = 480.0
    /// Room may appear at any time, and asking for it costs nothing.
    private static let lastRoomRetrySeconds = 120.0
    /// After so long without trouble the back-off begins anew.
    private static let forgiveSeconds = 1_800.0

    private(set) var obstacle: Obstacle?
    private(set) var retryAt = 0.0
    private var retrySeconds = Self.firstRetrySeconds
    private var blockedAt = 0.0
    /// Ready and starting when replicas were last seen stuck.
    private var comingWhenStuck = 0
    /// Ready and starting when the try began; nil: none is under way.
    private var tryingFrom: Int?
    private var tryEndsAt = 0.0

    var isBlocked: Bool { self.obstacle != nil }

    /// Looks at what the cluster says.
    mutating func observe(_ replicas: borrowing ReplicaCounts, atSeconds now: Double) {
        let coming = replicas.ready + replicas.starting
        if replicas.stuck > 0 {
            self.block(replicas.obstacle ?? Obstacle(.startTimeout), atSeconds: now)
            self.comingWhenStuck = coming
            return
        }
        guard let from = self.tryingFrom else {
            // One that was stuck has come after all.
            if replicas.ready > self.comingWhenStuck { self.obstacle = nil }
            return
        }
        // A replica that finds room is enough where room was missing; else it must become ready.
        let isRoom = self.obstacle?.kind == .noCapacity || self.obstacle?.kind == .quota
        if isRoom ? coming > from : replicas.ready > from {
            self.obstacle = nil
            self.tryingFrom = nil
        } else if now >= self.tryEndsAt, replicas.starting == 0 {
            self.tryingFrom = nil
        }
    }

    private mutating func block(_ obstacle: Obstacle, atSeconds now: Double) {
        let isNews = self.obstacle == nil || self.tryingFrom != nil
        if self.obstacle == nil, now - self.blockedAt > Self.forgiveSeconds {
            self.retrySeconds = Self.firstRetrySeconds
        }
        self.obstacle = obstacle
        self.tryingFrom = nil
        guard isNews else { return }
        self.blockedAt = now
        self.retryAt = now + self.retrySeconds
        let isRoom = obstacle.kind == .noCapacity || obstacle.kind == .quota
        let most = isRoom ? Self.lastRoomRetrySeconds : Self.lastRetrySeconds
        self.retrySeconds = min(most, self.retrySeconds * 2)
    }

    /// The most replicas worth asking for; nil: no limit.
    /// - Parameter patience: seconds that a try is given.
    mutating func limit(coming: Int, patience: Double, atSeconds now: Double) -> Int? {
        guard self.obstacle != nil else { return nil }
        if let from = self.tryingFrom { return max(from + 1, coming) }
        guard now >= self.retryAt else { return coming }
        self.tryingFrom = coming
        self.tryEndsAt = now + patience
        return coming + 1
    }

    func retrySeconds(atSeconds now: Double) -> Double { max(0, self.retryAt - now) }
}
