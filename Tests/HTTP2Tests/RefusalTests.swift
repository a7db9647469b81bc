import Core
import HTTP
import Testing

@testable import HTTP2

/// What a server's session makes of peers that break rules, or strain them.
struct RefusalTests {
    final class Clock {
        var now = Instant(nanoseconds: 1_000_000_000)
    }

    private let clock: Clock
    private let server: Side

    init() {
        let clock = Clock()
        self.clock = clock
        self.server = Side(.server, now: { clock.now })
        self.server.take(Frame.preface + Frame.bytes(type: 4))
        _ = self.server.output()
    }

    /// Codes of the RST_STREAM frames for a stream.
    private func resets(_ frames: [(type: UInt8, flags: UInt8, stream: UInt32, [UInt8])])
        -> [UInt32]
    {
        frames.filter { $0.type == 3 }.map { frame in
            frame.3.reduce(0) { $0 << 8 | UInt32($1) }
        }
    }

    private func goAwayCode(_ frames: [(type: UInt8, flags: UInt8, stream: UInt32, [UInt8])])
        -> UInt8?
    {
        frames.last { $0.type == 7 }?.3[7]
    }

    @Test(arguments: [
        [(":method", "GET"), (":scheme", "http"), (":path", "/")],
        [(":method", "GET"), (":path", "/"), (":authority", "a")],
        Frame.get + [(":path", "/b")],
        Frame.get + [("x", "1"), (":path", "/b")],
        Frame.get + [("X-Upper", "1")],
        Frame.get + [("connection", "close")],
        Frame.get + [("transfer-encoding", "chunked")],
        Frame.get + [("te", "gzip")],
        Frame.get + [("x", "a\r\nb: c")],
        Frame.get + [("x", "a\0b")],
        Frame.get + [("x", " a")],
        Frame.get + [("a b", "c")],
        Frame.get + [("host", "b.example")],
        Frame.get + [("content-length", "1"), ("content-length", "1")],
        Frame.get + [("content-length", "+1")],
        Frame.get + [("content-length", "1")],
        [(":method", "G T"), (":scheme", "http"), (":path", "/"), (":authority", "a")],
        [(":method", "GET"), (":scheme", "http"), (":path", "/ HTTP/1.1"), (":authority", "a")],
        [(":method", "GET"), (":scheme", "http"), (":path", ""), (":authority", "a")],
        [(":method", "GET"), (":scheme", "http"), (":path", "x"), (":authority", "a")],
        [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "u@a")],
        [
            (":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a"),
            (":b", "c"),
        ],
    ])
    func resetsAStreamWhoseHeadIsNone(fields: [(String, String)]) {
        self.server.take(Frame.headers(1, fields))
        #expect(self.resets(Frame.parse(self.server.output())) == [1], "\(fields)")
        #expect(self.server.streams.allSatisfy { $0.heads.isEmpty })
        // The connection is good for others.
        self.server.take(Frame.headers(3, Frame.get))
        #expect(self.server.streams.last?.heads.count == 1)
    }

    /// Blocks that are refused are over as well: who waits for their end must not wait for ever.
    @Test(arguments: [
        Array(Frame.get.dropLast(2)), Frame.get + [("X-Upper", "1")], Frame.get + [("te", "gzip")],
        Frame.get + [("x", "a\r\nb: c")], Frame.get + [(":path", "/b")], Frame.get,
    ])
    func aBlockIsOverWhateverBecomesOfIt(fields: [(String, String)]) {
        for pieces in [1, 7, Int.max] {
            for refuses in [false, true] {
                let server = Side(.server)
                server.refusesStreams = refuses
                server.take(Frame.preface + Frame.bytes(type: 4), pieces: pieces)
                #expect(!server.session.isInBlock)
                let frames = Frame.headers(1, fields, isComplete: false)
                server.take(frames, pieces: pieces)
                #expect(server.session.isInBlock, "END_HEADERS has not come")
                let rest = Frame.bytes(
                    type: 9,
                    flags: 4,
                    stream: 1,
                    Frame.block([("y", "1")])
                )
                server.take(Array(rest.dropLast()), pieces: pieces)
                #expect(server.session.isInBlock, "one byte is missing")
                server.take([rest[rest.count - 1]])
                #expect(!server.session.isInBlock, "\(fields)")
                server.take(Frame.headers(3, fields), pieces: pieces)
                #expect(!server.session.isInBlock, "\(fields)")
            }
        }
    }

    @Test(arguments: [0, 2, 4])
    func resetsAStreamWhoseBodyHasAnotherLength(sent: Int) {
        self.server.take(Frame.headers(1, Frame.post + [("content-length", "3")], ends: false))
        self.server.take(
            Frame.bytes(type: 0, flags: 1, stream: 1, [UInt8](repeating: 1, count: sent))
        )
        #expect(self.resets(Frame.parse(self.server.output())) == [1])
        #expect(self.server.streams[0].hasEnded == false)
        #expect(self.server.streams[0].closedWith == .protocolError)
    }

    @Test func refusesFieldsWithinABody() {
        self.server.take(Frame.headers(1, Frame.post, ends: false))
        self.server.take(Frame.headers(1, [("x", "1")], ends: false))
        #expect(self.resets(Frame.parse(self.server.output())) == [1])
        self.server.take(Frame.headers(3, Frame.post, ends: false))
        self.server.take(Frame.headers(3, [(":status", "200")]))
        #expect(self.resets(Frame.parse(self.server.output())) == [1])
    }

    @Test func leavesTrailersOutThatWouldChangeTheMessage() {
        self.server.take(Frame.headers(1, Frame.post, ends: false))
        self.server.take(
            Frame.headers(
                1,
                [("vary", "*"), ("if-match", "a"), ("x-weir-model", "m"), ("x", "1")]
            )
        )
        #expect(self.server.streams[0].trailers == "x: 1\r\n")
        #expect(self.server.streams[0].hasEnded)
    }

    @Test func mayAnswerAHeadThatIsTooLarge() throws {
        var settings = HTTP2Settings()
        settings.head = HeadLimits(maxHeadBytes: 400)
        let server = Side(.server, settings)
        server.prepare = { stream in
            stream.onRefusal = {
                $0.respond(OutgoingFields([(":status", "431")]), endsStream: true)
            }
        }
        server.take(Frame.preface + Frame.bytes(type: 4))
        _ = server.output()
        let large =
            Frame.post + [
                ("a", String(repeating: "x", count: 120)),
                ("b", String(repeating: "x", count: 120)),
            ]
        server.take(Frame.headers(1, large, ends: false))
        #expect(server.streams[0].refusal == .tooLarge)
        let frames = Frame.parse(server.output())
        #expect(frames.map(\.type) == [1, 3])
        #expect(self.resets(frames) == [0])
    }

    @Test func countsFieldsWhateverTheirSize() {
        var settings = HTTP2Settings()
        settings.head = HeadLimits(maxFields: 5)
        let server = Side(.server, settings)
        server.take(Frame.preface + Frame.bytes(type: 4))
        server.take(Frame.headers(1, Frame.get + (0..<9).map { ("x\($0)", "") }))
        #expect(server.streams[0].refusal == .tooManyFields)
    }

    // MARK: Floods

    /// One more of everything than is allowed at once.
    @Test func endsAFloodOfEachKind() {
        let floods: [(FrameAbuse, (Int) -> [UInt8])] = [
            (.settings, { _ in Frame.bytes(type: 4) }),
            (.ping, { _ in Frame.bytes(type: 6, [UInt8](repeating: 0, count: 8)) }),
            (.priority, { _ in Frame.bytes(type: 2, stream: 3, [0, 0, 0, 0, 1]) }),
            (.windowUpdate, { _ in Frame.bytes(type: 8, [0, 0, 0, 1]) }),

            (.lateReset, { _ in Frame.bytes(type: 3, stream: 1, [0, 0, 0, 8]) }),
            (.emptyFrame, { _ in Frame.bytes(type: 0, stream: 1) }),
            (
                .reset,
                { index in
                    let stream = UInt32(2 * index + 3)
                    return Frame.headers(stream, Frame.get)
                        + Frame.bytes(type: 3, stream: stream, [0, 0, 0, 8])
                }
            ),
            (
                .provokedReset,
                { index in
                    // A window that grows beyond its bound is a fault of the stream.
                    let stream = UInt32(2 * index + 3)
                    return Frame.headers(stream, Frame.post, ends: false)
                        + Frame.bytes(type: 8, stream: stream, [0x7F, 0xFF, 0xFF, 0xFF])
                }
            ),
            (
                .largeHead,
                { index in
                    let stream = UInt32(2 * index + 3)
                    return Frame.headers(stream, Frame.get + (0..<130).map { ("x\($0)", "") })
                }
            ),
        ]
        for (what, frames) in floods {
            let clock = Clock()
            let server = Side(.server, now: { clock.now })
            server.take(
                Frame.preface + Frame.bytes(type: 4) + Frame.headers(1, Frame.post, ends: false)
            )
            _ = server.output()
            let burst = Int(FrameMeter.allowance(what).burst)
            var index = 0
            var said: [UInt8] = []
            // One SETTINGS frame came with the preface.
            while index < burst + 3, server.overdone.isEmpty {
                server.take(frames(index))
                index += 1
                if index <= burst - 1 { #expect(server.overdone.isEmpty, "\(what) at \(index)") }
                said = server.output()
            }
            said += server.output()
            #expect(server.overdone == [what])
            #expect(self.goAwayCode(Frame.parse(said)) == 11, "\(what)")
            #expect(!server.session.wantsInput)
            #expect(!server.session.wantsOutput)
        }
    }

    @Test func allowsTheSameOverTime() {
        for _ in 0..<1_000 {
            self.clock.now = self.clock.now + Duration.seconds(1)
            self.server.take(Frame.bytes(type: 6, [UInt8](repeating: 0, count: 8)))
            _ = self.server.output()
        }
        #expect(self.server.overdone.isEmpty)
    }

    @Test func endsABlockOfManyContinuations() {
        self.server.take(Frame.headers(1, Frame.get, isComplete: false))
        for index in 0..<200 where self.server.overdone.isEmpty {
            self.server.take(Frame.bytes(type: 9, stream: 1, Frame.block([("x\(index)", "1")])))
        }
        #expect(self.server.overdone == [.continuation])
        #expect(self.goAwayCode(Frame.parse(self.server.output())) == 11)
        #expect(self.server.streams[0].heads.isEmpty)
    }

    @Test(arguments: [1, 3, 8, 1_000])
    func countsContinuationsAndNotTheirPieces(pieceBytes: Int) {
        let last = HTTP2Settings.continuationsMax
        var bytes = Frame.headers(1, Frame.get, isComplete: false)
        for index in 1...last {
            let field = Frame.block([("x\(index)", "1")])
            bytes += Frame.bytes(type: 9, flags: index == last ? 4 : 0, stream: 1, field)
        }
        bytes += Frame.headers(3, Frame.get, isComplete: false)
        for start in stride(from: 0, to: bytes.count, by: pieceBytes) {
            self.server.take(Array(bytes[start..<min(bytes.count, start + pieceBytes)]))
        }
        #expect(self.server.overdone.isEmpty)
        #expect(self.server.streams[0].heads.count == 1)
        for _ in 0..<last { self.server.take(Frame.bytes(type: 9, stream: 3)) }
        #expect(self.server.overdone.isEmpty)
        self.server.take(Frame.bytes(type: 9, stream: 3))
        #expect(self.server.overdone == [.continuation])
    }

    // MARK: Streams that are over

    private static let late = Frame.headers(1, [("x", "1")])

    @Test func endsAPeerThatGoesOnBehindItsEnd() throws {
        self.server.take(Frame.headers(1, Frame.get))
        let stream = try #require(self.server.streams.first)
        stream.respond(OutgoingFields([(":status", "204")]), endsStream: true)
        _ = self.server.output()
        #expect(stream.closedWith == .noError)
        self.server.take(Self.late + Frame.headers(3, Frame.get))
        #expect(self.goAwayCode(Frame.parse(self.server.output())) == 5)
        #expect(!self.server.session.wantsInput)
        #expect(self.server.streams.count == 1)
    }

    @Test func refusesWhatComesBehindAReset() {
        self.server.take(
            Frame.headers(1, Frame.post, ends: false)
                + Frame.bytes(type: 3, stream: 1, [0, 0, 0, 8]) + Self.late
                + Frame.headers(3, Frame.get)
        )
        #expect(self.resets(Frame.parse(self.server.output())) == [5])
        #expect(self.server.session.wantsInput)
        #expect(self.server.streams.count == 2)
    }

    @Test func letsPassWhatWasOnItsWayToAResetOfOurs() throws {
        self.server.take(Frame.headers(1, Frame.post, ends: false))
        try #require(self.server.streams.first).reset(.cancel)
        #expect(self.resets(Frame.parse(self.server.output())) == [8])
        self.server.take(Self.late + Frame.headers(3, Frame.get))
        #expect(self.resets(Frame.parse(self.server.output())).isEmpty)
        #expect(self.server.session.wantsInput)
        #expect(self.server.streams.count == 2)
    }

    /// Python's h2 resets a stream once more for each frame of it that was on its way.
    @Test func letsAStreamBeResetForEachFrameThatWasOnItsWay() throws {
        for round in 0..<5 {
            let id = UInt32(2 * round + 1)
            self.server.take(Frame.headers(id, Frame.get))
            let stream = try #require(self.server.streams.last)
            stream.respond(OutgoingFields([(":status", "200")]), endsStream: false)
            for _ in 0..<900 {
                stream.send([65], count: 1)
                _ = self.server.output()
            }
            let reset = Frame.bytes(type: 3, stream: id, [0, 0, 0, 8])
            for _ in 0...900 { self.server.take(reset) }
            #expect(self.server.overdone.isEmpty)
        }
        let reset = Frame.bytes(type: 3, stream: 1, [0, 0, 0, 8])
        for _ in 0..<200 where self.server.overdone.isEmpty { self.server.take(reset) }
        #expect(self.server.overdone == [.lateReset])
    }

    @Test func remembersTheLastStreamsThatEnded() {
        var ended = EndedStreams()
        #expect(ended.end(of: 1) == nil)
        for id in stride(from: Int32(1), through: 99, by: 2) {
            ended.note(id, id % 4 == 1 ? .finished : .reset)
        }
        let first = 99 - 2 * Int32(EndedStreams.keptMax) + 2
        for id in stride(from: Int32(1), through: 201, by: 2) {
            let expected: EndedStreams.End = id % 4 == 1 ? .finished : .reset
            #expect(ended.end(of: id) == ((first...99).contains(id) ? expected : nil), "\(id)")
        }
    }

    @Test func endsAPeerThatGivesTheConnectionAPriority() {
        self.server.take(Frame.bytes(type: 2, [0, 0, 0, 1, 9]))
        #expect(self.goAwayCode(Frame.parse(self.server.output())) == 1)
        #expect(!self.server.session.wantsInput)
    }

    @Test(arguments: [true, false])
    func refusesRequestsBehindAFarewell(inOnePiece: Bool) {
        self.server.take(Frame.headers(1, Frame.post, ends: false))
        let farewell = Frame.bytes(type: 7, [0, 0, 0, 0, 0, 0, 0, 0])
        let rest = Frame.headers(3, Frame.get) + Frame.bytes(type: 0, flags: 1, stream: 1, [65])
        if inOnePiece {
            self.server.take(farewell + rest)
        } else {
            self.server.take(farewell)
            self.server.take(rest)
        }
        #expect(self.server.streams.count == 1)
        #expect(self.server.streams[0].body == [65])
        // REFUSED_STREAM: it may be asked again on another connection.
        #expect(self.resets(Frame.parse(self.server.output())) == [7])
    }

    @Test func keepsLittleOfABlockThatUnpacksToMuch() {
        // One large field goes into the table, and then every byte refers to it.
        let value = [UInt8](repeating: 0x61, count: 4_000)
        let first: [UInt8] = [0x40, 1, 0x78, 0x7F, 0xA1, 0x1E] + value
        let bomb = [UInt8](repeating: 0xBE, count: 12_000)
        self.server.take(
            Frame.bytes(type: 1, flags: 5, stream: 1, Frame.block(Frame.get) + first + bomb)
        )
        #expect(self.server.streams[0].refusal == .tooLarge)
        #expect(self.server.overdone.isEmpty)
    }

    @Test func answersToFloodsAreBoundedWhereNobodyReadsThem() {
        for _ in 0..<(HTTP2Settings.answersWaitingMax + 10) where self.server.overdone.isEmpty {
            self.clock.now = self.clock.now + Duration.seconds(1)
            self.server.take(Frame.bytes(type: 6, [UInt8](repeating: 0, count: 8)))
        }
        #expect(self.server.overdone == [.ping])
        #expect(self.goAwayCode(Frame.parse(self.server.output())) == 11)
    }

    @Test func endsAPeerThatLeavesNoRoomOnPurpose() throws {
        // Room for one byte at a time.
        self.server.take(Frame.bytes(type: 4, [0, 4, 0, 0, 0, 1]) + Frame.headers(1, Frame.get))
        let stream = try #require(self.server.streams.first)
        stream.respond(OutgoingFields([(":status", "200")]), endsStream: false)
        stream.send([UInt8](repeating: 1, count: 60_000), count: 60_000)
        _ = self.server.output()
        var rounds = 0
        while self.server.overdone.isEmpty, rounds < 5_000 {
            self.server.take(Frame.bytes(type: 8, stream: 1, [0, 0, 0, 1]))
            _ = self.server.output()
            rounds += 1
        }
        #expect(self.server.overdone == [.tinyWindow])
    }

    @Test(arguments: [
        Frame.bytes(type: 0, stream: 0, [1]), Frame.bytes(type: 1, flags: 5, stream: 2, [0x82]),
        Frame.bytes(type: 1, flags: 5, stream: 1, [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]),
        Frame.bytes(type: 6, [0]), Frame.bytes(type: 5, flags: 4, stream: 1, [0, 0, 0, 2, 0x82]),
        Frame.bytes(type: 4, [0, 2, 0, 0, 0, 9]), Frame.bytes(type: 9, stream: 1, [0x82]),
    ])
    func endsAConnectionThatIsNotHTTP2(bytes: [UInt8]) {
        self.server.take(bytes)
        let frames = Frame.parse(self.server.output())
        #expect(self.goAwayCode(frames) != nil && self.goAwayCode(frames) != 0)
        #expect(!self.server.session.wantsInput)
    }

    @Test func endsAPeerWithoutAPreface() {
        let server = Side(.server)
        #expect(server.take(Array("GET / HTTP/1.1\r\nHost: a\r\n\r\n".utf8)) == .end)
        #expect(self.goAwayCode(Frame.parse(server.output())) == 1)
    }
}
