import Core
import HTTP
import Testing

@testable import GRPC

@Suite struct StatusTests {
    @Test func hasTheNumbersOfTheSpecification() {
        #expect(GRPCStatus.allCases.map(\.rawValue) == Array(0...16))
        #expect(GRPCStatus.notFound.rawValue == 5 && GRPCStatus.unavailable.rawValue == 14)
    }

    @Test func readsTheField() {
        for status in GRPCStatus.allCases {
            let text = bytes("\(status.rawValue)")
            #expect(GRPCStatus(field: text.span.bytes) == status)
        }
        for (text, status) in [
            ("17", GRPCStatus.unknown), ("999", .unknown), ("014", .unavailable),
        ] {
            let value = bytes(text)
            #expect(GRPCStatus(field: value.span.bytes) == status)
        }
        for text in ["", "-1", " 0", "0 ", "0x1", "1000", "a", "1.0"] {
            let value = bytes(text)
            #expect(GRPCStatus(field: value.span.bytes) == nil, "\(text)")
        }
    }

    /// `http-grpc-status-mapping.md`, the table as a whole.
    @Test func mapsHTTPStatusesAsClientsDo() {
        let table: [UInt16: GRPCStatus] = [
            400: .internal, 401: .unauthenticated, 403: .permissionDenied, 404: .unimplemented,
            429: .unavailable, 502: .unavailable, 503: .unavailable, 504: .unavailable,
        ]
        for status in UInt16(100)...599 {
            #expect(GRPCStatus(httpStatus: status) == table[status] ?? .unknown, "\(status)")
        }
    }

