/// What would have come of other ways to scale: some dozens of plans that run along in a model of
/// the replicas, of which the cheapest one that would have held the objective is taken.
///
/// What room a traffic needs above its forecast cannot be read off the forecast's errors alone. A
/// burst shorter than a cold start is over before its replicas are ready; against it only replicas
/// that stand ready help. One that lasts is followed with less, and one that comes every twenty
/// minutes can be met on time. Which of these this traffic has, a plan shows by being played:
/// every five seconds all of them meet the requests that came. Replicas that a plan wants are
/// ready a cold start later, what they cannot do waits, and the learned curves say how many keep
/// the objective.
///
/// So this is learning from experts with full information (Cesa-Bianchi and Lugosi, "Prediction,
/// Learning, and Games", 2006), under a constraint: the share of requests that may miss. What
/// really missed is held against what the model foretold, and the share moves so that it comes out
/// as asked for (the idea of adaptive conformal inference: Gibbs and Candès, "Adaptive Conformal
/// Inference Under Distribution Shift", 2021). A burst that has cost its share is remembered by
/// the plans that missed it, with a half-life of half a day.
struct Rehearsal: Sendable {
    /// A plan on its way.
    struct Player: Sendable {
        /// Replicas wanted, and how many of them are ready.
        var wanted = 0
        var ready = 0
        var starts = Starts()
        /// The most that was needed since `since`, where that is less than what is wanted.
        var recent = 0
        var since = 0.0
        /// Requests in flight and queued.
        var load = 0.0
        var replicaSeconds = 0.0
        /// Requests that missed, in units of what may be missed.
        var missed = 0.0
        /// What a surprise would have made miss, in requests, times seconds.
        var exposed = 0.0
        /// What was missed in the present block of time, and the sum of squares of earlier ones.
        var block = 0.0
        var squares = 0.0
        /// What was really missed while this plan was followed, beyond what it had foretold.
        var debt = 0.0

        /// Lets so many requests come and be served; how many miss, in units of what may.
        mutating func serve(_ arriving: Double, _ staffing: Staffing, _ table: [Double]) -> Double {
            guard self.ready > 0 else {
                self.load += arriving
                return arriving / staffing.missAllowed
            }
            let each = 1 / Double(self.ready)
            let before = self.load * each
            let after = staffing.step(before, arriving: arriving * each, table)
            self.load = after * Double(self.ready)
            return arriving * staffing.missUse(from: before, to: after)
        }
    }

    /// Replicas on their way, by the bucket they are ready in. Beyond eight groups the last ones
    /// become one, with the later time.
    struct Starts: Sendable {
        private var dues = SIMD8<Int32>.zero
        private var counts = SIMD8<Int32>.zero

        mutating func add(_ count: Int, due: Int) {
            var last = 0
            for group in 0..<8 {
                if self.counts[group] == 0 {
                    last = group
                    break
                }
                if self.dues[group] > self.dues[last] { last = group }
            }
            self.dues[last] = Int32(clamping: due)
            self.counts[last] &+= Int32(clamping: count)
        }

        /// Those that are ready by now.
        mutating func takeReady(bucket: Int) -> Int {
            if self.counts == .zero { return 0 }
            let isDue = self.dues .<= Int32(clamping: bucket)
            let ready = self.counts.replacing(with: 0, where: .!isDue)
            self.counts.replace(with: 0, where: isDue)
            return Int(ready.wrappedSum())
        }

        /// Takes up to `count` back, the latest first; how many that were.
        mutating func take(_ count: Int) -> Int {
            var taken = 0
            while taken < count {
                let dues = self.dues.replacing(with: -1, where: self.counts .<= 0)
                let latest = dues.max()
                guard latest >= 0, let group = (0..<8).first(where: { dues[$0] == latest }) else {
                    break
                }
                let some = min(count - taken, Int(self.counts[group]))
                self.counts[group] -= Int32(some)
                taken += some
            }
            return taken
        }
    }

    /// A bucket that the plans have to play.
    private struct Scene: Sendable {
        var rate: Double
        var forecast: Double
        var coldStartSeconds: Double
        var holdSeconds: Double
        var staffing: Staffing
        /// See `Staffing.stepTable`.
        var table: [Double]
        /// Rates that may come in place of the one that was foretold.
        var surprises: SIMD2<Double>
        /// Whether a block of time is over, as long as what one surprise costs.
        var endsBlock: Bool
        var now: Double
    }

    static let halfLifeSeconds = 43_200.0
    /// Buckets before a plan is believed: ten minutes.
    static let bucketsMin = 120
    private static let blockSecondsMin = 300.0
    /// Plans that play in one tick, so that no tick takes long.
    static let plansPerTick = 20
    static let spare = 1.05
    /// What is left of old sums after a bucket.
    private static let fading =
        1 / (1 + 0.693 * Forecaster.bucketSeconds / Self.halfLifeSeconds)

