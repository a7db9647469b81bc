import Clusters
import Control
import Core
import EventLoop
import HTTP
import HTTPService
import Proxy
import Rollouts
import Telemetry

// Design note
//
// The admin port: health, metrics, the JSON API and the dashboard. It lives on the control loop and
// reads the control plane directly; only what the workers measured is asked for by message and
// answered later. It decides nothing: scaling and reloading are calls into the control plane.
//
//   AdminServer ─ who may (AdminAccess) ─ which path (AdminRoute) ─ what is said (…Document)
//
// Who may: reading is open, so that probes and scrapers need no secret, but for the output of
// replicas, which may hold some. Writing is open on a loopback address and needs the token
// elsewhere. On loopback a browser is the danger: pages from elsewhere are told apart by `Host`
// (DNS rebinding), `Origin` and `Sec-Fetch-Site` (requests across sites).
//
// Limits: `AdminLimits`. Not done here: TLS, users, roles.

/// The bounds of the admin port.
package enum AdminLimits {
    /// Bytes of a request's content.
    package static let bodyBytesMax = 64 << 10
    /// The same of parts of tenants' limits, from who may write: 100 000 tenants take 12 MiB.
    package static let sharesBytesMax = 16 << 20
    /// Connections at a time.
    package static let connectionsMax = 256
    /// Bytes of the token's file.
    package static let tokenBytesMax = 4 << 10
    /// How long the workers may take to hand over what they measured.
    package static let collectTimeout = Duration.seconds(5)
    /// Collections that may wait for the workers at a time; more scrapes are answered 503.
    package static let collectionsMax = 64
}

