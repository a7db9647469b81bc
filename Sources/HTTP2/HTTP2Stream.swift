import CNghttp2
import Core
import HTTP

/// One request and its response on a session, seen from either side. Subclasses take what comes.
///
/// The session holds it from its beginning until `closed` has returned.
///
/// Public only because no class of a `package` type may be overridden in another module.
open class HTTP2Stream {
    /// 0 before the stream has begun.
    package final internal(set) var id: Int32 = 0
    /// Nil before the stream has begun, and again once it is closed.
    package final internal(set) unowned(unsafe) var session: HTTP2Session?
    /// Place in the session's table.
    final var slot = -1
    /// A final response's head has been received, or the request's.
    final var hasReceivedHead = false
    /// The peer has sent all there is.
    final var hasReceivedEnd = false
    /// The method of our request is HEAD.
    final var isToHead = false

    // What is to be sent.
    final var output: ByteBuffer?
    final var isOutputEnded = false
    final var trailers: OutgoingFields?
    /// nghttp2 looks for data of this stream only after it has been told that there is some.
    final var isDeferred = false
    final var hasHead = false
    /// Our request's head has been composed: before that nothing of it can have reached the peer.
    package final internal(set) var isComposed = false
    /// Once all has been sent the peer is told to send no more: what comes is of no use any more.
    package final var resetsAfterEnd = false

    public init() {}

    deinit {
        assert(self.slot < 0, "a stream was dropped while open")
    }

    // MARK: For subclasses

    /// A head has come: of a request, or of a response (interim ones too: see `FieldBlock.status`).
    /// The block is the session's and valid for this call only.
    open func headReceived(_ block: FieldBlock, endsStream: Bool) {}
    /// What came as a head, or as trailers, is none. Unless the subclass answers it or resets the
    /// stream here, it is reset with `protocolError`.
    open func blockRefused(_ error: FieldBlockError) {}
    /// Bytes of the body, which belong to the caller. Call `consumed` for them, now or later.
    open func dataReceived(_ bytes: UnsafeRawBufferPointer) {}
    /// Trailers as lines of HTTP/1; `endReceived` follows.
    open func trailersReceived(_ lines: [UInt8]) {}
    /// The peer has sent all there is.
    open func endReceived() {}
    /// Everything given to `send` has been composed. Not called in `send`.
    open func outputDrained() {}
    /// The stream is over, for both sides. Not called where the session is just dropped.
    open func closed(_ code: HTTP2ErrorCode) {}

    // MARK: Sending

    /// Bytes of the body that wait for the peer's window or for `write`.
    package final var outputCount: Int { self.output?.count ?? 0 }

    /// The peer has left room for more of the body, as far as this stream alone goes.
    package final var hasRoom: Bool { (self.session?.room(of: self) ?? 0) > 0 }

    /// Sends a response's head. `endsStream`: there is neither a body nor trailers.
    package final func respond(_ fields: OutgoingFields, endsStream: Bool) {
        guard let session = self.session else { return }
        assert(!self.hasHead, "a second head")
        self.hasHead = true
        self.isOutputEnded = endsStream
        session.submitResponse(self, fields, endsStream: endsStream)
    }

    /// Sends the head of an interim response (1xx).
    package final func inform(_ fields: OutgoingFields) {
        self.session?.submitInterim(self, fields)
    }

    /// Notes bytes of the body to be sent; they are copied.
    package final func send(_ pointer: UnsafeRawPointer, count: Int) {
        guard let session = self.session, count > 0 else { return }
        assert(!self.isOutputEnded, "a body goes on behind its end")
        let output = self.output ?? session.takeBuffer()
        self.output = output
        output.append(pointer, count: count)
        self.resume()
    }

    /// Ends what is sent, with trailers or without.
    package final func end(trailers: OutgoingFields? = nil) {
        guard self.session != nil, !self.isOutputEnded else { return }
        self.isOutputEnded = true
        self.trailers = trailers
        self.resume()
    }

    private final func resume() {
        guard self.isDeferred, let session = self.session else { return }
        self.isDeferred = false
        session.resumeData(self)
    }

    /// Ends the stream at once; `closed` follows when that has been composed.
    package final func reset(_ code: HTTP2ErrorCode) {
        self.session?.submitReset(self.id, code)
    }

    // MARK: Room

    /// `count` bytes that came need no more room: the peer may send as many again.
    package final func consumed(_ count: Int) {
        if count > 0 { self.session?.consume(self, count) }
    }
}
