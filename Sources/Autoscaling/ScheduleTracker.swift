import Core

/// Whether a schedule is on: within its duration after a time that matches its cron expression.
///
/// Looks at each minute once. The first time, or when the clock has jumped, it looks back over the
/// whole duration, at most `minutesMax` minutes.
struct ScheduleTracker: Sendable {
    static let minutesMax: Int64 = 31 * 24 * 60
    private let cron: CronExpression?
    private let durationSeconds: Int64
    /// The last minute since 1970, in local time, that was looked at.
    private var lookedAt: Int64?
    /// The latest stretch that it is on without a break.
    private var onFrom = Int64.min
    private var onUntil = Int64.min

    static let never = ScheduleTracker(nil, durationSeconds: 0)

    enum State: Sendable, Equatable {
        case off
        /// On within the lead, and not yet.
        case ahead
        case on
    }

    init(_ cron: CronExpression?, durationSeconds: Int64) {
        self.cron = cron
        self.durationSeconds = min(max(0, durationSeconds), Self.minutesMax * 60)
    }

    /// Whether it is on now, or will be within `leadSeconds` (at most a day).
    mutating func state(_ clock: WallClock, leadSeconds: Int64) -> State {
        guard let cron else { return .off }
        let local = clock.localSeconds
        // Far outside of any calendar nothing is on.
        guard local.magnitude < 1 << 40 else { return .off }
        let lead = min(max(0, leadSeconds), 86_400)
        let minute = Self.floor(local + lead, 60)
        let back = Self.floor(local, 60) - self.durationSeconds / 60 - 1
        var next = self.lookedAt.map { $0 + 1 } ?? back
        // A little behind is a shorter lead or a clock set right: what was seen ahead stands.
        if next < back || next > minute + 1 + 2 * 1_440 {
            next = back
            self.onUntil = .min
        }
        while next <= minute {
            if cron.matches(minute: next) {
                if next * 60 > self.onUntil { self.onFrom = next * 60 }
                self.onUntil = next * 60 + self.durationSeconds
            }
            next += 1
        }
        self.lookedAt = max(minute, self.lookedAt ?? minute)
        if local >= self.onUntil || local + lead < self.onFrom { return .off }
        return local < self.onFrom ? .ahead : .on
    }

    static func floor(_ value: Int64, _ divisor: Int64) -> Int64 {
        let quotient = value / divisor
        return value % divisor < 0 ? quotient - 1 : quotient
    }
}

extension CronExpression {
    /// Whether it matches a minute, counted from 1970-01-01 00:00 on the same clock.
    func matches(minute: Int64) -> Bool {
        let minuteOfDay = minute - ScheduleTracker.floor(minute, 1_440) * 1_440
        guard self.minutes >> UInt64(minuteOfDay % 60) & 1 == 1,
            self.hours >> UInt64(minuteOfDay / 60) & 1 == 1
        else { return false }
        let date = CivilDate(daysSince1970: ScheduleTracker.floor(minute, 1_440))
        guard self.months >> UInt64(date.month) & 1 == 1 else { return false }
        let onDay = self.daysOfMonth >> UInt64(date.day) & 1 == 1
        let onWeekday = self.daysOfWeek >> UInt64(date.weekday) & 1 == 1
        return self.anyDayMatches ? onDay || onWeekday : onDay && onWeekday
    }
}

/// A day of the Gregorian calendar.
struct CivilDate: Equatable {
    var month: Int64
    var day: Int64
    /// 0 is Sunday.
    var weekday: Int64

    init(daysSince1970 days: Int64) {
        // 719 468 days lie between 0000-03-01 and 1970-01-01; 146 097 make 400 years. Years count
        // from March, so that the leap day comes last; months from March have 30.6 days.
        let shifted = days + 719_468
        let era = ScheduleTracker.floor(shifted, 146_097)
        let dayOfEra = shifted - era * 146_097
        let year = (dayOfEra - dayOfEra / 1_460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * year + year / 4 - year / 100)
        let monthFromMarch = (5 * dayOfYear + 2) / 153
        self.day = dayOfYear - (153 * monthFromMarch + 2) / 5 + 1
        self.month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9
        // 1970-01-01 was a Thursday.
        self.weekday = days + 4 - ScheduleTracker.floor(days + 4, 7) * 7
    }
}
