import Core
import Curl
import EventLoop

/// What is asked and what becomes of the answer.
protocol PollAsker: AnyObject {
    /// Where it cannot be made, why.
    func request(_ sources: MetricSources) -> Result<CurlRequest, CurlError>
    /// Takes an answer to a question asked at a time; nil where it could be read, else what is
    /// wrong with it.
    func accept(_ response: CurlResponse, _ askedAt: Instant) -> String?
}

/// Asks one target over and over. On the loop's thread.
final class Poll {
    /// The target that it belongs to.
    weak var asker: (any PollAsker)?

    /// The target's, for people.
    let name: String
    /// What is wrong with the target; nil while its last answer was good, or before the first.
    private(set) var problem: String?
    /// Whether any answer could be read.
    private(set) var hasAnswered = false
    private(set) var hasEnded = false

    private var schedule: PollSchedule
    // Unowned: the sources end all polls before they go.
    private unowned let sources: MetricSources
    private var timer: LoopTimer?
    private var transfer: CurlTransfer?

    init(_ sources: MetricSources, name: String, period: Duration) {
        self.sources = sources
        self.name = name
        self.schedule = PollSchedule(period: period, options: sources.options)
    }

    deinit {
        precondition(self.hasEnded, "a poll was dropped before its end")
    }

    func start() {
        self.arm(after: self.schedule.firstDelay(&self.sources.random))
    }

    /// Idempotent. What is under way is cancelled, its answer not looked at.
    func end() {
        if self.hasEnded { return }
        self.hasEnded = true
        self.timer?.cancel()
        self.timer = nil
        self.transfer?.cancel()
    }

    /// Asks now; called by the sources when it is this target's turn.
    func ask(_ client: CurlClient, completion: @escaping () -> Void) {
        let start = client.loop.now
        // The next one is timed from here: a slow answer does not slow the rhythm down.
        let done = { [self] (problem: String?) in
            self.transfer = nil
            if !self.hasEnded { self.conclude(problem, start) }
            completion()
        }
        guard !self.hasEnded, let asker = self.asker else { return done(nil) }
        switch asker.request(self.sources) {
        case .failure(let error): done("\(error)")
        case .success(let request):
            self.transfer = client.fetch(request) { [self] result in
                switch result {
                case .failure(let error): done("\(error)")
                case .success(let response):
                    done(self.hasEnded ? nil : asker.accept(response, start))
                }
            }
        }
    }

    private func conclude(_ problem: String?, _ start: Instant) {
        let before = self.problem
        self.problem = problem
        if problem == nil {
            self.hasAnswered = true
            self.schedule.succeeded()
        } else {
            self.schedule.failed()
        }
        let due = start + self.schedule.delay(&self.sources.random)
        self.arm(after: due - self.sources.loop.now)
        if before != problem { self.sources.problemChanged(self) }
    }

    private func arm(after delay: Duration) {
        self.timer = self.sources.loop.schedule(after: delay) { [weak self] in
            guard let self, !self.hasEnded else { return }
            self.timer = nil
            self.sources.enqueue(self)
        }
    }
}
