import Core
import Curl

// Design note
//
// Decides how a copy of a collection is kept in step with the server: what to ask for next, what an
// answer means, how long to wait after a failure. Asks nothing itself.
//
//            ┌────────── 400, 422, never marked ──────────┐
//   start ─▸ initial ──mark──▸ watching ◂──last page── listing
//            │  ▲                │  │                     ▲
//            │  └── 410, refused ┘  └─ 410, refused ──────┘   (where there is no WatchList)
//            └ lost: wait, again     end of stream, 429, connection refused: the same version again
//
// `initial` is a WatchList: a watch that begins with the present state and marks its end. Servers
// without it (before 1.32) refuse or ignore the request; then pages are listed and a watch follows.
//
// Lists ask for the newest state, in pages, and not for `resourceVersion=0`: the server's cache
// ignores the limit for that, and one answer with 100 000 pods would take a gigabyte. A list is
// therefore never older than what was seen or written before it.

/// How a copy is kept.
package struct ReflectorOptions: Sendable, Hashable {
    /// Items of a page.
    package var pageSize = 500
    /// Pages grow up to this after a token for the next one has expired.
    package var pageSizeMax = 8_000
    /// Try to get the first state as a stream.
    package var usesWatchList = true
    /// A watch lasts a random time between one and two of these.
    package var watchTimeout = Duration.seconds(300)
    /// Silence after which a watch counts as dead; servers send a bookmark about every minute.
    package var silenceMax = Duration.seconds(180)
    /// Silence before the mark after which a server counts as one without WatchList.
    package var initialSilenceMax = Duration.seconds(30)
    /// The time for all of the first state.
    package var initialTimeout = Duration.seconds(300)
    /// A watch that ends sooner without any event is a failure.
    package var shortestWatch = Duration.seconds(1)
    /// Watches of one version that fail before everything is listed again.
    package var watchFailuresMax = 5
    package var backoff = BackoffPolicy()

    package init() {}
}

