import Clusters
import Configuration
import Control
import Core
import EventLoop
import HTTP
import HTTPService
import Proxy
import Traffic

extension AdminServer {
    func answerReadiness(_ response: ResponseWriter) {
        let reason: String? =
            if self.control.isDraining {
                "draining"
            } else if let reason = self.control.unreadiness {
                reason
            } else if !self.control.hasGateway {
                nil
            } else if self.control.gateway == nil {
                "the listeners are not open"
            } else if !self.control.isServing {
                "the workers have no configuration yet"
            } else {
                nil
            }
        let type: StaticString = "text/plain; charset=utf-8"
        if let reason {
            response.respond(status: 503, contentType: type, text: "\(reason)\n")
        } else {
            response.respond(contentType: type, text: "ok\n")
        }
    }

    func writeListeners(to writer: inout JSONWriter) {
        writer.object {
            $0.list("listeners") { writer in
                for listener in self.control.gateway?.addresses ?? [] {
                    writer.object {
                        $0.member("name", listener.name)
                        $0.member("address", "\(listener.address)")
                    }
                }
            }
            $0.member("admin", "\(self.address)")
        }
    }

    func answerReload(_ response: ResponseWriter) {
        if self.control.isDraining { return response.refuse(status: 409, "Weir is shutting down") }
        switch self.reload() {
        case .applied: response.respond { $0.object { $0.member("result", plain: "applied") } }
        case .unchanged: response.respond { $0.object { $0.member("result", plain: "unchanged") } }
        case .refused(let problems):
            response.respond(status: 422) {
                $0.object {
                    $0.member("error", "the configuration was refused, the old one stays")
                    $0.member("problems", problems)
                }
            }
        }
    }

    func answerExplain(_ name: String, _ response: ResponseWriter) {
        guard let document = ExplainDocument(self.control, name) else {
            let known = self.control.configuration.models.map(\.name)
            let names = known.isEmpty ? "are none" : "are \(known.joined(separator: ", "))"
            return response.refuse(status: 404, "there is no model `\(name)`; there \(names)")
        }
        response.respond { document.write(to: &$0) }
    }

    /// Drains endpoints for the controller of a cluster, for as long as it goes on asking.
    func answerDrain(_ request: borrowing HTTPRequest, _ response: ResponseWriter) {
        guard let slices = self.slices else {
            return response.refuse(status: 404, "this is not the gateway of a cluster")
        }
        let asked: DrainRequest
        do throws(JSONError) {
            asked = try request.withBody { (bytes) throws(JSONError) in try DrainRequest(bytes) }
        } catch {
            return response.refuse(status: 400, "\(error)")
        }
        slices.drain(Set(asked.endpoints), for: .seconds(asked.seconds))
        let states = slices.drainStates(of: asked.endpoints)
        let answer = DrainAnswer(
            generation: self.control.generation,
            drained: states.filter(\.isDrained).map(\.identity)
        )
        response.respond { answer.write(to: &$0) }
    }

    /// What is known of the tenants, after the controller's parts of their limits were taken over
    /// where it sends them.
    func answerTenants(_ request: borrowing HTTPRequest, _ response: ResponseWriter) {
        if request.method == .put {
            guard let shares = self.shares else {
                return response.refuse(status: 404, "this is not the gateway of a cluster")
            }
            do {
                let value = try request.withBody { (bytes) throws(JSONError) in
                    try JSONValue(bytes.withUnsafeBytes { Array($0) })
                }
                shares.take(try ShareLease.Grant(value))
            } catch {
                return response.refuse(status: 400, "\(error)")
            }
        }
        guard self.control.hasGateway else {
            return response.refuse(status: 404, "gateways know their tenants, not the controller")
        }
        var report = self.control.tenantReport
        report.run = self.shares?.run ?? ""
        report.generation = self.shares?.generation ?? 0
        report.fallback = self.shares?.fallback ?? 0
        response.respond { report.value.write(to: &$0) }
    }

