import CNghttp2
import Core
import Glibc
import HTTP

/// What sessions have in common: nghttp2's callbacks and options, made once. Never freed.
final class Library: @unchecked Sendable {
    // @unchecked: nothing changes after `init`, and nghttp2 only reads them.

    static let shared = Library()

    private let callbacks: OpaquePointer
    private let options: OpaquePointer

    /// Where nghttp2 gets the body from that we send; nil where there is none.
    static func withDataSource<Result>(
        unless isEmpty: Bool,
        _ body: (UnsafePointer<nghttp2_data_provider>?) -> Result
    ) -> Result {
        if isEmpty { return body(nil) }
        let provider = nghttp2_data_provider(
            source: nghttp2_data_source(),
            read_callback: { _, id, _, length, flags, _, owner in
                guard let session = HTTP2Session.from(owner), let flags else {
                    return Int(NGHTTP2_ERR_CALLBACK_FAILURE.rawValue)
                }
                return session.offerData(of: id, length: length, flags)
            }
        )
        return withUnsafePointer(to: provider) { body($0) }
    }

    private init() {
        var callbacks: OpaquePointer?
        var options: OpaquePointer?
        let isMade =
            nghttp2_session_callbacks_new(&callbacks) == 0 && nghttp2_option_new(&options) == 0
        guard let callbacks, let options, isMade else { preconditionFailure("out of memory") }
        self.callbacks = callbacks
        self.options = options
        Self.install(callbacks)
        Self.installOutput(callbacks)
        nghttp2_option_set_no_auto_window_update(options, 1)
        nghttp2_option_set_no_closed_streams(options, 1)
        nghttp2_option_set_max_outbound_ack(options, HTTP2Settings.answersWaitingMax)
        nghttp2_option_set_max_settings(options, HTTP2Settings.settingsPerFrameMax)
        // Counted by ourselves, in whatever pieces they come: theirs counts each read that holds a
        // part of such a frame's head, and is for the blocks that are skipped.
        nghttp2_option_set_max_continuations(
            options,
            HTTP2Settings.continuationsMax * (HTTP2Session.frameHeaderBytes + 1)
        )
        nghttp2_option_set_builtin_recv_extension_type(options, Self.priorityUpdate)
        // Counted by ourselves, with a name: theirs is never reached.
        nghttp2_option_set_stream_reset_rate_limit(options, 1_000_000, 1_000_000)
    }

    /// RFC 9218, section 7.1.
    static let priorityUpdate: UInt8 = 0x10

    func makeSession(
        _ role: HTTP2Session.Role,
        _ owner: UnsafeMutableRawPointer
    ) -> OpaquePointer {
        var handle: OpaquePointer?
        let result =
            switch role {
            case .server: nghttp2_session_server_new2(&handle, self.callbacks, owner, self.options)
            case .client: nghttp2_session_client_new2(&handle, self.callbacks, owner, self.options)
            }
        guard result == 0, let handle else { preconditionFailure("out of memory") }
        return handle
    }

    // MARK: Callbacks: they find the session and call one method

