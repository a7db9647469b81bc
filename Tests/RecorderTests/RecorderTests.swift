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
        let store = try self.store(folder)
        for number in 0..<3 {
            #expect(store.write(block(number * 5..<number * 5 + 5), at: .zero) == nil)
        }
        let path = try #require(RecordingFiles.segments(of: folder.path).first)
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
}
