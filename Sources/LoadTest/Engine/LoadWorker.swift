import CPlatform
import Core
import EventLoop
import Glibc
import HTTP
import Synchronization
import TLS
import Workload

/// What one thread hands over when it is done.
struct WorkerResult: Sendable {
    var statistics: RunStatistics
    var records: [RequestRecord]
    var recordVariants: [String]
    var gaps: [[UInt64]]
    var recordsDropped: UInt64
    var securityFailures: [Int: (failure: TLSFailure, count: UInt64)]
}

/// How one thread is getting on, for others to read.
final class ProgressBoard: Sendable {
    private let progress = Mutex(LoadProgress())

    var current: LoadProgress {
        get { self.progress.withLock { $0 } }
        set { self.progress.withLock { $0 = newValue } }
    }
}

/// One thread of a run: its loop, its connections, its part of the schedule.
///
/// In an open loop every worker walks through the whole schedule and takes each n-th arrival, so
/// that what is sent when does not depend on the number of threads but for who sends it. A timer of
/// the kernel wakes it shortly before the next arrival; then it watches the clock (`Patience`).
final class LoadWorker {
    static let headLimits = HeadLimits()
    /// Arrivals taken up in one turn of the loop, so that answers are read as well.
    private static let dispatchedPerTurnMax = 256
    private static let reconnectDelay = Duration.milliseconds(100)

    let loop: EventLoop
    let wheel: TimerWheel
    let writer: RequestWriter
    let input = ByteBuffer(capacity: 64 << 10)
    let timeout: Duration
    let readsAnswers: Bool
    let keepsGaps: Bool
    let keepsConnections: Bool

    private let plan: LoadPlan
    private let number: Int
    private let origin: Instant
    private let addresses: [SocketAddress]
    private let security: ClientContext?
    /// Per target, where sessions are resumed.
    private var resumptions: [TLSResumption?]
    private var securityFailures: [Int: (failure: TLSFailure, count: UInt64)] = [:]
    private let timeoutNanoseconds: UInt64
    private var statistics: RunStatistics
    private var records: [RequestRecord] = []
    private var gaps: [[UInt64]] = []
    private var recordsDropped: UInt64 = 0
    private var variantNames = [""]

    private var schedule: ArrivalSchedule?
    private var next: Arrival?
    private var alarm: Alarm?
    private var patience = Patience()
    private var core: CoreShare?
    /// Requests that count which may still be started; nil without a limit.
    private var quota: Int?
    private let connectionsMax: Int
    private var connections: [LoadConnection] = []
    private var idle: [[LoadConnection]]
    private var backlogs: [Backlog]
    private var connecting: [Int]
    private var inFlight = 0
    private var closedLoopIndex = 0
    private var isStopping = false
    private var hasFinished = false
    private var recent = LatencyHistogram()
    private var progressTimer: LoopTimer?
    private let board: ProgressBoard
    private let completion: @Sendable (WorkerResult) -> Void

    init(
        plan: LoadPlan,
        number: Int,
        origin: Instant,
        addresses: [SocketAddress],
        security: ClientContext?,
        text: PromptText,
        board: ProgressBoard,
        loop: EventLoop,
        completion: @escaping @Sendable (WorkerResult) -> Void
    ) {
        self.plan = plan
        self.number = number
        self.origin = origin
        self.addresses = addresses
        self.security = security
        self.resumptions = Array(repeating: nil, count: plan.targets.count)
        self.loop = loop
        self.wheel = TimerWheel(loop: loop)
        self.writer = RequestWriter(
            plan.kind,
            targets: plan.targets,
            fields: plan.fields,
            keepsConnections: plan.keepsConnections,
            seed: plan.seed,
            trace: plan.requestTrace,
            text: text
        )
        self.timeout = .nanoseconds(Int64(plan.timeout * 1e9))
        self.timeoutNanoseconds = UInt64(plan.timeout * 1e9)
        self.readsAnswers = plan.kind.isGeneration
        self.keepsGaps = plan.keepsGaps
        self.keepsConnections = plan.keepsConnections
        self.statistics = RunStatistics(
            window: plan.window,
            objectives: plan.objectives,
            targetCount: plan.targets.count,
            sliceWidth: plan.sliceWidth
        )
        let share = Self.share(plan.connectionsMax, plan.threads, number)
        self.connectionsMax = max(1, share)
        self.idle = Array(repeating: [], count: plan.targets.count)
        self.backlogs = Array(repeating: Backlog(), count: plan.targets.count)
        self.connecting = Array(repeating: 0, count: plan.targets.count)
        self.board = board
        self.completion = completion
    }