/// The admin port: metrics, health, the JSON API and a dashboard. Confined to the control loop.
package final class AdminServer {
    package typealias Reload = () -> ReloadResult

    let control: ControlPlane
    let reload: Reload
    /// On a cluster: the endpoints that the controller may ask to drain.
    package var slices: SliceCluster?
    /// On a cluster: the models that requests wait for.
    package var wakes: WakeBoard?
    /// On a cluster: what the controller asks of rollouts.
    package var follower: RolloutFollower?
    /// On a cluster: this gateway's parts of tenants' limits.
    package var shares: TenantShares?
    private var access = AdminAccess(isLoopback: true, tokenFile: nil)
    private var server: HTTPServer?
    private let collector: StatisticsCollector
    private var window = StatisticsWindow()

    /// `reload` reads the configuration again; what comes of it is the answer to
    /// `POST /api/v1/reload`.
    package init(control: ControlPlane, reload: @escaping Reload) {
        self.control = control
        self.reload = reload
        self.collector = StatisticsCollector(control)
    }

    /// Listens. Writing needs the token of `tokenFile` unless the address is loopback. The file is
    /// read for every such request, so that a new token takes effect at once.
    /// - Throws: when the address cannot be had, or the file with the token cannot be used.
    package func start(on address: SocketAddress, tokenFile: String?) throws(SystemError) {
        precondition(self.server == nil, "the admin server was started twice")
        if let tokenFile { _ = try TokenFile.read(tokenFile) }
        self.access = AdminAccess(isLoopback: address.isLoopback, tokenFile: tokenFile)
        var options = HTTPServerOptions()
        options.bodyBytesMax = AdminLimits.bodyBytesMax
        options.connectionsMax = AdminLimits.connectionsMax
        self.server = try HTTPServer(loop: self.control.loop, address: address, options: options) {
            [unowned self] request, response in
            self.handle(request, response)
        }
        self.server?.contentLimit = { [unowned self] request in self.contentLimit(request) }
    }

    /// Much only from who may write: what comes is kept until it is whole.
    private func contentLimit(_ request: borrowing HTTPRequest) -> Int {
        guard request.method == .put, AdminRoute(path: request.path) == .tenants else {
            return AdminLimits.bodyBytesMax
        }
        let refusal = self.access.refusal(AdminAccess.Fields(request), isWrite: true)
        return refusal == nil ? AdminLimits.sharesBytesMax : AdminLimits.bodyBytesMax
    }

    /// Where it listens, with the port that was chosen where 0 was asked for.
    package var address: SocketAddress {
        guard let server = self.server else { preconditionFailure("not started") }
        return server.address
    }

    package func stop() {
        self.server?.stop(within: .milliseconds(100))
        self.server = nil
    }

    private func handle(_ request: borrowing HTTPRequest, _ response: ResponseWriter) {
        let isWrite = !request.method.isSafe
        let fields = AdminAccess.Fields(request)
        if let refusal = self.access.refusal(fields, isWrite: isWrite) {
            return refusal.answer(response)
        }
        guard let route = AdminRoute(path: request.path) else { return response.notFound() }
        guard route.allows(request.method) else {
            return response.methodNotAllowed(allow: route.allowed)
        }
        if route.isSecret, let refusal = self.access.missingToken(fields) {
            return refusal.answer(response)
        }
        self.answer(route, request, response)
    }

    private func answer(
        _ route: AdminRoute,
        _ request: borrowing HTTPRequest,
        _ response: ResponseWriter
    ) {
        switch route {
        case .dashboard: self.answerDashboard(response)
        case .health: response.respond(contentType: "text/plain; charset=utf-8", text: "ok\n")
        case .readiness: self.answerReadiness(response)
        case .metrics: self.answerMetrics(.init(accept: request.field(.accept)), response)
        case .statistics: self.answerStatistics(response)
        case .models: response.respond { ModelsDocument(self.control).write(to: &$0) }
        case .deployments: response.respond { DeploymentsDocument(self.control).write(to: &$0) }
        case .replicas: response.respond { ReplicasDocument(self.control).write(to: &$0) }
        case .listeners: response.respond { self.writeListeners(to: &$0) }
        case .snapshot: response.respond { SnapshotDocument(self.control).write(to: &$0) }
        case .load:
            if let leader = request.field(named: LeaderPlace.fieldName) {
                self.follower?.heard(ofLeader: leader)
            }
            self.answerLoad(response)
        case .budgets: response.respond { BudgetsDocument(self.control).write(to: &$0) }
        case .trials: self.answerTrials(query: request.query, response)
        case .decisions: response.respond { DecisionsDocument(self.control).write(to: &$0) }
        case .explain(let model): self.answerExplain(model, response)
        case .reload: self.answerReload(response)
        case .tenants: self.answerTenants(request, response)
        case .drain: self.answerDrain(request, response)
        case .wakes: self.answerWakes(query: request.query, response)
        case .scale(let deployment): self.scale(deployment, request, response)
        case .output(let replica): self.answerOutput(of: replica, response)
        case .rollouts: response.respond { RolloutsDocument(self.control).write(to: &$0) }
        case .rollout(let model): self.answerRollout(model, response)
        case .timeline(let model): self.answerTimeline(model, query: request.query, response)
        case .live(let model): self.setLive(model, request, response)
        case .command(.pause, let model): self.perform(.pause, model, response)
        case .command(.promote, let model): self.promote(model, request, response)
        case .command(.abort, let model): self.perform(.abort, model, response)
        case .command(.retry, let model): self.perform(.retry, model, response)
        }
    }

    // MARK: What the workers measured

    private func answerMetrics(_ format: ExpositionWriter.Format, _ response: ResponseWriter) {
        self.collector.collect { [weak self] answer in
            guard let self else { return }
            switch answer {
            case .statistics(let statistics):
                let buffer = ByteBuffer(capacity: 64 << 10)
                var document = MetricsDocument(self.control, statistics)
                document.sharesAge = self.shares?.ageSeconds
                document.write(into: buffer, format: format)
                response.respond(contentType: format.contentType, body: buffer.readable)
            case .unavailable(let reason): response.refuse(status: 503, reason)
            }
        }
    }

    private func answerStatistics(_ response: ResponseWriter) {
        self.collector.collect { [weak self] answer in
            guard let self else { return }
            switch answer {
            case .statistics(let statistics):
                let view = self.window.add(statistics, now: self.control.loop.now)
                let document = StatisticsDocument(control: self.control, view: view)
                response.respond { document.write(to: &$0) }
            case .unavailable(let reason): response.refuse(status: 503, reason)
            }
        }
    }

    private func answerLoad(_ response: ResponseWriter) {
        self.collector.collect { [weak self] answer in
            guard let self else { return }
            switch answer {
            case .statistics(let statistics):
                var document = LoadDocument(
                    gateway: self.control.identity,
                    at: self.control.loop.now,
                    models: statistics.models.values.sorted { $0.name < $1.name }
                )
                if let slices = self.slices {
                    document.pods = slices.byIdentity(self.control.requestsInFlight())
                    document.unserved = slices.unserved
                }
                response.respond { document.write(to: &$0) }
            case .unavailable(let reason): response.refuse(status: 503, reason)
            }
        }
    }

    private func answerDashboard(_ response: ResponseWriter) {
        let buffer = ByteBuffer(capacity: 16 << 10)
        buffer.append(Dashboard.page)
        response.respond(
            contentType: "text/html; charset=utf-8",
            fields: {
                ResponseFields.add(
                    "Content-Security-Policy",
                    Dashboard.contentSecurityPolicy,
                    to: $0
                )
                ResponseFields.add("X-Content-Type-Options", "nosniff", to: $0)
                ResponseFields.add("Referrer-Policy", "no-referrer", to: $0)
                ResponseFields.add("Cache-Control", "no-cache", to: $0)
            },
            body: buffer.readable
        )
    }
}
