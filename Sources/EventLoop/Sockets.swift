import CPlatform
import Glibc

/// The result of one non-blocking read or write.
package enum IOResult: Equatable {
    /// So many bytes moved; at least one.
    case bytes(Int)
    /// The other side closed its sending direction (reads only).
    case endOfStream
    case wouldBlock
    /// An errno that the peer or the network can cause.
    case failed(Int32)
}

/// Non-blocking TCP sockets: the few calls the gateway needs, with errors in words.
package enum Sockets {
    /// A listening socket with SO_REUSEPORT, so that every worker can have its own.
    package static func listen(
        on address: SocketAddress,
        backlog: Int32 = 4096,
        reusePort: Bool = true
    ) throws(SystemError) -> Int32 {
        let descriptor = try self.stream(for: address, operation: "listen on \(address)")
        do throws(SystemError) {
            try self.set(descriptor, SOL_SOCKET, SO_REUSEADDR, 1)
            if reusePort { try self.set(descriptor, SOL_SOCKET, SO_REUSEPORT, 1) }
            let bound = address.withSockaddr { Glibc.bind(descriptor, $0, $1) }
            guard bound == 0 else { throw SystemError("listen on \(address)", code: errno) }
            guard Glibc.listen(descriptor, backlog) == 0 else {
                throw SystemError("listen on \(address)", code: errno)
            }
        } catch {
            Glibc.close(descriptor)
            throw error
        }
        return descriptor
    }

    /// Starts a connection; the descriptor becomes writable when it is made or has failed.
    package static func connect(to address: SocketAddress) throws(SystemError) -> Int32 {
        let descriptor = try self.stream(for: address, operation: "connect to \(address)")
        self.disableNagle(descriptor)
        let result = address.withSockaddr { Glibc.connect(descriptor, $0, $1) }
        if result != 0, errno != EINPROGRESS {
            let code = errno
            Glibc.close(descriptor)
            throw SystemError("connect to \(address)", code: code)
        }
        return descriptor
    }

    /// The pending error of a socket (SO_ERROR), 0 when there is none.
    package static func pendingError(_ descriptor: Int32) -> Int32 {
        var code: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &code, &length)
        return code
    }

    /// Small writes go out at once (TCP_NODELAY): every token of a stream is one.
    package static func disableNagle(_ descriptor: Int32) {
        var one: Int32 = 1
        setsockopt(
            descriptor,
            Int32(IPPROTO_TCP),
            TCP_NODELAY,
            &one,
            socklen_t(MemoryLayout<Int32>.size)
        )
    }

    /// Lets acknowledgements wait for the next segment or a timer (RFC 9293, section 3.8.6.3).
    /// Without it the kernel sends one as soon as each small message is read, which for a stream of
    /// tokens is a segment out for every one in. Holds until the peer is silent for a while.
    package static func delayAcknowledgements(_ descriptor: Int32) {
        var zero: Int32 = 0
        setsockopt(
            descriptor,
            Int32(IPPROTO_TCP),
            TCP_QUICKACK,
            &zero,
            socklen_t(MemoryLayout<Int32>.size)
        )
    }

    /// Asks a silent peer if it is there, after a minute and for another one: a connection that
    /// may be silent for long, such as a tunnel, ends when its peer has vanished.
    package static func keepAlive(_ descriptor: Int32) {
        let level = Int32(IPPROTO_TCP)
        let options = [
            (SOL_SOCKET, SO_KEEPALIVE, Int32(1)), (level, TCP_KEEPIDLE, 60),
            (level, TCP_KEEPINTVL, 15), (level, TCP_KEEPCNT, 4),
        ]
        for (level, name, value) in options {
            var value = value
            setsockopt(descriptor, level, name, &value, socklen_t(MemoryLayout<Int32>.size))
        }
    }

    package static func localAddress(of descriptor: Int32) -> SocketAddress? {
        self.address(of: descriptor, getsockname)
    }

    /// One accepted connection, non-blocking and close-on-exec; nil when there is none to accept.
    package static func accept(
        from listener: Int32
    ) throws(SystemError) -> (descriptor: Int32, peer: SocketAddress?)? {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let descriptor = withUnsafeMutablePointer(to: &storage) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                weir_accept4(listener, $0, &length)
            }
        }
        if descriptor >= 0 { return (descriptor, SocketAddress(storage: storage)) }
        switch errno {
        case EAGAIN, EINTR, ECONNABORTED, EPROTO: return nil
        case let code: throw SystemError("accept", code: code)
        }
    }

    @inline(__always)
    package static func read(
        _ descriptor: Int32,
        into pointer: UnsafeMutableRawPointer,
        count: Int
    ) -> IOResult {
        let result = weir_recv(descriptor, pointer, count)
        if result > 0 { return .bytes(result) }
        if result == 0 { return .endOfStream }
        return self.failure()
    }

    @inline(__always)
    package static func write(
        _ descriptor: Int32,
        from pointer: UnsafeRawPointer,
        count: Int
    ) -> IOResult {
        let result = weir_send(descriptor, pointer, count)
        if result >= 0 { return .bytes(result) }
        return self.failure()
    }

    /// Gathers up to the given vectors into one write; the peer sees one segment where it fits.
    @inline(__always)
    package static func write(
        _ descriptor: Int32,
        vectors: UnsafeMutablePointer<iovec>,
        count: Int
    ) -> IOResult {
        var message = msghdr()
        message.msg_iov = vectors
        message.msg_iovlen = count
        let result = Glibc.sendmsg(descriptor, &message, Int32(MSG_NOSIGNAL))
        if result >= 0 { return .bytes(result) }
        return self.failure()
    }

    /// Sends FIN: nothing more will be written.
    package static func shutdownWriting(_ descriptor: Int32) {
        Glibc.shutdown(descriptor, Int32(SHUT_WR))
    }

    /// Makes the following close send RST, so that the peer cannot mistake a cut for an end.
    package static func resetOnClose(_ descriptor: Int32) {
        var option = linger(l_onoff: 1, l_linger: 0)
        setsockopt(
            descriptor,
            SOL_SOCKET,
            SO_LINGER,
            &option,
            socklen_t(MemoryLayout<linger>.size)
        )
    }

    package static func close(_ descriptor: Int32) {
        Glibc.close(descriptor)
    }

    // MARK: Helpers

    /// Never inlined: errno is read before anything else can run.
    @inline(never)
    private static func failure() -> IOResult {
        let code = errno
        // EBADF, EFAULT and ENOTSOCK can only be our own doing.
        precondition(
            code != EBADF && code != EFAULT && code != ENOTSOCK,
            "errno \(code) on a socket"
        )
        return code == EAGAIN || code == EINTR ? .wouldBlock : .failed(code)
    }

    private static func stream(
        for address: SocketAddress,
        operation: String
    ) throws(SystemError) -> Int32 {
        let kind = Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
        let descriptor = Glibc.socket(address.isIPv6 ? AF_INET6 : AF_INET, kind, 0)
        guard descriptor >= 0 else { throw SystemError(operation, code: errno) }
        return descriptor
    }

    private static func set(
        _ descriptor: Int32,
        _ level: Int32,
        _ option: Int32,
        _ value: Int32
    ) throws(SystemError) {
        var value = value
        let length = socklen_t(MemoryLayout<Int32>.size)
        guard setsockopt(descriptor, level, option, &value, length) == 0 else {
            throw SystemError("setsockopt", code: errno)
        }
    }

    private static func address(
        of descriptor: Int32,
        _ call: (Int32, UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Int32
    ) -> SocketAddress? {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let result = withUnsafeMutablePointer(to: &storage) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { call(descriptor, $0, &length) }
        }
        return result == 0 ? SocketAddress(storage: storage) : nil
    }
}
