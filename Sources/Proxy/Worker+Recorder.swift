import Core
import EventLoop
import HTTP
import Recorder
import Recordings
import Telemetry
import Traffic

/// What the recorder needs of a request that is gone when the request ends; only requests of its
/// sample have one.
struct RecordingDraft {
    var route: [UInt8] = RecordedRoutes.other
    var prefix: [UInt64] = []
}

/// One record per request, where the recorder is on and the request is in its sample.
extension Worker {
    /// Records from now on with another recorder, or with none.
    func record(with recorder: TrafficRecorder?) {
        self.recorder?.flush()
        self.recorder = recorder?.makeSink(on: self.loop)
    }

    /// Called once, when the request's response is complete or cannot be.
    func record(_ exchange: Exchange, _ draft: RecordingDraft) {
        guard let sink = self.recorder else { return }
        let now = self.loop.now
        let arrived = exchange.arrivedAt
        var record = RecordedRequest()
        let total = now.nanoseconds(since: arrived) / 1_000
        let wall = Telemetry.wallClockNanoseconds() / 1_000
        record.arrival = wall > total ? wall - total : 0
        record.total = total
        record.model = exchange.model?.route.nameBytes ?? []
        record.variant = exchange.meterName
        record.route = draft.route
        record.tenant = exchange.tenancy?.tenant.hash ?? 0
        record.prefix = draft.prefix
        record.status = exchange.status
        if let error = exchange.error { record.error = Array(error.label.description.utf8) }
        record.isStream = exchange.observer.kind == .eventStream
        record.attempts = UInt32(clamping: exchange.attempt)
        if exchange.admittedAt != .zero { record.queue = exchange.queueNanoseconds / 1_000 }
        if exchange.firstByteAt != .zero {
            record.firstByte = exchange.firstByteAt.nanoseconds(since: arrived) / 1_000
        }
        if let first = exchange.firstContentAt {
            record.firstToken = first.nanoseconds(since: arrived) / 1_000
        }
        record.bytesIn = exchange.bodyTotal
        record.bytesOut = exchange.responseBytes
        if let usage = exchange.observer.finalUsage() {
            record.inputTokens = UInt64(clamping: usage.prompt)
            record.outputTokens = UInt64(clamping: usage.completion)
        } else if exchange.observer.contentEvents > 0 {
            // Without usage each event with content is taken for one token, as servers send them.
            record.outputTokens = UInt64(clamping: exchange.observer.contentEvents)
        }
        sink.append(record)
    }
}

extension Exchange {
    /// Takes the request into the recorder's sample, or not. Called with its head.
    func draftRecording(_ sink: RecorderSink) {
        if sink.takesNext() { self.recording = RecordingDraft() }
    }

    func noteRoute(_ decision: RoutingDecision, _ bytes: RawSpan, _ path: ByteRange) {
        let name = RecordedRoutes.name(decision, bytes.slice(path))
        self.recording?.route = name
    }

    /// Hashes the beginning of the prompt, as far as it has arrived.
    func hashRecordedPrefix() {
        if !self.isHashingPrefix {
            guard self.style == .openAI, let body = self.plainBody else { return }
            self.scanner.reset(needs: .prompt, stopsEarly: true)
            _ = self.scanner.scan(body.readable)
        }
        let blocks = self.scanner.prompt.blocks
        let step = RecordingTrace.blocksPerHash
        if blocks.count < step { return }
        self.recording?.prefix = stride(from: step - 1, to: blocks.count, by: step).map {
            blocks[$0]
        }
    }
}

/// The names of kinds of requests, made once.
enum RecordedRoutes {
    static let other = Array(RecordedRoute.other.utf8)
    private static let inference = Array(RecordedRoute.inference.utf8)
    private static let metadata = Array(RecordedRoute.metadata.utf8)
    private static let readiness = Array(RecordedRoute.readiness.utf8)
    /// The paths of APIs that name no model; others hold names, of which there may be any number.
    private static let paths: [[UInt8]] = [
        "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses",
        "/v1/messages", "/v1/rerank", "/v1/score", "/v1/classify", "/v1/pooling",
        "/v1/moderations", "/v1/audio/speech", "/v1/images/generations",
    ].map { Array($0.utf8) }

    static func name(_ decision: RoutingDecision, _ path: RawSpan) -> [UInt8] {
        switch decision.operation {
        case .metadata: return self.metadata
        case .readiness: return self.readiness
        case .other: return self.other
        case .inference, .storedInference:
            return self.paths.first { $0.count == path.byteCount && path.isEqual(to: $0) }
                ?? self.inference
        }
    }
}
