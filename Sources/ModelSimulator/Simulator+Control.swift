import Core
import EventLoop
import HTTP
import HTTPService

/// Health, metrics, faults and raw answers.
extension Simulator {
    func route(_ request: borrowing HTTPRequest, _ response: ResponseWriter) {
        if self.routeOpenAI(request, response) { return }
        if self.routeOpenInference(request, response) { return }
        if request.hasPath("/health") || request.hasPath("/healthz") || request.hasPath("/readyz") {
            self.get(request, response) { self.answerHealth($0, isWell: self.isReady) }
        } else if request.hasPath("/metrics") {
            self.get(request, response) { self.answerMetrics($0) }
        } else if request.hasPath("/simulator/faults") {
            self.routeFaults(request, response)
        } else if request.path.hasPrefix("/raw/") {
            RawAnswers(simulator: self).route(request, response)
        } else {
            self.fail(response, .noSuchPath, style: .openAI)
        }
    }

    /// 200 or 503 and nothing else, as vLLM and Triton answer.
    func answerHealth(_ response: ResponseWriter, isWell: Bool) {
        response.respond(
            status: isWell ? 200 : 503,
            contentType: "text/plain",
            fields: self.addReplica,
            body: RawSpan()
        )
    }

    private func answerMetrics(_ response: ResponseWriter) {
        let buffer = ByteBuffer(capacity: 16 << 10)
        self.metrics.write(
            to: buffer,
            engine: self.engine,
            station: self.station,
            model: self.options.models.first ?? ""
        )
        response.respond(
            contentType: "text/plain; version=0.0.4; charset=utf-8",
            fields: self.addReplica,
            body: buffer.readable
        )
    }

    // MARK: Faults

    private func routeFaults(_ request: borrowing HTTPRequest, _ response: ResponseWriter) {
        switch request.method {
        case .get, .head: self.answerFaults(response)
        case .delete:
            self.apply(FaultPlan())
            self.answerFaults(response)
        case .post: self.changeFaults(request, response)
        default: response.methodNotAllowed(allow: "GET, HEAD, POST, DELETE")
        }
    }

    private func changeFaults(_ request: borrowing HTTPRequest, _ response: ResponseWriter) {
        do throws(SimulatorError) {
            var plan = self.faults
            try self.read(request) { (bytes) throws(JSONError) in
                try FaultPlanText.read(bytes, into: &plan)
            }
            guard plan.problems.isEmpty else {
                throw .badRequest(plan.problems.joined(separator: "; "))
            }
            // Answered first: the plan may be to crash.
            self.answer(plan, response)
            self.apply(plan)
        } catch {
            self.fail(response, error, style: .openAI)
        }
    }

    private func answerFaults(_ response: ResponseWriter) {
        self.answer(self.faults, response)
    }

    private func answer(_ plan: FaultPlan, _ response: ResponseWriter) {
        response.respond(fields: self.addReplica) { FaultPlanText.write(plan, to: &$0) }
    }
}

extension SimulatorError {
    static var noSuchPath: SimulatorError {
        SimulatorError(status: 404, message: "there is nothing at this path", code: "not_found")
    }
}

/// A fault plan as JSON; what is left out stays as it is.
enum FaultPlanText {
    static func write(_ plan: FaultPlan, to json: inout JSONWriter) {
        json.object { json in
            json.member("errorRate", plan.errorRate)
            json.member("errorStatus", plan.errorStatus)
            json.member("hangRate", plan.hangRate)
            json.member("resetRate", plan.resetRate)
            json.member("truncateRate", plan.truncateRate)
            json.member("garbageRate", plan.garbageRate)
            json.member("extraLatencyMilliseconds", plan.extraLatency.secondsAsDouble * 1_000)
            json.member("slowdown", plan.slowdown)
            json.member("notReady", plan.notReady)
            json.member("crash", plan.crash.rawValue)
            json.member("crashAfterRequests", plan.crashAfterRequests)
        }
    }

    static func read(_ bytes: RawSpan, into plan: inout FaultPlan) throws(JSONError) {
        var cursor = JSONCursor()
        try cursor.object(bytes) { (cursor, key) throws(JSONError) in
            try self.readMember(&cursor, bytes, bytes.extracting(key), into: &plan)
        }
        try cursor.end(bytes)
    }

