import Compression
import Core
import EventLoop
import Glibc
import Recordings
import Synchronization

/// The segments of one folder: the open one, and those before it.
///
/// Belongs to the recorder's thread, and before it starts to whoever makes it.
final class SegmentStore: @unchecked Sendable {
    // @unchecked: the recorder's thread is started after it was made, and is the only user then.
    private struct Segment {
        var descriptor: Int32
        var path: String
        var openedAt: Instant
        var blocks: [SegmentFormat.Block] = []
        var end = SegmentFormat.headerBytes
    }

    private let options: RecorderOptions
    private let report: @Sendable (String) -> Void
    private let compressor = ZstdCompressor()
    private var segment: Segment?
    /// Part of every name, so that two segments of one second differ, whoever writes them.
    private static let count = Atomic<Int>(0)
    /// The names of the segments that this process writes to: on a reload of the configuration the
    /// one before may still be open when the next store looks for what a crash has left.
    private static let openNames = Locked<Set<String>>([])
    /// Of blocks, since the beginning.
    private(set) var bytesWritten: UInt64 = 0

    static let suffix = ".weirrec"
    private static let prefix = "traffic-"

    init(
        _ options: RecorderOptions,
        report: @escaping @Sendable (String) -> Void
    ) throws(SystemError) {
        self.options = options
        self.report = report
        if mkdir(options.folder, 0o750) != 0, errno != EEXIST {
            throw SystemError("create \(options.folder)", code: errno)
        }
        guard access(options.folder, W_OK | X_OK) == 0 else {
            throw SystemError("write to \(options.folder)", code: errno)
        }
        for path in RecordingFiles.segments(of: options.folder) { self.mend(path) }
        self.removeOldest()
    }

    deinit {
        // Without its index, as a crash would leave it: who wants it closed calls `close`.
        if let segment { Self.release(segment) }
    }

    // MARK: Writing

    /// Adds a block to the open segment. Says why where that failed; the segment is then as before.
    func write(_ block: RecordingBlock, at now: Instant) -> String? {
        let bytes = block.encoded()
        let compressed: [UInt8]
        do throws(CompressionError) {
            compressed = try self.compressor.compress(bytes)
        } catch {
            return error.description
        }
        self.closeIfDue(adding: compressed.count, now)
        if self.segment == nil, let problem = self.open(now) { return problem }
        guard var segment = self.segment else { return "no segment is open" }
        let entry = SegmentFormat.Block(
            offset: segment.end,
            compressedBytes: compressed.count,
            bytes: bytes.count,
            requests: block.requestCount,
            firstArrival: block.firstArrival,
            lastArrival: block.lastArrival
        )
        let code = Self.write(
            SegmentFormat.block(entry, compressed: compressed),
            to: segment.descriptor,
            at: segment.end
        )
        if code != 0 {
            // What was written of it must not be taken for a block.
            ftruncate(segment.descriptor, off_t(segment.end))
            return "\(segment.path): \(String(cString: strerror(code)))"
        }
        self.bytesWritten += UInt64(entry.content.upperBound - segment.end)
        segment.end = entry.content.upperBound
        segment.blocks.append(entry)
        self.segment = segment
        return nil
    }

    private func closeIfDue(adding count: Int, _ now: Instant) {
        guard let segment = self.segment else { return }
        if segment.end + count > self.options.segmentBytes
            || now - segment.openedAt >= self.options.segmentAge
            || segment.blocks.count == SegmentFormat.blocksMax
        {
            self.close()
        }
    }

    func closeIfOld(_ now: Instant) {
        if let segment, now - segment.openedAt >= self.options.segmentAge { self.close() }
    }