    /// How much of `total` the thread with that number gets.
    static func share(_ total: Int, _ threads: Int, _ number: Int) -> Int {
        total / threads + (number < total % threads ? 1 : 0)
    }

    // MARK: Life

    func start() {
        self.progressTimer = self.loop.scheduleRepeating(every: .milliseconds(200)) {
            [unowned self] in
            self.publish()
            self.expireBacklogs()
            self.finishIfDone()
        }
        if case .closed(let connections) = self.plan.pattern {
            self.quota = self.plan.requestsMax.map {
                Self.share($0, self.plan.threads, self.number)
            }
            let share = Self.share(connections, self.plan.threads, self.number)
            self.loop.schedule(after: self.origin - self.loop.refreshNow()) { [weak self] in
                self?.openAll(share)
            }
        } else {
            self.quota = self.plan.requestsMax
            self.schedule = self.plan.schedule()
            self.core = CoreShare()
            self.core?.askForShortSlices()
            self.alarm = Alarm { [unowned self] in self.pump() }
            self.alarm?.start(on: self.loop)
            self.advance()
            self.loop.afterTurn = { [unowned self] in self.pump() }
        }
        if self.plan.threads > 1 || self.quota == 0 { self.finishIfDone() }
    }

    /// Starts nothing more and gives up what is under way. On the loop's thread.
    func interrupt() {
        self.isStopping = true
        self.next = nil
        self.statistics.abandoned += UInt64(self.inFlight)
        self.inFlight = 0
        for index in self.backlogs.indices { self.backlogs[index].removeAll() }
        self.finish()
    }

    private func finishIfDone() {
        guard !self.hasFinished, self.inFlight == 0, self.backlogs.allSatisfy(\.isEmpty) else {
            return
        }
        if self.plan.pattern.isOpen {
            guard self.next == nil else { return }
        } else {
            guard !self.mayStart(self.offset(self.loop.refreshNow())) else { return }
        }
        self.finish()
    }

    private func finish() {
        guard !self.hasFinished else { return }
        self.hasFinished = true
        self.progressTimer?.cancel()
        self.progressTimer = nil
        self.loop.afterTurn = nil
        self.alarm?.stop()
        self.alarm = nil
        for connection in self.connections { connection.close() }
        self.wheel.stop()
        self.publish()
        self.statistics.finish()
        self.completion(
            WorkerResult(
                statistics: self.statistics,
                records: self.records,
                recordVariants: self.variantNames,
                gaps: self.gaps,
                recordsDropped: self.recordsDropped,
                securityFailures: self.securityFailures
            )
        )
    }

    private func publish() {
        var progress = self.board.current
        progress.elapsed = Double(self.offset(self.loop.refreshNow())) / 1e9
        progress.started = self.statistics.started
        progress.ended = self.statistics.ended
        progress.failed = self.statistics.failedOverall
        progress.inFlight = self.inFlight + self.backlogs.reduce(0) { $0 + $1.count }
        if self.recent.count > 0 {
            progress.median = self.recent.quantile(0.5)
            progress.high = self.recent.quantile(0.99)
            self.recent.reset()
        }
        self.board.current = progress
    }

    // MARK: Times

    /// Nanoseconds from the start of the run.
    @inline(__always)
    func offset(_ now: Instant) -> UInt64 { now.nanoseconds(since: self.origin) }

    func deadline(_ work: LoadConnection.Work) -> Instant {
        Instant(
            nanoseconds: self.origin.nanoseconds + work.dispatched + self.timeoutNanoseconds
        )
    }

    // MARK: Open loop

    /// Moves to this thread's next arrival.
    private func advance() {
        self.next = nil
        while let arrival = self.schedule?.next() {
            if arrival.offset >= self.statistics.window.start, let quota = self.quota {
                guard quota > 0 else { return }
                self.quota = quota - 1
            }
            if arrival.index % self.plan.threads == self.number {
                self.next = arrival
                return
            }
        }
    }