    private(set) var players: [Player] = []
    private var scene: Scene?
    private var next = 0
    private var bucket = 0
    private(set) var bucketsSeen = 0
    private var arrived = 0.0
    private var seconds = 0.0
    /// Since plans are chosen: requests, those that missed, and those that the plan chosen at the
    /// time missed; the latter two in units of what may be missed.
    private var reallyArrived = 0.0
    private var reallyMissed = 0.0
    private var foretold = 0.0
    /// Of needs in replicas.
    private(set) var peak = 0.0
    /// The rate over the last quarter of a minute, and the highest of it, which fades.
    private var level: Double?
    private(set) var peakRate = 0.0
    private var surprises = Surprises()
    /// All that ever came, as far as it has not faded.
    private var came = 0.0
    private var blockSeconds = 0.0
    /// The rate a period ago, for each of `RehearsedPlan.periods`; nil where that is not known yet.
    private var remembered: [Double?] = RehearsedPlan.periods.map { _ in nil }
    /// How like the rate is to itself a period ago, for each of them.
    private var likeness = RehearsedPlan.periods.map { _ in Likeness() }
    private var dispersion = 1.0
    private(set) var chosen = 0
    /// The plan that was followed a cold start ago: what is missed now is its work.
    private var responsible = 0
    private var followed: (plan: Int, buckets: Int) = (0, 0)
    /// What was really missed since the last bucket, in units of what may be missed.
    private var bucketMissed = 0.0

    var isReady: Bool { self.bucketsSeen >= Self.bucketsMin }
    var plan: RehearsedPlan { RehearsedPlan.all[self.chosen] }

    /// The rate that the chosen plan stands ready for, whatever is expected.
    var standingRate: Double { self.isReady ? self.plan.floor * self.peakRate : 0 }

    /// What the chosen plan wants.
    /// - Parameters:
    ///   - load: requests in flight and queued.
    ///   - present: wanted until now; fewer must do with a little to spare.
    func replicas(rate: Double, load: Double, present: Int, _ staffing: Staffing) -> Int {
        self.wanted(self.plan, rate: rate, load: load, present: present, staffing)
    }

    /// Counts what really came of it.
    /// - Parameter isSupplied: whether what was asked for came; what is missed without it is not
    ///   the plan's fault.
    mutating func judge(arrived: Double, missed: Double, isSupplied: Bool, _ staffing: Staffing) {
        guard self.isReady else { return }
        self.reallyArrived += arrived
        self.reallyMissed += missed / staffing.missAllowed
        if isSupplied { self.bucketMissed += missed / staffing.missAllowed }
    }

    // MARK: Playing

    /// A bucket of the forecaster has ended, whether or not anything is known of the replicas.
    mutating func note(
        _ forecaster: borrowing Forecaster,
        rate: Double,
        coldStartSeconds: Double
    ) {
        self.surprises.add(forecaster, coldStartSeconds: coldStartSeconds, fading: Self.fading)
        let level = self.level.map { ($0 * 2 + rate) / 3 } ?? rate
        self.level = level
        self.peakRate = max(self.peakRate * Self.fading, level)
        self.came = self.came * Self.fading + rate * Forecaster.bucketSeconds
    }

    /// Share of a surprise that must be affordable before what it may bring is let go.
    private static let youngSurprises = 0.25

    /// The rate to be ready for while too little was seen for plans to be sure of what returns:
    /// what may come unforeseen, until so much has come that it would be a small part of what may
    /// be missed.
    func youngRate(expected: Double, missAllowed: Double) -> Double {
        let rates = self.surprises.rates(from: expected, highest: self.peakRate)
        let unforeseen = self.players.isEmpty ? 1 : 1 - self.foreseen(self.chosen)
        var young = 0.0
        for scale in 0..<2 {
            let rise =
                self.surprises.isKnown
                ? min(self.peakRate, self.surprises.most[scale]) : self.peakRate
            let missed = Self.youngSurprises * unforeseen * rise * self.surprises.seconds[scale]
            if missed > missAllowed * self.came { young = max(young, rates[scale]) }
        }
        return young
    }

