import Clusters
import Core
import EventLoop
import HTTP
import HTTPService
import Orchestration

/// Asks every gateway of a cluster for what it counted, and tells it whom to drain.
///
/// The gateways are the endpoints of their Service. On the control loop's thread.
package final class GatewayPolls {
    package struct Options {
        /// A file with the token for the gateways' admin API.
        package var tokenFile: String?
        package var timeout = Duration.milliseconds(900)
        /// Who asks; gateways pass it on to people who want to know who leads.
        package var identity = ""

        package init() {}
    }

    /// How long a drain holds without being asked for again.
    static let drainSeconds = 15
    static let answerBytesMax = 64 << 20
    /// How long a gateway may think about whether there is something to tell.
    static let wakeSeconds = 20

    package private(set) var roll = GatewayRoll()
    private var gaps = EndpointGaps()
    /// One gateway's counters.
    package var onLoad: (LoadDocument, _ source: Int) -> Void = { _, _ in }
    /// A gateway is gone for good.
    package var onGone: (_ source: Int) -> Void = { _ in }
    /// Requests wait for a model at some gateway.
    package var onWake: (WakeLog.Wake) -> Void = { _ in }
    /// More pods may be drained than before.
    package var onDrained: () -> Void = {}
    package var onProblem: (_ gateway: String, _ problem: String) -> Void = { _, _ in }

    /// Whether any rollout waits for what gateways measure, or for their acknowledgement.
    package var asksForTrials: () -> Bool = { false }
    /// What one gateway measured of a rollout, once each.
    package var onTrial: (TrialDocument.Model) -> Void = { _ in }

    let loop: EventLoop
    private let options: Options
    private var trials: [String: Trials] = [:]
    private var draining: Set<String> = []
    /// What each gateway has drained, by its identity.
    private var drained: [String: Set<String>] = [:]
    /// Requests in flight by gateway and pod.
    private var inFlight: [String: [String: Int]] = [:]
    /// Gateways that may still hold back from what is not draining any more.
    private var told: Set<String> = []
    private var polling: [String: HTTPFetch] = [:]
    /// Questions that gateways answer when a request waits.
    private var listening: [String: HTTPFetch] = [:]
    /// The number of the last wake that each gateway told. One that was started again begins anew,
    /// and tells everything.
    private var heard: [String: Int] = [:]

    /// How far a gateway's measurements were fetched, and by which weights it goes.
    private struct Trials {
        var gateway = ""
        var last: Int?
        var traffic: [String: Int] = [:]
        var fetch: HTTPFetch?
    }

    package init(loop: EventLoop, options: Options) {
        self.loop = loop
        self.options = options
    }

    package func close() {
        for fetch in self.polling.values { fetch.cancel() }
        self.polling = [:]
        self.rest()
    }

    /// Asks for nothing until the next `poll`: another process leads.
    package func rest() {
        for fetch in self.listening.values { fetch.cancel() }
        self.listening = [:]
        for trials in self.trials.values { trials.fetch?.cancel() }
        self.trials = [:]
    }

    package func update(_ endpoints: [PodEndpoint]) {
        let before = Set(self.roll.gateways.map(\.endpoint.identity))
        for source in self.roll.update(endpoints, at: self.loop.now) {
            self.gaps.forget(source: source, at: self.loop.now)
            self.onGone(source)
        }
        for identity in before.subtracting(self.roll.gateways.map(\.endpoint.identity)) {
            self.drained[identity] = nil
            self.inFlight[identity] = nil
            self.told.remove(identity)
            self.heard[identity] = nil
            self.listening.removeValue(forKey: identity)?.cancel()
            self.trials[identity] = nil
        }
        if !self.draining.isEmpty { self.tell() }
    }

    // MARK: Load

    /// Asks all; `onLoad` runs for each that answers.
    package func poll(whenAllAnswered completion: @escaping () -> Void) {
        var waiting = 0
        if self.asksForTrials() {
            for gateway in self.roll.gateways {
                let isAsked = self.askForTrials(gateway) {
                    waiting -= 1
                    if waiting == 0 { completion() }
                }
                if isAsked { waiting += 1 }
            }
        }
        for gateway in self.roll.gateways where self.polling[gateway.endpoint.identity] == nil {
            guard var request = self.request(gateway, "/api/v1/load") else { continue }
            request.bodyBytesMax = Self.answerBytesMax
            waiting += 1
            self.polling[gateway.endpoint.identity] = HTTPFetch.start(request, on: self.loop) {
                [weak self] result in
                guard let self else { return }
                self.polling[gateway.endpoint.identity] = nil
                self.take(result, gateway)
                waiting -= 1
                if waiting == 0 { completion() }
            }
        }
        if waiting == 0 { completion() }
        for gateway in self.roll.gateways { self.listen(gateway) }
        if !self.draining.isEmpty { self.tell() }
    }

    private func take(
        _ result: Result<FetchResponse, FetchError>,
        _ gateway: GatewayRoll.Gateway
    ) {
        let name = gateway.endpoint.name
        switch result {
        case .failure(let error):
            if error != .cancelled { self.onProblem(name, "\(error)") }
        case .success(let response) where response.status == 200:
            do throws(JSONError) {
                let document = try LoadDocument(response.body)
                self.roll.answered(gateway.endpoint.identity, at: self.loop.now)
                self.inFlight[gateway.endpoint.identity] = document.pods
                self.gaps.take(document.unserved, from: gateway.source, at: self.loop.now)
                self.onLoad(document, gateway.source)
            } catch {
                self.onProblem(name, "its load cannot be read: \(error)")
            }
        case .success(let response): self.onProblem(name, "it answers \(response.status)")
        }
    }

    /// Why no gateway can send anything to a group; nil where they can.
    package func gap(ofGroup group: String) -> EndpointGap? {
        self.gaps.gap(of: group, at: self.loop.now)
    }

    // MARK: Wakes

    /// Waits for the gateway to tell that a request waits. One that does not answer is asked again
    /// with the next poll.
    private func listen(_ gateway: GatewayRoll.Gateway) {
        let identity = gateway.endpoint.identity
        if self.listening[identity] != nil { return }
        let question = WakeQuestion(
            after: self.heard[identity] ?? 0,
            seconds: Self.wakeSeconds
        )
        guard var request = self.request(gateway, question.target) else { return }
        request.timeout = .seconds(Self.wakeSeconds + 5)
        self.listening[identity] = HTTPFetch.start(request, on: self.loop) { [weak self] result in
            guard let self, self.listening.removeValue(forKey: identity) != nil else { return }
            self.takeWakes(result, gateway)
        }
    }

    private func takeWakes(
        _ result: Result<FetchResponse, FetchError>,
        _ gateway: GatewayRoll.Gateway
    ) {
        let identity = gateway.endpoint.identity
        // What is wrong with the gateway, the question about its load tells.
        guard case .success(let response) = result, response.status == 200 else { return }
        do throws(JSONError) {
            let answer = try WakeAnswer(response.body)
            self.heard[identity] = answer.last
            for wake in answer.wakes { self.onWake(wake) }
            self.listen(gateway)
        } catch {
            self.onProblem(gateway.endpoint.name, "its wakes cannot be read: \(error)")
        }
    }

    // MARK: Rollouts

    /// Whether every gateway there is goes by that generation of a model's weights.
    package func isAcknowledged(_ generation: Int, of model: String) -> Bool {
        self.roll.count == self.roll.gateways.count
            && self.roll.gateways.allSatisfy {
                self.trials[$0.endpoint.identity]?.traffic[model] == generation
            }
    }

    /// - Returns: false where an answer is awaited, or the gateway cannot be asked.
    private func askForTrials(
        _ gateway: GatewayRoll.Gateway,
        completion: @escaping () -> Void
    ) -> Bool {
        let identity = gateway.endpoint.identity
        let known = self.trials[identity] ?? Trials()
        let after = known.last.map { "?after=\($0)" } ?? ""
        guard known.fetch == nil, var request = self.request(gateway, "/api/v1/trials" + after)
        else { return false }
        request.bodyBytesMax = Self.answerBytesMax
        self.trials[identity] = known
        self.trials[identity]?.fetch = HTTPFetch.start(request, on: self.loop) {
            [weak self] result in
            self?.takeTrials(result, gateway)
            completion()
        }
        return true
    }

    private func takeTrials(
        _ result: Result<FetchResponse, FetchError>,
        _ gateway: GatewayRoll.Gateway
    ) {
        let identity = gateway.endpoint.identity
        let name = gateway.endpoint.name
        guard let known = self.trials[identity] else { return }
        self.trials[identity]?.fetch = nil
        switch result {
        case .failure(let error):
            if error != .cancelled { self.onProblem(name, "\(error)") }
        case .success(let response) where response.status == 200:
            do {
                let document = try TrialDocument(response.body)
                self.trials[identity]?.gateway = document.gateway
                self.trials[identity]?.last = document.last
                self.trials[identity]?.traffic = document.traffic
                // Another process at the same address counts from the beginning.
                guard known.gateway == document.gateway else { return }
                for part in document.parts { part.models.forEach(self.onTrial) }
            } catch {
                self.onProblem(name, "what it measured cannot be read: \(error)")
            }
        case .success(let response):
            self.onProblem(name, "it says nothing of rollouts (\(response.status))")
        }
    }

    /// Nothing that was measured before now is asked for: somebody else led.
    package func forgetTrials() {
        for identity in self.trials.keys { self.trials[identity]?.last = nil }
    }

    /// Requests in flight at a pod, over the gateways that were heard.
    package func streams(_ uid: String) -> Int {
        self.inFlight.values.reduce(0) { $0 + ($1[uid] ?? 0) }
    }

    // MARK: Drains

    /// The pods that get no new request from now on.
    package func drain(_ uids: Set<String>) {
        if uids == self.draining { return }
        self.draining = uids
        for identity in self.drained.keys { self.drained[identity]?.formIntersection(uids) }
        self.tell()
    }

    /// Whether every gateway there is has let go of the pod. Without gateways nobody sends.
    package func isDrained(_ uid: String) -> Bool {
        guard self.draining.contains(uid) else { return false }
        return self.roll.gateways.allSatisfy {
            self.drained[$0.endpoint.identity]?.contains(uid) ?? false
        }
    }

    private func tell() {
        let uids = Array(self.draining.sorted().prefix(DrainRequest.endpointsMax))
        for gateway in self.roll.gateways {
            let identity = gateway.endpoint.identity
            if uids.isEmpty, !self.told.contains(identity) { continue }
            guard var request = self.request(gateway, "/api/v1/drain") else { continue }
            let buffer = ByteBuffer(capacity: 512)
            var writer = JSONWriter(buffer)
            DrainRequest(endpoints: uids, seconds: Self.drainSeconds).write(to: &writer)
            self.put(buffer.readable.withUnsafeBytes { Array($0) }, in: &request)
            self.told.insert(identity)
            HTTPFetch.start(request, on: self.loop) { [weak self] result in
                self?.told(result, gateway, isLast: uids.isEmpty)
            }
        }
    }

    private func told(
        _ result: Result<FetchResponse, FetchError>,
        _ gateway: GatewayRoll.Gateway,
        isLast: Bool
    ) {
        let identity = gateway.endpoint.identity
        let name = gateway.endpoint.name
        switch result {
        case .failure(let error): self.onProblem(name, "it cannot be told to drain: \(error)")
        case .success(let response) where response.status == 200:
            do throws(JSONError) {
                let answer = try DrainAnswer(response.body)
                if isLast { self.told.remove(identity) }
                let new = Set(answer.drained).intersection(self.draining)
                if new == self.drained[identity] ?? [] { return }
                self.drained[identity] = new
                self.onDrained()
            } catch {
                self.onProblem(name, "its answer to a drain cannot be read: \(error)")
            }
        case .success(let response):
            let hint = response.status == 401 ? ": give --gateway-token-file" : ""
            self.onProblem(name, "it refuses to drain (\(response.status))\(hint)")
        }
    }

    /// Makes a request one that writes.
    func put(_ json: [UInt8], in request: inout FetchRequest) {
        request.method = .put
        request.body = json
        request.fields.append(("Content-Type", "application/json"))
        guard let token = self.token else { return }
        request.fields.append(("Authorization", "Bearer \(token)"))
    }

    func request(_ gateway: GatewayRoll.Gateway, _ target: String) -> FetchRequest? {
        let endpoint = gateway.endpoint
        guard let address = SocketAddress(host: endpoint.address, port: endpoint.port) else {
            return nil
        }
        var request = FetchRequest(address: address, target: target)
        request.timeout = self.options.timeout
        if !self.options.identity.isEmpty {
            request.fields = [("\(LeaderPlace.fieldName)", self.options.identity)]
        }
        return request
    }

    /// Read each time: tokens are replaced on disk.
    private var token: String? {
        guard let path = self.options.tokenFile, let bytes = readFile(path, limit: 4_096) else {
            return nil
        }
        let text = String(decoding: bytes, as: UTF8.self)
        return text.split(whereSeparator: \.isWhitespace).first.map(String.init)
    }
}
