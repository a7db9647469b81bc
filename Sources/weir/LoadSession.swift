import Glibc
import LoadTest
import Synchronization
import Workload

/// Runs loads with a line that shows how they get on, and lets SIGINT end them.
final class LoadSession {
    private let showsProgress: Bool
    /// Where the probes of a search are told; nil for nowhere.
    private let notes: Int32?
    private let signals = InterruptSignal()

    init(environment: [String: String], isQuiet: Bool, standardOutputIsTaken: Bool) {
        self.notes = isQuiet ? nil : standardOutputIsTaken ? STDERR_FILENO : STDOUT_FILENO
        self.showsProgress =
            !isQuiet && isatty(STDERR_FILENO) == 1 && environment["TERM"] != "dumb"
    }

    /// One run.
    func run(_ plan: LoadPlan, label: String = "") throws(LoadError) -> RunSummary {
        let run = try LoadRun(plan)
        self.signals.interrupts(run)
        defer { self.signals.interrupts(nil) }
        var previous = LoadProgress()
        let total = plan.totalSeconds
        let summary = try run.run { progress in
            if self.showsProgress {
                Self.show(progress, since: previous, total: total, label)
            }
            previous = progress
        }
        if self.showsProgress { Output.write("\r\u{1B}[K", to: STDERR_FILENO) }
        return summary
    }

    /// A search: the summary is that of the best rate, or of the last one where none passed.
    func search(
        _ plan: inout LoadPlan,
        _ context: inout ReportContext,
        _ flags: JudgingFlags
    ) throws -> RunSummary {
        guard case .rate(let profile, let pattern) = plan.pattern else {
            throw RuntimeError(description: "a search needs a rate to begin with")
        }
        var search = GoodputSearch(
            from: profile.first,
            target: flags.goodputTarget / 100,
            tolerance: flags.goodputTolerance / 100,
            probesMax: flags.goodputProbes
        )
        var best: (summary: RunSummary, rate: Double)?
        var last: (summary: RunSummary, rate: Double)?
        while case .probe(let rate) = search.next {
            plan.pattern = .rate(RateProfile(rate: rate, duration: profile.duration), pattern)
            let summary = try self.run(plan, label: "\(DecimalText.figures(rate))/s  ")
            let probe = GoodputSearch.Probe(
                rate: rate,
                requests: summary.statistics.total,
                good: summary.statistics.good,
                isValid: summary.invalidity == nil,
                isRefused: summary.statistics.isRefused
            )
            search.add(probe)
            self.note(Self.words(probe, target: search.target))
            last = (summary, rate)
            if probe.isValid && probe.attainment >= search.target { best = last }
            if summary.wasInterrupted { break }
        }
        context.probes = search.probes
        context.searchResult = Self.words(search)
        context.searchFailed = best == nil
        self.note(Self.words(search))
        guard let (summary, rate) = best ?? last else {
            throw RuntimeError(description: "the search made no run")
        }
        // What is reported is the run at this rate, not at that where the search began.
        context.requestRate = rate
        context.load = LoadFlags.words(rate: DecimalText.figures(rate), pattern)
        return summary
    }

    private static func words(_ search: GoodputSearch) -> String {
        switch search.next {
        case .probe: "goodput: interrupted"
        case .done(let rate?, let reason):
            "goodput: \(DecimalText.figures(rate)) requests/s (\(reason.rawValue))"
        case .done(nil, let reason): "goodput: none (\(reason.rawValue))"
        }
    }

    private func note(_ text: String) {
        if let notes = self.notes { Output.write(text + "\n", to: notes) }
    }

    private static func words(_ probe: GoodputSearch.Probe, target: Double) -> String {
        let interval = probe.interval
        let verdict =
            !probe.isValid ? "invalid" : probe.attainment >= target ? "passes" : "fails"
        return "\(DecimalText.figures(probe.rate))/s  \(probe.good) of \(probe.requests) good, "
            + "\(DecimalText.fixed(probe.attainment * 100, places: 1))% "
            + "(\(DecimalText.fixed(interval.lowerBound * 100, places: 1))-"
            + "\(DecimalText.fixed(interval.upperBound * 100, places: 1))): \(verdict)"
    }

    private static func show(
        _ progress: LoadProgress,
        since previous: LoadProgress,
        total: Double?,
        _ label: String
    ) {
        let elapsed = max(progress.elapsed - previous.elapsed, 1e-3)
        let rate = Double(progress.ended - min(previous.ended, progress.ended)) / elapsed
        var text = "\r\u{1B}[K\(label)\(DecimalText.fixed(progress.elapsed, places: 0))s"
        if let total { text += "/\(DecimalText.fixed(total, places: 0))s" }
        text += "  \(DecimalText.figures(rate))/s  \(progress.inFlight) in flight"
        if let median = progress.median, let high = progress.high {
            text += "  p50 \(TimeText.short(nanoseconds: Double(median)))"
            text += "  p99 \(TimeText.short(nanoseconds: Double(high)))"
        }
        text += "  \(progress.failed) failed"
        Output.write(text, to: STDERR_FILENO)
    }
}

/// SIGINT and SIGTERM end the run at hand; a second one ends the process.
private final class InterruptSignal: Sendable {
    private let shared = SharedRun()

    init() {
        var set = sigset_t()
        sigemptyset(&set)
        sigaddset(&set, SIGINT)
        sigaddset(&set, SIGTERM)
        pthread_sigmask(SIG_BLOCK, &set, nil)
        let context = Unmanaged.passRetained(self.shared).toOpaque()
        var thread = pthread_t()
        let code = pthread_create(
            &thread,
            nil,
            { context in
                guard let context else { return nil }
                let shared = Unmanaged<SharedRun>.fromOpaque(context).takeRetainedValue()
                InterruptSignal.wait(shared)
                return nil
            },
            context
        )
        precondition(code == 0, "cannot start a thread: \(String(cString: strerror(code)))")
        pthread_detach(thread)
    }

    func interrupts(_ run: LoadRun?) {
        self.shared.set(run)
    }

    private static func wait(_ shared: SharedRun) {
        var set = sigset_t()
        sigemptyset(&set)
        sigaddset(&set, SIGINT)
        sigaddset(&set, SIGTERM)
        var number: Int32 = 0
        sigwait(&set, &number)
        shared.interrupt()
        sigwait(&set, &number)
        _exit(130)
    }
}

/// The run that a signal ends.
private final class SharedRun: Sendable {
    private let state = Mutex<(run: LoadRun?, isInterrupted: Bool)>((nil, false))

    /// A run that begins after the signal ends at once.
    func set(_ run: LoadRun?) {
        let isInterrupted = self.state.withLock {
            $0.run = run
            return $0.isInterrupted
        }
        if isInterrupted { run?.interrupt() }
    }

    func interrupt() {
        let run = self.state.withLock {
            $0.isInterrupted = true
            return $0.run
        }
        run?.interrupt()
    }
}
