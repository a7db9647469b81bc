import Core
import EventLoop
import Proxy
import Traffic

/// What part of its tenants' limits this gateway may use: the shell around `ShareLease`.
///
/// On the control loop's thread.
package final class TenantShares {
    /// How often what time does to a lease is looked at.
    private static let period = Duration.milliseconds(250)

    /// Without being told for so long, somebody should look into it.
    static let silenceSeconds = 15.0

    /// Shares are others than before.
    var onChange: () -> Void = {}
    /// Nobody has told this gateway its parts for `silenceSeconds`, though there are limits.
    var onSilence: () -> Void = {}
    /// Tells this start of the gateway from others.
    package let run = String(Int(EventLoop.readWallClock() * 1e6), radix: 16)
    private let loop: EventLoop
    private var lease = ShareLease()
    private var timer: LoopTimer?
    private var before: [String: TenantShare] = [:]
    /// When it was told last, or came to be.
    private var toldAt: Instant
    private var isSilenceTold = false

    package init(loop: EventLoop) {
        self.loop = loop
        self.toldAt = loop.refreshNow()
    }

    deinit { self.timer?.cancel() }

    func start() {
        self.timer = self.loop.scheduleRepeating(every: Self.period) { [weak self] in
            self?.look()
        }
    }

    func stop() {
        self.timer?.cancel()
        self.timer = nil
    }

    /// The gateway gets no new clients from now on.
    func leave() { self.lease.isLeaving = true }

    /// What was told last, and goes for now.
    package var generation: Int { self.lease.generation }
    /// Since it was told last, or began; in seconds.
    package var ageSeconds: Double {
        self.loop.refreshNow().seconds(since: self.toldAt)
    }
    package var fallback: Double { self.lease.grant?.fallback ?? 0 }

    /// - Returns: false where it is older than what is known.
    @discardableResult
    package func take(_ grant: ShareLease.Grant) -> Bool {
        let now = self.loop.refreshNow()
        let isTaken = self.lease.take(grant, at: now)
        if isTaken {
            self.toldAt = now
            self.isSilenceTold = false
        }
        self.look()
        return isTaken
    }

    /// - Parameter tenant: `namespace/name`.
    func share(of tenant: String) -> TenantShare {
        let share = self.lease.share(of: tenant, at: self.loop.refreshNow())
        self.before[tenant] = share
        return share
    }

    private func look() {
        let now = self.loop.refreshNow()
        if !self.before.isEmpty, !self.isSilenceTold,
            now.seconds(since: self.toldAt) > Self.silenceSeconds
        {
            self.isSilenceTold = true
            self.onSilence()
        }
        let isSame = self.before.allSatisfy { self.lease.share(of: $0.key, at: now) == $0.value }
        if isSame { return }
        self.before = [:]
        self.onChange()
    }
}
