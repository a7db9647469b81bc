import Compression
import EventLoop
import Glibc
import Recordings

/// Reads recordings: single segments, or all of a folder.
package enum RecordingFiles {
    /// A segment of more bytes than this is not read.
    package static let segmentBytesMax = 1 << 30

    /// What one segment is like.
    package struct Summary: Sendable {
        package var path: String
        package var bytes = 0
        package var contents = SegmentFormat.Contents()
        package var requests: Int { self.contents.blocks.reduce(0) { $0 + $1.requests } }
    }

    /// The paths of a folder's segments, the oldest first; what cannot be read has none.
    package static func segments(of folder: String) -> [String] {
        guard let directory = opendir(folder) else { return [] }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name.hasSuffix(SegmentStore.suffix) { names.append(name) }
        }
        return names.sorted().map { "\(folder)/\($0)" }
    }

    /// The segments that a path stands for: itself, or those of the folder that it names.
    package static func expand(_ path: String) throws(RecordingError) -> [String] {
        var status = stat()
        guard stat(path, &status) == 0 else {
            throw RecordingError("\(path): \(String(cString: strerror(errno)))")
        }
        if status.st_mode & S_IFMT != S_IFDIR { return [path] }
        let segments = Self.segments(of: path)
        if segments.isEmpty {
            throw RecordingError("\(path) holds no recordings (files that end in .weirrec)")
        }
        return segments
    }

    /// Whether a path is that of a folder, or of a file that begins as recordings do.
    package static func isRecording(_ path: String) -> Bool {
        var status = stat()
        guard stat(path, &status) == 0 else { return false }
        if status.st_mode & S_IFMT == S_IFDIR { return true }
        let range = 0..<SegmentFormat.magic.count
        return (try? Self.read(path, range)) == SegmentFormat.magic
    }

    /// - Parameter checksums: read every block instead of trusting an index.
    package static func summary(
        of path: String,
        checksums: Bool = false
    ) throws(RecordingError) -> Summary {
        let bytes = try Self.read(path)
        let contents = try SegmentFormat.contents(of: bytes, checksums: checksums)
        return Summary(path: path, bytes: bytes.count, contents: contents)
    }

    /// Calls `body` with the requests of each whole block, in the order in which they ended.
    /// - Returns: what the segment is like, with the problem that its torn end is, if it is torn.
    /// - Throws: where it is no recording, or where a block is not what it says.
    @discardableResult
    package static func read(
        _ path: String,
        _ body: ([RecordedRequest]) throws(RecordingError) -> Void
    ) throws(RecordingError) -> Summary {
        let bytes = try Self.read(path)
        let contents = try SegmentFormat.contents(of: bytes, checksums: true)
        let decompressor = ZstdDecompressor()
        for block in contents.blocks {
            try body(try Self.requests(of: block, in: bytes, decompressor))
        }
        return Summary(path: path, bytes: bytes.count, contents: contents)
    }

    /// The requests of a block of a segment's bytes.
    static func requests(
        of block: SegmentFormat.Block,
        in bytes: [UInt8],
        _ decompressor: ZstdDecompressor
    ) throws(RecordingError) -> [RecordedRequest] {
        let content: [UInt8]
        do throws(CompressionError) {
            content = try decompressor.decompress(bytes[block.content], size: block.bytes)
        } catch {
            throw RecordingError("a block cannot be decompressed: \(error)", at: block.offset)
        }
        let requests = try RecordingBlock.requests(of: content)
        guard requests.count == block.requests else {
            throw RecordingError(
                "a block of \(requests.count) requests that says \(block.requests)",
                at: block.offset
            )
        }
        return requests
    }

    // MARK: Files

    static func size(of path: String) -> Int {
        var status = stat()
        return stat(path, &status) == 0 ? Int(status.st_size) : 0
    }

    /// Whether the process that made a segment, whose number is in its name, still runs.
    static func isOfRunningProcess(_ path: String) -> Bool {
        let name = path.dropLast(SegmentStore.suffix.count)
        guard let number = name.split(separator: "-").last.flatMap({ pid_t($0) }), number > 0,
            number != getpid()
        else { return false }
        return kill(number, 0) == 0 || errno == EPERM
    }

    static func read(_ path: String) throws(RecordingError) -> [UInt8] {
        try Self.read(path) { size throws(RecordingError) in
            guard size <= Self.segmentBytesMax else {
                throw RecordingError("\(path) has \(size) bytes: no recording is so large")
            }
            return 0..<size
        }
    }

    /// Bytes of a file that were there when it was looked into.
    static func read(_ path: String, _ range: Range<Int>) throws(RecordingError) -> [UInt8] {
        try Self.read(path) { size throws(RecordingError) in
            guard range.upperBound <= size else { throw RecordingError("the file was cut") }
            return range
        }
    }

    private static func read(
        _ path: String,
        _ choose: (Int) throws(RecordingError) -> Range<Int>
    ) throws(RecordingError) -> [UInt8] {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            throw RecordingError("\(path): \(String(cString: strerror(errno)))")
        }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            throw RecordingError("\(path) is no file")
        }
        let range = try choose(Int(status.st_size))
        var problem: Int32 = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: range.count) { buffer, count in
            while count < buffer.count {
                let got = pread(
                    descriptor,
                    buffer.baseAddress?.advanced(by: count),
                    buffer.count - count,
                    off_t(range.lowerBound + count)
                )
                if got < 0, errno == EINTR { continue }
                if got < 0 { problem = errno }
                if got <= 0 { break }
                count += got
            }
        }
        if problem != 0 { throw RecordingError("\(path): \(String(cString: strerror(problem)))") }
        return bytes
    }
}
