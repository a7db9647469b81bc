import Core
import Testing

@testable import HTTP

/// HTTP/2 fields to HTTP/1 heads: what is refused, and that what is not reads the same again.
struct FieldBlockTests {
    typealias Fields = [([UInt8], [UInt8])]

    static func fields(_ pairs: [(String, String)]) -> Fields {
        pairs.map { (Array($0.0.utf8), Array($0.1.utf8)) }
    }

    static let get = [
        (":method", "GET"), (":scheme", "https"), (":path", "/a"), (":authority", "h.example"),
    ]

    /// The head, or what is wrong.
    static func convert(
        _ fields: Fields,
        kind: FieldBlock.Kind = .request,
        endsStream: Bool = true,
        limits: HeadLimits = HeadLimits(),
        key: WebSocketKey? = nil,
        block: FieldBlock = FieldBlock()
    ) -> Result<String, FieldBlockError> {
        block.begin(kind, limits: limits)
        for (name, value) in fields {
            block.add(name: name.span.bytes, value: value.span.bytes)
        }
        if let error = block.finish(endsStream: endsStream, webSocketKey: key) {
            return .failure(error)
        }
        let head = block.head
        return .success(
            String(
                String.UnicodeScalarView(
                    head.readable.withUnsafeBytes { $0.map(Unicode.Scalar.init) }
                )
            )
        )
    }

    static func convert(
        _ pairs: [(String, String)],
        kind: FieldBlock.Kind = .request,
        endsStream: Bool = true,
        key: WebSocketKey? = nil
    ) -> Result<String, FieldBlockError> {
        self.convert(self.fields(pairs), kind: kind, endsStream: endsStream, key: key)
    }

    // MARK: Requests

