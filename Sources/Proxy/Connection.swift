import Core
import EventLoop
import Glibc
import TLS

/// What client and upstream connections have in common: a transport, edge-triggered readiness, an
/// output buffer, and an end.
///
/// **Reading** is edge-triggered: `isReadable` stays set until a read says that the socket is empty,
/// so a connection may stop reading (back-pressure) and go on later without asking the kernel.
/// **Writing** goes straight to the socket; what it does not take is copied to `output`, and the
/// owner is told to stop its source until `drained`. One read of the peer (`Worker.readSize`) is the
/// most that is ever added to `output` after it blocked: that bounds it.
/// **Failures** of a write are delivered at the end of the loop's turn, never inside the call, so
/// that nobody's callee frees its caller.
class Connection: IOHandler {
    /// Bodies up to this size are copied behind what waits in `output`; larger ones are written
    /// from where they are.
    static let copyThreshold = 16 * 1024

    /// The worker outlives its connections: it closes them before it ends.
    final let worker: Worker
    final private(set) var transport: Transport
    /// A TLS session is being agreed on: nothing is read or written yet.
    final private(set) var isHandshaking = false
    /// It waits for its turn among the handshakes.
    private final var isHandshakeQueued = false
    /// Place in the worker's table.
    final var slot = -1
    /// Bytes the kernel has not taken, or a message being composed in this call.
    final var output: ByteBuffer?
    final var isWriteBlocked = false
    /// The socket may hold bytes that were not read yet.
    final var isReadable = false
    /// The peer has sent its FIN; bytes before it may still wait.
    final private(set) var peerClosed = false
    final private(set) var isClosed = false
    final private(set) var hasWriteFailed = false
    private final var endsAfterOutput = false
    /// What was composed waits for the worker to send it with that of others.
    final private(set) var isFlushDeferred = false

    init(worker: Worker, descriptor: Int32) {
        self.worker = worker
        self.transport = Transport(descriptor: descriptor)
        super.init()
    }

    /// Goes on with what another connection has surrendered.
    init(worker: Worker, transport: consuming Transport) {
        self.worker = worker
        self.transport = transport
        super.init()
    }

    deinit {
        assert(self.isClosed, "a connection was dropped while open")
    }

    /// Starts watching the socket, once, for everything.
    final func start() {
        self.worker.insert(self)
        self.register(
            descriptor: self.transport.descriptor,
            on: self.worker.loop,
            interest: .all,
            edgeTriggered: true,
            // `Worker.remove` keeps it to the end of the turn.
            outlivesTurn: true
        )
    }

    // MARK: For subclasses

    /// There may be bytes to read: read until the socket is empty or nothing more is wanted.
    func readReady() {}
    /// Everything in `output` has gone out after it had been blocked.
    func drained() {}
    /// The first write event of a connecting socket; with it there may be something to read. True
    /// when it was one.
    func connectFinished(hasInput: Bool) -> Bool { false }
    /// What waited for the end of the turn was handed to the socket; `isDone` where it took all.
    func deferredFlushEnded(isDone: Bool) {}
    /// The TLS session stands: bytes may come, and may be written.
    func handshakeFinished() {}
    /// There is no TLS session, and there will be none.
    func handshakeFailed(_ failure: TLSFailure) {}
    /// A write failed with `code`; runs at the end of the turn, not inside the write.
    func writeFailed() {}
    /// The connection has just been closed.
    func closed() {}

    // MARK: Events

    override final func ready(_ events: IOEvents) {
        if self.isClosed { return }
        if events.contains(.closed) { self.peerClosed = true }
        if self.transport.session != nil { return self.secureReady(events) }
        self.handle(events)
    }

    @inline(__always)
    private final func handle(_ events: IOEvents) {
        if events.contains(.write) {
            let hasInput = events.contains(.read) || events.contains(.closed)
            if self.connectFinished(hasInput: hasInput) { return }
            if self.isWriteBlocked {
                self.isWriteBlocked = false
                if self.flush() {
                    if self.endsAfterOutput { self.finishWriting() }
                    if !self.isWriteBlocked { self.drained() }
                }
                if self.isClosed { return }
            }
        }
        if events.contains(.read) || events.contains(.closed) {
            self.isReadable = true
            self.readReady()
        }
    }

    /// Delivers a failure that a write left behind. Called by the worker at the end of a turn.
    final func deliverWriteFailure() {
        if self.hasWriteFailed, !self.isClosed { self.writeFailed() }
    }

    // MARK: TLS

    /// Agrees on a session before anything else. The first step is taken when the peer has sent
    /// something; with `speaksFirst` as soon as there is time.
    final func secure(_ session: TLSSession, speaksFirst: Bool) {
        self.transport.secure(session)
        if self.peerClosed { session.endIsNear() }
        self.isHandshaking = true
        if speaksFirst { self.handshakeLater() }
    }

