import Core
import TLS
import Workload

/// When requests start.
package enum LoadPattern: Sendable {
    /// By a schedule, whatever the answers do.
    case rate(RateProfile, ArrivalPattern)
    case trace(Trace)
    /// So many connections, each busy all the time.
    case closed(connections: Int)

    package var isOpen: Bool {
        if case .closed = self { false } else { true }
    }
}

/// Everything that one run needs.
package struct LoadPlan: Sendable {
    package var targets: [TargetURL]
    package var kind: RequestKind
    package var fields: [HeaderField] = []
    /// Whom `https://` targets must be signed by, and who we are.
    package var security = ClientContext.Options()
    /// Later connections to a target resume the session of earlier ones, as one client's would;
    /// otherwise every connection is a new client with a full handshake.
    package var resumesSessions = false
    /// Whether a connection takes another request after the first.
    package var keepsConnections = true
    /// Other places to connect to than the URLs say.
    package var detours: [Detour] = []
    package var pattern: LoadPattern
    /// Seconds before and behind the measured part. Under a profile or in a closed loop they are
    /// added to it; of a trace they are a part.
    package var warmUp = 0.0
    package var coolDown = 0.0
    /// Seconds of a closed loop that count; nil where `requestsMax` ends it.
    package var duration: Double?
    /// Requests that count at most.
    package var requestsMax: Int?
    package var seed: UInt64 = 1
    package var threads = 1
    /// Connections at most in an open loop.
    package var connectionsMax = 1_024
    /// Seconds from taking up a request to the end of its answer.
    package var timeout = 30.0
    package var objectives: [Objective] = []
    /// Seconds of scheduling error, 99th percentile, past which a run is invalid.
    package var lagMax = 0.01
    /// Whether each request is kept, and how many at most.
    package var keepsRecords = false
    package var recordsMax = 5_000_000
    /// Whether the gaps between outputs are kept with each request.
    package var keepsGaps = false

    package init(targets: [TargetURL], kind: RequestKind, pattern: LoadPattern) {
        self.targets = targets
        self.kind = kind
        self.pattern = pattern
    }

    /// What is wrong, in words; empty where it can be run.
    package var problems: [String] {
        var found: [String] = []
        func require(_ holds: Bool, _ message: String) {
            if !holds { found.append(message) }
        }
        require(!self.targets.isEmpty, "a URL to send requests to is needed")
        require(
            self.targets.count <= LoadLimits.targetsMax,
            "at most \(LoadLimits.targetsMax) URLs can be given"
        )
        require(
            (1...LoadLimits.threadsMax).contains(self.threads),
            "threads must be 1 to \(LoadLimits.threadsMax)"
        )
        require(
            (1...LoadLimits.connectionsMax).contains(self.connectionsMax),
            "connections must be 1 to \(LoadLimits.connectionsMax)"
        )
        require(self.timeout > 0, "the timeout must be more than 0")
        require((self.requestsMax ?? 1) > 0, "requests must be at least 1")
        require(
            self.requestsMax == nil || self.coolDown == 0,
            "a number of requests ends the run: leave out the cool-down"
        )
        switch self.pattern {
        case .closed(let connections):
            require(
                (1...LoadLimits.connectionsMax).contains(connections),
                "connections must be 1 to \(LoadLimits.connectionsMax)"
            )
            require(connections >= self.threads, "each thread needs a connection")
            require((self.duration ?? 1) > 0, "the duration must be more than 0")
            require(
                self.duration != nil || self.requestsMax != nil,
                "a closed loop needs a duration or a number of requests"
            )
        case .rate(let profile, _):
            require(profile.count > 0, "the rate sends nothing")
        case .trace(let trace):
            require(
                self.warmUp + self.coolDown < trace.duration || self.warmUp + self.coolDown == 0,
                "warm-up and cool-down leave nothing of the trace"
            )
        }
        return found
    }

    /// The schedule of an open loop, warm-up and cool-down with it.
    func schedule() -> ArrivalSchedule? {
        switch self.pattern {
        case .closed: nil
        case .rate(let profile, let pattern):
            ArrivalSchedule(
                profile.padded(before: self.warmUp, after: self.coolDown),
                pattern: pattern,
                seed: self.seed
            )
        case .trace(.requests(let trace)): ArrivalSchedule(trace)
        case .trace(.windows(let trace)): ArrivalSchedule(trace, seed: self.seed)
        }
    }

    /// The trace that gives requests their lengths.
    var requestTrace: RequestTrace? {
        if case .trace(.requests(let trace)) = self.pattern { trace } else { nil }
    }

    /// Seconds that count; nil where the number of requests decides.
    package var measuredSeconds: Double? {
        switch self.pattern {
        case .closed: self.duration
        case .rate(let profile, _): profile.duration
        // The last request of a trace is to count: its time is the duration.
        case .trace(let trace):
            max(trace.duration - self.warmUp - self.coolDown, 0) + (self.coolDown > 0 ? 0 : 1e-6)
        }
    }

    var window: MeasuredWindow {
        let start = UInt64(self.warmUp * 1e9)
        // What a number of requests ends is measured up to its last answer.
        guard let seconds = self.measuredSeconds, self.requestsMax == nil else {
            return MeasuredWindow(start: start, end: .max)
        }
        return MeasuredWindow(start: start, end: start + UInt64(seconds * 1e9))
    }

    /// Seconds until the last request starts; nil where the number of requests decides.
    package var totalSeconds: Double? {
        switch self.pattern {
        case .trace(let trace): trace.duration
        case .rate, .closed: self.measuredSeconds.map { self.warmUp + $0 + self.coolDown }
        }
    }

    /// Nanoseconds of one point of the plots: about a hundred points, each with some requests in
    /// it.
    var sliceWidth: UInt64 {
        let seconds = self.totalSeconds ?? Double(LoadLimits.slicesMax)
        let widths = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1_800, 3_600]
        var needed = seconds / 100
        if case .rate(let profile, _) = self.pattern {
            let rate = profile.count / profile.duration
            needed = max(needed, min(Self.sliceRequests / rate, seconds / 20))
        }
        // The longest run has 720 hours: ten of them to a point keep it below the limit.
        return UInt64((widths.first { $0 >= needed } ?? 36_000) * 1e9)
    }

    private static let sliceRequests = 10.0
}
