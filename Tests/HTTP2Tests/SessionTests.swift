import Core
import HTTP
import HTTP2
import Testing

/// Both roles against each other, and a server against frames by hand.
struct SessionTests {
    static let pieces = [Int.max, 1, 7]
    static let get: [(StaticString, StaticString)] = [
        (":method", "GET"), (":scheme", "https"), (":path", "/a?b=c"), (":authority", "a.example"),
        ("x-one", "1"),
    ]
    static let post: [(StaticString, StaticString)] = [
        (":method", "POST"), (":scheme", "https"), (":path", "/p"), (":authority", "a.example"),
    ]

    @Test(arguments: pieces)
    func carriesARequestAndItsResponse(pieces: Int) throws {
        let pair = SessionPair(pieces: pieces)
        let request = pair.request(Self.get)
        pair.exchange()
        let served = try #require(pair.server.streams.first)
        #expect(served.heads == ["GET /a?b=c HTTP/1.1\r\nhost: a.example\r\nx-one: 1\r\n\r\n"])
        #expect(served.hasEnded)
        served.respond(
            OutgoingFields([(":status", "200"), ("content-length", "5")]),
            endsStream: false
        )
        served.send("hello", count: 5)
        served.end()
        pair.exchange()
        #expect(request.heads == ["HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"])
        #expect(request.body == Array("hello".utf8))
        #expect(request.hasEnded)
        #expect(request.closedWith == .noError)
        #expect(served.closedWith == .noError)
        #expect(pair.server.session.streamCount == 0)
        #expect(pair.client.session.streamCount == 0)
    }

    @Test func endsAStreamWithTheLastBytesOfItsBody() throws {
        let pair = SessionPair()
        _ = pair.request(Self.get)
        pair.exchange()
        let served = try #require(pair.server.streams.first)
        served.respond(OutgoingFields([(":status", "200")]), endsStream: false)
        served.send("hello", count: 5)
        served.end()
        let frames = Frame.parse(pair.server.output())
        #expect(frames.map(\.type) == [1, 0])
        #expect(frames.last?.flags == 1)
    }