    /// Takes up what is due and sets the alarm for what follows.
    private func pump() {
        guard !self.hasFinished else { return }
        var taken = 0
        while let arrival = self.next {
            let now = EventLoop.readClock()
            let offset = self.offset(now)
            // Compared as moments: before the run begins every offset is 0.
            let due = self.origin.nanoseconds + arrival.offset
            guard due <= now.nanoseconds else { return self.wait(until: due, now: now) }
            guard taken < Self.dispatchedPerTurnMax else {
                return self.loop.continueWithoutWaiting()
            }
            taken += 1
            self.dispatch(arrival, offset, now)
            self.advance()
        }
        if taken > 0 || self.inFlight == 0 { self.finishIfDone() }
    }

    private func wait(until time: UInt64, now: Instant) {
        let lead = self.patience.lead(now: now.nanoseconds) { self.core?.waited }
        if time - now.nanoseconds <= lead {
            self.loop.continueWithoutWaiting()
        } else {
            self.alarm?.arm(at: time - lead)
        }
    }

    private func dispatch(_ arrival: Arrival, _ offset: UInt64, _ now: Instant) {
        self.statistics.start(scheduled: arrival.offset, dispatched: offset)
        let target = arrival.index % self.addresses.count
        let work = LoadConnection.Work(arrival: arrival, dispatched: offset)
        if self.backlogs[target].isEmpty, let connection = self.takeIdle(target) {
            self.inFlight += 1
            return connection.start(work, now: now)
        }
        self.enqueue(work, target)
    }

    private func enqueue(_ work: LoadConnection.Work, _ target: Int) {
        guard self.backlogs[target].count < LoadLimits.backlogMax else {
            self.statistics.dropped += 1
            return
        }
        self.backlogs[target].append(work)
        if self.connecting[target] < self.backlogs[target].count,
            self.connections.count < self.connectionsMax
        {
            self.open(target: target)
        }
    }

    private func takeIdle(_ target: Int) -> LoadConnection? {
        while let connection = self.idle[target].popLast() {
            if connection.state == .idle { return connection }
        }
        return nil
    }

    /// Ends requests that waited for a connection longer than an answer may take.
    private func expireBacklogs() {
        let now = self.offset(self.loop.refreshNow())
        for target in self.backlogs.indices {
            while let work = self.backlogs[target].first,
                work.dispatched + self.timeoutNanoseconds <= now
            {
                _ = self.backlogs[target].popFirst()
                self.endUnsent(work, target, .timedOut, now)
            }
        }
    }

    private func endUnsent(
        _ work: LoadConnection.Work,
        _ target: Int,
        _ outcome: Outcome,
        _ now: UInt64
    ) {
        var record = RequestRecord()
        record.index = work.arrival.index
        record.scheduled = work.arrival.offset
        record.dispatched = work.dispatched
        record.target = UInt8(truncatingIfNeeded: target)
        record.end = now
        record.outcome = outcome
        self.keep(record, [])
    }

    // MARK: Closed loop

    private func mayStart(_ offset: UInt64) -> Bool {
        if self.isStopping { return false }
        if let quota = self.quota, quota <= 0 { return false }
        guard let total = self.plan.totalSeconds else { return true }
        return Double(offset) < total * 1e9
    }

    private func startClosed(_ connection: LoadConnection, _ now: Instant) {
        let offset = self.offset(now)
        guard self.mayStart(offset) else { return self.finishIfDone() }
        if offset >= self.statistics.window.start, let quota = self.quota { self.quota = quota - 1 }
        let index = self.closedLoopIndex * self.plan.threads + self.number
        self.closedLoopIndex += 1
        let arrival = Arrival(index: index, offset: offset, traceIndex: nil)
        self.statistics.start(scheduled: offset, dispatched: offset)
        self.inFlight += 1
        connection.start(LoadConnection.Work(arrival: arrival, dispatched: offset), now: now)
    }

    private func openAll(_ count: Int) {
        guard !self.hasFinished else { return }
        for index in 0..<count {
            self.open(target: (index * self.plan.threads + self.number) % self.addresses.count)
        }
    }

    // MARK: Connections