    /// Models that requests wait for, as soon as there are any that the controller has not heard
    /// of.
    func answerWakes(query: String?, _ response: ResponseWriter) {
        guard let wakes = self.wakes else {
            return response.refuse(status: 404, "this is not the gateway of a cluster")
        }
        guard let question = WakeQuestion(query: query) else {
            return response.refuse(
                status: 400,
                "say `after=NUMBER&seconds=1…\(WakeQuestion.secondsMax)`"
            )
        }
        let ticket = wakes.ask(question) { answer in
            guard let answer else { return response.refuse(status: 503, "too many are waiting") }
            response.respond { answer.write(to: &$0) }
        }
        if let ticket { response.onClose { [weak wakes] in wakes?.cancel(ticket) } }
    }

    /// - Parameter query: `after=N`, or nothing for what comes from now on.
    func answerTrials(query: String?, _ response: ResponseWriter) {
        guard let follower = self.follower else {
            return response.refuse(status: 404, "this is not the gateway of a cluster")
        }
        var number: Int?
        if let query {
            guard query.hasPrefix("after="), let asked = Int(query.dropFirst(6)), asked >= 0 else {
                return response.refuse(status: 400, "write `after=N` behind the question mark")
            }
            number = asked
        }
        let buffer = ByteBuffer(capacity: 4 << 10)
        buffer.append(follower.document(after: number).text)
        response.respond(contentType: "application/json", body: buffer.readable)
    }

    func answerOutput(of name: String, _ response: ResponseWriter) {
        let processes = self.control.processes
        let replica = processes?.groups.flatMap(\.replicas).first { $0.id.description == name }
        guard let replica, let text = processes?.output(of: replica.id) else {
            return response.refuse(status: 404, "there is no replica `\(name)` with output")
        }
        response.respond(contentType: "text/plain; charset=utf-8", text: text)
    }

    func scale(
        _ deployment: String,
        _ request: borrowing HTTPRequest,
        _ response: ResponseWriter
    ) {
        guard self.control.processes?.group(deployment) != nil else {
            let known = self.control.configuration.processDeployments.map(\.name)
            let names = known.isEmpty ? "are none" : "are \(known.joined(separator: ", "))"
            return response.refuse(
                status: 404,
                "there is no deployment `\(deployment)`; there \(names)"
            )
        }
        let count: Int
        do throws(JSONError) {
            count = try request.withBody { (bytes) throws(JSONError) in
                try ScaleRequest.parse(bytes)
            }
        } catch {
            return response.refuse(status: 400, "\(error)")
        }
        if self.control.isDraining { return response.refuse(status: 409, "Weir is shutting down") }
        do throws(ClusterError) {
            try self.control.scale(deployment, to: count)
        } catch {
            return response.refuse(status: 409, error.description)
        }
        response.respond {
            $0.object {
                $0.member("deployment", deployment)
                $0.member("replicas", count)
            }
        }
    }
}

/// `{"replicas": 3}`
enum ScaleRequest {
    static func parse(_ bytes: RawSpan) throws(JSONError) -> Int {
        var cursor = JSONCursor()
        var count: Int?
        try cursor.object(bytes) { (cursor, key) throws(JSONError) in
            guard Self.isReplicas(bytes.extracting(key)) else {
                throw cursor.error("the one field here is `replicas`, not another")
            }
            guard count == nil else { throw cursor.error("`replicas` is given twice") }
            count = try cursor.integer(bytes)
        }
        try cursor.end(bytes)
        guard let count else { throw cursor.error("`replicas` is missing") }
        guard (0...ClusterLimits.replicasMax).contains(count) else {
            throw cursor.error("`replicas` must be between 0 and \(ClusterLimits.replicasMax)")
        }
        return count
    }

    private static func isReplicas(_ key: RawSpan) -> Bool {
        key.withUnsafeBytes { $0.elementsEqual("replicas".utf8) }
    }
}
