import Compression
import Glibc
import Recordings

/// Reads the requests of several segments in the order of their arrivals, a block at a time.
///
/// Blocks hold requests in the order in which they ended, one worker's each, so they overlap. They
/// are read in the order of their earliest arrivals, and a request is handed on once no block that
/// follows can have an earlier one: memory is that of the blocks that overlap, whatever the size of
/// the recording.
package struct RecordingReader {
    private struct Place {
        var path: Int
        var block: SegmentFormat.Block
    }

    private let paths: [String]
    private var places: [Place] = []
    /// What is wrong with the ends of segments, which were read up to there.
    package private(set) var problems: [String] = []
    package var requestCount: Int { self.places.reduce(0) { $0 + $1.block.requests } }

    /// - Parameter paths: segments, or folders of them.
    package init(_ paths: [String]) throws(RecordingError) {
        var all: [String] = []
        for path in paths { all += try RecordingFiles.expand(path) }
        self.paths = all
        for (index, path) in all.enumerated() {
            let summary: RecordingFiles.Summary
            do throws(RecordingError) {
                summary = try RecordingFiles.summary(of: path)
            } catch {
                throw RecordingError("\(path): \(error)")
            }
            self.places += summary.contents.blocks.map { Place(path: index, block: $0) }
            if let problem = summary.contents.problem {
                self.problems.append("\(path): \(problem)")
            }
        }
        self.places.sort { $0.block.firstArrival < $1.block.firstArrival }
    }

    /// Calls `body` with each request.
    package func forEach(
        _ body: (RecordedRequest) throws(RecordingError) -> Void
    ) throws(RecordingError) {
        let decompressor = ZstdDecompressor()
        // The latest arrival first, so that the next one is taken off the end.
        var waiting: [RecordedRequest] = []
        for (number, place) in self.places.enumerated() {
            waiting += try self.read(place, decompressor)
            waiting.sort { $0.arrival > $1.arrival }
            let next = number + 1
            let limit = next < self.places.count ? self.places[next].block.firstArrival : .max
            while let first = waiting.last, first.arrival <= limit {
                try body(first)
                waiting.removeLast()
            }
        }
    }

    private func read(
        _ place: Place,
        _ decompressor: ZstdDecompressor
    ) throws(RecordingError) -> [RecordedRequest] {
        let path = self.paths[place.path]
        do throws(RecordingError) {
            let range = place.block.offset..<place.block.content.upperBound
            let bytes = SegmentFormat.magic + (try RecordingFiles.read(path, range))
            // The block by itself is a segment without an index: its checksum is looked at.
            let contents = try SegmentFormat.contents(of: bytes, checksums: true)
            guard let block = contents.blocks.first else {
                throw contents.problem ?? RecordingError("no block", at: place.block.offset)
            }
            return try RecordingFiles.requests(of: block, in: bytes, decompressor)
        } catch {
            throw RecordingError("\(path), block at byte \(place.block.offset): \(error.message)")
        }
    }
}
