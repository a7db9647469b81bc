import HTTP
import Testing

@Suite struct NameTests {
    @Test(arguments: FieldName.allCases)
    func findsEveryNameInAnyCase(_ name: FieldName) {
        let lower = name.canonical.description
        let title = lower.split(separator: "-").map(\.withCapital).joined(separator: "-")
        for spelling in [lower, lower.uppercased(), title] {
            #expect(Self.lookUp(spelling) == name)
        }
    }

    @Test(arguments: FieldName.allCases)
    func findsNoNameThatDiffersInOneByte(_ name: FieldName) {
        let bytes = Array(name.canonical.description.utf8)
        for index in bytes.indices {
            var other = bytes
            for replacement in UInt8(ascii: "!")...UInt8(ascii: "~") {
                if name == .xWeirClientSubject, bytes[index] == UInt8(ascii: "-"),
                    replacement == UInt8(ascii: "_")
                {
                    continue
                }
                other[index] = replacement
                let isSame = replacement | 0x20 == bytes[index] | 0x20 && replacement >= 0x41
                #expect((Self.lookUp(other) == name) == (isSame || replacement == bytes[index]))
            }
            #expect(Self.lookUp(Array(bytes[..<index])) != name)
        }
        if name != .other { #expect(Self.lookUp(bytes + [0x78]) == .other) }
    }

    /// What a server may take for the field is the field.
    @Test(arguments: ["x_weir_client_subject", "X_Weir-Client_Subject", "X-WEIR_CLIENT-SUBJECT"])
    func findsTheClientsSubjectWithUnderscores(_ spelling: String) {
        #expect(Self.lookUp(spelling) == .xWeirClientSubject)
    }

    @Test func unknownNamesAreOther() {
        for name in ["", "x", "x-y", "content-lengthy", "hosts", "transfer_encoding"] {
            #expect(Self.lookUp(name) == .other)
        }
    }

    @Test func namesFitIntoOneWord() {
        #expect(FieldName.allCases.count <= 64)
        #expect(
            Set(FieldName.allCases.map(\.canonical.description)).count == FieldName.allCases.count
        )
    }

    @Test func setsHoldWhatWasPutIn() {
        let some: [FieldName] = [.host, .te, .xGatewayModelName]
        var set = FieldNameSet()
        for name in some { set.insert(name) }
        for name in FieldName.allCases { #expect(set.contains(name) == some.contains(name)) }
        let both = set.union(FieldNameSet(.cookie, .host))
        #expect(both.contains(.cookie) && both.contains(.te))
        #expect(both == FieldNameSet(.cookie, .host, .te, .xGatewayModelName))
    }

    @Test(arguments: FieldName.allCases)
    func whatIsHopByHopMayNotBeATrailer(_ name: FieldName) {
        if FieldNameSet.hopByHop.contains(name) {
            #expect(FieldNameSet.forbiddenInTrailers.contains(name))
        }
    }

    /// The grammar is spelt out here as RFC 9110, section 5.6.2, does; the parser has bit masks.
    @Test func nameBytesAreExactlyTokenBytes() {
        let specials = Array("!#$%&'*+-.^_`|~".utf8)
        for byte in UInt8.min...UInt8.max {
            let isLetter = (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
            let isToken = isLetter || (0x30...0x39).contains(byte) || specials.contains(byte)
            // In the middle of a word of eight, and in a rest shorter than that.
            for padding in ["abcdefghijk", "a"] {
                let bytes =
                    Array("GET / HTTP/1.1\r\nHost: h\r\n\(padding)".utf8) + [byte]
                    + Array("\(padding): v\r\n\r\n".utf8)
                let head = RequestHead()
                let step = head.parse(bytes.span.bytes, limits: HeadLimits())
                // A colon just ends the name earlier.
                let isFine = isToken || byte == UInt8(ascii: ":")
                #expect(step.isComplete == isFine, "byte \(byte)")
            }
        }
    }

    @Test func valueBytesAreExactlyFieldContent() {
        for byte in UInt8.min...UInt8.max {
            for padding in ["abcdefghijk", "a", ""] {
                let bytes =
                    Array("GET / HTTP/1.1\r\nHost: h\r\nX: \(padding)".utf8) + [byte]
                    + Array("\(padding)\r\n\r\n".utf8)
                let step = RequestHead().parse(bytes.span.bytes, limits: HeadLimits())
                let isFine = byte == 9 || (byte >= 0x20 && byte != 0x7F)
                #expect(step.isComplete == isFine, "byte \(byte)")
                let value = Array(padding.utf8) + [byte]
                let isValid = HeadWriter.isValidValue(value.span.bytes)
                #expect(isValid == isFine)
            }
        }
    }

    @Test func targetBytesAreVisibleASCIIWithoutFragment() {
        for byte in UInt8.min...UInt8.max where byte != 0x20 {
            for padding in ["abcdefghijk", ""] {
                let bytes =
                    Array("GET /\(padding)".utf8) + [byte]
                    + Array("\(padding) HTTP/1.1\r\nHost: h\r\n\r\n".utf8)
                let step = RequestHead().parse(bytes.span.bytes, limits: HeadLimits())
                let isFine = byte > 0x20 && byte < 0x7F && byte != UInt8(ascii: "#")
                #expect(step.isComplete == isFine, "byte \(byte)")
            }
        }
    }

    @Test(arguments: [
        ("GET", HTTPMethod.get), ("HEAD", .head), ("POST", .post), ("PUT", .put),
        ("DELETE", .delete), ("CONNECT", .connect), ("OPTIONS", .options), ("TRACE", .trace),
        ("PATCH", .patch), ("G", .other), ("GEX", .other), ("PET", .other), ("HOAD", .other),
        ("OPTIONX", .other), ("Get", .other), ("QUERY", .other),
    ])
    func readsMethods(name: String, method: HTTPMethod) {
        let target = method == .connect ? "h:1" : "/"
        let bytes = Array("\(name) \(target) HTTP/1.1\r\nHost: h\r\n\r\n".utf8)
        let head = RequestHead()
        let step = head.parse(bytes.span.bytes, limits: HeadLimits())
        #expect(step.isComplete)
        #expect(head.method == method)
        if method != .other { #expect(method.name.description == name) }
        if method.isSafe { #expect(method.isIdempotent) }
    }

    private static func lookUp(_ name: String) -> FieldName { Self.lookUp(Array(name.utf8)) }

    private static func lookUp(_ bytes: [UInt8]) -> FieldName {
        FieldName(bytes.span.bytes, ByteRange(start: 0, count: UInt32(bytes.count)))
    }
}
