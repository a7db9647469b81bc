import Core
import Testing

@testable import Recordings

func randomRequest(_ random: inout RandomSource) -> RecordedRequest {
    func name(_ random: inout RandomSource) -> [UInt8] {
        Array("name-\(random.next() % 5)".utf8)
    }
    func time(_ random: inout RandomSource) -> UInt64 { random.next() >> (random.next() % 64) }
    var request = RecordedRequest()
    request.arrival = random.next() % 4 == 0 ? random.next() : 1_700_000_000_000_000
    request.model = name(&random)
    request.variant = name(&random)
    request.route = name(&random)
    request.error = random.next() % 2 == 0 ? [] : name(&random)
    request.tenant = random.next() % 2 == 0 ? 0 : random.next()
    request.status = UInt16(truncatingIfNeeded: random.next())
    request.attempts = UInt32(truncatingIfNeeded: random.next())
    request.isStream = random.next() % 2 == 0
    request.total = time(&random)
    request.bytesIn = time(&random)
    request.bytesOut = time(&random)
    request.queue = random.next() % 2 == 0 ? nil : time(&random)
    request.firstByte = random.next() % 2 == 0 ? nil : time(&random)
    request.firstToken = random.next() % 2 == 0 ? nil : time(&random)
    request.inputTokens = random.next() % 2 == 0 ? nil : time(&random)
    request.outputTokens = random.next() % 2 == 0 ? nil : time(&random)
    request.prefix = (0..<Int(random.next() % 5)).map { _ in random.next() }
    return request
}

@Suite struct BlockTests {
    @Test(arguments: [0, 1, -1, 63, -64, 64, .max, .min] as [Int64])
    func zigzagIsUndone(value: Int64) throws {
        #expect(Varint.unzigzag(Varint.zigzag(value)) == value)
        var bytes: [UInt8] = []
        Varint.append(Varint.zigzag(value), to: &bytes)
        var reader = VarintReader(bytes)
        #expect(try reader.next() == Varint.zigzag(value))
        #expect(reader.isAtEnd)
    }

    /// The example of the DWARF standard, figure C.1.
    @Test func numbersAreWrittenAsDWARFHasThem() {
        for (value, expected) in [
            (2, [2]), (127, [127]), (128, [0x80, 1]), (12857, [0xB9, 0x64]),
        ]
            as [(UInt64, [UInt8])]
        {
            var bytes: [UInt8] = []
            Varint.append(value, to: &bytes)
            #expect(bytes == expected)
        }
    }

    @Test(arguments: [1, 2, 3, 4] as [UInt64])
    func whatIsWrittenIsRead(seed: UInt64) throws {
        var random = RandomSource(seed: seed)
        var block = RecordingBlock()
        var requests: [RecordedRequest] = []
        for _ in 0..<500 {
            requests.append(randomRequest(&random))
            block.append(requests[requests.count - 1])
        }
        #expect(try RecordingBlock.requests(of: block.encoded()) == requests, "seed \(seed)")
        #expect(block.firstArrival == requests.map(\.arrival).min())
        #expect(block.lastArrival == requests.map(\.arrival).max())
    }

    @Test func blocksFillUpByCountAndByBytes() throws {
        var small = RecordingBlock()
        while !small.isFull { small.append(RecordedRequest()) }
        #expect(small.requestCount == RecordingBlock.Limits.requests)
        var large = RecordingBlock()
        var number = 0
        while !large.isFull {
            var request = RecordedRequest()
            request.model = Array("\(number)".utf8) + [UInt8](repeating: 0x61, count: 600)
            request.prefix = [UInt64](repeating: .max, count: 100)
            large.append(request)
            number += 1
        }
        let requests = try RecordingBlock.requests(of: large.encoded())
        #expect(requests.count == number)
        #expect(requests.allSatisfy { $0.model.count == RecordingBlock.Limits.nameBytes })
        #expect(requests.allSatisfy { $0.prefix.count == RecordingBlock.Limits.prefixHashes })
    }

    /// Whatever is cut off or changed: an error or other requests, never a crash.
    @Test(arguments: [5, 6] as [UInt64])
    func brokenBlocksAreErrors(seed: UInt64) throws {
        var random = RandomSource(seed: seed)
        var block = RecordingBlock()
        for _ in 0..<20 { block.append(randomRequest(&random)) }
        let bytes = block.encoded()
        for count in bytes.indices {
            #expect(throws: RecordingError.self) {
                try RecordingBlock.requests(of: Array(bytes.prefix(count)))
            }
        }
        #expect(throws: RecordingError.self) { try RecordingBlock.requests(of: bytes + [0]) }
        for _ in 0..<20_000 {
            var changed = bytes
            changed[Int(random.next() % UInt64(bytes.count))] = UInt8(
                truncatingIfNeeded: random.next()
            )
            _ = try? RecordingBlock.requests(of: changed)
        }
    }

    @Test(
        arguments: [
            ([0xFF, 0xFF, 0x7F], "names"), ([0x01, 0x81, 0x04], "bytes of a name"),
            ([0x00, 0x81, 0x20], "requests"), ([0x80], "ends in a number"),
            ([0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02], "too large"),
            ([0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00], "not in the list"),
        ] as [([UInt8], String)]
    )
    func errorsSayWhatIsWrong(bytes: [UInt8], words: String) {
        let error = #expect(throws: RecordingError.self) {
            try RecordingBlock.requests(of: bytes)
        }
        #expect(error?.description.contains(words) == true, "\(String(describing: error))")
    }
}
