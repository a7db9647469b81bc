import HTTP

/// How much coded content may become.
package struct DecodingLimits: Equatable, Sendable {
    /// Bytes that any content may become, however short it is.
    package var freeBytes = 128 * 1024
    /// Beyond that: times its own size.
    package var ratioMax = 200

    package init() {}

    func allows(_ produced: UInt64, from consumed: UInt64) -> Bool {
        produced <= UInt64(self.freeBytes)
            || produced <= consumed.multipliedReportingOverflow(by: UInt64(self.ratioMax)).0
    }
}

/// Brings content back that was coded, once or several times over; in any pieces.
///
/// What comes out of one coding is held in a buffer of `intermediateBytes` until the next has taken
/// it. Nothing is decoded before there is room for it. An error is final.
package final class ContentDecoder {
    /// One coding.
    enum Stage {
        case gzip(GzipDecoder)
        case zstd(ZstdStreamDecoder)

        init(_ coding: ContentCoding) {
            switch coding {
            case .gzip: self = .gzip(GzipDecoder())
            case .zstd: self = .zstd(ZstdStreamDecoder())
            }
        }

        var coding: ContentCoding {
            switch self {
            case .gzip: .gzip
            case .zstd: .zstd
            }
        }

        var isAtEnd: Bool {
            switch self {
            case .gzip(let decoder): decoder.isAtEnd
            case .zstd(let decoder): decoder.isAtEnd
            }
        }

        var mayHaveMore: Bool {
            switch self {
            case .gzip(let decoder): decoder.mayHaveMore
            case .zstd(let decoder): decoder.mayHaveMore
            }
        }

        var memoryBytes: Int {
            switch self {
            case .gzip: 44 * 1024
            case .zstd(let decoder): decoder.memoryBytes
            }
        }

        func reset() {
            switch self {
            case .gzip(let decoder): decoder.reset()
            case .zstd(let decoder): decoder.reset()
            }
        }

        func decode(
            _ input: UnsafeRawBufferPointer,
            into output: UnsafeMutableRawBufferPointer
        ) throws(DecodingError) -> CodingProgress {
            switch self {
            case .gzip(let decoder): try decoder.decode(input, into: output)
            case .zstd(let decoder): try decoder.decode(input, into: output)
            }
        }
    }

    /// What one coding made and the next has not taken yet.
    private struct Intermediate {
        var bytes: UnsafeMutableRawBufferPointer
        var start = 0
        var end = 0

        var rest: UnsafeRawBufferPointer {
            UnsafeRawBufferPointer(rebasing: self.bytes[self.start..<self.end])
        }
    }

    private static let intermediateBytes = 16 * 1024

    /// In the order in which the bytes pass them.
    private let stages: [Stage]
    /// Before each stage but the first.
    private var intermediates: [Intermediate]
    /// Out of each stage.
    private var produced: [UInt64]
    private let limits: DecodingLimits
    /// Coded bytes that were used up.
    package private(set) var consumedBytes: UInt64 = 0

    init(stages: [Stage], limits: DecodingLimits) {
        precondition(!stages.isEmpty, "nothing to decode")
        self.stages = stages
        self.limits = limits
        self.produced = Array(repeating: 0, count: stages.count)
        self.intermediates = stages.dropFirst().map { _ in
            Intermediate(bytes: .allocate(byteCount: Self.intermediateBytes, alignment: 16))
        }
    }

    /// - Parameter codings: in the order in which they were applied; one at least.
    package convenience init(_ codings: [ContentCoding], limits: DecodingLimits) {
        self.init(stages: codings.reversed().map(Stage.init), limits: limits)
    }

    deinit {
        for intermediate in self.intermediates { intermediate.bytes.deallocate() }
    }

    /// Bytes that came out in all.
    package var producedBytes: UInt64 { self.produced[self.stages.count - 1] }

    /// All that came in has come out, and was complete.
    package var isComplete: Bool {
        self.stages.allSatisfy { $0.isAtEnd && !$0.mayHaveMore }
            && self.intermediates.allSatisfy { $0.start == $0.end }
    }

    /// Bytes it holds at present, about.
    package var memoryBytes: Int {
        self.stages.reduce(self.intermediates.count * Self.intermediateBytes) {
            $0 + $1.memoryBytes
        }
    }

    /// Whether there may be output without more input.
    package var mayHaveMore: Bool {
        self.stages.contains { $0.mayHaveMore }
            || self.intermediates.contains { $0.start < $0.end }
    }

    /// Decodes as much of `input` as there is room for in `output`. Where `produced` is less than
    /// the room, all of the input was used up.
    package func decode(
        _ input: UnsafeRawBufferPointer,
        into output: UnsafeMutableRawBufferPointer
    ) throws(DecodingError) -> CodingProgress {
        var progress = CodingProgress()
        while progress.produced < output.count {
            let room = UnsafeMutableRawBufferPointer(rebasing: output[progress.produced...])
            let before = progress
            progress.produced += try self.pull(
                self.stages.count - 1,
                into: room,
                from: input,
                &progress.consumed
            )
            if progress == before { break }
        }
        return progress
    }

    /// What the stage makes of what is there: 0 when it needs more.
    private func pull(
        _ index: Int,
        into output: UnsafeMutableRawBufferPointer,
        from input: UnsafeRawBufferPointer,
        _ offset: inout Int
    ) throws(DecodingError) -> Int {
        if index == 0 {
            let rest = UnsafeRawBufferPointer(rebasing: input[offset...])
            if rest.isEmpty, !self.stages[0].mayHaveMore { return 0 }
            let step = try self.stages[0].decode(rest, into: output)
            offset += step.consumed
            self.consumedBytes += UInt64(step.consumed)
            try self.count(step.produced, of: 0)
            return step.produced
        }
        while true {
            let place = index - 1
            let rest = self.intermediates[place].rest
            if !rest.isEmpty || self.stages[index].mayHaveMore {
                let step = try self.stages[index].decode(rest, into: output)
                self.intermediates[place].start += step.consumed
                if step.produced > 0 {
                    try self.count(step.produced, of: index)
                    return step.produced
                }
                if step.consumed == 0, !rest.isEmpty { throw .malformed }
                if self.intermediates[place].start < self.intermediates[place].end { continue }
            }
            self.intermediates[place].start = 0
            self.intermediates[place].end = 0
            let bytes = self.intermediates[place].bytes
            let made = try self.pull(place, into: bytes, from: input, &offset)
            self.intermediates[place].end = made
            if made == 0 { return 0 }
        }
    }

    /// Content that becomes too much is cut off where it does.
    private func count(_ produced: Int, of index: Int) throws(DecodingError) {
        self.produced[index] += UInt64(produced)
        guard self.limits.allows(self.produced[index], from: self.consumedBytes) else {
            throw .tooLarge
        }
    }

    /// Gives the stages back, ready for other content.
    func takeStages() -> [Stage] {
        for stage in self.stages { stage.reset() }
        return self.stages
    }
}
