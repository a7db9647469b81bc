import Core
import EventLoop
import Foundation
import Recordings
import Testing

@testable import Recorder

/// A folder that goes with its test.
private final class Folder {
    let path: String

    init() {
        let place = FileManager.default.temporaryDirectory.path
        self.path = "\(place)/weir-recorder-\(UUID().uuidString)"
        mkdir(self.path, 0o700)
    }

    deinit {
        for segment in RecordingFiles.segments(of: self.path) { unlink(segment) }
        rmdir(self.path)
    }
}

private func request(_ number: Int) -> RecordedRequest {
    var request = RecordedRequest()
    request.arrival = 1_700_000_000_000_000 + UInt64(number) * 1_000
    request.model = Array("river".utf8)
    request.variant = Array("v1".utf8)
    request.route = Array("/v1/chat/completions".utf8)
    request.status = 200
    request.total = UInt64(number)
    return request
}

private func block(_ numbers: Range<Int>) -> RecordingBlock {
    var block = RecordingBlock()
    for number in numbers { block.append(request(number)) }
    return block
}

private func totals(in folder: Folder) throws -> [UInt64] {
    var totals: [UInt64] = []
    for segment in RecordingFiles.segments(of: folder.path) {
        try RecordingFiles.read(segment) { totals += $0.map(\.total) }
    }
    return totals
}

@Suite struct RecorderTests {
    private func store(_ folder: Folder, _ change: (inout RecorderOptions) -> Void = { _ in })
        throws -> SegmentStore
    {
        var options = RecorderOptions(folder: folder.path)
        change(&options)
        return try SegmentStore(options) { _ in }
    }

    @Test func segmentsRotateBySizeAndAge() throws {
        let folder = Folder()
        let store = try self.store(folder) {
            $0.segmentBytes = 400
            $0.segmentAge = .seconds(100)
        }
        for number in 0..<10 {
            let failure = store.write(block(number * 10..<number * 10 + 10), at: .zero)
            #expect(failure == nil)
        }
        store.close()
        let bySize = RecordingFiles.segments(of: folder.path).count
        #expect(bySize > 1)
        #expect(store.write(block(100..<101), at: .zero) == nil)
        #expect(store.write(block(101..<102), at: .zero + .seconds(100)) == nil)
        store.close()
        #expect(RecordingFiles.segments(of: folder.path).count == bySize + 2)
        #expect(try totals(in: folder) == (0..<102).map { UInt64($0) })
        for segment in RecordingFiles.segments(of: folder.path) {
            #expect(try RecordingFiles.summary(of: segment).contents.isClosed)
        }
    }

    @Test func theOldestGo() throws {
        let folder = Folder()
        let store = try self.store(folder) {
            $0.segmentBytes = 200
            $0.totalBytes = 1_000
        }
        for number in 0..<40 {
            #expect(store.write(block(number * 10..<number * 10 + 10), at: .zero) == nil)
        }
        store.close()
        let sizes = RecordingFiles.segments(of: folder.path).map(RecordingFiles.size)
        #expect(sizes.reduce(0, +) <= 1_000 + 200)
        #expect(try totals(in: folder).last == 399)
    }

    /// A crash at any byte: what was whole is read, and the next start closes the segment.
    @Test func tornSegmentsAreMended() throws {
        let folder = Folder()
        var store: SegmentStore? = try self.store(folder)
        for number in 0..<3 {
            #expect(store?.write(block(number * 5..<number * 5 + 5), at: .zero) == nil)
        }
        let path = try #require(RecordingFiles.segments(of: folder.path).first)
        // One that is being written to is left alone, and one whose writer is gone is not.
        _ = try self.store(folder)
        #expect(try !RecordingFiles.summary(of: path).contents.isClosed)
        store = nil
        let size = RecordingFiles.size(of: path)
        let whole = try RecordingFiles.summary(of: path).contents.blocks.map(\.content.upperBound)
        for cut in stride(from: size, through: whole[0], by: -7) {
            #expect(truncate(path, off_t(cut)) == 0)
            _ = try self.store(folder)
            let kept = whole.count { $0 <= cut }
            #expect(try totals(in: folder) == (0..<kept * 5).map { UInt64($0) }, "cut at \(cut)")
            #expect(try RecordingFiles.summary(of: path).contents.isClosed)
            #expect(truncate(path, off_t(whole[kept - 1])) == 0)
        }
        #expect(truncate(path, off_t(SegmentFormat.headerBytes + 3)) == 0)
        _ = try self.store(folder)
        #expect(RecordingFiles.segments(of: folder.path).isEmpty)
    }