    @Test(arguments: pieces)
    func carriesBodiesAndTrailersBothWays(pieces: Int) throws {
        let pair = SessionPair(pieces: pieces)
        let request = pair.request(Self.post, endsStream: false)
        let body = [UInt8](repeating: 7, count: 300_000)
        request.send(body, count: body.count)
        request.end(trailers: OutgoingFields([("x-sum", "7")]))
        pair.exchange()
        let served = try #require(pair.server.streams.first)
        #expect(
            served.heads == [
                "POST /p HTTP/1.1\r\nhost: a.example\r\ntransfer-encoding: chunked\r\n\r\n"
            ]
        )
        #expect(served.body == body)
        #expect(served.trailers == "x-sum: 7\r\n")
        #expect(served.hasEnded)
        served.respond(OutgoingFields([(":status", "200")]), endsStream: false)
        served.send(body, count: body.count)
        served.end(trailers: OutgoingFields([("grpc-status", "0")]))
        pair.exchange()
        #expect(request.body == body)
        #expect(request.trailers == "grpc-status: 0\r\n")
        #expect(request.closedWith == .noError)
    }

    @Test func sendsTrailersWithoutABody() throws {
        let pair = SessionPair()
        let request = pair.request(Self.get)
        pair.exchange()
        let served = try #require(pair.server.streams.first)
        served.respond(OutgoingFields([(":status", "200")]), endsStream: false)
        served.end(trailers: OutgoingFields([("grpc-status", "12")]))
        pair.exchange()
        #expect(request.trailers == "grpc-status: 12\r\n")
        #expect(request.body.isEmpty)
        #expect(request.hasEnded)
    }

    @Test func passesInterimResponsesOn() throws {
        let pair = SessionPair()
        let request = pair.request(Self.get)
        pair.exchange()
        let served = try #require(pair.server.streams.first)
        served.inform(OutgoingFields([(":status", "103"), ("link", "</a>")]))
        pair.exchange()
        #expect(request.statuses == [103])
        served.respond(OutgoingFields([(":status", "204")]), endsStream: true)
        pair.exchange()
        #expect(request.statuses == [103, 204])
        #expect(request.hasEnded)
    }

    @Test func bodyGoesOnAfterAPause() throws {
        let pair = SessionPair()
        let request = pair.request(Self.get)
        pair.exchange()
        let served = try #require(pair.server.streams.first)
        served.respond(OutgoingFields([(":status", "200")]), endsStream: false)
        pair.exchange()
        for count in 1...3 {
            served.send("x", count: 1)
            pair.exchange()
            #expect(request.body.count == count)
            #expect(served.drains == count)
        }
        served.end()
        pair.exchange()
        #expect(request.hasEnded)
    }

    // MARK: Room

    @Test func aStreamThatIsNotReadHoldsUpItsSenderAndNobodyElse() throws {
        var settings = HTTP2Settings()
        settings.streamWindowBytes = 65_535
        settings.connectionWindowBytes = 100_000
        let pair = SessionPair(server: settings)
        var isFirst = true
        pair.server.prepare = { stream in
            stream.keepsRoom = isFirst
            isFirst = false
        }
        let body = [UInt8](repeating: 1, count: 500_000)
        let slow = pair.request(Self.post, endsStream: false)
        slow.send(body, count: body.count)
        slow.end()
        let quick = pair.request(Self.post, endsStream: false)
        quick.send(body, count: body.count)
        quick.end()
        pair.exchange()
        #expect(pair.server.streams[0].body.count == 65_535)
        #expect(slow.outputCount == body.count - 65_535)
        #expect(pair.server.streams[1].body.count == body.count)
        #expect(pair.server.streams[1].hasEnded)
        pair.server.streams[0].keepsRoom = false
        pair.server.streams[0].consumed(65_535)
        pair.exchange()
        #expect(pair.server.streams[0].hasEnded)
    }

    @Test func composesNoMoreThanItIsAskedFor() throws {
        let pair = SessionPair()
        let request = pair.request(Self.get)
        pair.exchange()
        let served = try #require(pair.server.streams.first)
        served.respond(OutgoingFields([(":status", "200")]), endsStream: false)
        served.send([UInt8](repeating: 1, count: 60_000), count: 60_000)
        served.end()
        let sink = ByteBuffer(capacity: 16)
        pair.server.session.write(into: sink, limit: 10_000, now: .zero)
        #expect(sink.count < 10_000 + 16_384 + 100)
        #expect(pair.server.session.wantsOutput)
        pair.client.take(sink.readable.withUnsafeBytes { Array($0) })
        pair.exchange()
        #expect(request.body.count == 60_000)
    }

    // MARK: Ends

    @Test func tellsBothSidesOfAReset() throws {
        let pair = SessionPair()
        let request = pair.request(Self.post, endsStream: false)
        pair.exchange()
        let served = try #require(pair.server.streams.first)
        request.reset(.cancel)
        pair.exchange()
        #expect(served.closedWith == .cancel)
        #expect(request.closedWith == .cancel)
        // Calls on a stream that is over do nothing.
        served.respond(OutgoingFields([(":status", "200")]), endsStream: true)
        served.reset(.internalError)
        served.consumed(1)
        pair.exchange()
    }

    @Test func refusesStreamsThatTheOwnerDoesNotTake() throws {
        let pair = SessionPair()
        pair.server.refusesStreams = true
        let request = pair.request(Self.get)
        pair.exchange()
        #expect(request.closedWith == .refusedStream)
    }

    @Test func knowsWhetherARequestCanHaveLeft() throws {
        let pair = SessionPair()
        let requests = [Self.get, Self.post].map { pair.request($0, endsStream: false) }
        #expect(requests.allSatisfy { $0.id != 0 && !$0.isComposed })
        let sink = ByteBuffer(capacity: 1_024)
        // Room for one frame: each begins while there is less than the limit.
        pair.client.session.write(into: sink, limit: 1, now: Instant(nanoseconds: 1))
        #expect(requests.map(\.isComposed) == [true, false])
        _ = pair.client.output()
        #expect(requests.allSatisfy { $0.isComposed })
    }

    @Test func saysFarewellInTwoSteps() throws {
        let pair = SessionPair()
        let request = pair.request(Self.get)
        pair.exchange()
        pair.server.session.announceGoAway()
        pair.server.session.ping()
        pair.exchange()
        #expect(pair.client.goAways.map(\.lastStream) == [Int32.max])
        #expect(pair.server.pings == 1)
        #expect(!pair.client.session.takesRequests)
        pair.server.session.goAway()
        pair.exchange()
        #expect(pair.client.goAways.map(\.lastStream) == [Int32.max, 1])
        let served = try #require(pair.server.streams.first)
        served.respond(OutgoingFields([(":status", "204")]), endsStream: true)
        pair.exchange()
        #expect(request.closedWith == .noError)
        #expect(!pair.server.session.wantsInput)
        #expect(!pair.server.session.wantsOutput)
    }

    @Test func endsStreamsThatTheServerHasNotSeen() throws {
        let pair = SessionPair()
        pair.server.session.goAway()
        let late = pair.server.output()
        let request = pair.request(Self.get)
        _ = pair.client.output()
        pair.client.take(late)
        #expect(pair.client.goAways.map(\.lastStream) == [0])
        _ = pair.client.output()
        #expect(request.closedWith == .refusedStream)
    }

    @Test func dropsOpenStreamsWhenItIsClosed() throws {
        let pair = SessionPair()
        let request = pair.request(Self.post, endsStream: false)
        request.send("x", count: 1)
        pair.exchange()
        let served = try #require(pair.server.streams.first)
        #expect(pair.server.session.openStreams.first === served)
        pair.server.session.close()
        #expect(served.session == nil)
        #expect(served.closedWith == nil)
        served.respond(OutgoingFields([(":status", "200")]), endsStream: true)
        #expect(pair.server.take([0]) == .end)
        #expect(pair.server.output().isEmpty)
    }

    @Test func mayBeClosedByWhatIsBeingReceived() throws {
        let pair = SessionPair()
        pair.server.prepare = { stream in
            stream.onHead = { _ in pair.server.session.close() }
        }
        _ = pair.request(Self.get)
        _ = pair.request(Self.get)
        #expect(pair.server.take(pair.client.output()) == .end)
        #expect(pair.server.session.isClosed)
        #expect(pair.server.streams.allSatisfy { $0.session == nil })
    }

    @Test func allowsAsManyStreamsAsItSays() throws {
        var settings = HTTP2Settings()
        settings.maxConcurrentStreams = 2
        let pair = SessionPair(server: settings)
        #expect(pair.client.session.peerStreamsMax == 2)
        let first = pair.request(Self.get)
        _ = pair.request(Self.get)
        #expect(!pair.client.session.takesRequests)
        pair.exchange()
        pair.server.streams[0].respond(OutgoingFields([(":status", "204")]), endsStream: true)
        pair.exchange()
        #expect(first.hasEnded)
        #expect(pair.client.session.takesRequests)
    }

    @Test func opensATunnelForAWebSocket() throws {
        var settings = HTTP2Settings()
        settings.offersWebSockets = true
        let pair = SessionPair(server: settings)
        let request = pair.request(
            [
                (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"),
                (":path", "/ws"), (":authority", "a.example"), ("sec-websocket-version", "13"),
                ("sec-websocket-key", "mine"),
            ],
            endsStream: false
        )
        pair.exchange()
        let served = try #require(pair.server.streams.first)
        #expect(served.isWebSocket)
        #expect(
            served.heads == [
                """
                GET /ws HTTP/1.1\r\nhost: a.example\r\nsec-websocket-version: 13\r\n\
                connection: upgrade\r\nupgrade: websocket\r\n\
                sec-websocket-key: AAAAAAAAAAEAAAAAAAAAAg==\r\n\r\n
                """
            ]
        )
        served.respond(OutgoingFields([(":status", "200")]), endsStream: false)
        request.send("up", count: 2)
        served.send("down", count: 4)
        pair.exchange()
        #expect(served.body == Array("up".utf8))
        #expect(request.body == Array("down".utf8))
    }
}