    private static func install(_ callbacks: OpaquePointer) {
        nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks) { _, header, owner in
            guard let session = HTTP2Session.from(owner), let header else { return 0 }
            session.frameBegins(header.pointee)
            return 0
        }
        nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks) { _, frame, owner in
            guard let session = HTTP2Session.from(owner), let frame else { return 0 }
            return session.blockBegins(frame.pointee)
        }
        nghttp2_session_callbacks_set_on_header_callback(callbacks) {
            _,
            _,
            name,
            nameCount,
            value,
            valueCount,
            _,
            owner in
            guard let session = HTTP2Session.from(owner) else { return 0 }
            session.field(
                UnsafeRawBufferPointer(start: name, count: nameCount),
                UnsafeRawBufferPointer(start: value, count: valueCount)
            )
            return 0
        }
        nghttp2_session_callbacks_set_on_invalid_header_callback(callbacks) {
            _,
            _,
            name,
            nameCount,
            value,
            valueCount,
            _,
            owner in
            guard let session = HTTP2Session.from(owner) else { return 0 }
            session.field(
                UnsafeRawBufferPointer(start: name, count: nameCount),
                UnsafeRawBufferPointer(start: value, count: valueCount)
            )
            // They found a fault, whatever it was.
            session.block.fail(.malformed)
            return 0
        }
        nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks) { _, frame, owner in
            guard let session = HTTP2Session.from(owner), let frame else { return 0 }
            session.frameEnds(frame.pointee)
            return 0
        }
        nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks) {
            _,
            _,
            id,
            bytes,
            count,
            owner in
            guard let session = HTTP2Session.from(owner) else { return 0 }
            session.data(of: id, UnsafeRawBufferPointer(start: bytes, count: count))
            return 0
        }
        nghttp2_session_callbacks_set_on_stream_close_callback(callbacks) { _, id, code, owner in
            HTTP2Session.from(owner)?.streamCloses(id, HTTP2ErrorCode(code: code))
            return 0
        }
    }

    private static func installOutput(_ callbacks: OpaquePointer) {
        nghttp2_session_callbacks_set_send_callback(callbacks) { _, bytes, count, _, owner in
            guard let session = HTTP2Session.from(owner), let bytes else {
                return Int(NGHTTP2_ERR_CALLBACK_FAILURE.rawValue)
            }
            return session.compose(bytes, count: count)
        }
        nghttp2_session_callbacks_set_send_data_callback(callbacks) {
            _,
            frame,
            header,
            count,
            _,
            owner in
            guard let session = HTTP2Session.from(owner), let frame, let header else {
                return NGHTTP2_ERR_CALLBACK_FAILURE.rawValue
            }
            return session.composeData(of: frame.pointee.hd.stream_id, header, count: count)
        }
        nghttp2_session_callbacks_set_on_frame_send_callback(callbacks) { _, frame, owner in
            guard let session = HTTP2Session.from(owner), let frame else { return 0 }
            session.frameSent(frame.pointee)
            return 0
        }
    }
}

extension HTTP2Session {
    /// Unretained: nghttp2's session ends before this object does.
    static func from(_ owner: UnsafeMutableRawPointer?) -> HTTP2Session? {
        owner.map { Unmanaged<HTTP2Session>.fromOpaque($0).takeUnretainedValue() }
    }

    // MARK: Input

    func frameBegins(_ header: nghttp2_frame_hd) {
        if self.isDeaf { return }
        let isAnswer = header.flags & UInt8(NGHTTP2_FLAG_ACK.rawValue) != 0
        let endsStream = header.flags & UInt8(NGHTTP2_FLAG_END_STREAM.rawValue) != 0
        switch UInt32(header.type) {
        case NGHTTP2_DATA.rawValue:
            if header.length == 0, !endsStream { self.count(.emptyFrame) }
        case NGHTTP2_HEADERS.rawValue:
            self.continuations = 0
            self.checkIsOpen(header.stream_id)
            if header.length == 0 { self.count(.emptyFrame) }
        case NGHTTP2_CONTINUATION.rawValue:
            self.continuations += 1
            if self.continuations > HTTP2Settings.continuationsMax { self.overdo(.continuation) }
            self.count(header.length == 0 ? .emptyFrame : .continuation)
        case NGHTTP2_PRIORITY.rawValue, UInt32(Library.priorityUpdate):
            self.count(.priority)
            // nghttp2 does not look at them (RFC 9113, section 6.3).
            if header.type == NGHTTP2_PRIORITY.rawValue, header.stream_id == 0 {
                self.violation = .protocolError
            }
        case NGHTTP2_RST_STREAM.rawValue:
            if self.role == .server {
                self.count(self.stream(header.stream_id) == nil ? .lateReset : .reset)
            }
        case NGHTTP2_SETTINGS.rawValue:
            if !isAnswer { self.count(.settings) }
        case NGHTTP2_PING.rawValue:
            if !isAnswer { self.count(.ping) }
        case NGHTTP2_WINDOW_UPDATE.rawValue:
            self.count(.windowUpdate)
        default:
            break
        }
    }

    /// nghttp2 passes over frames of streams that it has forgotten, whoever has ended them; those
    /// with DATA it does not even tell.
    private func checkIsOpen(_ id: Int32) {
        switch self.ended.end(of: id) {
        case .finished: self.violation = .streamClosed
        case .reset: self.submitReset(id, .streamClosed)
        case nil: break
        }
    }