    private func open(_ now: Instant) -> String? {
        self.removeOldest()
        let count = Self.count.add(1, ordering: .relaxed).newValue
        let name = Self.name(seconds: time(nil), count: count)
        let path = "\(self.options.folder)/\(name)"
        let descriptor = Glibc.open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o640)
        guard descriptor >= 0 else { return "open \(path): \(String(cString: strerror(errno)))" }
        let code = Self.write(SegmentFormat.magic, to: descriptor, at: 0)
        if code != 0 {
            Glibc.close(descriptor)
            unlink(path)
            return "\(path): \(String(cString: strerror(code)))"
        }
        Self.openNames.withLock { _ = $0.insert(name) }
        self.segment = Segment(descriptor: descriptor, path: path, openedAt: now)
        return nil
    }

    /// Closes the open segment with its index. A failure costs the index alone.
    func close() {
        guard let segment = self.segment else { return }
        self.segment = nil
        let end = SegmentFormat.end(of: segment.blocks, at: segment.end)
        if Self.write(end, to: segment.descriptor, at: segment.end) != 0 {
            ftruncate(segment.descriptor, off_t(segment.end))
        }
        Self.release(segment)
    }

    private static func release(_ segment: Segment) {
        Glibc.close(segment.descriptor)
        self.openNames.withLock { _ = $0.remove(self.fileName(segment.path)) }
    }

    private static func fileName(_ path: String) -> String {
        path.split(separator: "/").last.map(String.init) ?? path
    }

    /// 0, or the error's number.
    private static func write(_ bytes: [UInt8], to descriptor: Int32, at offset: Int) -> Int32 {
        var done = 0
        while done < bytes.count {
            let count = bytes.withUnsafeBytes {
                pwrite(
                    descriptor,
                    $0.baseAddress?.advanced(by: done),
                    bytes.count - done,
                    off_t(offset + done)
                )
            }
            if count < 0 {
                if errno == EINTR { continue }
                return errno
            }
            done += count
        }
        return 0
    }

    /// Names sort by time: `traffic-20261121T145702Z-00001-4242.weirrec`.
    private static func name(seconds: time_t, count: Int) -> String {
        var seconds = seconds
        var parts = tm()
        gmtime_r(&seconds, &parts)
        var text = [CChar](repeating: 0, count: 32)
        strftime(&text, text.count, "%Y%m%dT%H%M%SZ", &parts)
        let stamp = text.withUnsafeBufferPointer { buffer in
            buffer.baseAddress.map { String(cString: $0) } ?? ""
        }
        let number = String(count)
        let padded = String(repeating: "0", count: max(0, 5 - number.count)) + number
        return "\(Self.prefix)\(stamp)-\(padded)-\(getpid())\(Self.suffix)"
    }

    // MARK: The folder

    /// Cuts a segment that a crash has torn behind its last whole block, and closes it.
    private func mend(_ path: String) {
        // Another process may still write to it: the one that made it is in its name.
        if RecordingFiles.isOfRunningProcess(path) { return }
        if Self.openNames.withLock({ $0.contains(Self.fileName(path)) }) { return }
        guard let bytes = try? RecordingFiles.read(path) else { return }
        guard let contents = try? SegmentFormat.contents(of: bytes, checksums: false),
            !contents.isClosed
        else { return }
        let descriptor = Glibc.open(path, O_WRONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return }
        defer { Glibc.close(descriptor) }
        if contents.blocks.isEmpty {
            unlink(path)
            return
        }
        let end = SegmentFormat.end(of: contents.blocks, at: contents.end)
        guard Self.write(end, to: descriptor, at: contents.end) == 0,
            ftruncate(descriptor, off_t(contents.end + end.count)) == 0
        else { return }
        let lost = max(0, bytes.count - contents.end)
        self.report("\(path) was not closed: mended, \(lost) bytes at its end were torn")
    }

    /// Removes the oldest closed segments until a further one fits.
    private func removeOldest() {
        var sizes: [(path: String, bytes: Int)] = RecordingFiles.segments(of: self.options.folder)
            .map { ($0, RecordingFiles.size(of: $0)) }
        var total = sizes.reduce(0) { $0 + $1.bytes }
        while let oldest = sizes.first,
            total + self.options.segmentBytes > self.options.totalBytes
        {
            sizes.removeFirst()
            let name = Self.fileName(oldest.path)
            if Self.openNames.withLock({ $0.contains(name) }) { continue }
            if unlink(oldest.path) == 0 { total -= oldest.bytes }
        }
    }
}
