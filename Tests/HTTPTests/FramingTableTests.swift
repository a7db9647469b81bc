import HTTP
import TestSupport
import Testing

/// Every case of the table, in every way that bytes can arrive.
@Suite struct FramingTableTests {
    /// Bytes that would end a line, a head or a chunk if a parser looked at them.
    static let guards: [[UInt8]] = [[], Array("\r\n\r\n0\r\n\r\n".utf8), [0, 0xFF, 0x0A, 0x3A]]

    @Test func hasCasesEnoughWithUniqueNames() {
        let names = Set(FramingCase.all.map(\.name))
        #expect(names.count == FramingCase.all.count)
        #expect(names.count >= 120)
    }

    @Test(arguments: FramingCase.all)
    func wholeInputGivesTheExpectedRequests(_ framing: FramingCase) {
        for guardBytes in Self.guards {
            var reader = RequestStreamReader(guardBytes: guardBytes)
            reader.feed(framing.bytes)
            #expect(reader.requests == framing.requests)
            #expect(reader.end == framing.end)
        }
    }

    @Test(arguments: FramingCase.all)
    func byteByByteGivesTheSame(_ framing: FramingCase) {
        for guardBytes in Self.guards {
            var reader = RequestStreamReader(guardBytes: guardBytes)
            for byte in framing.bytes { reader.feed(CollectionOfOne(byte)) }
            #expect(reader.requests == framing.requests)
            #expect(reader.end == framing.end)
            #expect(reader.refusedAt == framing.proofCount, "refused too late or too early")
        }
    }

    @Test(arguments: FramingCase.all)
    func truncatedInputIsNeverReadAsSomethingElse(_ framing: FramingCase) {
        for count in framing.bytes.indices {
            var reader = RequestStreamReader(guardBytes: Self.guards[1])
            reader.feed(framing.bytes[..<count])
            #expect(framing.requests.starts(with: reader.requests))
            if count < framing.proofCount ?? .max {
                #expect(reader.refusal == nil, "refused after \(count) bytes")
            } else {
                #expect(reader.end == framing.end)
            }
        }
    }

    /// Pieces of two sizes: a boundary falls on every byte of every case.
    @Test(arguments: FramingCase.all)
    func twoPiecesGiveTheSame(_ framing: FramingCase) {
        for count in framing.bytes.indices {
            var reader = RequestStreamReader(guardBytes: Self.guards[2])
            reader.feed(framing.bytes[..<count])
            reader.feed(framing.bytes[count...])
            #expect(reader.requests == framing.requests)
            #expect(reader.end == framing.end)
        }
    }

    /// A good request before a case changes nothing about it, and one behind a good case is read.
    @Test(arguments: FramingCase.all)
    func coalescesWithNeighbours(_ framing: FramingCase) {
        let neighbour = StreamedRequest("PUT", "/n", body: "abc")
        let bytes = Array("PUT /n HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc".utf8)
        var reader = RequestStreamReader()
        reader.feed(bytes + framing.bytes + (framing.end == .clean ? bytes : []))
        let keepsAlive = framing.requests.allSatisfy(\.keepsAlive)
        let isFollowed = framing.end == .clean && keepsAlive
        #expect(reader.requests == [neighbour] + framing.requests + (isFollowed ? [neighbour] : []))
        #expect(reader.end == framing.end)
    }
}