    func blockBegins(_ frame: nghttp2_frame) -> Int32 {
        let id = frame.hd.stream_id
        if frame.headers.cat == NGHTTP2_HCAT_REQUEST {
            self.block.begin(.request, limits: self.settings.head)
            // Behind a peer's farewell it depends on the pieces that come whether nghttp2 still
            // looks: what is refused is safe to ask again elsewhere.
            guard !self.isDeaf, !self.hasReceivedGoAway,
                let stream = self.owner?.beginStream(self)
            else {
                self.submitReset(id, .refusedStream)
                return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue
            }
            self.insert(stream, id: id)
            self.tie(stream)
            return 0
        }
        let stream = self.stream(id)
        let isResponse = self.role == .client && stream?.hasReceivedHead != true
        self.block.begin(
            isResponse ? .response(isToHead: stream?.isToHead == true) : .trailers,
            limits: self.settings.head
        )
        return 0
    }

    func field(_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) {
        self.block.add(name: name.bytes, value: value.bytes)
    }

    func frameEnds(_ frame: nghttp2_frame) {
        if self.isDeaf { return }
        let endsStream = frame.hd.flags & UInt8(NGHTTP2_FLAG_END_STREAM.rawValue) != 0
        switch UInt32(frame.hd.type) {
        case NGHTTP2_HEADERS.rawValue:
            self.blockEnds(frame.hd.stream_id, endsStream: endsStream)
        case NGHTTP2_DATA.rawValue:
            if endsStream, let stream = self.stream(frame.hd.stream_id) {
                stream.hasReceivedEnd = true
                stream.endReceived()
            }
        case NGHTTP2_RST_STREAM.rawValue:
            if self.role == .server { self.ended.note(frame.hd.stream_id, .reset) }
        case NGHTTP2_SETTINGS.rawValue:
            if frame.hd.flags & UInt8(NGHTTP2_FLAG_ACK.rawValue) == 0 {
                self.owner?.settingsReceived(self)
            }
        case NGHTTP2_PING.rawValue:
            if frame.hd.flags & UInt8(NGHTTP2_FLAG_ACK.rawValue) != 0 {
                self.owner?.pingAnswered(self)
            }
        case NGHTTP2_GOAWAY.rawValue:
            self.noteGoAway()
            self.owner?.goAwayReceived(
                self,
                lastStream: frame.goaway.last_stream_id,
                HTTP2ErrorCode(code: frame.goaway.error_code)
            )
        default:
            break
        }
    }

    private func blockEnds(_ id: Int32, endsStream: Bool) {
        guard let stream = self.stream(id) else { return }
        stream.hasReceivedEnd = endsStream
        let isOffered = self.settings.offersWebSockets && self.block.namesProtocol
        let key = isOffered ? self.owner?.webSocketKey(self) : nil
        if let error = self.block.finish(endsStream: endsStream, webSocketKey: key) {
            return self.refuse(stream, error, endsStream: endsStream)
        }
        switch self.block.kind {
        case .request:
            stream.hasReceivedHead = true
            stream.headReceived(self.block, endsStream: endsStream)
        case .response:
            if self.block.status >= 200 { stream.hasReceivedHead = true }
            stream.headReceived(self.block, endsStream: endsStream)
        case .trailers:
            let head = self.block.head
            stream.trailersReceived(head.readable.withUnsafeBytes { Array($0) })
        }
        if endsStream { stream.endReceived() }
    }

    /// Where the peer has not ended the stream, it is told to stop.
    private func refuse(_ stream: HTTP2Stream, _ error: FieldBlockError, endsStream: Bool) {
        if error.isExcess { self.count(.largeHead) }
        stream.blockRefused(error)
        if stream.session == nil { return }
        if stream.isOutputEnded {
            stream.resetsAfterEnd = !endsStream
        } else {
            self.submitReset(stream.id, .protocolError)
        }
    }

    func data(of id: Int32, _ bytes: UnsafeRawBufferPointer) {
        self.consumeConnection(bytes.count)
        if self.isDeaf { return }
        self.stream(id)?.dataReceived(bytes)
    }

