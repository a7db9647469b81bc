import Core
import EventLoop
import Foundation
import Synchronization
import Testing

@testable import Telemetry

private func record() -> AccessLogRecord {
    var record = AccessLogRecord()
    record.timeNanoseconds = 1_795_226_193_693_000_000
    record.method = Array("POST".utf8)
    record.status = 200
    record.model = Array("digits".utf8)
    record.variant = Array("v1".utf8)
    record.endpoint = Array("127.0.0.1:9000".utf8)
    record.client = Array("127.0.0.1".utf8)
    record.queue = 0
    record.firstByte = 12_345_678
    record.total = 13_000_000_123
    record.bytesIn = 600
    record.bytesOut = 1_024
    record.outputTokens = 42
    return record
}

private func line(
    _ record: AccessLogRecord,
    _ format: AccessLogEncoder.Format = .json,
    path: [UInt8] = Array("/v2/models/digits/infer".utf8)
) -> String {
    let buffer = ByteBuffer(capacity: 64)
    let id = Array("abc".utf8)
    AccessLogEncoder(format: format).append(
        record,
        path: path.span.bytes,
        requestID: id.span.bytes,
        to: buffer
    )
    return buffer.text
}

@Suite struct AccessLogEncoderTests {
    @Test func writesJSON() {
        #expect(
            line(record()) == "{\"time\":\"2026-11-21T01:56:33.693Z\",\"method\":\"POST\","
                + "\"path\":\"/v2/models/digits/infer\",\"status\":200,\"model\":\"digits\","
                + "\"variant\":\"v1\",\"endpoint\":\"127.0.0.1:9000\",\"request_id\":\"abc\","
                + "\"client\":\"127.0.0.1\",\"queue_ms\":0.000,\"first_byte_ms\":12.345,"
                + "\"total_ms\":13000.000,\"bytes_in\":600,\"bytes_out\":1024,"
                + "\"output_tokens\":42}\n"
        )
    }

    @Test func tellsHowACallEnded() {
        var record = record()
        record.callStatus = "UNAVAILABLE"
        record.error = "connect-failed"
        #expect(line(record).contains("\"status\":200,\"grpc_status\":\"UNAVAILABLE\",\"model\""))
        let text = line(record, .text)
        #expect(text.contains(" output_tokens=42 grpc_status=UNAVAILABLE error=connect-failed id="))
    }

    @Test func writesText() {
        #expect(
            line(record(), .text) == "2026-11-21T01:56:33.693Z 127.0.0.1 POST "
                + "/v2/models/digits/infer 200 total_ms=13000.000 model=digits variant=v1 "
                + "endpoint=127.0.0.1:9000 in=600 out=1024 queue_ms=0.000 first_byte_ms=12.345 "
                + "output_tokens=42 id=abc\n"
        )
    }

    @Test func leavesOutWhatDoesNotApply() {
        #expect(
            line(AccessLogRecord(), path: [])
                == "{\"time\":\"1970-01-01T00:00:00.000Z\",\"status\":0,"
                + "\"request_id\":\"abc\",\"total_ms\":0.000,\"bytes_in\":0,\"bytes_out\":0}\n"
        )
        var failed = record()
        failed.error = "queue-timeout"
        failed.attempts = 2
        #expect(line(failed).contains("\"error\":\"queue-timeout\",\"attempts\":2,"))
    }

    @Test(arguments: [UInt64(1), 2, 3, 4])
    func anythingMakesOneValidLine(seed: UInt64) throws {
        var random = RandomSource(seed: seed)
        for _ in 0..<300 {
            var made = record()
            let noise = (0..<Int(random.next() % 60)).map { _ in
                UInt8(truncatingIfNeeded: random.next())
            }
            made.model = noise
            made.client = noise.reversed()
            made.total = random.next()
            made.timeNanoseconds = random.next()
            let json = line(made, path: noise)
            let object = try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any]
            #expect(object?["status"] as? Int == 200, "seed \(seed): \(json)")
            #expect(json.utf8.count { $0 == 0x0A } == 1)
            let text = line(made, .text, path: noise)
            #expect(text.utf8.count { $0 == 0x0A } == 1)
            #expect(text.utf8.allSatisfy { $0 == 0x0A || ($0 >= 0x20 && $0 < 0x7F) })
        }
    }

    @Test func longTextsAreCut() {
        let long = [UInt8](repeating: 0x61, count: 100_000)
        var made = record()
        made.model = long
        #expect(line(made, path: long).utf8.count < 3 * AccessLogEncoder.maxTextBytes)
        #expect(line(made, .text, path: long).utf8.count < 3 * AccessLogEncoder.maxTextBytes)
    }
}

/// A folder of its own for each test.
private final class Folder {
    let path: String

    init() {
        self.path = NSTemporaryDirectory() + "weir-accesslog-" + UUID().uuidString
        try? FileManager.default.createDirectory(
            atPath: self.path,
            withIntermediateDirectories: true
        )
    }

    deinit { try? FileManager.default.removeItem(atPath: self.path) }

    func lines(_ name: String) -> [Substring] {
        let text = (try? String(contentsOfFile: "\(self.path)/\(name)", encoding: .utf8)) ?? ""
        return text.split(separator: "\n")
    }
}

@Suite struct AccessLogWriterTests {
    private static func append(_ count: Int, to sink: AccessLogSink) {
        let path = Array("/x".utf8)
        for _ in 0..<count where sink.takesNext() {
            sink.append(record(), path: path.span.bytes, requestID: path.span.bytes)
        }
    }