    private static func readMember(
        _ cursor: inout JSONCursor,
        _ bytes: RawSpan,
        _ key: RawSpan,
        into plan: inout FaultPlan
    ) throws(JSONError) {
        let name = String(decoding: Bytes.array(key), as: UTF8.self)
        switch name {
        case "errorRate": plan.errorRate = try cursor.number(bytes)
        case "errorStatus": plan.errorStatus = try cursor.integer(bytes)
        case "hangRate": plan.hangRate = try cursor.number(bytes)
        case "resetRate": plan.resetRate = try cursor.number(bytes)
        case "truncateRate": plan.truncateRate = try cursor.number(bytes)
        case "garbageRate": plan.garbageRate = try cursor.number(bytes)
        case "extraLatencyMilliseconds":
            let milliseconds = try cursor.number(bytes)
            guard milliseconds >= 0 && milliseconds <= 3_600_000 else {
                throw cursor.error("extraLatencyMilliseconds must be 0 to 3600000")
            }
            plan.extraLatency = .nanoseconds(Int64(milliseconds * 1e6))
        case "slowdown": plan.slowdown = try cursor.number(bytes)
        case "notReady": plan.notReady = try cursor.bool(bytes)
        case "crash":
            guard let crash = FaultPlan.Crash(rawValue: try cursor.string(bytes)) else {
                throw cursor.error("crash must be none, exit or abort")
            }
            plan.crash = crash
        case "crashAfterRequests": plan.crashAfterRequests = try cursor.integer(bytes)
        default: throw cursor.error("there is no fault named \(name.prefix(100))")
        }
    }
}

/// Answers without a model, for tests of proxies:
/// `/raw/bytes/N`, `/raw/chunks/COUNT/SIZE`, `/raw/slow/COUNT/MILLISECONDS`, `/raw/status/N`,
/// `/raw/delay/MILLISECONDS`, `/raw/echo`.
struct RawAnswers {
    static let bytesMax = 1 << 40
    static let countMax = 1_000_000
    static let millisecondsMax = 3_600_000
    private static let blockBytes = 64 << 10

    let simulator: Simulator

    func route(_ request: borrowing HTTPRequest, _ response: ResponseWriter) {
        let parts = request.path.split(separator: "/").dropFirst().map(String.init)
        let numbers = parts.dropFirst().map { Int($0) ?? -1 }
        switch (parts.first, numbers.count) {
        case ("bytes", 1) where (0...Self.bytesMax).contains(numbers[0]):
            self.stream(response, contentLength: numbers[0], blocks: numbers[0], of: 1)
        case ("chunks", 2)
        where (0...Self.countMax).contains(numbers[0])
            && (1...Self.blockBytes).contains(numbers[1]):
            self.stream(response, contentLength: nil, blocks: numbers[0], of: numbers[1])
        case ("slow", 2)
        where (0...Self.countMax).contains(numbers[0])
            && (0...Self.millisecondsMax).contains(numbers[1]):
            self.drip(response, count: numbers[0], every: .milliseconds(numbers[1]))
        case ("status", 1) where (200...599).contains(numbers[0]):
            response.respond(
                status: UInt16(numbers[0]),
                contentType: "text/plain",
                fields: self.simulator.addReplica,
                body: RawSpan()
            )
        case ("delay", 1) where (0...Self.millisecondsMax).contains(numbers[0]):
            self.delay(response, .milliseconds(numbers[0]))
        case ("echo", 0):
            request.withBody { body in
                response.respond(
                    contentType: "application/octet-stream",
                    fields: self.simulator.addReplica,
                    body: body
                )
            }
        default: self.simulator.fail(response, .noSuchPath, style: .plain)
        }
    }

    /// Writes blocks for as long as the client takes them.
    private func stream(
        _ response: ResponseWriter,
        contentLength: Int?,
        blocks: Int,
        of size: Int
    ) {
        response.writeHead(
            contentType: "application/octet-stream",
            contentLength: contentLength,
            fields: self.simulator.addReplica
        )
        // With a content length the framing does not show blocks: write the largest.
        let bytes = [UInt8](repeating: 0x78, count: contentLength == nil ? size : Self.blockBytes)
        var rest = blocks
        func produce() {
            while rest > 0 {
                let count = contentLength == nil ? bytes.count : min(rest, bytes.count)
                rest -= contentLength == nil ? 1 : count
                if !response.write(bytes.span.bytes.extracting(0..<count)) { break }
            }
            if rest == 0 { response.end() }
        }
        response.onWritable(produce)
        produce()
    }

    private func drip(_ response: ResponseWriter, count: Int, every period: Duration) {
        response.writeHead(
            contentType: "text/plain",
            contentLength: count,
            fields: self.simulator.addReplica
        )
        response.flushHead()
        var rest = count
        var timer: LoopTimer?
        func next() {
            if rest == 0 { return response.end() }
            rest -= 1
            response.write("x")
            timer = self.simulator.loop.schedule(after: period, next)
        }
        response.onClose { timer?.cancel() }
        next()
    }

    private func delay(_ response: ResponseWriter, _ delay: Duration) {
        let timer = self.simulator.loop.schedule(after: delay) {
            response.respond(
                contentType: "text/plain",
                fields: self.simulator.addReplica,
                body: RawSpan()
            )
        }
        response.onClose {
            timer.cancel()
            self.simulator.metrics.cancelled += 1
        }
    }
}