    private func open(target: Int) {
        let now = self.loop.refreshNow()
        do throws(SystemError) {
            let descriptor = try Sockets.connect(to: self.addresses[target])
            let connection = LoadConnection(
                worker: self,
                target: target,
                descriptor: descriptor,
                now: now
            )
            connection.slot = self.connections.count
            self.connections.append(connection)
            self.connecting[target] += 1
            self.statistics.connections += 1
        } catch {
            self.connecting[target] += 1
            self.connectFailed(target: target, code: error.code)
        }
    }

    /// A session for a connection that was accepted; nil where the target speaks plain text.
    func makeSession(
        target: Int,
        descriptor: Int32
    ) throws(TLSError) -> TLSSession? {
        let url = self.plan.targets[target]
        guard url.isSecure, let security = self.security else { return nil }
        return try security.makeSession(
            descriptor: descriptor,
            name: url.host,
            resumes: self.resumptions[target]
        )
    }

    /// Keeps the session of a connection that has had an answer, and so the server's tickets.
    func remember(_ session: TLSSession, target: Int) {
        guard self.plan.resumesSessions, let resumption = session.resumption else { return }
        self.resumptions[target] = resumption
    }

    func sessionResumed() { self.statistics.resumedSessions += 1 }

    func securityFailed(_ failure: TLSFailure, target: Int) {
        self.securityFailures[target, default: (failure, 0)].count += 1
    }

    func connected(_ connection: LoadConnection, now: Instant) {
        self.connecting[connection.target] -= 1
        self.becameIdle(connection, now: now)
    }

    func becameIdle(_ connection: LoadConnection, now: Instant) {
        guard self.plan.pattern.isOpen else { return self.startClosed(connection, now) }
        if let work = self.backlogs[connection.target].popFirst() {
            self.inFlight += 1
            return connection.start(work, now: now)
        }
        self.idle[connection.target].append(connection)
        if self.next == nil { self.finishIfDone() }
    }

    func closed(_ connection: LoadConnection) {
        let last = self.connections.removeLast()
        if last !== connection {
            last.slot = connection.slot
            self.connections[connection.slot] = last
        }
    }

    /// A connection could not be made: the request that it was for fails.
    func connectFailed(target: Int, code: Int32?) {
        self.connecting[target] -= 1
        guard !self.hasFinished else { return }
        let now = self.offset(self.loop.refreshNow())
        if self.plan.pattern.isOpen {
            if let work = self.backlogs[target].popFirst() {
                self.endUnsent(work, target, .cannotConnect, now)
            }
            self.openForBacklog(target)
            return self.finishIfDone()
        }
        if self.mayStart(now) {
            if now >= self.statistics.window.start, let quota = self.quota {
                self.quota = quota - 1
            }
            let arrival = Arrival(index: self.closedLoopIndex, offset: now, traceIndex: nil)
            self.closedLoopIndex += 1
            self.statistics.start(scheduled: now, dispatched: now)
            self.endUnsent(.init(arrival: arrival, dispatched: now), target, .cannotConnect, now)
        }
        self.reopen(target)
    }

    /// Opens another connection of a closed loop, but not in a tight circle.
    private func reopen(_ target: Int) {
        self.loop.schedule(after: Self.reconnectDelay) { [weak self] in
            guard let self, !self.hasFinished else { return }
            if self.mayStart(self.offset(self.loop.refreshNow())) {
                self.open(target: target)
            } else {
                self.finishIfDone()
            }
        }
    }

    private func openForBacklog(_ target: Int) {
        if self.connecting[target] < self.backlogs[target].count,
            self.connections.count < self.connectionsMax
        {
            // Not from within a failure: a refused address would be tried in a tight circle.
            self.loop.schedule(after: .zero) { [weak self] in
                guard let self, !self.hasFinished else { return }
                if self.connecting[target] < self.backlogs[target].count,
                    self.connections.count < self.connectionsMax
                {
                    self.open(target: target)
                }
            }
        }
    }

    /// A kept connection had been closed before the request reached the server.
    func resend(_ work: LoadConnection.Work, target: Int, now: Instant) {
        self.statistics.resent += 1
        self.inFlight -= 1
        if self.plan.pattern.isOpen {
            self.backlogs[target].prepend(work)
            self.openForBacklog(target)
        } else {
            // The request starts anew with the new connection; this start is taken back.
            self.closedResent(work, target)
        }
    }

