import COpenSSL
import EventLoop
import Glibc

/// What OpenSSL's reads and writes of one session work with: the descriptor, and what is known of
/// its socket.
///
/// OpenSSL calls `read` and `write` below in place of its own socket functions. It is one system
/// call each, as with those; besides, a read that got less than it asked for is remembered. The
/// socket is empty then, and nobody need ask the kernel again before it tells of more.
struct SessionState {
    var descriptor: Int32
    /// A read emptied the socket, and the kernel has told of nothing since.
    var isEmpty = false
    /// The peer has closed its side: behind the last bytes waits the end.
    var isEndNear = false
    /// The end was read.
    var hasEnded = false
    /// The error of the last failed call, 0 without one.
    var code: Int32 = 0
    /// The server wants to know who we are, and we have nothing to show.
    var isAskedForCertificate = false
    /// OpenSSL's error that ended the session after its handshake, 0 without one.
    var sessionError: UInt = 0
    /// What must live as long as the session: OpenSSL calls back into it.
    var owner: Unmanaged<AnyObject>

    /// Made once, never freed.
    nonisolated(unsafe) static let method: OpaquePointer = {
        guard let method = BIO_meth_new(BIO_TYPE_SOURCE_SINK | BIO_get_new_index(), "socket")
        else { preconditionFailure("no memory for OpenSSL") }
        BIO_meth_set_write(method) { SessionState.write($0, $1, $2) }
        BIO_meth_set_read(method) { SessionState.read($0, $1, $2) }
        BIO_meth_set_ctrl(method) { _, command, _, _ in
            // Nothing is kept back, so there is nothing to flush. The end of the stream is not
            // told: OpenSSL would write no more, to a client that only finished sending.
            command == BIO_CTRL_FLUSH ? 1 : 0
        }
        return method
    }()

    private static func read(
        _ bio: OpaquePointer?,
        _ bytes: UnsafeMutablePointer<CChar>?,
        _ count: Int32
    ) -> Int32 {
        guard let bytes, let state = Self.of(bio) else { return -1 }
        weir_bio_no_retry(bio)
        if state.pointee.isEmpty {
            weir_bio_retry_read(bio)
            return -1
        }
        switch Sockets.read(state.pointee.descriptor, into: bytes, count: Int(count)) {
        case .bytes(let received):
            state.pointee.isEmpty = received < Int(count) && !state.pointee.isEndNear
            return Int32(received)
        case .endOfStream:
            state.pointee.hasEnded = true
            return 0
        case .wouldBlock:
            state.pointee.isEmpty = true
            weir_bio_retry_read(bio)
            return -1
        case .failed(let code):
            state.pointee.code = code
            return -1
        }
    }

    private static func write(
        _ bio: OpaquePointer?,
        _ bytes: UnsafePointer<CChar>?,
        _ count: Int32
    ) -> Int32 {
        guard let bytes, let state = Self.of(bio) else { return -1 }
        weir_bio_no_retry(bio)
        switch Sockets.write(state.pointee.descriptor, from: bytes, count: Int(count)) {
        case .bytes(let sent):
            return Int32(sent)
        case .wouldBlock:
            weir_bio_retry_write(bio)
            return -1
        case .failed(let code):
            state.pointee.code = code
            return -1
        case .endOfStream:
            return -1
        }
    }

    static func of(_ bio: OpaquePointer?) -> UnsafeMutablePointer<SessionState>? {
        BIO_get_data(bio)?.assumingMemoryBound(to: SessionState.self)
    }
}
