import CPlatform
import EventLoop
import Glibc
import LoopTestSupport
import Testing

/// Two ends of a TCP connection over loopback.
private final class Connection {
    let client: Int32
    let server: Int32
    let peer: SocketAddress?

    init(_ harness: LoopHarness) throws {
        let listener = try Sockets.listen(on: Self.loopback())
        defer { Sockets.close(listener) }
        let address = try #require(Sockets.localAddress(of: listener))
        self.client = try Sockets.connect(to: address)
        var accepted: (descriptor: Int32, peer: SocketAddress?)?
        try harness.run(until: "the connection") {
            accepted = try Sockets.accept(from: listener)
            return accepted != nil
        }
        let (descriptor, peer) = try #require(accepted)
        self.server = descriptor
        self.peer = peer
    }

    deinit {
        Sockets.close(self.client)
        Sockets.close(self.server)
    }

    static func loopback() throws -> SocketAddress {
        try #require(SocketAddress("127.0.0.1:0"))
    }

    static func write(_ descriptor: Int32, _ bytes: [UInt8]) -> IOResult {
        bytes.withUnsafeBytes { raw in
            guard let start = raw.baseAddress else { return .wouldBlock }
            return Sockets.write(descriptor, from: start, count: raw.count)
        }
    }

    static func read(_ descriptor: Int32, limit: Int = 1_024) -> (IOResult, [UInt8]) {
        var buffer = [UInt8](repeating: 0, count: limit)
        let result = buffer.withUnsafeMutableBytes { raw -> IOResult in
            guard let start = raw.baseAddress else { return .wouldBlock }
            return Sockets.read(descriptor, into: start, count: raw.count)
        }
        if case .bytes(let count) = result { return (result, Array(buffer[..<count])) }
        return (result, [])
    }

    /// Reads until something other than "nothing yet" comes.
    static func await(_ harness: LoopHarness, _ descriptor: Int32) throws -> (IOResult, [UInt8]) {
        var answer: (IOResult, [UInt8]) = (.wouldBlock, [])
        try harness.run(until: "something to read") {
            answer = self.read(descriptor)
            return answer.0 != .wouldBlock
        }
        return answer
    }
}

@Suite struct SocketTests {
    @Test func bytesGoBothWays() throws {
        let harness = try LoopHarness()
        let connection = try Connection(harness)
        #expect(connection.peer == Sockets.localAddress(of: connection.client))
        #expect(Connection.read(connection.server).0 == .wouldBlock)
        #expect(Connection.write(connection.client, [1, 2, 3]) == .bytes(3))
        #expect(try Connection.await(harness, connection.server) == (.bytes(3), [1, 2, 3]))
        #expect(Connection.write(connection.server, [4]) == .bytes(1))
        #expect(try Connection.await(harness, connection.client) == (.bytes(1), [4]))
    }

    @Test func vectorsAreGathered() throws {
        let harness = try LoopHarness()
        let connection = try Connection(harness)
        var parts: [[UInt8]] = [[1, 2], [3], [4, 5, 6]]
        var vectors: [iovec] = []
        for index in parts.indices {
            parts[index].withUnsafeMutableBytes { raw in
                // The arrays are not touched before the write is over.
                vectors.append(iovec(iov_base: raw.baseAddress, iov_len: raw.count))
            }
        }
        let result = vectors.withUnsafeMutableBufferPointer { buffer -> IOResult in
            guard let start = buffer.baseAddress else { return .wouldBlock }
            return Sockets.write(connection.client, vectors: start, count: buffer.count)
        }
        #expect(result == .bytes(6))
        #expect(try Connection.await(harness, connection.server).1 == [1, 2, 3, 4, 5, 6])
        withExtendedLifetime(parts) {}
    }

    @Test func aHalfClosedConnectionStillAnswers() throws {
        let harness = try LoopHarness()
        let connection = try Connection(harness)
        #expect(Connection.write(connection.client, [1]) == .bytes(1))
        Sockets.shutdownWriting(connection.client)
        #expect(try Connection.await(harness, connection.server) == (.bytes(1), [1]))
        #expect(try Connection.await(harness, connection.server).0 == .endOfStream)
        #expect(Connection.read(connection.server).0 == .endOfStream, "it stays so")
        #expect(Connection.write(connection.server, [2]) == .bytes(1))
        #expect(try Connection.await(harness, connection.client) == (.bytes(1), [2]))
        guard case .failed(EPIPE) = Connection.write(connection.client, [3]) else {
            Issue.record("a direction that was closed took bytes")
            return
        }
    }

