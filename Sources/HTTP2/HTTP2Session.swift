import CNghttp2
import Core
import HTTP

/// One HTTP/2 connection as nghttp2 sees it; see `HTTP2.swift`. Confined to one thread.
package final class HTTP2Session {
    package enum Role: Sendable { case server, client }

    /// What a client must send first (RFC 9113, section 3.4).
    private static let prefaceBytes = 24

    package let role: Role
    package let settings: HTTP2Settings
    /// The session is its owner's part. To be set before anything is received.
    package unowned(unsafe) var owner: (any HTTP2SessionOwner)?
    /// nghttp2's session. Freed by `close`, once; nil afterwards.
    private var handle: OpaquePointer?
    /// For the one field block that may be on its way at a time (RFC 9113, section 4.3).
    let block = FieldBlock()
    var meter = FrameMeter()
    /// The time of the call that is being served.
    var now = Instant.zero
    /// What came too often; nothing is listened to from then on.
    package internal(set) var overdone: FrameAbuse?
    /// What the peer did that ends the connection and nghttp2 lets pass: nothing is listened to
    /// from then on.
    var violation: HTTP2ErrorCode?
    var isDeaf: Bool { self.overdone != nil || self.violation != nil }
    /// Of a server.
    var ended = EndedStreams()
    /// nghttp2 is on the stack: it must not be freed, nor asked to receive or to send.
    private var isBusy = false
    private var isClosing = false
    private var hasToldOverdone = false
    /// What to say at the end where nghttp2 cannot be asked to.
    private var farewell: HTTP2ErrorCode?
    private var hasSaidFarewell = false
    /// Where `write` composes to, during the call.
    var sink: ByteBuffer?
    var sinkLimit = 0
    /// A field block has begun and is not complete.
    package var isInBlock: Bool { self.blocks.isInBlock }
    private var blocks: BlockCursor
    /// CONTINUATION frames behind the last HEADERS frame.
    var continuations = 0

    private var streams: [HTTP2Stream?] = []
    private var freeSlots: [Int] = []
    package private(set) var streamCount = 0
    /// Streams that had something to send and have nothing any more.
    var drained: [HTTP2Stream] = []
    private var buffers: [ByteBuffer] = []
    private var values: [nghttp2_nv] = []
    /// Frames sent, which tells whether a peer's WINDOW_UPDATE frames have a reason.
    package internal(set) var dataFramesSent: UInt64 = 0
    package private(set) var hasReceivedGoAway = false
    package private(set) var hasSentGoAway = false

    /// - Parameter owner: outlives the session, or calls `close` before it ends.
    package init(_ role: Role, settings: HTTP2Settings, owner: (any HTTP2SessionOwner)? = nil) {
        self.role = role
        self.settings = settings
        self.owner = owner
        self.blocks = BlockCursor(prefaceBytes: role == .server ? Self.prefaceBytes : 0)
        self.handle = Library.shared.makeSession(role, Unmanaged.passUnretained(self).toOpaque())
        self.announce()
    }

    deinit {
        precondition(self.handle == nil, "an HTTP/2 session was dropped while open")
    }

    /// Frees everything. Streams that are open are dropped; their owner knows them by
    /// `openStreams`.
    package func close() {
        self.isClosing = true
        if self.isBusy { return }
        guard let handle = self.handle else { return }
        self.handle = nil
        nghttp2_session_del(handle)
        for stream in self.streams {
            if let stream { self.forget(stream) }
        }
        self.drained = []
        self.buffers = []
    }

    package var isClosed: Bool { self.isClosing || self.handle == nil }

    /// The streams that have begun and are not closed.
    package var openStreams: [HTTP2Stream] { self.streams.compactMap { $0 } }

    private func announce() {
        guard let handle = self.handle else { return }
        var entries = [
            Self.entry(NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, self.settings.streamWindowBytes),
            Self.entry(NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, self.settings.head.maxHeadBytes),
            Self.entry(NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, HTTP2Settings.headerTableBytes),
        ]
        switch self.role {
        case .server:
            entries.append(
                Self.entry(
                    NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS,
                    self.settings.maxConcurrentStreams
                )
            )
            entries.append(Self.entry(NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1))
            if self.settings.offersWebSockets {
                entries.append(Self.entry(NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1))
            }
        case .client:
            entries.append(Self.entry(NGHTTP2_SETTINGS_ENABLE_PUSH, 0))
        }
        self.check(
            nghttp2_submit_settings(
                handle,
                UInt8(NGHTTP2_FLAG_NONE.rawValue),
                entries,
                entries.count
            )
        )
        self.check(
            nghttp2_session_set_local_window_size(
                handle,
                UInt8(NGHTTP2_FLAG_NONE.rawValue),
                0,
                self.settings.connectionWindowBytes
            )
        )
    }

    private static func entry(
        _ id: nghttp2_settings_id,
        _ value: some BinaryInteger
    ) -> nghttp2_settings_entry {
        nghttp2_settings_entry(settings_id: Int32(id.rawValue), value: UInt32(value))
    }

    /// A call that can fail only for lack of memory, or by a mistake of ours.
    private func check(_ result: Int32) {
        precondition(result == 0, "nghttp2: \(String(cString: nghttp2_strerror(result)))")
    }

    // MARK: Input

    package enum Received: Equatable, Sendable {
        case proceed
        /// The session is over: send what `write` has to say, and close.
        case end
    }

    /// Takes bytes that were read.
    package func receive(_ bytes: UnsafeRawBufferPointer, now: Instant) -> Received {
        guard let handle = self.handle, !self.isClosing, !self.isBusy else { return .end }
        self.now = now
        if self.isDeaf { return .end }
        self.blocks.take(bytes)
        self.isBusy = true
        let result = nghttp2_session_mem_recv(
            handle,
            bytes.baseAddress?.assumingMemoryBound(to: UInt8.self),
            bytes.count
        )
        self.isBusy = false
        if self.isClosing {
            self.close()
            return .end
        }
        if result < 0 { self.receivingFailed(Int32(truncatingIfNeeded: result)) }
        self.tellOverdone()
        if let violation = self.violation { self.terminate(violation) }
        return result < 0 || !self.wantsInput ? .end : .proceed
    }

    /// nghttp2's session must not be used any more but to be freed: the farewell is ours.
    private func receivingFailed(_ code: Int32) {
        switch code {
        case NGHTTP2_ERR_FLOODED.rawValue:
            self.overdo(.ping)
            self.farewell = .enhanceYourCalm
        case NGHTTP2_ERR_TOO_MANY_CONTINUATIONS.rawValue:
            self.overdo(.continuation)
            self.farewell = .enhanceYourCalm
        case NGHTTP2_ERR_NOMEM.rawValue:
            preconditionFailure("out of memory")
        default:
            self.farewell = .protocolError
        }
    }

    /// Tells the owner, once, and says farewell.
    private func tellOverdone() {
        guard let overdone = self.overdone, !self.hasToldOverdone else { return }
        self.hasToldOverdone = true
        if self.farewell == nil { self.terminate(.enhanceYourCalm) }
        self.owner?.peerOverdid(self, overdone)
    }

    /// Whether anything that the peer may still send is of interest.
    package var wantsInput: Bool {
        guard let handle = self.handle, self.farewell == nil, !self.isDeaf else {
            return false
        }
        return nghttp2_session_want_read(handle) != 0
    }

    func overdo(_ what: FrameAbuse) {
        if self.overdone == nil { self.overdone = what }
    }

    /// Counts something that is allowed only so often.
    func count(_ what: FrameAbuse) {
        if !self.meter.take(what, now: self.now) { self.overdo(what) }
    }

    // MARK: Output

    /// Whether `write` has something to compose now.
    package var wantsOutput: Bool {
        guard let handle = self.handle else { return false }
        if self.farewell != nil { return !self.hasSaidFarewell }
        return nghttp2_session_want_write(handle) != 0
    }

    /// Composes what is to be sent into `sink`, until there are about `limit` bytes in it. One
    /// frame may be more.
    package func write(into sink: ByteBuffer, limit: Int, now: Instant) {
        guard let handle = self.handle, !self.isBusy, !self.isClosing else { return }
        self.now = now
        if let farewell = self.farewell { return self.sayFarewell(farewell, into: sink) }
        self.isBusy = true
        self.sink = sink
        self.sinkLimit = limit
        let result = nghttp2_session_send(handle)
        self.sink = nil
        self.isBusy = false
        // Only for lack of memory: callbacks do not fail.
        if result != 0 { self.isClosing = true }
        if self.isClosing { return self.close() }
        self.tellDrained()
        self.tellOverdone()
    }

    /// A GOAWAY of our own making, behind whole frames.
    private func sayFarewell(_ code: HTTP2ErrorCode, into sink: ByteBuffer) {
        if self.hasSaidFarewell { return }
        self.hasSaidFarewell = true
        let last = nghttp2_session_get_last_proc_stream_id(self.handle)
        let bytes: [UInt8] = [0, 0, 8, UInt8(NGHTTP2_GOAWAY.rawValue), 0, 0, 0, 0, 0]
        sink.append(bytes)
        for word in [UInt32(max(0, last)), code.rawValue] {
            withUnsafeBytes(of: word.bigEndian) { sink.append($0.baseAddress, count: $0.count) }
        }
    }

    private func tellDrained() {
        if self.drained.isEmpty { return }
        let drained = self.drained
        self.drained.removeAll(keepingCapacity: true)
        for stream in drained where stream.session != nil { stream.outputDrained() }
    }

    // MARK: The session as a whole

    /// Asks the peer for a sign of life: `pingAnswered`.
    package func ping() {
        guard let handle = self.handle else { return }
        nghttp2_submit_ping(handle, UInt8(NGHTTP2_FLAG_NONE.rawValue), nil)
    }

    /// Of a server: tells that there will soon be no new streams; those on their way are taken
    /// (RFC 9113, section 6.8). `goAway` follows when the peer must have read that.
    package func announceGoAway() {
        guard let handle = self.handle else { return }
        nghttp2_submit_shutdown_notice(handle)
    }

    /// Takes no new streams; those that are there go on.
    package func goAway(_ code: HTTP2ErrorCode = .noError) {
        guard let handle = self.handle, !self.hasSentGoAway else { return }
        self.hasSentGoAway = true
        let last = nghttp2_session_get_last_proc_stream_id(handle)
        nghttp2_submit_goaway(
            handle,
            UInt8(NGHTTP2_FLAG_NONE.rawValue),
            last,
            code.rawValue,
            nil,
            0
        )
    }

    /// Says farewell and ends everything: nothing that comes is looked at any more.
    package func terminate(_ code: HTTP2ErrorCode) {
        guard let handle = self.handle, self.farewell == nil else { return }
        self.hasSentGoAway = true
        nghttp2_session_terminate_session(handle, code.rawValue)
    }

    func noteGoAway() { self.hasReceivedGoAway = true }

    // MARK: Streams

    /// Of a client: begins a request. False where the session takes no more, or the peer allows no
    /// more at once: then nothing has happened.
    ///
    /// - Parameter endsStream: there is neither a body nor trailers.
    package func request(
        _ stream: HTTP2Stream,
        _ fields: OutgoingFields,
        isHead: Bool,
        endsStream: Bool
    ) -> Bool {
        precondition(self.role == .client, "a server has no requests")
        guard let handle = self.handle, self.takesRequests else { return false }
        let id = self.withValues(fields) { values in
            Library.withDataSource(unless: endsStream) { source in
                nghttp2_submit_request(
                    handle,
                    nil,
                    values.baseAddress,
                    values.count,
                    source,
                    Unmanaged.passUnretained(stream).toOpaque()
                )
            }
        }
        if id < 0 { return false }
        stream.isToHead = isHead
        stream.hasHead = true
        stream.isOutputEnded = endsStream
        self.insert(stream, id: id)
        return true
    }

    /// Of a client: whether a request may begin now.
    package var takesRequests: Bool {
        guard let handle = self.handle, !self.isClosing else { return false }
        if self.hasReceivedGoAway || self.hasSentGoAway { return false }
        return nghttp2_session_check_request_allowed(handle) != 0
            && self.streamCount < Int(self.peerStreamsMax)
    }

    /// Streams of ours that the peer takes at once; 100 until it has said so.
    package var peerStreamsMax: UInt32 {
        guard let handle = self.handle else { return 0 }
        return nghttp2_session_get_remote_settings(
            handle,
            NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS
        )
    }

    func insert(_ stream: HTTP2Stream, id: Int32) {
        precondition(stream.slot < 0, "a stream began twice")
        stream.id = id
        stream.session = self
        if let slot = self.freeSlots.popLast() {
            stream.slot = slot
            self.streams[slot] = stream
        } else {
            stream.slot = self.streams.count
            self.streams.append(stream)
        }
        self.streamCount += 1
    }

    /// Lets go of a stream. The caller holds it.
    func forget(_ stream: HTTP2Stream) {
        let slot = stream.slot
        guard slot >= 0 else { return }
        stream.slot = -1
        stream.session = nil
        self.streams[slot] = nil
        self.freeSlots.append(slot)
        self.streamCount -= 1
        if let output = stream.output.take() { self.giveBuffer(output) }
        stream.trailers = nil
    }

    /// Tells nghttp2 whom it is to name in its calls.
    func tie(_ stream: HTTP2Stream) {
        guard let handle = self.handle else { return }
        let pointer = Unmanaged.passUnretained(stream).toOpaque()
        nghttp2_session_set_stream_user_data(handle, stream.id, pointer)
    }

    func stream(_ id: Int32) -> HTTP2Stream? {
        guard let handle = self.handle, id > 0,
            let pointer = nghttp2_session_get_stream_user_data(handle, id)
        else { return nil }
        return Unmanaged<HTTP2Stream>.fromOpaque(pointer).takeUnretainedValue()
    }

    // MARK: For streams

    func submitResponse(_ stream: HTTP2Stream, _ fields: OutgoingFields, endsStream: Bool) {
        guard let handle = self.handle else { return }
        let result = self.withValues(fields) { values in
            Library.withDataSource(unless: endsStream) { source in
                nghttp2_submit_response(
                    handle,
                    stream.id,
                    values.baseAddress,
                    values.count,
                    source
                )
            }
        }
        precondition(result != NGHTTP2_ERR_INVALID_ARGUMENT.rawValue, "a response for no stream")
    }

    func submitInterim(_ stream: HTTP2Stream, _ fields: OutgoingFields) {
        guard let handle = self.handle else { return }
        self.withValues(fields) { values in
            _ = nghttp2_submit_headers(
                handle,
                UInt8(NGHTTP2_FLAG_NONE.rawValue),
                stream.id,
                nil,
                values.baseAddress,
                values.count,
                nil
            )
        }
    }

    func submitTrailers(_ stream: HTTP2Stream, _ fields: OutgoingFields) {
        guard let handle = self.handle else { return }
        self.withValues(fields) { values in
            _ = nghttp2_submit_trailer(handle, stream.id, values.baseAddress, values.count)
        }
    }

    func submitReset(_ id: Int32, _ code: HTTP2ErrorCode) {
        guard let handle = self.handle else { return }
        nghttp2_submit_rst_stream(handle, UInt8(NGHTTP2_FLAG_NONE.rawValue), id, code.rawValue)
    }

    func resumeData(_ stream: HTTP2Stream) {
        guard let handle = self.handle else { return }
        nghttp2_session_resume_data(handle, stream.id)
    }

    /// The peer's window of one stream; not more than 0 where it has none.
    func room(of stream: HTTP2Stream) -> Int32 {
        guard let handle = self.handle else { return 0 }
        return nghttp2_session_get_stream_remote_window_size(handle, stream.id)
    }

    func consume(_ stream: HTTP2Stream, _ count: Int) {
        guard let handle = self.handle else { return }
        nghttp2_session_consume_stream(handle, stream.id, count)
    }

    func consumeConnection(_ count: Int) {
        guard let handle = self.handle else { return }
        nghttp2_session_consume_connection(handle, count)
    }

    // MARK: Buffers and fields

    /// Buffers of bodies are kept for the next stream, a few of them.
    private static let buffersKeptMax = 4
    private static let bufferBytes = 4 * 1024

    func takeBuffer() -> ByteBuffer {
        self.buffers.popLast() ?? ByteBuffer(capacity: Self.bufferBytes)
    }

    func giveBuffer(_ buffer: ByteBuffer) {
        buffer.removeAll()
        guard self.buffers.count < Self.buffersKeptMax else { return }
        buffer.shrink(to: 4 * Self.bufferBytes)
        self.buffers.append(buffer)
    }

    private func withValues<Result>(
        _ fields: OutgoingFields,
        _ body: (UnsafeBufferPointer<nghttp2_nv>) -> Result
    ) -> Result {
        self.values.removeAll(keepingCapacity: true)
        let base = fields.bytes.readablePointer.assumingMemoryBound(to: UInt8.self)
        for entry in fields.entries {
            let flags = entry.isSensitive ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE
            self.values.append(
                nghttp2_nv(
                    name: base + Int(entry.name.start),
                    value: base + Int(entry.value.start),
                    namelen: Int(entry.name.count),
                    valuelen: Int(entry.value.count),
                    flags: UInt8(flags.rawValue)
                )
            )
        }
        return self.values.withUnsafeBufferPointer(body)
    }
}
