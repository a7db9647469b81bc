import Core
import EventLoop
import HTTPService

/// What becomes of an election. All are called on the loop's thread.
package struct LeaderHandlers {
    /// This process leads from now on.
    package var onBegan: () -> Void
    /// Not any more; why. Writers must have stopped when this returns.
    package var onEnded: (String) -> Void
    /// Another holder was seen; empty for nobody.
    package var onHolder: (String) -> Void
    /// A call failed; it is tried again.
    package var onProblem: (APIError) -> Void

    package init(
        onBegan: @escaping () -> Void,
        onEnded: @escaping (String) -> Void,
        onHolder: @escaping (String) -> Void = { _ in },
        onProblem: @escaping (APIError) -> Void = { _ in }
    ) {
        self.onBegan = onBegan
        self.onEnded = onEnded
        self.onHolder = onHolder
        self.onProblem = onProblem
    }
}

/// Takes part in the election by one Lease. The shell around `LeaderElection`, on the loop's
/// thread. After the lead has ended it goes on as a follower, unless it is stopped.
package final class LeaderElector {
    package let client: KubernetesClient
    /// The Lease.
    package let key: ObjectKey
    package var handlers: LeaderHandlers

    private var election: LeaderElection
    private let wallClock: () -> Double
    private var random: RandomSource
    private var timer: LoopTimer?
    private var deadlineTimer: LoopTimer?
    private var isRunning = false
    private var isBusy = false
    private var releases: [() -> Void] = []
    /// The lease as it was last read or written: what others keep in it stays.
    private var lease: KubernetesObject?

    package init(
        _ client: KubernetesClient,
        lease key: ObjectKey,
        options: LeaderElectionOptions,
        seed: UInt64,
        wallClock: @escaping () -> Double = EventLoop.readWallClock,
        handlers: LeaderHandlers
    ) {
        self.client = client
        self.key = key
        self.election = LeaderElection(options)
        self.random = RandomSource(seed: seed)
        self.wallClock = wallClock
        self.handlers = handlers
    }

    package var isLeader: Bool { self.election.isLeader }
    package var holder: String { self.election.holder }

    /// Whether a write may go out at this very moment. To be asked before each.
    package var mayWrite: Bool { self.election.mayWrite(now: self.client.loop.refreshNow()) }

    package func start() {
        self.client.loop.assertOnLoop()
        if self.isRunning { return }
        self.isRunning = true
        self.advance()
    }

    /// Stops taking part and gives the lease back, so that another process takes over at once.
    /// Writers must have stopped. `completion` runs once, later, also where that did not work.
    package func release(completion: @escaping () -> Void) {
        self.client.loop.assertOnLoop()
        self.isRunning = false
        self.timer?.cancel()
        self.timer = nil
        self.releases.append(completion)
        // A renewal under way would change the version that is given back.
        if !self.isBusy { self.releaseNow() }
    }

    // MARK: Steps

    private func advance() {
        guard self.isRunning, !self.client.isClosed else { return }
        let now = self.client.loop.refreshNow()
        switch self.election.next(now: now, wallTime: self.wallClock()) {
        case .nothing: return
        case .wait(let delay):
            self.timer?.cancel()
            self.timer = self.client.loop.schedule(after: delay) { [weak self] in
                self?.timer = nil
                self?.advance()
            }
        case .read: self.read()
        case .create(let record): self.send("POST", record)
        case .write(let record): self.send("PUT", record)
        }
    }

    private func call(_ method: String, _ path: String) -> APICall {
        var call = APICall(method, path)
        // A renewal that hangs must leave time for another one before the deadline.
        call.timeout = self.election.options.renewDeadline / 2
        call.deadline = call.timeout
        call.retriesMax = 0
        call.isUrgent = true
        return call
    }

    private func read() {
        self.isBusy = true
        let call = self.call("GET", Resource.leases.path(of: self.key))
        // Held until the end: an election lasts as long as its calls.
        self.client.sendForObject(call) { result in
            let now = self.client.loop.refreshNow()
            switch result {
            case .success(let object):
                let record = LeaseRecord(object)
                self.lease = object
                self.take(self.election.received(record, now: now, random: &self.random))
            case .failure(let error) where error.isNotFound:
                self.take(self.election.received(nil, now: now, random: &self.random))
            case .failure(let error): self.failed(error, now)
            }
            self.ended()
        }
    }

    private func send(_ method: String, _ record: LeaseRecord) {
        self.isBusy = true
        let path =
            method == "POST"
            ? Resource.leases.path(namespace: self.key.namespace)
            : Resource.leases.path(of: self.key)
        var call = self.call(method, path)
        call.set(self.object(record).value)
        self.client.sendForObject(call) { result in
            let now = self.client.loop.refreshNow()
            switch result {
            case .success(let object):
                let version = object.metadata.resourceVersion
                self.lease = object
                self.take(self.election.wrote(version, now: now, random: &self.random))
            case .failure(let error): self.failed(error, now)
            }
            self.ended()
        }
    }

    private func object(_ record: LeaseRecord) -> KubernetesObject {
        var object = KubernetesObject(.leases, namespace: self.key.namespace, name: self.key.name)
        if let lease = self.lease, lease.metadata.resourceVersion == record.version {
            object = lease
        }
        if !record.version.isEmpty {
            object["metadata"]["resourceVersion"] = .string(record.version.text)
        }
        object["spec"]["holderIdentity"] = .string(record.holder)
        object["spec"]["leaseDurationSeconds"] = .integer(record.durationSeconds)
        object["spec"]["acquireTime"] = .string(record.acquireTime)
        object["spec"]["renewTime"] = .string(record.renewTime)
        object["spec"]["leaseTransitions"] = .integer(record.transitions)
        return object
    }

    private func failed(_ error: APIError, _ now: Instant) {
        let isConflict = error.isConflict || error.isAlreadyExists || error.isNotFound
        if !error.isCancelled, !isConflict { self.handlers.onProblem(error) }
        self.take(
            self.election.failed(isConflict: isConflict, now: now, random: &self.random)
        )
    }

    private func ended() {
        self.isBusy = false
        if self.releases.isEmpty { return self.advance() }
        self.releaseNow()
    }

    private func take(_ outcome: LeaderElection.Outcome) {
        self.watchDeadline()
        switch outcome {
        case .none: return
        case .began: self.handlers.onBegan()
        case .ended(let why): self.handlers.onEnded(why)
        case .follows(let holder): self.handlers.onHolder(holder)
        }
    }

    /// The lead ends at its deadline whatever calls are doing.
    private func watchDeadline() {
        self.deadlineTimer?.cancel()
        self.deadlineTimer = nil
        guard let deadline = self.election.deadline else { return }
        let rest = deadline - self.client.loop.refreshNow()
        self.deadlineTimer = self.client.loop.schedule(after: rest) { [weak self] in
            guard let self else { return }
            self.deadlineTimer = nil
            self.take(self.election.check(now: self.client.loop.refreshNow()))
        }
    }

    // MARK: Giving back

    private func releaseNow() {
        self.deadlineTimer?.cancel()
        self.deadlineTimer = nil
        let now = self.client.loop.refreshNow()
        let record = self.election.release(now: now, wallTime: self.wallClock())
        guard let record, !self.client.isClosed else {
            self.client.loop.schedule(after: .zero) { self.released() }
            return
        }
        self.isBusy = true
        var call = self.call("PUT", Resource.leases.path(of: self.key))
        call.set(self.object(record).value)
        self.client.sendForObject(call) { _ in
            self.isBusy = false
            self.released()
        }
    }

    private func released() {
        let completions = self.releases
        self.releases = []
        for completion in completions { completion() }
    }
}