    @Test func everyLineArrivesBeforeCloseReturns() throws {
        let folder = Folder()
        let writer = try AccessLogWriter(.init(path: folder.path + "/a.log"))
        let sink = writer.makeSink(on: try EventLoop())
        Self.append(5_000, to: sink)
        sink.flush()
        writer.close()
        #expect(folder.lines("a.log").count == 5_000)
        #expect(folder.lines("a.log").allSatisfy { $0.hasPrefix("{\"time\"") && $0.hasSuffix("}") })
        #expect(writer.written == 5_000)
        #expect(writer.dropped == 0)
    }

    @Test func aFewLinesArriveAfterAWhile() throws {
        let folder = Folder()
        let writer = try AccessLogWriter(.init(path: folder.path + "/a.log"))
        let loop = try EventLoop()
        let sink = writer.makeSink(on: loop)
        Self.append(3, to: sink)
        let deadline = EventLoop.readClock() + .seconds(10)
        while writer.written < 3 && EventLoop.readClock() < deadline { loop.turn(mayBlock: false) }
        #expect(folder.lines("a.log").count == 3)
        writer.close()
    }

    @Test func reopenFollowsARotation() throws {
        let folder = Folder()
        let writer = try AccessLogWriter(.init(path: folder.path + "/a.log"))
        let sink = writer.makeSink(on: try EventLoop())
        Self.append(2, to: sink)
        sink.flush()
        let deadline = EventLoop.readClock() + .seconds(10)
        while writer.written < 2 && EventLoop.readClock() < deadline { sched_yield() }
        try FileManager.default.moveItem(
            atPath: folder.path + "/a.log",
            toPath: folder.path + "/b.log"
        )
        writer.reopen()
        Self.append(3, to: sink)
        sink.flush()
        writer.close()
        #expect(folder.lines("b.log").count == 2)
        #expect(folder.lines("a.log").count == 3)
    }

    @Test func aFailedReopenKeepsTheOldFile() throws {
        let folder = Folder()
        try FileManager.default.createDirectory(
            atPath: folder.path + "/d",
            withIntermediateDirectories: true
        )
        let writer = try AccessLogWriter(.init(path: folder.path + "/d/a.log"))
        try FileManager.default.moveItem(atPath: folder.path + "/d", toPath: folder.path + "/e")
        let failure = Locked<SystemError?>(nil)
        writer.reopen { error in failure.withLock { $0 = error } }
        let sink = writer.makeSink(on: try EventLoop())
        Self.append(1, to: sink)
        sink.flush()
        writer.close()
        #expect(failure.withLock { $0?.code } == ENOENT)
        #expect(folder.lines("e/a.log").count == 1)
    }

    @Test func aFileThatCannotBeOpenedIsAnError() {
        #expect(throws: SystemError.self) {
            try AccessLogWriter(.init(path: "/nonexistent/folder/a.log"))
        }
    }

    @Test func aReaderThatDoesNotReadCostsLinesAndNothingElse() throws {
        let folder = Folder()
        let path = folder.path + "/pipe"
        #expect(mkfifo(path, 0o600) == 0)
        let reader = open(path, O_RDONLY | O_NONBLOCK)
        defer { close(reader) }
        let writer = try AccessLogWriter(.init(path: path))
        let sink = writer.makeSink(on: try EventLoop())
        // Far more than the pipe and the chunks on their way can hold.
        let count = 20_000
        Self.append(count, to: sink)
        sink.flush()
        #expect(writer.dropped > 0)
        writer.close()
        #expect(writer.written + writer.dropped == UInt64(count))
    }

    @Test func aReaderThatLeavesCostsLinesOnly() throws {
        let folder = Folder()
        let path = folder.path + "/pipe"
        #expect(mkfifo(path, 0o600) == 0)
        let reader = open(path, O_RDONLY | O_NONBLOCK)
        signal(SIGPIPE, SIG_IGN)
        let writer = try AccessLogWriter(.init(path: path))
        close(reader)
        let sink = writer.makeSink(on: try EventLoop())
        Self.append(10, to: sink)
        sink.flush()
        writer.close()
        #expect(writer.dropped == 10)
    }

    @Test(arguments: [(1_000_000, 1_000), (0, 0), (500_000, 500), (10_000, 10), (333_333, 333)])
    func theSampleIsExact(millionths: Int, expected: Int) throws {
        let folder = Folder()
        let writer = try AccessLogWriter(
            .init(path: folder.path + "/a.log", sampleMillionths: millionths)
        )
        let sink = writer.makeSink(on: try EventLoop())
        let taken = (0..<1_000).count { _ in sink.takesNext() }
        #expect(taken == expected)
        writer.close()
    }

    @Test func linesOfSeveralWorkersDoNotMix() async throws {
        let folder = Folder()
        let writer = try AccessLogWriter(.init(path: folder.path + "/a.log"))
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<4 {
                group.addTask {
                    guard let loop = try? EventLoop() else { return }
                    let sink = writer.makeSink(on: loop)
                    Self.append(1_000, to: sink)
                    sink.flush()
                }
            }
        }
        writer.close()
        let lines = folder.lines("a.log")
        #expect(UInt64(lines.count) == writer.written)
        #expect(writer.written + writer.dropped == 4_000)
        #expect(lines.allSatisfy { $0.hasPrefix("{\"time\"") && $0.hasSuffix("}") })
    }
}