    private final func handshakeLater() {
        if self.isHandshakeQueued { return }
        self.isHandshakeQueued = true
        self.worker.handshakeLater(self)
    }

    private final func secureReady(_ events: IOEvents) {
        guard let session = self.transport.session else { return }
        if events.contains(.closed) { session.endIsNear() }
        if events.contains(.read) { session.becameReadable() }
        if self.isHandshaking {
            if events != .write || session.wantsToWrite { self.handshakeLater() }
            return
        }
        // What could not be read before something was written may be read now.
        let isLate = events.contains(.write) && session.wantsToWrite
        self.handle(isLate ? events.union(.read) : events)
    }

    /// One step of the handshake, called by the worker when it is this one's turn.
    final func stepHandshake() {
        self.isHandshakeQueued = false
        guard !self.isClosed, self.isHandshaking, let session = self.transport.session else {
            return
        }
        switch session.handshake() {
        case .wantsMore:
            break
        case .done:
            self.isHandshaking = false
            // The peer may have sent more than the handshake in one go.
            self.isReadable = true
            self.handshakeFinished()
            if !self.isClosed { self.readReady() }
        case .failed(let failure):
            self.isHandshaking = false
            self.handshakeFailed(failure)
        }
    }

    /// Speaks plain text from here on.
    final func dropSession() { self.transport.dropSession() }

    // MARK: Reading

    /// One read. Keeps `isReadable` right: after a short read the socket is empty, unless a FIN
    /// waits behind the bytes.
    @inline(__always)
    final func read(into pointer: UnsafeMutableRawPointer, count: Int) -> IOResult {
        if let session = self.transport.session {
            return self.read(session, into: pointer, count: count)
        }
        let result = self.transport.read(into: pointer, count: count)
        switch result {
        case .bytes(let received):
            if received < count, !self.peerClosed { self.isReadable = false }
        case .wouldBlock:
            self.isReadable = false
        case .endOfStream, .failed:
            self.isReadable = false
            self.peerClosed = true
        }
        return result
    }

    /// The same of a session, which knows by itself whether there is more.
    private final func read(
        _ session: TLSSession,
        into pointer: UnsafeMutableRawPointer,
        count: Int
    ) -> IOResult {
        let read = session.read(into: pointer, count: count)
        self.isReadable = read.hasMore
        switch read.result {
        case .bytes, .wouldBlock: break
        case .endOfStream, .failed: self.peerClosed = true
        }
        return read.result
    }

    // MARK: Writing

    /// The buffer to compose into; `flush` sends it.
    @inline(__always)
    final func compose() -> ByteBuffer {
        if let output = self.output { return output }
        let output = self.worker.buffers.take()
        self.output = output
        return output
    }

    /// Writes what waits. True when nothing is left.
    @discardableResult
    final func flush() -> Bool {
        if self.isWriteBlocked { return self.output == nil }
        // Taken out meanwhile rather than looked at, which would count references.
        guard let output = self.output.take() else { return true }
        while !output.isEmpty {
            switch self.transport.write(from: output.readablePointer, count: output.count) {
            case .bytes(let sent):
                self.worker.bytesWritten(sent)
                output.consume(sent)
            case .wouldBlock:
                self.isWriteBlocked = true
                self.output = consume output
                return false
            case .endOfStream:
                self.output = consume output
                return false
            case .failed:
                self.output = consume output
                self.noteWriteFailure()
                return false
            }
        }
        self.worker.buffers.give(output)
        return true
    }

    /// Leaves the flush to the end of the turn; false where there is too much for that.
    final func deferFlush() -> Bool {
        guard !self.isWriteBlocked, let count = self.output?.count, count <= Self.deferredBytesMax
        else {
            return false
        }
        self.deferFlushOfAll()
        return true
    }

    /// The same where it is known that there is little, and that nothing blocks.
    @inline(__always)
    final func deferFlushOfAll() {
        if self.isFlushDeferred { return }
        self.isFlushDeferred = true
        self.worker.flushLater(self)
    }

    /// Most bytes that wait for the end of the turn.
    static let deferredBytesMax = 4 * 1024

    /// Called by the worker for those that deferred.
    final func flushDeferred() {
        self.isFlushDeferred = false
        if self.isClosed { return }
        self.deferredFlushEnded(isDone: self.flush())
    }

    /// Writes what waits and then `count` bytes, with `suffix` behind them. What the socket does
    /// not take is copied: the bytes belong to the caller only for this call.
    final func write(_ pointer: UnsafeRawPointer, count: Int, suffix: StaticString = "") {
        if self.hasWriteFailed { return }
        if self.isWriteBlocked || count <= Self.copyThreshold {
            // Taken out meanwhile rather than looked at, which would count references.
            let output = self.output.take() ?? self.worker.buffers.take()
            output.append(pointer, count: count)
            output.append(suffix)
            self.output = consume output
            return
        }
        self.writeLarge(pointer, count: count, suffix: suffix)
    }