    @Test func aFolderThatCannotBeWrittenToIsAnError() {
        #expect(throws: SystemError.self) {
            try SegmentStore(RecorderOptions(folder: "/proc/weir-recordings")) { _ in }
        }
    }

    @Test func sinksHandOverToTheThread() throws {
        let folder = Folder()
        let recorder = try TrafficRecorder(RecorderOptions(folder: folder.path)) { _ in }
        let loop = try EventLoop()
        let sink = recorder.makeSink(on: loop)
        for number in 0..<10_000 where sink.takesNext() { sink.append(request(number)) }
        sink.flush()
        recorder.close()
        #expect(recorder.written == 10_000 && recorder.dropped == 0)
        #expect(try totals(in: folder) == (0..<10_000).map { UInt64($0) })
    }

    @Test func aSampleIsExact() throws {
        let folder = Folder()
        var options = RecorderOptions(folder: folder.path)
        options.sampleMillionths = 250_000
        let recorder = try TrafficRecorder(options) { _ in }
        defer { recorder.close() }
        let sink = recorder.makeSink(on: try EventLoop())
        #expect((0..<1_000).count { _ in sink.takesNext() } == 250)
    }

    /// Requests of several workers' blocks, in several files, come out by arrival.
    @Test(arguments: [1, 2, 3, 4, 5]) func readersSortByArrival(seed: UInt64) throws {
        let folder = Folder()
        var random = RandomSource(seed: seed)
        let store = try self.store(folder) { $0.segmentBytes = 2_000 }
        var all: [UInt64] = []
        for number in 0..<40 {
            var block = RecordingBlock()
            for _ in 0..<Int(random.next() % 30 + 1) {
                var one = request(number * 10)
                // Ends come in order; arrivals lie before them, up to a few blocks back.
                one.arrival -= random.next() % 50_000
                one.total = random.next() % 1_000
                all.append(one.arrival)
                block.append(one)
            }
            #expect(store.write(block, at: .zero) == nil)
        }
        store.close()
        #expect(RecordingFiles.segments(of: folder.path).count > 1)
        let reader = try RecordingReader([folder.path])
        #expect(reader.requestCount == all.count && reader.problems.isEmpty)
        var found: [UInt64] = []
        try reader.forEach { found.append($0.arrival) }
        #expect(found == all.sorted(), "seed \(seed)")
    }

    @Test func readersStopWhereASegmentIsTorn() throws {
        let folder = Folder()
        let store = try self.store(folder)
        for number in 0..<3 {
            #expect(store.write(block(number * 5..<number * 5 + 5), at: .zero) == nil)
        }
        let path = try #require(RecordingFiles.segments(of: folder.path).first)
        #expect(truncate(path, off_t(RecordingFiles.size(of: path) - 1)) == 0)
        let reader = try RecordingReader([path])
        #expect(reader.problems.count == 1)
        var found: [UInt64] = []
        try reader.forEach { found.append($0.total) }
        #expect(found == (0..<10).map { UInt64($0) })
    }

    /// An index that says what the file does not hold is noticed when the block is read.
    @Test func readersCheckEachBlock() throws {
        let folder = Folder()
        let store = try self.store(folder)
        #expect(store.write(block(0..<50), at: .zero) == nil)
        store.close()
        let path = try #require(RecordingFiles.segments(of: folder.path).first)
        var bytes = try RecordingFiles.read(path)
        bytes[SegmentFormat.headerBytes + SegmentFormat.blockHeaderBytes + 5] ^= 0x10
        #expect(FileManager.default.createFile(atPath: path, contents: Data(bytes)))
        let reader = try RecordingReader([path])
        #expect(throws: RecordingError.self) { try reader.forEach { _ in } }
    }

    @Test func recordingsAreKnownByTheirBeginning() throws {
        let folder = Folder()
        let store = try self.store(folder)
        #expect(store.write(block(0..<1), at: .zero) == nil)
        store.close()
        let path = try #require(RecordingFiles.segments(of: folder.path).first)
        #expect(RecordingFiles.isRecording(folder.path) && RecordingFiles.isRecording(path))
        #expect(!RecordingFiles.isRecording("/dev/null") && !RecordingFiles.isRecording(path + "x"))
    }

    /// One recorder replaces another: counters go on, and the loop is told when all is written.
    @Test func closingDoesNotHoldUpALoop() throws {
        let folder = Folder()
        let counters = RecorderCounters()
        for start in [0, 100] {
            let loop = try EventLoop()
            let options = RecorderOptions(folder: folder.path)
            let recorder = try TrafficRecorder(options, counters: counters) { _ in }
            let sink = recorder.makeSink(on: loop)
            for number in start..<start + 100 { sink.append(request(number)) }
            sink.flush()
            recorder.close(on: loop) { loop.stop() }
            loop.run()
        }
        #expect(counters.written == 200 && counters.dropped == 0 && counters.bytes > 0)
        #expect(try totals(in: folder) == (0..<200).map { UInt64($0) })
    }

    @Test func anOldSegmentIsClosedThoughNothingIsWritten() throws {
        let folder = Folder()
        let store = try self.store(folder) { $0.segmentAge = .seconds(10) }
        #expect(store.write(block(0..<1), at: .zero) == nil)
        let path = try #require(RecordingFiles.segments(of: folder.path).first)
        store.closeIfOld(.zero + .seconds(9))
        #expect(try !RecordingFiles.summary(of: path).contents.isClosed)
        store.closeIfOld(.zero + .seconds(10))
        #expect(try RecordingFiles.summary(of: path).contents.isClosed)
    }
}
