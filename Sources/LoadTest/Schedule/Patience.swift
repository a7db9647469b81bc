/// How long before an arrival a thread stops sleeping and looks at the clock again and again.
///
/// A thread that sleeps until the moment itself is late: the kernel's timer fires a little after
/// it, a core that went idle has to be woken, and on a virtual machine the host has to run it
/// first. That is 20 µs as a rule and now and then milliseconds. One that looks at the clock is
/// late by the one microsecond that a look takes. But it keeps its core busy: where others wait for
/// that core, the server under test perhaps, it would take from them and, as the scheduler makes
/// that up to them, come too late itself. So it watches how long it had to wait for the core, and
/// rests from looking after more than `waitedShareMax`.
struct Patience {
    /// Nanoseconds before the arrival.
    static let lead: UInt64 = 200_000
    /// The same where others need the core: what is not worth a system call.
    static let leadAtRest: UInt64 = 15_000
    /// Nanoseconds from one look at the waiting to the next.
    static let period: UInt64 = 20_000_000
    static let waitedShareMax = 0.1
    /// Nanoseconds of sleeping to the moment itself before the next attempt.
    static let rest: UInt64 = 200_000_000

    private var lookedAt: UInt64 = 0
    private var waitedBefore: UInt64 = 0
    private var restsUntil: UInt64 = 0

    /// Nanoseconds before an arrival from which on not to sleep.
    ///
    /// - Parameters:
    ///   - now: nanoseconds of any clock that never goes back.
    ///   - waited: nanoseconds that the thread has waited for its core so far; nil where the system
    ///     does not say. Asked for once per period.
    mutating func lead(now: UInt64, waited: () -> UInt64?) -> UInt64 {
        if now >= self.lookedAt + Self.period || self.lookedAt == 0 { self.look(now, waited()) }
        return now < self.restsUntil ? Self.leadAtRest : Self.lead
    }

    private mutating func look(_ now: UInt64, _ waited: UInt64?) {
        let isFirst = self.lookedAt == 0
        let elapsed = now - self.lookedAt
        self.lookedAt = now
        guard let waited else {
            self.restsUntil = .max
            return
        }
        let share = Double(waited - min(waited, self.waitedBefore)) / Double(max(elapsed, 1))
        self.waitedBefore = waited
        if !isFirst, share > Self.waitedShareMax { self.restsUntil = now + Self.rest }
    }
}