    @Test func writesARequestAsOneOfHTTP1() {
        #expect(
            Self.convert(Self.get + [("accept", "*/*"), ("x-empty", "")])
                == .success(
                    "GET /a HTTP/1.1\r\nhost: h.example\r\naccept: */*\r\nx-empty: \r\n\r\n"
                )
        )
        #expect(
            Self.convert(Self.get, endsStream: false)
                == .success(
                    "GET /a HTTP/1.1\r\nhost: h.example\r\ntransfer-encoding: chunked\r\n\r\n"
                )
        )
        #expect(
            Self.convert(Self.get + [("content-length", "007")], endsStream: false)
                == .success("GET /a HTTP/1.1\r\nhost: h.example\r\ncontent-length: 7\r\n\r\n")
        )
    }

    @Test func joinsCrumbsOfCookies() {
        #expect(
            Self.convert(Self.get + [("cookie", "a=1"), ("x", "y"), ("cookie", "b=2")])
                == .success(
                    "GET /a HTTP/1.1\r\nhost: h.example\r\ncookie: a=1; b=2\r\nx: y\r\n\r\n"
                )
        )
    }

    @Test func takesTheHostWhereThereIsNoAuthority() {
        let fields = Self.get.dropLast() + [("host", "other.example:81")]
        #expect(
            Self.convert(Array(fields))
                == .success("GET /a HTTP/1.1\r\nhost: other.example:81\r\n\r\n")
        )
        #expect(
            Self.convert(Self.get + [("host", "H.Example")])
                == .success("GET /a HTTP/1.1\r\nhost: h.example\r\n\r\n")
        )
    }

    @Test func leavesTheFieldOutThatSaysTrailersAreRead() {
        let block = FieldBlock()
        _ = Self.convert(Self.fields(Self.get + [("te", "trailers")]), block: block)
        let head = block.head
        #expect(!head.readable.withUnsafeBytes { $0.contains(UInt8(ascii: "l")) && $0.count > 60 })
    }

    static let refusals: [([(String, String)], FieldBlockError)] = [
        ([("x", "1")], .missingPseudoField),
        (Array(get.dropFirst()), .missingPseudoField),
        ([get[0], get[2], get[3]], .missingPseudoField),
        ([get[0], get[1], get[3]], .missingPseudoField),
        (Array(get.dropLast()), .missingAuthority),
        (get + [get[0]], .duplicatePseudoField), (get + [get[1]], .duplicatePseudoField),
        (get + [get[2]], .duplicatePseudoField), (get + [get[3]], .duplicatePseudoField),
        ([("x", "1")] + get, .latePseudoField),
        (get + [(":status", "200")], .unknownPseudoField), (get + [(":", "")], .unknownPseudoField),
        (get + [(":Method", "GET")], .unknownPseudoField),
        (get + [(":protocol", "websocket")], .unknownPseudoField),
        (get + [("", "1")], .emptyName), (get + [("X", "1")], .invalidName),
        (get + [("connection", "x")], .connectionSpecificField),
        (get + [("keep-alive", "x")], .connectionSpecificField),
        (get + [("proxy-connection", "x")], .connectionSpecificField),
        (get + [("transfer-encoding", "chunked")], .connectionSpecificField),
        (get + [("upgrade", "x")], .connectionSpecificField),
        (get + [("http2-settings", "x")], .connectionSpecificField),
        (get + [("te", "gzip")], .invalidTE), (get + [("te", "trailers, gzip")], .invalidTE),
        (get + [("te", "")], .invalidTE),
        (get + [("host", "h.example"), ("host", "h.example")], .duplicateHost),
        (get + [("host", "other")], .hostDiffersFromAuthority),
        (get + [("host", "")], .hostDiffersFromAuthority),
        (get + [("content-length", "1"), ("content-length", "1")], .duplicateContentLength),
        (get + [("content-length", "")], .invalidContentLength),
        (get + [("content-length", "-1")], .invalidContentLength),
        (get + [("content-length", "+1")], .invalidContentLength),
        (get + [("content-length", "1, 1")], .invalidContentLength),
        (get + [("content-length", "0x1")], .invalidContentLength),
        (get + [("content-length", "9223372036854775808")], .invalidContentLength),
        (get + [("content-length", "1")], .lengthWithoutBody),
    ]

    @Test(arguments: refusals.indices)
    func refusesARequest(index: Int) {
        let (fields, error) = Self.refusals[index]
        #expect(Self.convert(fields) == .failure(error), "\(fields)")
    }

    static let parts: [(Int, String, FieldBlockError)] = [
        (0, "", .invalidMethod), (0, "G T", .invalidMethod), (0, "GET\r\n", .invalidValue),
        (0, "GET /x HTTP/1.1\r\nHost: a\r\n\r\nGET", .invalidValue), (0, "G\tT", .invalidMethod),
        (0, String(repeating: "A", count: 33), .invalidMethod), (0, "CONNECT", .invalidConnect),
        (1, "", .invalidScheme), (1, "ftp", .invalidScheme), (1, "https://x", .invalidScheme),
        (2, "", .invalidPath), (2, "a", .invalidPath), (2, "*", .invalidPath),
        (2, "/a b", .invalidPath), (2, "/a#b", .invalidPath), (2, "/\u{7F}", .invalidValue),
        (2, "http://h.example/", .invalidPath), (2, "/a\tb", .invalidPath), (2, "/é", .invalidPath),
        (2, "/ HTTP/1.1", .invalidPath), (2, " /", .invalidValue),
        (3, "", .invalidAuthority), (3, "u@h", .invalidAuthority), (3, "a b", .invalidAuthority),
        (3, "a,b", .invalidAuthority), (3, "a/b", .invalidAuthority),
        (3, "a:99999", .invalidAuthority),
        (3, "a:b", .invalidAuthority), (3, "[::1", .invalidAuthority),
    ]

    @Test(arguments: parts.indices)
    func refusesAPartOfTheFirstLine(index: Int) {
        let (place, value, error) = Self.parts[index]
        var fields = Self.get
        fields[place].1 = value
        #expect(Self.convert(fields) == .failure(error), "\(fields)")
    }

    @Test func takesAsteriskForOptionsAlone() {
        var fields = Self.get
        fields[0].1 = "OPTIONS"
        fields[2].1 = "*"
        #expect(
            Self.convert(fields) == .success("OPTIONS * HTTP/1.1\r\nhost: h.example\r\n\r\n")
        )
    }

    @Test func writesAConnectSoThatItIsRefusedLater() {
        let fields = [(":method", "CONNECT"), (":authority", "h.example:443")]
        #expect(
            Self.convert(fields)
                == .success("CONNECT h.example:443 HTTP/1.1\r\nhost: h.example:443\r\n\r\n")
        )
        #expect(Self.convert([(":method", "CONNECT")]) == .failure(.invalidAuthority))
        #expect(
            Self.convert([(":method", "CONNECT"), (":authority", "h.example")])
                == .failure(.invalidAuthority)
        )
    }

    // MARK: Every byte

    /// A byte anywhere in a name: a head comes of it only where HTTP/1 takes the same name, and it
    /// is not in upper case.
    @Test func judgesEachByteOfANameAsHTTP1Does() {
        for byte in UInt8.min...UInt8.max {
            for place in 0..<3 {
                var name: [UInt8] = [0x61, 0x62, 0x63]
                name[place] = byte
                let result = Self.convert(Self.fields(Self.get) + [(name, [0x31])])
                let isTaken = ASCII.isToken(byte) && !(0x41...0x5A).contains(byte)
                if isTaken {
                    let line = String(decoding: name, as: UTF8.self) + ": 1\r\n"
                    #expect((try? result.get())?.contains(line) == true)
                } else {
                    #expect((try? result.get()) == nil, "\(byte) at \(place)")
                }
            }
        }
    }

    @Test func judgesEachByteOfAValueAsHTTP1Does() throws {
        for byte in UInt8.min...UInt8.max {
            for place in 0..<3 {
                var value: [UInt8] = [0x61, 0x62, 0x63]
                value[place] = byte
                let result = Self.convert(Self.fields(Self.get) + [([0x78], value)])
                let isBlank = byte == 0x20 || byte == 0x09
                let isTaken = ASCII.isFieldContent(byte) && !(isBlank && place != 1)
                if isTaken {
                    let head = Array(try result.get().unicodeScalars.map { UInt8($0.value) })
                    let read = RequestHead()
                    guard case .complete = read.parse(head.span.bytes, limits: HeadLimits()) else {
                        Issue.record("not read again: \(byte)")
                        continue
                    }
                    let field = try #require(read.fields.last)
                    #expect(Array(head[field.valueRange.indices]) == value)
                } else {
                    #expect(result == .failure(.invalidValue), "\(byte) at \(place)")
                }
            }
        }
    }

    /// Whatever comes: what is accepted reads as one head to its end, with the fields it had, and
    /// the same method, path, authority and framing.
    @Test func whatIsAcceptedReadsTheSameAgain() throws {
        let seed = UInt64(0x5EED_F1E1D)
        var random = RandomSource(seed: seed)
        var accepted = 0
        let block = FieldBlock()
        for round in 0..<20_000 {
            let fields = Self.randomFields(&random)
            let endsStream = Bool.random(using: &random)
            guard
                let text = try? Self.convert(fields, endsStream: endsStream, block: block).get()
            else { continue }
            accepted += 1
            let head = text.unicodeScalars.map { UInt8($0.value) }
            let read = RequestHead()
            guard
                case .complete(let count) = read.parse(head.span.bytes, limits: HeadLimits())
            else {
                Issue.record("not read again in round \(round) of seed \(seed): \(text)")
                return
            }
            #expect(count == head.count, "more than one head in round \(round) of seed \(seed)")
            try Self.compare(fields, head, read, endsStream: endsStream)
        }
        #expect(accepted > 1_000)
    }

    private static func compare(
        _ fields: Fields,
        _ head: [UInt8],
        _ read: RequestHead,
        endsStream: Bool
    ) throws {
        func value(_ name: String) -> [UInt8]? {
            fields.first { $0.0 == Array(name.utf8) }?.1
        }
        #expect(Array(head[read.methodRange.indices]) == value(":method"))
        #expect(Array(head[read.targetRange.indices]) == value(":path"))
        let authority = try #require(read.authorityRange)
        #expect(Array(head[authority.indices]) == value(":authority") ?? value("host"))
        let length = value("content-length").flatMap { UInt64(String(decoding: $0, as: UTF8.self)) }
        if let length {
            #expect(read.framing == (length == 0 ? .none : .length(length)))
        } else {
            #expect(read.framing == (endsStream ? .none : .chunked))
        }
        let special = ["host", "content-length", "cookie", "te"].map { Array($0.utf8) }
        let expected = fields.filter { $0.0.first != 0x3A && !special.contains($0.0) }
        let found = read.fields.filter {
            ![.host, .contentLength, .transferEncoding, .cookie].contains($0.name)
        }
        #expect(found.map { Array(head[$0.nameRange.indices]) } == expected.map(\.0))
        #expect(found.map { Array(head[$0.valueRange.indices]) } == expected.map(\.1))
    }

    /// A request's fields with something odd here and there.
    private static func randomFields(_ random: inout RandomSource) -> Fields {
        var fields = self.fields(self.get)
        let names = [
            "a", "x-b", "cookie", "content-length", "host", "te", "accept", "connection", "X-C",
            "x_d", ":path", "x\r\n", "transfer-encoding", "x-weir-model",
        ]
        let values = [
            "1", "a b", "", "h.example", "trailers", "0", "12", "a\tb", "a\r\nb: c", "\u{0}", "é",
            "chunked", " x",
        ]
        for _ in 0..<Int.random(in: 0..<4, using: &random) {
            let isOdd = Int.random(in: 0..<4, using: &random) == 0
            let name = names[Int.random(in: 0..<(isOdd ? names.count : 7), using: &random)]
            let value = values[Int.random(in: 0..<(isOdd ? values.count : 7), using: &random)]
            fields.append((Array(name.utf8), Array(value.utf8)))
        }
        if Int.random(in: 0..<3, using: &random) == 0 {
            let place = Int.random(in: 0..<fields.count, using: &random)
            if !fields[place].1.isEmpty {
                let at = Int.random(in: 0..<fields[place].1.count, using: &random)
                fields[place].1[at] = UInt8.random(in: .min ... .max, using: &random)
            }
        }
        if Int.random(in: 0..<10, using: &random) == 0 {
            fields.remove(at: Int.random(in: 0..<fields.count, using: &random))
        }
        if Int.random(in: 0..<10, using: &random) == 0 { fields.shuffle(using: &random) }
        return fields
    }

    // MARK: Limits

    @Test func boundsTheDecodedSizeAndTheNumberOfFields() {
        let size = Self.get.reduce(0) { $0 + $1.0.utf8.count + $1.1.utf8.count + 32 }
        let fits = HeadLimits(maxHeadBytes: size, maxFields: 1)
        let fields = Self.fields(Self.get)
        #expect((try? Self.convert(fields, limits: fits).get()) != nil)
        let less = HeadLimits(maxHeadBytes: size - 1, maxFields: 1)
        #expect(Self.convert(fields, limits: less) == .failure(.tooLarge))
        let many = HeadLimits(maxFields: 3)
        let more = Self.fields((0..<5).map { ("x\($0)", "") })
        #expect(Self.convert(fields + more, limits: many) == .failure(.tooManyFields))
    }

    @Test func keepsNothingOfWhatComesBehindAFault() {
        let block = FieldBlock()
        block.begin(.request, limits: HeadLimits(maxHeadBytes: 1_000))
        let value = [UInt8](repeating: 0x61, count: 600)
        let name: [UInt8] = [0x78]
        for _ in 0..<1_000 { block.add(name: name.span.bytes, value: value.span.bytes) }
        #expect(block.error == .tooLarge)
        #expect(block.finish(endsStream: true) == .tooLarge)
        #expect(block.head.isEmpty)
        // And starts anew.
        #expect((try? Self.convert(Self.fields(Self.get), block: block).get()) != nil)
    }

    // MARK: WebSockets

    static let key = WebSocketKey(high: 0x0001_0203_0405_0607, low: 0x0809_0A0B_0C0D_0E0F)

    @Test func writesAnExtendedConnectAsAnUpgrade() {
        let fields = [
            (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"),
            (":path", "/chat"), (":authority", "h.example"), ("sec-websocket-key", "theirs"),
            ("sec-websocket-protocol", "a"),
        ]
        #expect(
            Self.convert(fields, endsStream: false, key: Self.key)
                == .success(
                    "GET /chat HTTP/1.1\r\nhost: h.example\r\nsec-websocket-protocol: a\r\n"
                        + "connection: upgrade\r\nupgrade: websocket\r\n"
                        + "sec-websocket-key: AAECAwQFBgcICQoLDA0ODw==\r\n\r\n"
                )
        )
        #expect(Self.convert(fields, endsStream: false) == .failure(.unknownPseudoField))
        #expect(Self.convert(fields, key: Self.key) == .failure(.invalidConnect))
        #expect(
            Self.convert(fields + [("content-length", "1")], endsStream: false, key: Self.key)
                == .failure(.invalidConnect)
        )
        var other = fields
        other[1].1 = "connect-udp"
        #expect(Self.convert(other, endsStream: false, key: Self.key) == .failure(.invalidProtocol))
        other = fields
        other[0].1 = "GET"
        #expect(Self.convert(other, endsStream: false, key: Self.key) == .failure(.invalidConnect))
    }

    // MARK: Responses

    @Test func writesAResponseAsOneOfHTTP1() {
        let kind = FieldBlock.Kind.response(isToHead: false)
        #expect(
            Self.convert([(":status", "200"), ("x", "1")], kind: kind, endsStream: false)
                == .success("HTTP/1.1 200 OK\r\nx: 1\r\ntransfer-encoding: chunked\r\n\r\n")
        )
        #expect(
            Self.convert([(":status", "200")], kind: kind)
                == .success("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        )
        #expect(
            Self.convert([(":status", "204")], kind: kind)
                == .success("HTTP/1.1 204 No Content\r\n\r\n")
        )
        #expect(
            Self.convert([(":status", "103"), ("link", "a")], kind: kind, endsStream: false)
                == .success("HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n")
        )
        #expect(
            Self.convert(
                [(":status", "200"), ("content-length", "9")],
                kind: .response(isToHead: true)
            ) == .success("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
        )
    }

    @Test(arguments: ["", "20", "2000", "099", "600", "abc", "2 0", "101"])
    func refusesAStatus(status: String) {
        let result = Self.convert([(":status", status)], kind: .response(isToHead: false))
        #expect(result == .failure(status == "101" ? .switchingProtocols : .invalidStatus))
    }

    @Test func refusesAResponseWithARequestsFields() {
        let kind = FieldBlock.Kind.response(isToHead: false)
        #expect(Self.convert([(":path", "/")], kind: kind) == .failure(.unknownPseudoField))
        #expect(Self.convert([("x", "1")], kind: kind) == .failure(.missingPseudoField))
        #expect(
            Self.convert([(":status", "200"), (":status", "200")], kind: kind)
                == .failure(.duplicatePseudoField)
        )
        #expect(
            Self.convert([(":status", "200"), ("content-length", "1")], kind: kind)
                == .failure(.lengthWithoutBody)
        )
    }

    // MARK: Trailers

    @Test func writesTrailersAsLines() {
        #expect(
            Self.convert([("grpc-status", "0"), ("host", "x"), ("x", "")], kind: .trailers)
                == .success("grpc-status: 0\r\nx: \r\n")
        )
        #expect(
            Self.convert([(":status", "0")], kind: .trailers) == .failure(.pseudoFieldInTrailers)
        )
        #expect(
            Self.convert([("x", "0")], kind: .trailers, endsStream: false)
                == .failure(.trailersWithoutEnd)
        )
        #expect(
            Self.convert([("connection", "0")], kind: .trailers)
                == .failure(.connectionSpecificField)
        )
    }

    @Test func boundsTheNumberOfTrailers() {
        let limits = HeadLimits(maxFields: 3)
        let lines = (0..<4).map { ("x\($0)", "") }
        let three = Self.fields(Array(lines.prefix(3)))
        #expect(
            Self.convert(three, kind: .trailers, limits: limits)
                == .success("x0: \r\nx1: \r\nx2: \r\n")
        )
        let four = Self.convert(Self.fields(lines), kind: .trailers, limits: limits)
        #expect(four == .failure(.tooManyFields))
    }

    @Test func namesEachFaultOnce() {
        let labels = FieldBlockError.allCases.map(\.label.description)
        #expect(Set(labels).count == labels.count)
        #expect(FieldBlockError.allCases.filter(\.isExcess) == [.tooLarge, .tooManyFields])
    }
}