    /// `PROTOCOL-HTTP2.md`, "HTTP2 Transport Mapping".
    @Test func mapsResetCodes() {
        let table: [UInt32: GRPCStatus] = [
            0x0: .internal, 0x1: .internal, 0x2: .internal, 0x3: .internal, 0x4: .internal,
            0x5: .unknown, 0x6: .internal, 0x7: .unavailable, 0x8: .cancelled, 0x9: .internal,
            0xA: .internal, 0xB: .resourceExhausted, 0xC: .permissionDenied, 0xD: .unknown,
            0xFFFF_FFFF: .unknown,
        ]
        for (code, status) in table { #expect(GRPCStatus(resetCode: code) == status, "\(code)") }
    }

    @Test func tellsClientsWhatTheGatewayMeans() {
        let table: [(ProxyError.Kind, GRPCStatus)] = [
            (.connectFailed, .unavailable), (.upstreamReset, .unavailable),
            (.connectTimeout, .unavailable), (.draining, .unavailable),
            (.noReplica, .unavailable), (.queueTimeout, .unavailable),
            (.upstreamTimeout, .deadlineExceeded), (.firstByteTimeout, .deadlineExceeded),
            (.streamIdleTimeout, .deadlineExceeded), (.queueFull, .resourceExhausted),
            (.rateLimited, .resourceExhausted), (.unauthorized, .unauthenticated),
            (.modelForbidden, .permissionDenied), (.unknownModel, .notFound),
            (.notFound, .unimplemented), (.clientGone, .cancelled),
            (.badRequest, .invalidArgument), (.internalFault, .internal),
            (.upstreamInvalid, .internal), (.bodyTooLarge, .resourceExhausted),
        ]
        for (kind, status) in table { #expect(GRPCStatus(kind) == status, "\(kind)") }
        for kind in ProxyError.Kind.allCases { #expect(GRPCStatus(kind) != .ok, "\(kind)") }
    }

    /// What may be tried again by HTTP's rules must not look final to a client of gRPC.
    @Test func whatIsToBeTriedLaterIsNotFinal() {
        for kind in ProxyError.Kind.allCases where kind.needsRetryAfter {
            let status = GRPCStatus(kind)
            #expect(status == .unavailable || status == .resourceExhausted, "\(kind)")
        }
    }

    @Test func countsAsTheHTTPStatusOfItsMeaning() {
        for status in GRPCStatus.allCases {
            #expect((status == .ok) == (status.httpStatus < 400))
        }
        #expect(GRPCStatus.unavailable.httpStatus == 503)
        #expect(GRPCStatus.cancelled.httpStatus == 499)
        #expect(GRPCStatus.unimplemented.httpStatus == 404)
    }
}

@Suite struct StatusMessageTests {
    static func encode(_ text: String) -> String {
        let output = ByteBuffer(capacity: 16)
        GRPCStatusMessage.write(text, into: output)
        return output.text
    }

    static func decode(_ value: [UInt8]) -> String { GRPCStatusMessage.text(value.span.bytes) }

    @Test(arguments: [
        ("plain text", "plain text"), ("100 % sure", "100 %25 sure"), ("a\r\nb\tc", "a%0D%0Ab%09c"),
        ("grün", "gr%C3%BCn"), ("🦫", "%F0%9F%A6%AB"), ("~ \u{7F}\u{0}", "~ %7F%00"), ("", ""),
    ])
    func escapesWhatIsNotPrintable(text: String, value: String) {
        #expect(Self.encode(text) == value)
        #expect(Self.decode(bytes(value)) == text)
    }

    @Test func everyByteThatComesOutMayStandInAField() {
        for scalar in (0...0x2FF).compactMap(Unicode.Scalar.init) {
            let encoded = Self.encode(String(Character(scalar)))
            #expect(encoded.utf8.allSatisfy { (0x20...0x7E).contains($0) }, "\(scalar.value)")
            #expect(Self.decode(bytes(encoded)).unicodeScalars.elementsEqual([scalar]))
        }
    }

    @Test func badEscapesStandForThemselves() {
        #expect(Self.decode(bytes("%")) == "%")
        #expect(Self.decode(bytes("%4")) == "%4")
        #expect(Self.decode(bytes("%zz%41")) == "%zzA")
        #expect(Self.decode(bytes("%c3%bC")) == "ü")
    }

    @Test func longMessagesAreCutBetweenCharacters() {
        let encoded = Self.encode(String(repeating: "ü", count: 5_000))
        #expect(encoded.utf8.count == GRPCStatusMessage.encodedBytesMax / 6 * 6)
        let kept = String(repeating: "ü", count: encoded.utf8.count / 6)
        #expect(Self.decode(bytes(encoded)) == kept)
        let plain = Self.encode(String(repeating: "a", count: 5_000))
        #expect(plain.utf8.count == GRPCStatusMessage.encodedBytesMax)
    }
}

@Suite struct TimeoutTests {
    static func parse(_ text: String) -> UInt64? {
        let value = bytes(text)
        return GRPCTimeout.parse(value.span.bytes)
    }

    static func write(_ nanoseconds: UInt64) -> String {
        let output = ByteBuffer(capacity: 16)
        GRPCTimeout.write(nanoseconds: nanoseconds, into: output)
        return output.text
    }

    @Test(
        arguments: [
            ("1n", 1), ("1u", 1_000), ("1m", 1_000_000), ("1S", 1_000_000_000),
            ("1M", 60_000_000_000), ("1H", 3_600_000_000_000), ("0S", 0),
            ("99999999n", 99_999_999), ("00000001S", 1_000_000_000),
            ("99999999S", 99_999_999_000_000_000), ("99999999H", UInt64.max),
        ] as [(String, UInt64)]
    )
    func readsEveryUnit(text: String, nanoseconds: UInt64) {
        #expect(Self.parse(text) == nanoseconds)
    }

    @Test(arguments: [
        "", "S", "1", "1s", "1N", "1h", "1 S", " 1S", "1S ", "+1S", "-1S", "1.5S", "1e3m",
        "123456789S", "0x1S", "１S", "1SS", "1\u{0}",
    ])
    func refusesAnythingElse(text: String) {
        #expect(Self.parse(text) == nil)
    }

    @Test func writesTheFinestUnitThatFits() {
        #expect(Self.write(0) == "0n")
        #expect(Self.write(99_999_999) == "99999999n")
        #expect(Self.write(100_000_000) == "100000u")
        #expect(Self.write(1_500_000_000) == "1500000u")
        #expect(Self.write(100_000_000_000) == "100000m")
        #expect(Self.write(.max) == "5124095H")
    }

    @Test func neverGivesMoreTimeThanThereIs() {
        var random = RandomSource(seed: 20_260)
        for _ in 0..<20_000 {
            let value = random.next() >> UInt64(random.int(below: 64))
            let text = Self.write(value)
            #expect(text.utf8.count <= GRPCTimeout.digitsMax + 1)
            let read = Self.parse(text) ?? .max
            #expect(read <= value && value - read <= value / 100_000, "\(value) as \(text)")
        }
    }
}