    @Test func aResetIsNoEnd() throws {
        let harness = try LoopHarness()
        let listener = try Sockets.listen(on: Connection.loopback())
        defer { Sockets.close(listener) }
        let address = try #require(Sockets.localAddress(of: listener))
        let client = try Sockets.connect(to: address)
        defer { Sockets.close(client) }
        var server: Int32 = -1
        try harness.run(until: "the connection") {
            server = try Sockets.accept(from: listener)?.descriptor ?? -1
            return server >= 0
        }
        Sockets.resetOnClose(server)
        Sockets.close(server)
        #expect(try Connection.await(harness, client).0 == .failed(ECONNRESET))
    }

    @Test func aFullSocketWouldBlock() throws {
        let harness = try LoopHarness()
        let connection = try Connection(harness)
        let block = [UInt8](repeating: 7, count: 1 << 20)
        var sent = 0
        // A socket's buffers are bounded by tcp_wmem and tcp_rmem: some megabytes.
        while case .bytes(let count) = Connection.write(connection.client, block), sent < 1 << 30 {
            sent += count
        }
        #expect(sent > 0 && sent < 1 << 30)
        #expect(Connection.write(connection.client, [1]) == .wouldBlock)
        var received = 0
        try harness.run(until: "all bytes") {
            while case .bytes(let count) = Connection.read(connection.server, limit: 1 << 16).0 {
                received += count
            }
            return received == sent
        }
        #expect(Connection.write(connection.client, [1]) == .bytes(1))
    }

    @Test func aRefusedConnectionSaysWhy() throws {
        let harness = try LoopHarness()
        // A port that was free a moment ago, and stays bound so that nobody else listens on it.
        let holder = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { Sockets.close(holder) }
        try #require(Connection.loopback().withSockaddr { Glibc.bind(holder, $0, $1) } == 0)
        let address = try #require(Sockets.localAddress(of: holder))
        var client: Int32 = -1
        do {
            client = try Sockets.connect(to: address)
        } catch {
            #expect(error.code == ECONNREFUSED)
            return
        }
        defer { Sockets.close(client) }
        var code: Int32 = 0
        try harness.run(until: "the refusal") {
            code = Sockets.pendingError(client)
            return code != 0
        }
        #expect(code == ECONNREFUSED)
        #expect(Sockets.pendingError(client) == 0, "it is told once")
    }

    @Test func anAddressInUseSaysWhy() throws {
        let holder = try Sockets.listen(on: Connection.loopback(), reusePort: false)
        defer { Sockets.close(holder) }
        let address = try #require(Sockets.localAddress(of: holder))
        let error = #expect(throws: SystemError.self) {
            Sockets.close(try Sockets.listen(on: address))
        }
        #expect(error?.code == EADDRINUSE)
        #expect(error?.description == "listen on \(address): Address already in use")
    }

    @Test func workersShareAPort() throws {
        let first = try Sockets.listen(on: Connection.loopback())
        defer { Sockets.close(first) }
        let address = try #require(Sockets.localAddress(of: first))
        let second = try Sockets.listen(on: address)
        #expect(Sockets.localAddress(of: second) == address)
        Sockets.close(second)
    }

    @Test func nobodyToAcceptIsNoError() throws {
        let listener = try Sockets.listen(on: Connection.loopback())
        defer { Sockets.close(listener) }
        #expect(try Sockets.accept(from: listener) == nil)
    }

    @Test func anAddressOfNobodysIsRefused() throws {
        // 203.0.113.0/24 is for documentation (RFC 5737): no interface has it.
        let address = try #require(SocketAddress("203.0.113.1:0"))
        let error = #expect(throws: SystemError.self) {
            Sockets.close(try Sockets.listen(on: address))
        }
        #expect(error?.code == EADDRNOTAVAIL)
    }
}

/// Tells what it was called with, and reads nothing unless told to.
private final class Recorder: IOHandler {
    var events: [IOEvents] = []
    var onReady: (() -> Void)?

