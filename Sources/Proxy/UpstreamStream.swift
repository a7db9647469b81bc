import Core
import HTTP
import HTTP2
import Traffic

/// One request on a connection to a replica that carries several.
///
/// It has the duties that `UpstreamConnection` has towards its exchange, on HTTP/2: an answer's head
/// is handed on as the HTTP/1 head that it stands for, bytes and the end as they come. Bytes that
/// the client does not take are passed on all the same, but room for more is given to the replica
/// only once the client goes on (`pauseReading`): so a slow client holds up its own stream, with one
/// window of bytes at most, and no other one.
final class UpstreamStream: HTTP2Stream {
    /// With so many bytes of a body waiting to be sent the client is not read.
    static let backlogBytes = 64 * 1024
    /// Interim responses to one request; a server that sends more is broken.
    private static let interimMax = 16

    let connection: MultiplexedUpstream
    /// The connection had carried a request before.
    private let wasReused: Bool
    private(set) var exchange: Exchange?
    /// More waits to be sent than is good; until all of it has gone.
    private(set) var hasBacklog = false
    private var hasEndedRequest = false
    private var hasBegunResponse = false
    private var hasEndedResponse = false
    private var isPaused = false
    /// Bytes that came while paused: the replica gets no room for as many yet.
    private var withheld = 0
    private var interimCount = 0
    private var trailers: [UInt8] = []
    /// It has something in the batch of bytes at hand.
    var isTouched = false

    init(_ connection: MultiplexedUpstream, _ exchange: Exchange, wasReused: Bool) {
        self.connection = connection
        self.exchange = exchange
        self.wasReused = wasReused
        super.init()
    }

    override init() { preconditionFailure("a stream is on a connection") }

    // MARK: The request

    /// Sends the head. False where the connection has no room for the request after all.
    func begin(_ fields: OutgoingFields, isHead: Bool, endsStream: Bool) -> Bool {
        guard let session = self.connection.session else { return false }
        self.hasEndedRequest = endsStream
        return session.request(self, fields, isHead: isHead, endsStream: endsStream)
    }

    func sendBody(_ pointer: UnsafeRawPointer, count: Int) {
        self.send(pointer, count: count)
        if self.outputCount >= Self.backlogBytes { self.hasBacklog = true }
    }

    func endRequest(trailers: OutgoingFields?) {
        self.hasEndedRequest = true
        self.end(trailers: trailers)
    }

    override func outputDrained() {
        guard self.hasBacklog else { return }
        self.hasBacklog = false
        self.exchange?.upstreamDrained()
    }

    // MARK: The response

    func pauseReading() { self.isPaused = true }

    func resumeReading() {
        self.isPaused = false
        self.consumed(self.withheld)
        self.withheld = 0
        self.connection.flushSoon()
    }

    override func headReceived(_ block: FieldBlock, endsStream: Bool) {
        guard let exchange = self.exchange else { return }
        self.connection.touch(self)
        let head = self.connection.worker.responseHead
        head.reset()
        let buffer = block.head
        let bytes = UnsafeRawBufferPointer(start: buffer.readablePointer, count: buffer.count).bytes
        switch head.parse(bytes, limits: Self.limits) {
        case .complete:
            self.handle(head, bytes, exchange)
        case .needMore:
            assertionFailure("our own head does not end")
            self.abandon(.closedEarly)
        case .invalid(let error):
            self.abandon(.invalidResponse(error))
        }
    }

    /// The block was measured as it came.
    private static let limits = HeadLimits(
        maxHeadBytes: HeadLimits.maxHeadBytesCeiling,
        maxFields: 4_096,
        maxTargetBytes: HeadLimits.maxHeadBytesCeiling
    )

    private func handle(_ head: ResponseHead, _ bytes: RawSpan, _ exchange: Exchange) {
        if head.status < 200 {
            self.interimCount += 1
            if self.interimCount > Self.interimMax { return self.abandon(.tooManyInterim) }
            return exchange.interimResponse(head, bytes)
        }
        self.hasBegunResponse = true
        let framing = head.framing(requestMethod: exchange.method)
        if case .tunnel = framing { return self.abandon(.unexpectedUpgrade) }
        exchange.responseHead(head, bytes, framing: framing)
    }

    override func blockRefused(_ error: FieldBlockError) {
        self.abandon(.invalidBlock(error))
    }

    override func dataReceived(_ bytes: UnsafeRawBufferPointer) {
        guard let exchange = self.exchange else { return self.consumed(bytes.count) }
        self.connection.touch(self)
        exchange.responseBody(bytes)
        if self.isPaused {
            self.withheld += bytes.count
        } else {
            self.consumed(bytes.count)
        }
    }

    override func trailersReceived(_ lines: [UInt8]) { self.trailers = lines }

    /// The answer is complete. Where the request is too, the stream closes right behind this, and its
    /// place is free before anybody can want it.
    override func endReceived() {
        self.hasEndedResponse = true
        if self.hasEndedRequest, self.outputCount == 0 { return }
        self.finish()
        self.reset(.noError)
        self.connection.flushSoon()
    }

    override func closed(_ code: HTTP2ErrorCode) {
        self.connection.streamClosed()
        if self.hasEndedResponse { return self.finish() }
        guard let exchange = self.exchange.take() else { return }
        if code == .refusedStream, !self.hasBegunResponse {
            return exchange.streamRefused()
        }
        exchange.streamFailed(.resetStream(code), self.facts)
    }

    /// All of the answer has been passed on.
    private func finish() {
        guard let exchange = self.exchange.take() else { return }
        exchange.upstreamFinished(trailers: self.trailers)
    }

    // MARK: Ends

    struct Facts {
        /// Nothing of the request can have arrived.
        var wasNeverSent: Bool
        /// The connection had been idle, and nothing has been heard on it since.
        var wasStale: Bool
        var hadResponseBytes: Bool
    }

    private var facts: Facts {
        Facts(
            wasNeverSent: !self.isComposed,
            wasStale: self.wasReused && !self.connection.hasBeenHeard,
            hadResponseBytes: self.hasBegunResponse || self.interimCount > 0
        )
    }

    /// The answer cannot be used: the rest of it is not wanted.
    private func abandon(_ failure: UpstreamFailure) {
        guard let exchange = self.exchange.take() else { return }
        self.reset(.protocolError)
        exchange.streamFailed(failure, self.facts)
    }

    /// The connection is no more.
    func connectionFailed(_ failure: UpstreamFailure) {
        if self.hasEndedResponse { return self.finish() }
        self.exchange.take()?.streamFailed(failure, self.facts)
    }

    /// The connection has room for the request now.
    func connectionOpened() {
        self.exchange?.streamReady()
    }

    /// The exchange has no more use for it.
    func cancel() {
        self.exchange = nil
        self.connection.cancelled(self)
    }

    /// All bytes of one read were handled.
    func batchEnded() {
        self.isTouched = false
        self.exchange?.upstreamBatchEnded()
    }
}