    private func closedResent(_ work: LoadConnection.Work, _ target: Int) {
        if work.dispatched >= self.statistics.window.start, let quota = self.quota {
            self.quota = quota + 1
        }
        if self.mayStart(self.offset(self.loop.now)) {
            self.open(target: target)
        } else {
            self.finishIfDone()
        }
    }

    // MARK: Results

    func outputGap(_ gap: UInt64, _ scheduled: UInt64) {
        self.statistics.outputGap(gap, scheduled: scheduled)
    }

    func variant(_ name: RawSpan) -> UInt8 {
        let text = name.withUnsafeBytes { String(decoding: $0.prefix(128), as: UTF8.self) }
        let index = self.statistics.variant(named: text)
        if Int(index) == self.variantNames.count {
            self.variantNames.append(self.statistics.variantName(index))
        }
        return index
    }

    /// A request ended. `keeps` says whether its connection takes another one; the connection then
    /// becomes idle next.
    func ended(_ record: RequestRecord, gaps: [UInt64], on target: Int, keeps: Bool) {
        self.inFlight -= 1
        if record.outcome == .ok { self.recent.record(nanoseconds: record.latency) }
        self.keep(record, gaps)
        guard !self.hasFinished, !keeps else { return }
        if self.plan.pattern.isOpen {
            self.openForBacklog(target)
            if self.next == nil { self.finishIfDone() }
        } else {
            self.replace(target, after: record)
        }
    }

    private func replace(_ target: Int, after record: RequestRecord) {
        guard self.mayStart(self.offset(self.loop.now)) else { return self.finishIfDone() }
        if record.outcome == .ok || record.outcome == .httpError {
            self.open(target: target)
        } else {
            self.reopen(target)
        }
    }

    private func keep(_ record: RequestRecord, _ gaps: [UInt64]) {
        self.statistics.end(record)
        guard self.plan.keepsRecords else { return }
        guard self.records.count < self.plan.recordsMax / self.plan.threads else {
            self.recordsDropped += 1
            return
        }
        self.records.append(record)
        if self.keepsGaps { self.gaps.append(gaps) }
    }
}

/// Requests that wait for a connection, in order.
private struct Backlog {
    private var items: [LoadConnection.Work] = []
    private var head = 0

    var count: Int { self.items.count - self.head }
    var isEmpty: Bool { self.head == self.items.count }
    var first: LoadConnection.Work? { self.isEmpty ? nil : self.items[self.head] }

    mutating func append(_ work: LoadConnection.Work) { self.items.append(work) }

    mutating func prepend(_ work: LoadConnection.Work) {
        if self.head > 0 {
            self.head -= 1
            self.items[self.head] = work
        } else {
            self.items.insert(work, at: 0)
        }
    }

    mutating func popFirst() -> LoadConnection.Work? {
        guard !self.isEmpty else { return nil }
        defer {
            self.head += 1
            if self.head == self.items.count {
                self.removeAll()
            } else if self.head >= 1_024, self.head * 2 >= self.items.count {
                self.items.removeFirst(self.head)
                self.head = 0
            }
        }
        return self.items[self.head]
    }

    mutating func removeAll() {
        self.items.removeAll(keepingCapacity: true)
        self.head = 0
    }
}

/// Wakes the loop at a time, exactly; libevent's own timers are rounded up to a millisecond.
private final class Alarm: IOHandler {
    private let body: () -> Void
    private var armedAt: UInt64 = 0

    init(_ body: @escaping () -> Void) {
        self.body = body
        super.init()
    }

    func start(on loop: EventLoop) {
        let descriptor = weir_timer_open()
        precondition(descriptor >= 0, "timerfd_create: errno \(errno)")
        self.register(descriptor: descriptor, on: loop, interest: .read)
    }

    func arm(at nanoseconds: UInt64) {
        if self.armedAt == nanoseconds { return }
        self.armedAt = nanoseconds
        let code = weir_timer_arm(self.descriptor, max(1, nanoseconds))
        precondition(code == 0, "timerfd_settime: errno \(errno)")
    }

    override func ready(_ events: IOEvents) {
        var count: UInt64 = 0
        _ = read(self.descriptor, &count, 8)
        self.armedAt = 0
        self.body()
    }

    func stop() {
        let descriptor = self.descriptor
        self.deregister()
        close(descriptor)
    }
}