    func streamCloses(_ id: Int32, _ code: HTTP2ErrorCode) {
        guard let stream = self.stream(id) else { return }
        if self.role == .server, stream.hasReceivedEnd { self.ended.note(id, .finished) }
        self.forget(stream)
        stream.closed(code)
    }

    // MARK: Output

    func compose(_ bytes: UnsafePointer<UInt8>, count: Int) -> Int {
        guard let sink = self.sink else { return Int(NGHTTP2_ERR_CALLBACK_FAILURE.rawValue) }
        if sink.count >= self.sinkLimit { return Int(NGHTTP2_ERR_WOULDBLOCK.rawValue) }
        sink.append(bytes, count: count)
        return count
    }

    /// Windows below this size are small on purpose, if more bytes wait.
    private static let tinyFrameBytes = 128

    func offerData(
        of id: Int32,
        length: Int,
        _ flags: UnsafeMutablePointer<UInt32>
    ) -> Int {
        guard let stream = self.stream(id) else {
            return Int(NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue)
        }
        let waiting = stream.outputCount
        let count = min(waiting, length)
        if count == 0, !stream.isOutputEnded {
            stream.isDeferred = true
            return Int(NGHTTP2_ERR_DEFERRED.rawValue)
        }
        if length < Self.tinyFrameBytes, waiting > length { self.count(.tinyWindow) }
        flags.pointee |= NGHTTP2_DATA_FLAG_NO_COPY.rawValue
        if count == waiting, stream.isOutputEnded {
            flags.pointee |= NGHTTP2_DATA_FLAG_EOF.rawValue
            if let trailers = stream.trailers.take() {
                flags.pointee |= NGHTTP2_DATA_FLAG_NO_END_STREAM.rawValue
                self.submitTrailers(stream, trailers)
            }
        }
        return count
    }

    func composeData(of id: Int32, _ header: UnsafePointer<UInt8>, count: Int) -> Int32 {
        guard let sink = self.sink else { return NGHTTP2_ERR_CALLBACK_FAILURE.rawValue }
        if sink.count >= self.sinkLimit { return NGHTTP2_ERR_WOULDBLOCK.rawValue }
        guard let stream = self.stream(id), count <= stream.outputCount else {
            return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue
        }
        // There is no padding: nobody asked for any.
        sink.append(header, count: Self.frameHeaderBytes)
        guard let output = stream.output else { return 0 }
        sink.append(output.readablePointer, count: count)
        output.consume(count)
        if output.isEmpty {
            stream.output = nil
            self.giveBuffer(output)
            self.drained.append(stream)
        }
        return 0
    }

    static let frameHeaderBytes = 9
    /// WINDOW_UPDATE frames that a DATA frame may call for: two, and some that are early.
    private static let updatesPerFrame: UInt32 = 10

    func frameSent(_ frame: nghttp2_frame) {
        let endsStream = frame.hd.flags & UInt8(NGHTTP2_FLAG_END_STREAM.rawValue) != 0
        if endsStream, frame.hd.type <= NGHTTP2_HEADERS.rawValue,
            let stream = self.stream(frame.hd.stream_id), stream.resetsAfterEnd
        {
            self.submitReset(stream.id, .noError)
        }
        switch UInt32(frame.hd.type) {
        case NGHTTP2_HEADERS.rawValue:
            if self.role == .client { self.stream(frame.hd.stream_id)?.isComposed = true }
        case NGHTTP2_DATA.rawValue:
            self.dataFramesSent &+= 1
            self.meter.earn(.windowUpdate, Self.updatesPerFrame)
            self.meter.earn(.lateReset, 1)
            // Peers of gRPC measure the path by a ping for what they get.
            self.meter.earn(.ping, 1)
        case NGHTTP2_RST_STREAM.rawValue:
            if self.role == .server, Self.isPeersFault(frame.rst_stream.error_code) {
                self.count(.provokedReset)
            }
        default:
            break
        }
    }

    private static func isPeersFault(_ code: UInt32) -> Bool {
        switch HTTP2ErrorCode(code: code) {
        case .protocolError, .flowControlError, .streamClosed, .frameSizeError: true
        default: false
        }
    }
}
