import Core
import HTTPService
import Kubernetes
import Testing

@Suite struct WatchFramerTests {
    static func frames(_ pieces: [[UInt8]], framer: inout WatchFramer) throws -> [String] {
        var frames: [String] = []
        for piece in pieces {
            try framer.feed(piece.span.bytes) {
                frames.append($0.withUnsafeBytes { String(decoding: $0, as: UTF8.self) })
                return true
            }
        }
        return frames
    }

    @Test func findsFramesSplitAtEachByte() throws {
        let text = Array("{\"a\":1}\n{}\r\n\n{\"b\":\"\\n\"}\n".utf8)
        for cut in 0...text.count {
            for second in cut...text.count {
                var framer = WatchFramer()
                let pieces = [text[..<cut], text[cut..<second], text[second...]].map(Array.init)
                let frames = try Self.frames(pieces, framer: &framer)
                #expect(frames == ["{\"a\":1}", "{}\r", "{\"b\":\"\\n\"}"])
                #expect(!framer.hasPartialFrame)
            }
        }
    }

    @Test func takesFramesUpToTheLimit() throws {
        for length in [9, 10, 11] {
            for pieces in [1, 2, 5] {
                var framer = WatchFramer(frameBytesMax: 10)
                let frame = Array(repeating: UInt8(ascii: "x"), count: length) + [10]
                let size = (frame.count + pieces - 1) / pieces
                let cut = stride(from: 0, to: frame.count, by: size).map {
                    Array(frame[$0..<min($0 + size, frame.count)])
                }
                if length <= 10 {
                    #expect(try Self.frames(cut, framer: &framer).map(\.count) == [length])
                } else {
                    #expect(throws: WatchFramer.TooLong(frameBytesMax: 10)) {
                        try Self.frames(cut, framer: &framer)
                    }
                }
            }
        }
    }

    /// Larger than what one read of a socket brings.
    @Test func takesAFrameBeyondOneMebibyte() throws {
        var framer = WatchFramer()
        let frame = Array(repeating: UInt8(ascii: "y"), count: 3 << 20)
        let pieces = stride(from: 0, to: frame.count, by: 16_000).map {
            Array(frame[$0..<min($0 + 16_000, frame.count)])
        }
        let frames = try Self.frames(pieces + [[10]], framer: &framer)
        #expect(frames.map(\.utf8.count) == [3 << 20])
    }

    @Test func tellsAFrameCutShort() throws {
        var framer = WatchFramer()
        #expect(try Self.frames([Array("{}\n{".utf8)], framer: &framer) == ["{}"])
        #expect(framer.hasPartialFrame)
    }

    @Test func stopsWhenNothingMoreIsWanted() throws {
        var framer = WatchFramer()
        var count = 0
        try framer.feed(Array("1\n2\n3\n".utf8).span.bytes) { _ in
            count += 1
            return count < 2
        }
        #expect(count == 2)
    }
}
