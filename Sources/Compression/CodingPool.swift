import HTTP

/// Encoders and decoders of one thread. Making one takes and clears a few hundred kilobytes, so
/// that `keptMax` of each kind are kept; those in use are bounded by `encodersMax` and
/// `decodingBytesMax`.
package struct CodingPool {
    /// Idle ones of each coding.
    private static let keptMax = 8
    /// One that has grown beyond this is not kept.
    private static let keptBytesMax = 1024 * 1024
    /// Answers that are compressed at a time; others go as they are.
    package static let encodersMax = 512
    /// What decoders in use may hold together: 32 of the largest there are, or thousands of gzip.
    package static let decodingBytesMax = 256 * 1024 * 1024

    private var idleEncoders: [[ContentEncoder]] = [[], []]
    private var idleStages: [[ContentDecoder.Stage]] = [[], []]
    package private(set) var encodersInUse = 0
    /// As far as decoders have told.
    package private(set) var decodingBytes = 0

    package init() {}

    /// Nil where too many are in use.
    package mutating func takeEncoder(_ coding: ContentCoding) -> ContentEncoder? {
        if self.encodersInUse >= Self.encodersMax { return nil }
        self.encodersInUse += 1
        return self.idleEncoders[Int(coding.rawValue)].popLast() ?? ContentEncoder(coding)
    }

    package mutating func give(_ encoder: ContentEncoder) {
        self.encodersInUse -= 1
        let index = Int(encoder.coding.rawValue)
        if self.idleEncoders[index].count >= Self.keptMax { return }
        encoder.reset()
        self.idleEncoders[index].append(encoder)
    }

    /// - Parameter codings: in the order in which they were applied; one at least.
    package mutating func takeDecoder(
        _ codings: [ContentCoding],
        limits: DecodingLimits
    ) -> ContentDecoder {
        let stages = codings.reversed().map {
            self.idleStages[Int($0.rawValue)].popLast() ?? ContentDecoder.Stage($0)
        }
        return ContentDecoder(stages: stages, limits: limits)
    }

    /// - Parameter counted: what was counted for it so far.
    package mutating func give(_ decoder: ContentDecoder, counted: Int) {
        self.decodingBytes -= counted
        for stage in decoder.takeStages() where stage.memoryBytes <= Self.keptBytesMax {
            let index = Int(stage.coding.rawValue)
            if self.idleStages[index].count < Self.keptMax { self.idleStages[index].append(stage) }
        }
    }

    /// Counts what a decoder holds now instead of `counted` bytes. False where that is too much for
    /// all together.
    package mutating func count(_ decoder: ContentDecoder, counted: inout Int) -> Bool {
        let bytes = decoder.memoryBytes
        self.decodingBytes += bytes - counted
        counted = bytes
        return self.decodingBytes <= Self.decodingBytesMax
    }
}
