import Core
import EventLoop
import HTTP
import HTTPService

/// One loop's pretend model server: what it is doing and how it answers. Confined to its loop.
final class Simulator {
    let options: ModelSimulatorOptions
    let loop: EventLoop
    let replica: String
    private let warmAt: Instant
    var metrics: SimulatorMetrics
    var faults: FaultPlan
    private(set) var engine: BatchingEngine
    private(set) var station: ServiceStation
    private let crash: (FaultPlan.Crash) -> Void
    private var random: RandomSource
    private var lastID: UInt64 = 0
    private var generations: [SequenceID: Generation] = [:]
    private var inferences: [SequenceID: Inference] = [:]
    private var events: [EngineEvent] = []
    private var timer: LoopTimer?
    private var isPumping = false
    private var hasFaults = false
    let instantAnswer: [UInt8]

    init(
        options: ModelSimulatorOptions,
        loop: EventLoop,
        replica: String,
        crash: @escaping (FaultPlan.Crash) -> Void
    ) {
        var random = RandomSource(seed: options.seed)
        self.options = options
        self.loop = loop
        self.replica = replica
        self.warmAt = loop.now + options.coldStart
        self.metrics = SimulatorMetrics()
        self.faults = options.faults
        self.engine = BatchingEngine(model: options.batching, seed: random.next())
        self.station = ServiceStation(
            serviceTime: options.serviceTime,
            servers: options.servers,
            waitingMax: options.serviceWaitingMax,
            seed: random.next()
        )
        self.random = random
        self.crash = crash
        self.instantAnswer = OpenAIAnswer.instant(
            model: options.models.first ?? "",
            textBytes: options.responseBytes
        )
        self.apply(options.faults)
    }

    /// Ends what is being played; the server is closed before.
    func close() {
        self.timer?.cancel()
        self.timer = nil
    }

    // MARK: Requests

    /// The one entrance: everything that comes in over HTTP.
    func handle(_ request: borrowing HTTPRequest, _ response: ResponseWriter) {
        self.metrics.requests += 1
        if self.options.instant && request.method == .post
            && !request.hasPath("/simulator/faults")
        {
            return self.answerInstantly(response)
        }
        self.route(request, response)
    }

    private func answerInstantly(_ response: ResponseWriter) {
        // This path is for benchmarks: without faults it does one thing.
        if !self.hasFaults && self.isWarm { return self.sendInstantAnswer(response) }
        self.meetFate(response, style: .openAI) { fate in
            if fate.truncates { return self.truncate(response, body: self.instantAnswer) }
            self.sendInstantAnswer(response)
        }
    }

    private func sendInstantAnswer(_ response: ResponseWriter) {
        let answer = self.instantAnswer
        response.respond(
            contentType: "application/json",
            fields: self.addReplica,
            body: answer.span.bytes
        )
    }

    /// The field that names this replica.
    func addReplica(_ fields: ByteBuffer) {
        ResponseFields.add("x-simulator-replica", self.replica, to: fields)
    }

    var isWarm: Bool { self.loop.now >= self.warmAt }
    var isReady: Bool { self.isWarm && !self.faults.notReady }

    func serves(_ model: String) -> Bool { self.options.models.contains(model) }

    // MARK: Faults

    /// What a request meets besides its model's time.
    struct Fate {
        var truncates = false
    }

    /// Draws a request's fate, and calls `serve` after the extra latency if it is to be served at
    /// all.
    func meetFate(
        _ response: ResponseWriter,
        style: ErrorBody.Style,
        serve: @escaping (Fate) -> Void
    ) {
        if !self.isWarm {
            return self.fail(response, .loading, style: style)
        }
        self.countTowardsCrash()
        let action = self.faults.decide(&self.random)
        if action != .none { self.metrics.faults += 1 }
        if action == .hang {
            return response.onClose { self.metrics.cancelled += 1 }
        }
        self.afterExtraLatency(response) {
            switch action {
            case .none: serve(Fate())
            case .truncate: serve(Fate(truncates: true))
            case .error(let status):
                let error = SimulatorError(
                    status: UInt16(status),
                    message: "a fault was injected",
                    code: "injected_fault"
                )
                self.fail(response, error, style: style)
            case .reset: response.abort()
            case .garbage:
                response.writeRaw("\u{1}\u{2}garbage, not HTTP\r\n\r\n\u{0}\u{7F}")
                response.cutShort()
            case .hang: break
            }
        }
    }

    private func afterExtraLatency(_ response: ResponseWriter, _ body: @escaping () -> Void) {
        if self.faults.extraLatency == .zero { return body() }
        let timer = self.loop.schedule(after: self.faults.extraLatency, body)
        response.onClose {
            timer.cancel()
            self.metrics.cancelled += 1
        }
    }

    /// Half an answer whose head promised all of it.
    func truncate(_ response: ResponseWriter, body: [UInt8]) {
        response.writeHead(
            contentType: "application/json",
            contentLength: body.count,
            fields: self.addReplica
        )
        response.write(body.span.bytes.extracting(0..<(body.count / 2)))
        response.cutShort()
    }

    /// Takes a plan into use; the plan must have no problems.
    func apply(_ plan: FaultPlan) {
        self.faults = plan
        self.hasFaults = plan != FaultPlan()
        self.engine.setSlowdown(self.options.batching.slowdown * plan.slowdown)
        self.station.slowdown = plan.slowdown
        if plan.crash != .none && plan.crashAfterRequests == 0 { self.crashSoon() }
    }

    private func countTowardsCrash() {
        guard self.faults.crash != .none else { return }
        self.faults.crashAfterRequests -= 1
        if self.faults.crashAfterRequests < 0 { self.crash(self.faults.crash) }
    }