/// Keeps a copy in step; see the note above. A value: told the time and given randomness.
package struct Reflector: Sendable {
    /// What to do next.
    package enum Step: Sendable, Equatable {
        /// Read a page; the first one begins a new state.
        case list(limit: Int, continueToken: String?)
        /// Open a watch; with initial events it begins a new state.
        case watch(WatchOptions)
        case wait(Duration)
        /// Something is under way.
        case nothing
    }

    /// What an event does to the copy.
    package enum OnEvent: Sendable, Equatable {
        /// Take it over.
        case apply
        /// It only moves the version.
        case ignore
        /// The new state is complete: whatever it did not name is gone.
        case finishState
        /// End the stream: it is of no more use.
        case abandon
    }

    /// What a page does to the copy.
    package enum OnPage: Sendable, Equatable {
        case more
        case finishState
    }

    private enum Plan: Equatable {
        case initial, list, watch
    }

    private enum Phase: Equatable {
        case idle(Plan, notBefore: Instant)
        case listing
        case initial(since: Instant)
        case watching(since: Instant, events: Int)
    }

    package let options: ReflectorOptions
    /// The last version that anything named; nil before the first.
    package private(set) var version: ResourceVersion?
    /// Whether a state has been complete once.
    package private(set) var isSynced = false
    /// Why it waits; nil while all is well.
    package private(set) var problem: APIError?
    /// Failures since the last success.
    package private(set) var failures = 0
    private var phase: Phase
    private var backoff: Backoff
    private var pageSize: Int
    private var continueToken: String?
    private var canWatchList: Bool
    private var unmarkedStates = 0
    private var watchFailures = 0
    /// The version cannot be asked for any more, or not yet.
    private var isVersionUseless = false

    /// Waits that a server asks for are cut to this.
    static let waitMax = Duration.seconds(300)

    package init(_ options: ReflectorOptions = ReflectorOptions()) {
        precondition(options.pageSize > 0, "pages of no items")
        self.options = options
        self.backoff = Backoff(options.backoff)
        self.pageSize = options.pageSize
        self.canWatchList = options.usesWatchList
        self.phase = .idle(options.usesWatchList ? .initial : .list, notBefore: .zero)
    }

    /// Whether events of a watch are what is waited for.
    package var isWatching: Bool {
        if case .watching = self.phase { true } else { false }
    }

    // MARK: Asking

    /// What to do now. To be called after every input, and when a wait is over.
    package mutating func next(now: Instant, random: inout RandomSource) -> Step {
        guard case .idle(let plan, let notBefore) = self.phase else { return .nothing }
        if notBefore > now { return .wait(notBefore - now) }
        var watch = WatchOptions()
        let seconds = self.options.watchTimeout.secondsAsDouble * (1 + random.nextUnit())
        watch.timeout = .seconds(max(1, Int(seconds)))
        switch plan {
        case .list:
            self.phase = .listing
            return .list(limit: self.pageSize, continueToken: self.continueToken)
        case .initial:
            self.phase = .initial(since: now)
            watch.sendsInitialEvents = true
            watch.idleTimeout = self.options.initialSilenceMax
            watch.resourceVersion = self.isVersionUseless ? nil : self.version
        case .watch:
            self.phase = .watching(since: now, events: 0)
            watch.idleTimeout = self.options.silenceMax
            watch.resourceVersion = self.version
        }
        return .watch(watch)
    }

    // MARK: Lists

    /// A page has come.
    package mutating func received(
        pageVersion: ResourceVersion,
        continueToken: String?,
        now: Instant
    ) -> OnPage {
        assert(self.phase == .listing, "a page that nobody asked for")
        self.succeeded()
        if let continueToken {
            self.continueToken = continueToken
            self.phase = .idle(.list, notBefore: now)
            return .more
        }
        self.finishState(at: pageVersion)
        self.phase = .idle(.watch, notBefore: now)
        return .finishState
    }

    package mutating func listFailed(
        _ error: APIError,
        now: Instant,
        random: inout RandomSource
    ) {
        assert(self.phase == .listing, "a failure of what nobody asked for")
        if let status = error.status, status.isExpired, self.continueToken != nil {
            // Etcd has forgotten the state that the pages are of. Larger ones are done sooner.
            self.pageSize = min(self.pageSize * 4, self.options.pageSizeMax)
        } else if case .transport(.tooLarge) = error.kind {
            self.pageSize = max(1, self.pageSize / 2)
        } else if error.status == nil, self.continueToken != nil {
            // The rest of the pages is still there.
            return self.wait(.list, error, now, &random)
        } else if let status = error.status, status.isTooManyRequests || status.code >= 500 {
            return self.wait(.list, error, now, &random)
        }
        self.continueToken = nil
        self.wait(.list, error, now, &random)
    }

    // MARK: Watches

    /// An event has come; an `error` among them ends the stream, and `ended` follows.
    package mutating func received(_ event: EventSummary, now: Instant) -> OnEvent {
        switch self.phase {
        case .initial(let since): return self.receivedInitially(event, since: since, now: now)
        case .watching(let since, let events):
            self.phase = .watching(since: since, events: events + 1)
            self.succeeded()
            self.watchFailures = 0
            self.version = event.version
            if case .bookmark = event.kind { return .ignore }
            return .apply
        case .idle, .listing: return .ignore
        }
    }

    private mutating func receivedInitially(
        _ event: EventSummary,
        since: Instant,
        now: Instant
    ) -> OnEvent {
        switch event.kind {
        case .bookmark(endsInitialEvents: true):
            self.finishState(at: event.version)
            self.succeeded()
            self.unmarkedStates = 0
            self.phase = .watching(since: since, events: 1)
            return .finishState
        case .bookmark(endsInitialEvents: false):
            // The first bookmark of a WatchList is its mark: this server does not know of it.
            self.canWatchList = false
            self.phase = .idle(.list, notBefore: now)
            return .abandon
        case .object:
            // The version is not kept: a state that is not complete is no place to go on from.
            guard now - since > self.options.initialTimeout else { return .apply }
            self.giveUpOnMark(now)
            return .abandon
        }
    }

    /// The stream has ended: with nil in good order, else why. Also for a watch that was refused,
    /// and for an `error` event.
    package mutating func watchEnded(
        _ error: APIError?,
        now: Instant,
        random: inout RandomSource
    ) {
        switch self.phase {
        case .initial: self.initialEnded(error, now, &random)
        case .watching(let since, let events):
            self.streamEnded(error, since: since, events: events, now, &random)
        // It was abandoned.
        case .idle, .listing: return
        }
    }

    private mutating func initialEnded(
        _ error: APIError?,
        _ now: Instant,
        _ random: inout RandomSource
    ) {
        guard let error else { return self.giveUpOnMark(now) }
        switch error.kind {
        case .refused(let status):
            if status.isExpired || status.isTooLargeVersion {
                self.isVersionUseless = true
            } else if [400, 405, 422, 501].contains(status.code) {
                // It does not know of WatchList; the list will tell if something else is wrong.
                self.canWatchList = false
                self.phase = .idle(.list, notBefore: now)
                return
            }
            self.wait(.initial, error, now, &random)
        case .transport(.timedOut(.idle)): self.giveUpOnMark(now)
        default: self.wait(.initial, error, now, &random)
        }
    }

    /// The state has not been marked as complete: list it this time, and from now on if that
    /// happens again.
    private mutating func giveUpOnMark(_ now: Instant) {
        self.unmarkedStates += 1
        if self.unmarkedStates > 1 { self.canWatchList = false }
        self.phase = .idle(.list, notBefore: now)
    }

    private mutating func streamEnded(
        _ error: APIError?,
        since: Instant,
        events: Int,
        _ now: Instant,
        _ random: inout RandomSource
    ) {
        let isShort = events == 0 && now - since < self.options.shortestWatch
        guard let error else {
            if isShort { return self.watchFailed(Self.tooShort, now, &random) }
            self.phase = .idle(.watch, notBefore: now)
            return
        }
        switch error.kind {
        case .transport(let failure):
            if !isShort, !failure.isBeforeSending {
                // As good as an end: the server or something between has cut it.
                self.phase = .idle(.watch, notBefore: now)
                return
            }
            self.watchFailed(error, now, &random)
        case .refused(let status) where status.isTooManyRequests || status.code >= 500:
            self.watchFailed(error, now, &random)
        case .credentials, .overloaded, .cancelled, .deadlineExceeded:
            self.watchFailed(error, now, &random)
        case .refused, .malformed:
            // 410 above all: what has happened since is lost, and everything is asked for again.
            self.wait(self.plan(afterLosing: error), error, now, &random)
        }
    }

    /// Waits and watches from the same version, but not for ever.
    private mutating func watchFailed(
        _ error: APIError,
        _ now: Instant,
        _ random: inout RandomSource
    ) {
        self.watchFailures += 1
        // A server that is overloaded or gone is not helped by asking it for everything.
        let isServerBusy: Bool
        switch error.kind {
        case .transport(let failure): isServerBusy = failure.isBeforeSending
        case .refused(let status): isServerBusy = status.isTooManyRequests
        default: isServerBusy = true
        }
        let again = isServerBusy || self.watchFailures <= self.options.watchFailuresMax
        self.wait(again ? .watch : self.plan(afterLosing: error), error, now, &random)
    }

    private mutating func plan(afterLosing error: APIError) -> Plan {
        self.watchFailures = 0
        self.continueToken = nil
        if let status = error.status, status.isTooLargeVersion { self.isVersionUseless = true }
        return self.canWatchList ? .initial : .list
    }

    // MARK: Outcomes

    private mutating func finishState(at version: ResourceVersion) {
        self.version = version
        self.isVersionUseless = false
        self.isSynced = true
        self.continueToken = nil
        self.pageSize = self.options.pageSize
        self.watchFailures = 0
    }

    private mutating func succeeded() {
        self.failures = 0
        self.problem = nil
    }

    private mutating func wait(
        _ plan: Plan,
        _ error: APIError,
        _ now: Instant,
        _ random: inout RandomSource
    ) {
        self.failures += 1
        self.problem = error
        let asked = min(error.status?.retryAfter ?? .zero, Self.waitMax)
        let delay = max(asked, self.backoff.delay(now: now, random: &random))
        self.phase = .idle(plan, notBefore: now + delay)
    }

    private static let tooShort = APIError(
        .transport(.connectionLost("the server ended the watch at once, without any event")),
        call: "watch"
    )
}

/// What the reflector needs to know of an event.
package struct EventSummary: Sendable, Equatable {
    package enum Kind: Sendable, Equatable {
        /// Added, modified or deleted.
        case object
        case bookmark(endsInitialEvents: Bool)
    }

    package var kind: Kind
    package var version: ResourceVersion

    package init(_ kind: Kind, version: ResourceVersion) {
        self.kind = kind
        self.version = version
    }
}