    override func ready(_ events: IOEvents) {
        self.events.append(events)
        self.onReady?()
    }
}

@Suite struct IOHandlerTests {
    @Test func levelTriggeredHandlersAreToldAgain() throws {
        let harness = try LoopHarness()
        let connection = try Connection(harness)
        let recorder = Recorder()
        recorder.register(descriptor: connection.server, on: harness.loop, interest: .read)
        harness.settle()
        #expect(recorder.events == [])
        _ = Connection.write(connection.client, [1])
        try harness.run(until: "three calls") { recorder.events.count >= 3 }
        #expect(recorder.events.allSatisfy { $0 == .read })
        recorder.deregister()
    }

    @Test func edgeTriggeredHandlersAreToldOnce() throws {
        let harness = try LoopHarness()
        let connection = try Connection(harness)
        let recorder = Recorder()
        recorder.register(
            descriptor: connection.server,
            on: harness.loop,
            interest: .all,
            edgeTriggered: true
        )
        try harness.run(until: "room to write") { !recorder.events.isEmpty }
        #expect(recorder.events == [.write])
        harness.settle()
        #expect(recorder.events == [.write], "nothing new, nothing said")
        _ = Connection.write(connection.client, [1])
        try harness.run(until: "the first bytes") { recorder.events.count == 2 }
        #expect(recorder.events[1].contains(.read))
        harness.settle()
        #expect(recorder.events.count == 2, "told once although nothing was read")
        _ = Connection.write(connection.client, [2])
        try harness.run(until: "more bytes") { recorder.events.count == 3 }
        #expect(try Connection.await(harness, connection.server).1 == [1, 2])
        recorder.deregister()
    }

    @Test func theEndOfThePeersDirectionIsSaid() throws {
        let harness = try LoopHarness()
        let connection = try Connection(harness)
        let recorder = Recorder()
        recorder.register(
            descriptor: connection.server,
            on: harness.loop,
            interest: .all,
            edgeTriggered: true
        )
        _ = Connection.write(connection.client, [1])
        Sockets.shutdownWriting(connection.client)
        try harness.run(until: "the end") { recorder.events.contains { $0.contains(.closed) } }
        #expect(try Connection.await(harness, connection.server).1 == [1], "the data still waits")
        recorder.deregister()
    }

    @Test func aHandlerThatLeftIsNotCalled() throws {
        let harness = try LoopHarness()
        let connection = try Connection(harness)
        let recorder = Recorder()
        recorder.register(descriptor: connection.server, on: harness.loop, interest: .read)
        #expect(recorder.isRegistered && recorder.descriptor == connection.server)
        recorder.deregister()
        recorder.deregister()
        #expect(!recorder.isRegistered)
        _ = Connection.write(connection.client, [1])
        harness.settle()
        #expect(recorder.events == [])
        recorder.register(descriptor: connection.server, on: harness.loop, interest: .read)
        try harness.run(until: "the call") { !recorder.events.isEmpty }
        recorder.deregister()
    }

    @Test func aHandlerMayDropItsLastOwnerWhileItIsCalled() throws {
        let harness = try LoopHarness()
        let connection = try Connection(harness)
        weak var witness: Recorder?
        do {
            var recorder: Recorder? = Recorder()
            witness = recorder
            recorder?.onReady = {
                recorder?.deregister()
                recorder?.onReady = nil
                recorder = nil
            }
            recorder?.register(descriptor: connection.server, on: harness.loop, interest: .read)
        }
        _ = Connection.write(connection.client, [1])
        try harness.run(until: "the handler to go") { witness == nil }
        harness.settle()
    }

    @Test func droppingARegisteredHandlerTraps() async {
        await #expect(processExitsWith: .failure) {
            let loop = try EventLoop()
            IOHandler().register(descriptor: 0, on: loop, interest: .read)
        }
    }

    @Test func registeringTwiceTraps() async {
        await #expect(processExitsWith: .failure) {
            let loop = try EventLoop()
            let handler = IOHandler()
            var ends: [Int32] = [0, 0]
            pipe(&ends)
            handler.register(descriptor: ends[0], on: loop, interest: .read)
            handler.register(descriptor: ends[0], on: loop, interest: .read)
        }
    }
}
