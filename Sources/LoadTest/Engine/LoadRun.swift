import Core
import EventLoop
import Glibc
import Synchronization
import TLS

/// One run from its beginning to its end, on threads of its own.
///
/// Make it, then `run` on a thread that may block. `interrupt` ends it early from any thread.
package final class LoadRun: Sendable {
    /// Time for the threads to come up before the schedule begins.
    private static let lead = Duration.milliseconds(20)
    /// Descriptors that are not connections.
    private static let ownDescriptors = 64

    private let plan: LoadPlan
    private let addresses: [SocketAddress]
    /// Of `https://` targets; nil where there are none.
    private let security: ClientContext?
    private let text: PromptText
    private let boards: [ProgressBoard]
    private let shared = Mutex(Shared())

    private struct Shared: Sendable {
        var workers: [LoopBound<LoadWorker>] = []
        var results: [WorkerResult] = []
        var isInterrupted = false
    }

    /// Looks the targets up, connects to each once, and makes room for the connections.
    package init(_ plan: LoadPlan, text: PromptText = PromptText()) throws(LoadError) {
        if let problem = plan.problems.first { throw LoadError(problem) }
        self.plan = plan
        self.text = text
        self.boards = (0..<plan.threads).map { _ in ProgressBoard() }
        var addresses: [SocketAddress] = []
        for target in plan.targets { addresses.append(try target.resolve(plan.detours)) }
        self.addresses = addresses
        let security = try Self.security(plan)
        self.security = security
        for (target, address) in zip(plan.targets, addresses) {
            try Preflight(target: target, address: address).check(
                target.isSecure ? security : nil,
                hasIdentity: plan.security.identity != nil
            )
        }
        let connections =
            if case .closed(let count) = plan.pattern { count } else { plan.connectionsMax }
        try Self.reserveDescriptors(connections + Self.ownDescriptors)
    }

    /// Runs to the end. `onProgress` is called on this thread every `period`.
    package func run(
        progressEvery period: Duration = .milliseconds(500),
        onProgress: @escaping (LoadProgress) -> Void = { _ in }
    ) throws(LoadError) -> RunSummary {
        let coordinator: EventLoop
        var threads: [LoopThread] = []
        let startedAt = EventLoop.readWallClock()
        do throws(SystemError) {
            coordinator = try EventLoop()
            threads = try self.startWorkers(coordinator)
        } catch {
            throw LoadError("the run cannot start: \(error)")
        }
        let timer = coordinator.scheduleRepeating(every: period) { onProgress(self.progress()) }
        if self.shared.withLock({ $0.isInterrupted }) { self.interrupt() }
        coordinator.run()
        timer.cancel()
        for thread in threads { thread.join() }
        // They tell this run when they are done, and so keep it.
        self.shared.withLock { $0.workers = [] }
        let summary = self.summary(startedAt: startedAt)
        try self.checkSchemes(summary)
        return summary
    }

    /// Ends the run at once: requests under way are given up and not counted. Any thread.
    package func interrupt() {
        let workers = self.shared.withLock {
            $0.isInterrupted = true
            return $0.workers
        }
        for worker in workers { worker.loop.post { worker.value.interrupt() } }
    }

    // MARK: Helpers

    private static func security(_ plan: LoadPlan) throws(LoadError) -> ClientContext? {
        guard plan.targets.contains(where: \.isSecure) else { return nil }
        do throws(TLSError) {
            return try ClientContext(plan.security)
        } catch {
            throw LoadError("TLS: \(error)")
        }
    }

    /// A run in which a target answered nothing says why, where it is for the wrong scheme or for
    /// what TLS says.
    private func checkSchemes(_ summary: RunSummary) throws(LoadError) {
        if summary.wasInterrupted { return }
        let statistics = summary.statistics
        // What others answered is not thrown away.
        guard statistics.targets.allSatisfy({ $0.failed == $0.total }) else { return }
        for (index, target) in self.plan.targets.enumerated() {
            let group = statistics.targets[index]
            guard group.total > 0, group.failed == group.total else { continue }
            if let (failure, _) = summary.securityFailures[index] {
                throw LoadError("\(target): no request succeeded: \(failure.advice(for: target))")
            }
            if target.isSecure, statistics.statuses.isEmpty {
                // A server that refuses and closes may have taken its alert back with a reset.
                let preflight = Preflight(
                    target: target,
                    address: self.addresses[index],
                    objectionMilliseconds: Preflight.patientMilliseconds
                )
                if let objection = preflight.objection(
                    self.security,
                    hasIdentity: self.plan.security.identity != nil
                ) {
                    throw objection
                }
            }
            // TLS servers answer HTTP with 400, with an alert, or not at all.
            guard !target.isSecure, statistics.statuses.keys.allSatisfy({ $0 == 400 }) else {
                continue
            }
            if Preflight(target: target, address: self.addresses[index]).speaksTLS() {
                throw LoadError(
                    "\(target): no request succeeded, and the server speaks TLS there: "
                        + "give an https:// URL"
                )
            }
        }
    }

    private func startWorkers(_ coordinator: EventLoop) throws(SystemError) -> [LoopThread] {
        let origin = coordinator.refreshNow() + Self.lead
        var workers: [LoopBound<LoadWorker>] = []
        for number in 0..<self.plan.threads {
            let loop = try EventLoop()
            let worker = LoadWorker(
                plan: self.plan,
                number: number,
                origin: origin,
                addresses: self.addresses,
                security: self.security,
                text: self.text,
                board: self.boards[number],
                loop: loop
            ) { result in
                let count = self.shared.withLock {
                    $0.results.append(result)
                    return $0.results.count
                }
                loop.stop()
                if count == self.plan.threads { coordinator.stop() }
            }
            // Made on this thread while the loop has none; from then on the loop's.
            workers.append(LoopBound(worker, loop: loop))
        }
        self.shared.withLock { $0.workers = workers }
        return workers.enumerated().map { number, worker in
            LoopThread(
                name: "load-\(number)",
                loop: worker.loop,
                setUp: { worker.loop.post { worker.value.start() } }
            )
        }
    }

    private func progress() -> LoadProgress {
        var total = LoadProgress()
        for board in self.boards {
            let part = board.current
            total.elapsed = max(total.elapsed, part.elapsed)
            total.started += part.started
            total.ended += part.ended
            total.failed += part.failed
            total.inFlight += part.inFlight
            total.median = max(total.median ?? 0, part.median ?? 0)
            total.high = max(total.high ?? 0, part.high ?? 0)
        }
        return total
    }

    private func summary(startedAt: Double) -> RunSummary {
        let (results, wasInterrupted) = self.shared.withLock { ($0.results, $0.isInterrupted) }
        var statistics = results[0].statistics
        for result in results.dropFirst() { statistics.merge(result.statistics) }
        var summary = RunSummary(statistics: statistics)
        for result in results {
            // Variants have numbers of their own in each thread.
            let map = result.recordVariants.map { name -> UInt8 in
                if let known = summary.recordVariants.firstIndex(of: name) { return UInt8(known) }
                summary.recordVariants.append(name)
                return UInt8(clamping: summary.recordVariants.count - 1)
            }
            summary.records += result.records.map {
                var record = $0
                record.variant = map[Int($0.variant)]
                return record
            }
            summary.gaps += result.gaps
            summary.recordsDropped += result.recordsDropped
            summary.securityFailures.merge(result.securityFailures) {
                ($0.failure, $0.count + $1.count)
            }
        }
        summary.startedAt = startedAt
        summary.isOpenLoop = self.plan.pattern.isOpen
        summary.wasInterrupted = wasInterrupted
        summary.lagMax = self.plan.lagMax * 1e9
        return summary
    }

    /// Raises the limit on descriptors as far as the system lets this process.
    private static func reserveDescriptors(_ count: Int) throws(LoadError) {
        var limit = rlimit()
        let resource = __rlimit_resource_t(UInt32(RLIMIT_NOFILE.rawValue))
        guard getrlimit(resource, &limit) == 0, limit.rlim_cur < UInt(count) else { return }
        limit.rlim_cur = min(UInt(count), limit.rlim_max)
        guard limit.rlim_cur >= UInt(count), setrlimit(resource, &limit) == 0 else {
            throw LoadError(
                "\(count) connections and files are more than the system allows "
                    + "(\(limit.rlim_max)): raise ulimit -n"
            )
        }
    }
}