    /// At the end of the turn, so that whoever asked for it gets an answer.
    private func crashSoon() {
        let box = LoopBound(self, loop: self.loop)
        self.loop.post { box.value.crash(box.value.faults.crash) }
    }

    func fail(_ response: ResponseWriter, _ error: SimulatorError, style: ErrorBody.Style) {
        self.metrics.failed += 1
        response.respond(
            status: error.status,
            fields: { fields in
                self.addReplica(fields)
                if error.retryable { ResponseFields.add("Retry-After", "1", to: fields) }
            },
            json: { error.write(to: &$0, style: style) }
        )
    }

    // MARK: Generation

    func nextID() -> SequenceID {
        self.lastID += 1
        return SequenceID(self.lastID)
    }

    /// A number that decides the length of an output; drawn per request.
    func drawOutputTokens() -> Int {
        let spread = self.options.outputTokensSpread
        if spread == 0 { return self.options.outputTokens }
        let factor = self.random.nextLogNormal(sigma: spread)
        return min(max(1, Int(Double(self.options.outputTokens) * factor)), 1_000_000)
    }

    func start(_ generation: Generation) {
        self.pump()
        generation.submittedAt = self.loop.now
        switch self.engine.submit(generation.sequence, now: self.loop.now) {
        case .rejected(let reason):
            self.fail(generation.response, .rejected(reason), style: .openAI)
        case .accepted:
            let id = generation.sequence.id
            self.generations[id] = generation
            generation.response.onClose { self.cancelGeneration(id) }
            generation.begin(fields: self.addReplica)
            self.pump()
        }
    }

    private func cancelGeneration(_ id: SequenceID) {
        guard self.generations.removeValue(forKey: id) != nil else { return }
        self.engine.cancel(id, now: self.loop.now)
        self.metrics.cancelled += 1
        self.metrics.finished[.abort, default: 0] += 1
        self.arm()
    }

    func start(_ inference: Inference) {
        self.pump()
        inference.submittedAt = self.loop.now
        switch self.station.submit(inference.id, now: self.loop.now) {
        case .rejected(let reason):
            self.fail(inference.response, .rejected(reason), style: .openInference)
        case .accepted:
            let id = inference.id
            self.inferences[id] = inference
            inference.response.onClose { self.cancelInference(id) }
            self.pump()
        }
    }

    private func cancelInference(_ id: SequenceID) {
        guard self.inferences.removeValue(forKey: id) != nil else { return }
        self.station.cancel(id, now: self.loop.now)
        self.metrics.cancelled += 1
        self.arm()
    }

    // MARK: Playing

    /// Plays the engine and the station up to now, and sets the timer for what comes next.
    private func pump() {
        // Writing to a client may find it gone and come back here through a cancellation.
        if self.isPumping { return }
        self.isPumping = true
        let now = self.loop.now
        self.events.removeAll(keepingCapacity: true)
        self.engine.advance(to: now, into: &self.events)
        for event in self.events { self.deliver(event) }
        for event in self.station.advance(to: now) { self.deliverInference(event) }
        self.isPumping = false
        self.arm()
    }

    private func arm() {
        if self.isPumping { return }
        self.timer?.cancel()
        self.timer = nil
        let next = min(
            self.engine.nextEventTime ?? .distantFuture,
            self.station.nextEventTime ?? .distantFuture
        )
        if next == .distantFuture { return }
        self.timer = self.loop.schedule(after: next - self.loop.now) { self.pump() }
    }

    private func deliver(_ event: EngineEvent) {
        guard let generation = self.generations[event.id] else { return }
        switch event.kind {
        case .admitted:
            if generation.admittedAt == nil {
                generation.admittedAt = event.at
                self.metrics.queueTime.record(event.at.seconds(since: generation.submittedAt))
            }
        case .preempted: break
        case .token(let index):
            self.recordToken(generation, at: event.at)
            if generation.truncates && generation.streams
                && index >= generation.sequence.outputTokens / 2
            {
                return self.cutStream(generation)
            }
            generation.token(index)
        case .finished: self.finish(generation, at: event.at)
        }
    }

    private func recordToken(_ generation: Generation, at: Instant) {
        self.metrics.generationTokens += 1
        if let last = generation.lastTokenAt {
            self.metrics.interTokenLatency.record(at.seconds(since: last))
        } else {
            self.metrics.timeToFirstToken.record(at.seconds(since: generation.submittedAt))
        }
        generation.lastTokenAt = at
    }

    private func cutStream(_ generation: Generation) {
        self.generations[generation.sequence.id] = nil
        self.engine.cancel(generation.sequence.id, now: self.loop.now)
        generation.response.cutShort()
    }

    private func finish(_ generation: Generation, at: Instant) {
        self.generations[generation.sequence.id] = nil
        self.metrics.promptTokens += UInt64(generation.sequence.promptTokens)
        self.metrics.endToEndLatency.record(at.seconds(since: generation.submittedAt))
        self.metrics.finished[generation.finishReason, default: 0] += 1
        if generation.streams { return generation.finishStream() }
        let body = generation.wholeAnswer()
        if generation.truncates { return self.truncate(generation.response, body: body) }
        generation.response.respond(
            contentType: "application/json",
            fields: self.addReplica,
            body: body.span.bytes
        )
    }

    private func deliverInference(_ event: EngineEvent) {
        guard let inference = self.inferences.removeValue(forKey: event.id) else { return }
        self.metrics.inferences += 1
        self.metrics.endToEndLatency.record(event.at.seconds(since: inference.submittedAt))
        let body = inference.body
        if inference.truncates { return self.truncate(inference.response, body: body) }
        inference.response.respond(
            contentType: inference.contentType,
            fields: { fields in
                self.addReplica(fields)
                inference.addFields(to: fields)
            },
            body: body.span.bytes
        )
    }
}