    private final func writeLarge(
        _ pointer: UnsafeRawPointer,
        count: Int,
        suffix: StaticString
    ) {
        if self.transport.session != nil {
            return self.writeRecords(pointer, count: count, suffix: suffix)
        }
        let waiting = self.output?.count ?? 0
        let total = waiting + count + suffix.utf8CodeUnitCount
        var sent = 0
        switch self.writeVectors(waiting: waiting, pointer, count: count, suffix: suffix) {
        case .bytes(let bytes): sent = bytes
        case .wouldBlock: self.isWriteBlocked = true
        case .endOfStream: break
        case .failed:
            self.noteWriteFailure()
            return
        }
        self.worker.bytesWritten(sent)
        if sent == total {
            self.output?.consume(waiting)
            self.flush()
            return
        }
        self.isWriteBlocked = true
        let output = self.compose()
        let fromOutput = min(sent, waiting)
        output.consume(fromOutput)
        let fromBody = min(sent - fromOutput, count)
        output.append(pointer + fromBody, count: count - fromBody)
        let fromSuffix = sent - fromOutput - fromBody
        output.append(
            UnsafeRawPointer(suffix.utf8Start) + fromSuffix,
            count: suffix.utf8CodeUnitCount - fromSuffix
        )
    }

    /// Writes what waits and then what the socket takes of `count` bytes, whose number it returns; the
    /// rest stays the caller's, who is told by `drained`.
    final func writePart(_ pointer: UnsafeRawPointer, count: Int) -> Int {
        if self.isWriteBlocked || self.hasWriteFailed { return 0 }
        if self.transport.session != nil { return self.writePartOfRecords(pointer, count: count) }
        let waiting = self.output?.count ?? 0
        var sent = 0
        switch self.writeVectors(waiting: waiting, pointer, count: count, suffix: "") {
        case .bytes(let bytes): sent = bytes
        case .wouldBlock, .endOfStream: break
        case .failed:
            self.noteWriteFailure()
            return 0
        }
        self.worker.bytesWritten(sent)
        self.isWriteBlocked = sent < waiting + count
        if let output = self.output {
            output.consume(min(sent, waiting))
            if output.isEmpty {
                self.output = nil
                self.worker.buffers.give(output)
            }
        }
        return max(0, sent - waiting)
    }

    private final func writeVectors(
        waiting: Int,
        _ pointer: UnsafeRawPointer,
        count: Int,
        suffix: StaticString
    ) -> IOResult {
        let vectors = self.worker.vectors
        var used = 0
        if waiting > 0, let output = self.output {
            vectors[used] = iovec(iov_base: output.readablePointer, iov_len: waiting)
            used += 1
        }
        vectors[used] = iovec(iov_base: UnsafeMutableRawPointer(mutating: pointer), iov_len: count)
        used += 1
        if suffix.utf8CodeUnitCount > 0 {
            vectors[used] = iovec(
                iov_base: UnsafeMutableRawPointer(mutating: suffix.utf8Start),
                iov_len: suffix.utf8CodeUnitCount
            )
            used += 1
        }
        return self.transport.write(vectors: vectors, count: used)
    }

    /// Sends FIN once everything that waits has gone out.
    final func endAfterOutput() {
        self.endsAfterOutput = true
        if self.flush() { self.finishWriting() }
    }

    /// Sends FIN; nothing waits to be written.
    final func finishWriting() {
        if self.transport.shutdownWriting() { return }
        // The peer has no room even for the word that this is the end.
        self.endsAfterOutput = true
        self.isWriteBlocked = true
    }

    /// Bytes wait that the socket did not take.
    final var hasBacklog: Bool { self.isWriteBlocked }

    final func noteWriteFailure() {
        self.hasWriteFailed = true
        if let output = self.output.take() {
            self.worker.buffers.give(output)
        }
        self.worker.deliverLater(self)
    }

    // MARK: Closing

    /// Gives the socket and its session to whoever goes on with them, and is closed itself. Nothing
    /// waits to be written.
    final func surrender() -> Transport {
        precondition(!self.isClosed && self.output == nil, "nothing to surrender")
        self.isClosed = true
        self.deregister()
        self.closed()
        self.worker.remove(self)
        return self.transport
    }

    final func close(reset: Bool = false) {
        if self.isClosed { return }
        self.isClosed = true
        self.deregister()
        // Half a record may be on its way: nothing can be said behind it.
        let isCut = self.transport.session != nil && (self.output != nil || self.hasWriteFailed)
        self.transport.close(reset: reset || isCut)
        if let output = self.output.take() {
            self.worker.buffers.give(output)
        }
        self.closed()
        self.worker.remove(self)
    }
}
