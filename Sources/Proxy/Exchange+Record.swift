import Core
import EventLoop
import HTTP
import Traffic

/// What is kept of a request once it is over, and the fields that tell the client about it.
extension Exchange {
    /// Fields of the gateway's own on every response.
    func writeResponseFields(into output: ByteBuffer) {
        if let meter = self.meter {
            output.append("X-Weir-Variant: ")
            meter._withUnsafeGuaranteedRef { $0.writeName(into: output) }
            output.append("\r\n")
            if self.setsCookie, let model = self.model {
                self.writeStickyCookie(model, into: output)
            }
        }
        output.append("X-Request-Id: ")
        self.requestID.write(into: output)
        output.append("\r\n")
        if self.tenancy != nil, let readings = self.tenancy?.readings {
            self.writeRateFields(readings, into: output)
        }
        if self.wantsServerTiming { self.writeServerTiming(into: output) }
        if self.error?.kind == .unsupportedCoding {
            HeadWriter.field("Accept-Encoding", ContentCoding.accepted, into: output)
        }
    }

    /// Gives the client its variant for later requests. The cookie holds the variant's name only.
    private func writeStickyCookie(_ model: WorkerModel, into output: ByteBuffer) {
        guard case .cookie(let name) = model.route.settings.sticky else { return }
        output.append("Set-Cookie: ")
        output.append(name)
        output.append("=")
        self.meter?._withUnsafeGuaranteedRef { $0.writeName(into: output) }
        output.append("; Path=/; HttpOnly; SameSite=Lax\r\n")
    }

    /// `server-timing` (W3C), durations in milliseconds: waiting for a slot, and the upstream until
    /// its response head.
    private func writeServerTiming(into output: ByteBuffer) {
        output.append("Server-Timing: queue;dur=")
        self.appendMilliseconds(self.queueNanoseconds, into: output)
        if self.firstByteAt != .zero {
            output.append(", upstream;dur=")
            self.appendMilliseconds(
                self.firstByteAt.nanoseconds(since: self.admittedAt),
                into: output
            )
        }
        output.append("\r\n")
    }

    private func appendMilliseconds(_ nanoseconds: UInt64, into output: ByteBuffer) {
        output.append(decimal: nanoseconds / 1_000_000)
        output.append(".")
        let micro = nanoseconds / 1_000 % 1_000
        if micro < 100 { output.append("0") }
        if micro < 10 { output.append("0") }
        output.append(decimal: micro)
    }

    /// `name@address` of the replica, for the log.
    var lastEndpointName: [UInt8] {
        (self.endpoint ?? self.lastEndpoint).map { Array("\($0.name)@\($0.address)".utf8) } ?? []
    }

    /// Of the variant that the request went to last; empty where it went to none.
    var meterName: [UInt8] { self.meter?._withUnsafeGuaranteedRef { $0.nameBytes } ?? [] }

    var clientName: [UInt8] {
        guard let connection = self.client.connection, let peer = connection.peer else {
            return []
        }
        return Array("\(peer)".utf8)
    }

    var queueNanoseconds: UInt64 {
        self.queuedAt == .zero ? 0 : self.admittedAt.nanoseconds(since: self.queuedAt)
    }

    // MARK: Statistics

    /// Counts the request. Called once, when its response is complete or cannot be.
    func count(_ now: Instant) {
        if self.isTried, let arm = self.variant?.trial { self.recordTrial(arm, now) }
        if self.isShadow { return self.countShadow() }
        guard let model = self.unownedModel else {
            self.worker.stats.localAnswers[self.status, default: 0] += 1
            return
        }
        model._withUnsafeGuaranteedRef { model in
            guard let meter = self.meter else {
                model.statistics.unrouted[self.status, default: 0] += 1
                return
            }
            meter._withUnsafeGuaranteedRef { meter in
                meter.statistics.count(self.status)
                if self.call != nil, let status = self.callStatus {
                    meter.statistics.callsByStatus[status, default: 0] += 1
                }
                meter.statistics.duration.record(from: self.arrivedAt, to: now)
                self.countOverhead(model)
                if self.error == nil { self.countTokens(meter, now) }
            }
        }
    }

    /// A copy that was answered; its answer counts nowhere else.
    private func countShadow() {
        self.meter?._withUnsafeGuaranteedRef { $0.statistics.mirrored += 1 }
        self.model?.mirrorsInFlight -= 1
    }

    /// From the last byte that was needed to send the request on, to the moment it was sent, without
    /// waiting for a slot or a connection.
    private func countOverhead(_ model: WorkerModel) {
        guard self.sentAt != .zero, self.readyAt != .zero else { return }
        let total = self.sentAt.nanoseconds(since: self.readyAt)
        let waited =
            self.queueNanoseconds + self.connectedAt.nanoseconds(since: self.admittedAt)
        model.statistics.overhead.record(nanoseconds: total > waited ? total - waited : 0)
    }

    private func countTokens(_ meter: VariantMeter, _ now: Instant) {
        let usage = self.observer.finalUsage()
        if let usage {
            meter.statistics.inputTokens += UInt64(clamping: usage.prompt)
            meter.statistics.outputTokens += UInt64(clamping: usage.completion)
        } else {
            // Without usage each event with content is taken for one token, as servers send them.
            meter.statistics.outputTokens += UInt64(clamping: self.observer.contentEvents)
        }
        guard let first = self.firstContentAt else { return }
        meter.statistics.timeToFirstToken.record(from: self.arrivedAt, to: first)
        let tokens = usage?.completion ?? self.observer.contentEvents
        guard tokens > 1, let last = self.observer.lastContentAt else { return }
        meter.statistics.timePerOutputToken.record(
            nanoseconds: last.nanoseconds(since: first) / UInt64(tokens - 1)
        )
    }
}
