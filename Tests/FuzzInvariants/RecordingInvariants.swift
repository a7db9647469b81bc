import Core
import Recordings

/// Traffic recordings, which anybody may hand to the tools that read them.
///
/// Blocks of a segment lie within it, one behind the other, and what is believed of a torn segment
/// is believed of it cut there. Requests that were read are read again the same once written.
enum RecordingInvariants {
    static let blocks: [[UInt8]] = [0, 1, 2, 3, 7, 20, 40].map { Self.block($0).encoded() }

    static let segments: [[UInt8]] = {
        var bytes = SegmentFormat.magic
        var blocks: [SegmentFormat.Block] = []
        for count in [1, 5] {
            let recorded = Self.block(count)
            let content = recorded.encoded()
            let block = SegmentFormat.Block(
                offset: bytes.count,
                compressedBytes: content.count,
                bytes: content.count,
                requests: count,
                firstArrival: recorded.firstArrival,
                lastArrival: recorded.lastArrival
            )
            bytes += SegmentFormat.block(block, compressed: content)
            blocks.append(block)
        }
        let closed = bytes + SegmentFormat.end(of: blocks, at: bytes.count)
        let torn = [3, 40, 200].map { Array(bytes.dropLast($0)) }
        return [bytes, closed, SegmentFormat.magic, Array(closed.dropLast())] + torn
    }()

    private static func block(_ count: Int) -> RecordingBlock {
        var random = RandomSource(seed: UInt64(count))
        var block = RecordingBlock()
        for number in 0..<count {
            var request = RecordedRequest()
            request.arrival = 1_700_000_000_000_000 + random.next() % 1_000_000
            request.model = Array("model-\(number % 3)".utf8)
            request.route = Array("/v1/completions".utf8)
            request.status = number % 4 == 0 ? 503 : 200
            if number % 4 == 0 { request.error = Array("no-replica".utf8) }
            request.tenant = number % 2 == 0 ? random.next() : 0
            request.total = random.next() % 10_000_000
            request.firstToken = number % 3 == 0 ? nil : random.next() % 1_000_000
            request.inputTokens = random.next() % 4_096
            request.prefix = (0..<number % 4).map { _ in random.next() }
            block.append(request)
        }
        return block
    }

    static func segmentViolation(_ bytes: [UInt8]) -> String? {
        guard let read = try? SegmentFormat.contents(of: bytes, checksums: true) else {
            return bytes.starts(with: SegmentFormat.magic) ? "a segment was refused whole" : nil
        }
        var end = SegmentFormat.headerBytes
        for block in read.blocks {
            guard block.offset == end else { return "a block at \(block.offset), not at \(end)" }
            end = block.content.upperBound
            guard end <= bytes.count else { return "a block ends at \(end) of \(bytes.count)" }
        }
        guard read.end == end else { return "the end is \(read.end), not \(end)" }
        let cut = Array(bytes.prefix(end))
        guard let again = try? SegmentFormat.contents(of: cut, checksums: true) else {
            return "cut at its end it is refused"
        }
        guard again.blocks == read.blocks, again.problem == nil else {
            return "cut at its end it reads otherwise"
        }
        if read.isClosed, let trusted = try? SegmentFormat.contents(of: bytes, checksums: false),
            trusted.blocks.count < read.blocks.count
        {
            return "the index hides blocks"
        }
        return nil
    }

    static func blockViolation(_ bytes: [UInt8]) -> String? {
        guard let requests = try? RecordingBlock.requests(of: bytes) else { return nil }
        var block = RecordingBlock()
        var kept: [RecordedRequest] = []
        for request in requests where !block.isFull {
            block.append(request)
            kept.append(request)
        }
        guard let again = try? RecordingBlock.requests(of: block.encoded()) else {
            return "what was read cannot be read again"
        }
        return again == kept ? nil : "what was read is read otherwise"
    }
}