    /// A bucket of the forecaster has ended.
    mutating func begin(
        _ forecaster: borrowing Forecaster,
        rate: Double,
        forecast: Double,
        _ staffing: Staffing,
        coldStartSeconds: Double,
        holdSeconds: Double,
        present: Int,
        atSeconds now: Double
    ) {
        if self.players.isEmpty {
            let player = Player(wanted: present, ready: present, since: now)
            self.players = Array(repeating: player, count: RehearsedPlan.all.count)
        }
        // What is left of the bucket before.
        self.play(RehearsedPlan.all.count)
        self.bucketsSeen += 1
        self.bucket += 1
        if self.followed.plan == self.chosen {
            self.followed.buckets += 1
        } else {
            self.followed = (self.chosen, 0)
        }
        if Double(self.followed.buckets) * Forecaster.bucketSeconds >= coldStartSeconds {
            self.responsible = self.chosen
        }
        self.dispersion = forecaster.dispersion
        self.peak = self.peakRate / max(1e-9, staffing.rateAtObjective)
        let seconds = Forecaster.bucketSeconds
        self.arrived = self.arrived * Self.fading + rate * seconds
        self.seconds = self.seconds * Self.fading + seconds
        self.reallyArrived *= Self.fading
        self.reallyMissed *= Self.fading
        self.foretold *= Self.fading
        for (index, period) in RehearsedPlan.periods.enumerated() {
            let ago = Int(period / Forecaster.bucketSeconds)
            if let now = forecaster.mean(bucketsAgo: 0), let past = forecaster.mean(bucketsAgo: ago)
            {
                self.likeness[index].add(now, past, fading: Self.fading)
            }
            self.remembered[index] = forecaster.level(secondsAgo: period - coldStartSeconds)
        }
        self.blockSeconds += seconds
        let endsBlock = self.blockSeconds >= max(Self.blockSecondsMin, 2 * coldStartSeconds)
        if endsBlock { self.blockSeconds = 0 }
        self.scene = Scene(
            rate: rate,
            forecast: forecast,
            coldStartSeconds: coldStartSeconds,
            holdSeconds: holdSeconds,
            staffing: staffing,
            table: staffing.stepTable(seconds),
            surprises: self.surprises.rates(
                from: forecaster.lastBelieved ?? forecast,
                highest: self.peakRate
            ),
            endsBlock: endsBlock,
            now: now
        )
        self.next = 0
    }

    /// Lets the next of the plans play.
    mutating func play(_ count: Int = Rehearsal.plansPerTick) {
        guard let scene = self.scene else { return }
        let end = min(RehearsedPlan.all.count, self.next + count)
        while self.next < end {
            self.play(self.next, scene)
            self.next += 1
        }
        guard end == RehearsedPlan.all.count else { return }
        self.scene = nil
        self.bucketMissed = 0
        if self.bucket % 6 == 0 {
            self.choose(scene.staffing)
        }
    }

    private mutating func play(_ index: Int, _ scene: Scene) {
        let seconds = Forecaster.bucketSeconds
        var player = self.players[index]
        player.ready += player.starts.takeReady(bucket: self.bucket)
        player.replicaSeconds =
            player.replicaSeconds * Self.fading + Double(player.wanted) * seconds
        let missed = player.serve(scene.rate * seconds, scene.staffing, scene.table)
        player.missed = player.missed * Self.fading + missed
        player.squares *= Self.fading * Self.fading
        player.block += missed
        if scene.endsBlock {
            player.squares += player.block * player.block
            player.block = 0
        }
        player.debt *= Self.fading
        if index == self.chosen, self.isReady { self.foretold += missed }
        if index == self.responsible, self.isReady {
            player.debt = max(0, player.debt + self.bucketMissed - missed)
        }
        let capacity = Double(player.ready) * scene.staffing.rateAtObjective
        let hits = (scene.surprises - SIMD2(repeating: capacity)) * self.surprises.seconds
        player.exposed = player.exposed * Self.fading + max(0, hits.max()) * seconds
        self.players[index] = player
        let count = self.wanted(
            RehearsedPlan.all[index],
            rate: scene.forecast,
            load: player.load,
            present: player.wanted,
            scene.staffing
        )
        self.want(count, index, scene)
    }

    /// Of the highest need: what load alone may ask for.
    private static let loadNeedMax = 1.3

    /// Of the highest need, where a period is not known yet.
    private static let unknownFloor = 1.15

    private func wanted(
        _ plan: RehearsedPlan,
        rate: Double,
        load: Double,
        present: Int,
        _ staffing: Staffing
    ) -> Int {
        var rate = rate
        var floor = plan.floor
        if let period = plan.period {
            if let past = self.remembered[period] {
                rate = max(rate, past)
            } else {
                floor = Self.unknownFloor
            }
        }
        var need = plan.need(rate: rate, dispersion: self.dispersion, staffing)
        if plan.utilization > 0 {
            // A queue says that replicas are missing, not how many: no more than the highest rate
            // has ever needed.
            let own = load / (plan.utilization * max(1e-9, staffing.loadAtObjective))
            need = max(need, min(own, Self.loadNeedMax * self.peak))
        }
        need = max(need, (floor * self.peak).rounded())
        let count = need.replicasRoundedUp
        return count >= present ? count : min(present, (need * Self.spare).replicasRoundedUp)
    }

    private mutating func want(_ count: Int, _ index: Int, _ scene: Scene) {
        let before = self.players[index].wanted
        if count >= before {
            self.players[index].since = scene.now
            self.players[index].recent = 0
            self.players[index].wanted = count
            let ahead = Int((scene.coldStartSeconds / Forecaster.bucketSeconds).rounded(.up))
            let due = self.bucket + max(1, ahead)
            if count > before { self.players[index].starts.add(count - before, due: due) }
            return
        }
        self.players[index].recent = max(self.players[index].recent, count)
        let hold = scene.holdSeconds * self.holdShare(index)
        if scene.now - self.players[index].since < hold { return }
        let fewer = self.players[index].recent
        self.players[index].since = scene.now
        self.players[index].recent = 0
        self.players[index].wanted = fewer
        // Starts that are not done go first.
        let left = before - fewer - self.players[index].starts.take(before - fewer)
        self.players[index].ready = max(0, self.players[index].ready - left)
    }

    // MARK: Choosing

    /// A change must be worth so much.
    private static let inertia = 0.98
    /// How many surprises may come in the time that was played.
    private static let surpriseCount = 1.0
    /// Standard deviations of what was missed in blocks of time, added to what was missed.
    private static let missDoubt = 0.25
    /// Where no plan would have held the objective: of the fewest misses, and of what may be
    /// missed.
    private static let leastFactor = 1.1
    private static let leastSpare = 0.15

    /// The cheapest plan that would have held the objective; else the one that missed least.
    private mutating func choose(_ staffing: Staffing) {
        let allowed = self.arrived * self.share(staffing)
        // What a plan has not met yet counts too: that a surprise comes once more, at any time
        // (after Laplace's rule of succession).
        let surprise = Self.surpriseCount / (max(1, self.seconds) * staffing.missAllowed)
        var least = Double.infinity
        for index in self.players.indices where self.isKnown(index) {
            least = min(least, self.expected(index, surprise))
        }
        // Where none would have held it: not many more misses than the fewest, not at any price.
        let limit = max(allowed, least * Self.leastFactor + Self.leastSpare * allowed)
        var best: (index: Int, cost: Double)?
        for index in self.players.indices {
            let player = self.players[index]
            if !self.isKnown(index) || self.expected(index, surprise) > limit { continue }
            let cost = player.replicaSeconds * (index == self.chosen ? Self.inertia : 1)
            if cost < best?.cost ?? .infinity { best = (index, cost) }
        }
        if let best { self.chosen = best.index }
    }

    /// Whether what a plan did so far is its own work: one with a period has to have seen it come
    /// back.
    private func isKnown(_ index: Int) -> Bool {
        let plan = RehearsedPlan.all[index]
        guard let place = plan.period, let period = plan.periodSeconds else { return true }
        return self.likeness[place].correlation >= Self.likenessMin
            && Double(self.bucketsSeen) * Forecaster.bucketSeconds >= Self.periodsMin * period
    }

    private static let periodsMin = 2.5
    private static let likenessMin = 0.5

    /// The part of what comes that a plan sees coming: a period that has shown itself says when.
    private func foreseen(_ index: Int) -> Double {
        guard let place = RehearsedPlan.all[index].period, self.isKnown(index) else { return 0 }
        return self.likeness[place].correlation
    }

    /// The share of a hold that is worth its while: keeping replicas is for those that are wanted
    /// back unforeseen, and what is seen coming is started in time.
    private func holdShare(_ index: Int) -> Double { 1 - self.foreseen(index) }

    /// The same of the plan that is followed.
    var holdShare: Double { self.isReady ? self.holdShare(self.chosen) : 1 }

    /// What a plan must be expected to miss: what it missed, a deviation of that, and its part of a
    /// surprise.
    private func expected(_ index: Int, _ surprise: Double) -> Double {
        let player = self.players[index]
        return player.missed + player.debt + surprise * player.exposed * (1 - self.foreseen(index))
            + Self.missDoubt * (player.squares + player.block * player.block).squareRoot()
    }

    private static let doubt = 0.25
    private static let doubtRequests = 500.0

    /// How many requests plans may miss, in units of what may be missed, for each one that came.
    private func share(_ staffing: Staffing) -> Double {
        // What was really missed, against what the plans had foretold: the model may be wrong, and
        // the best of many plans has been lucky as well.
        let prior = Self.doubt * self.reallyArrived + Self.doubtRequests
        let ratio = (self.reallyMissed + prior) / (self.foretold + prior)
        // Having missed more than is allowed, it is made up for.
        let use = self.reallyMissed / max(self.reallyArrived, Self.doubtRequests)
        let budget = min(1, max(0.6, 1.7 - use))
        return budget / min(4, max(0.25, ratio))
    }
}
