import ArgumentParser
import Core
import Glibc
import HTTPService
import Recorder
import Recordings
import Workload

/// `weir recordings`: what the recorder of a gateway has written.
struct RecordingsGroup: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "recordings",
        abstract: "List, check and export recorded traffic.",
        discussion: """
            A gateway with `recorder` in its configuration writes one record per request to a \
            folder. `weir simulate --trace` and `weir load --replay` read that folder, or one of \
            its files, as it is.

            Example: what is there, and is it whole?
              weir recordings ls traffic/
              weir recordings verify traffic/

            Example: as JSON lines for other tools
              weir recordings export traffic/ --output traffic.jsonl
            """,
        subcommands: [List.self, Export.self, Verify.self]
    )

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "ls",
            abstract: "List recordings with their times, requests and sizes."
        )

        @Argument(help: "Folders of recordings, or single files.") var paths: [String]

        func run() throws {
            var table = Table([
                .init(title: "FILE"), .init(title: "FROM"), .init(title: "TO"),
                .init(title: "REQUESTS", isNumber: true), .init(title: "BYTES", isNumber: true),
                .init(title: "EACH", isNumber: true), .init(title: "STATE"),
            ])
            for path in try RecordingsGroup.expand(self.paths) {
                let summary = try RecordingsGroup.attempt(path) { () throws(RecordingError) in
                    try RecordingFiles.summary(of: path)
                }
                let blocks = summary.contents.blocks
                let each = Double(summary.bytes) / Double(max(1, summary.requests))
                table.add([
                    path, Self.time(blocks.map(\.firstArrival).min()),
                    Self.time(blocks.map(\.lastArrival).max()), "\(summary.requests)",
                    "\(summary.bytes)", DecimalText.fixed(each, places: 1),
                    RecordingsGroup.state(summary),
                ])
            }
            Output.line(table.text)
        }

        private static func time(_ microseconds: UInt64?) -> String {
            LocalTime.text(microseconds.map { Double($0) / 1e6 })
        }
    }

    struct Export: ParsableCommand {
        enum Format: String, ExpressibleByArgument, CaseIterable { case jsonl, csv }

        static let configuration = CommandConfiguration(
            commandName: "export",
            abstract: "Write recorded requests as JSON lines or CSV, in the order they arrived.",
            discussion: """
                The JSON lines have the fields of Mooncake's traces (timestamp in milliseconds, \
                input_length, output_length, hash_ids) and Weir's own; the CSV has numbers only.
                """
        )

        @Argument(help: "Folders of recordings, or single files.") var paths: [String]
        @Option(help: "jsonl or csv.") var format = Format.jsonl
        @Option(help: "Write to this file; - for standard output.") var output = "-"

        func run() throws {
            let reader = try RecordingsGroup.attempt { () throws(RecordingError) in
                try RecordingReader(self.paths)
            }
            for problem in reader.problems { Output.error("\(problem): read up to there") }
            let file = try ExportFile(self.output)
            defer { file.close() }
            if self.format == .csv { file.buffer.append(RecordingText.header) }
            try RecordingsGroup.attempt { () throws(RecordingError) in
                try reader.forEach { request throws(RecordingError) in
                    switch self.format {
                    case .jsonl: RecordingText.writeJSON(request, to: file.buffer)
                    case .csv: RecordingText.writeCSV(request, to: file.buffer)
                    }
                    try file.flush(ifOver: 64 << 10)
                }
                try file.flush(ifOver: 0)
            }
        }
    }

    struct Verify: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "verify",
            abstract: "Read every byte of recordings; exit 1 where something is wrong."
        )

        @Argument(help: "Folders of recordings, or single files.") var paths: [String]

        func run() throws {
            var isWhole = true
            for path in try RecordingsGroup.expand(self.paths) {
                do throws(RecordingError) {
                    var requests = 0
                    let summary = try RecordingFiles.read(path) { requests += $0.count }
                    if let problem = summary.contents.problem { throw problem }
                    Output.line("\(path): \(requests) requests, \(RecordingsGroup.state(summary))")
                } catch {
                    isWhole = false
                    Output.error("\(path): \(error)")
                }
            }
            if !isWhole { throw ExitCode.failure }
        }
    }

    // MARK: Parts

    /// What a segment's end says.
    static func state(_ summary: RecordingFiles.Summary) -> String {
        if summary.contents.problem != nil { return "torn" }
        return summary.contents.isClosed ? "closed" : "open"
    }

    static func expand(_ paths: [String]) throws -> [String] {
        var all: [String] = []
        for path in paths {
            all += try Self.attempt { () throws(RecordingError) in
                try RecordingFiles.expand(path)
            }
        }
        return all
    }

    static func attempt<Result>(
        _ path: String? = nil,
        _ body: () throws(RecordingError) -> Result
    ) throws(RuntimeError) -> Result {
        do throws(RecordingError) {
            return try body()
        } catch {
            throw RuntimeError(description: path.map { "\($0): \(error)" } ?? error.description)
        }
    }
}

/// Recorded requests as text.
enum RecordingText {
    static let header: StaticString =
        "timestamp,input_tokens,output_tokens,status,total_s,ttft_s,bytes_in,bytes_out\n"

    /// The bits of a hash that every reader of JSON keeps (RFC 8259, section 6).
    private static let hashShift: UInt64 = 11

    static func writeJSON(_ request: RecordedRequest, to buffer: ByteBuffer) {
        var json = JSONWriter(buffer)
        json.object { json in
            json.member("timestamp", Double(request.arrival) / 1e3)
            if let tokens = request.inputTokens { json.member("input_length", tokens) }
            if let tokens = request.outputTokens { json.member("output_length", tokens) }
            json.key("hash_ids")
            json.array { json in
                for hash in request.prefix { json.integer(hash >> Self.hashShift) }
            }
            json.member("model", Self.text(request.model))
            json.member("variant", Self.text(request.variant))
            json.member("route", Self.text(request.route))
            if request.tenant != 0 {
                json.member("tenant", String(request.tenant, radix: 16))
            }
            json.member("status", UInt64(request.status))
            if !request.error.isEmpty { json.member("error", Self.text(request.error)) }
            json.member("stream", request.isStream)
            json.member("attempts", UInt64(request.attempts))
            if let queue = request.queue { json.member("queue_s", Double(queue) / 1e6) }
            if let first = request.firstByte { json.member("first_byte_s", Double(first) / 1e6) }
            if let first = request.firstToken { json.member("ttft_s", Double(first) / 1e6) }
            json.member("total_s", Double(request.total) / 1e6)
            json.member("bytes_in", request.bytesIn)
            json.member("bytes_out", request.bytesOut)
        }
        buffer.append("\n" as StaticString)
    }

    private static func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

    /// Without names, so that nothing needs quoting; unknown tokens are 0, unknown times empty.
    static func writeCSV(_ request: RecordedRequest, to buffer: ByteBuffer) {
        Self.append(seconds: request.arrival, to: buffer)
        for value in [
            request.inputTokens ?? 0, request.outputTokens ?? 0, UInt64(request.status),
        ] {
            buffer.append(",")
            buffer.append(decimal: value)
        }
        buffer.append(",")
        Self.append(seconds: request.total, to: buffer)
        buffer.append(",")
        if let first = request.firstToken { Self.append(seconds: first, to: buffer) }
        for value in [request.bytesIn, request.bytesOut] {
            buffer.append(",")
            buffer.append(decimal: value)
        }
        buffer.append("\n")
    }

    private static func append(seconds microseconds: UInt64, to buffer: ByteBuffer) {
        buffer.append(decimal: microseconds / 1_000_000)
        let rest = String(microseconds % 1_000_000 + 1_000_000).dropFirst()
        buffer.append(".\(rest)")
    }
}

/// Where an export goes, a piece at a time.
private final class ExportFile {
    let buffer = ByteBuffer(capacity: 128 << 10)
    private let descriptor: Int32
    private let path: String

    init(_ path: String) throws(RuntimeError) {
        self.path = path
        let flags = O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC
        self.descriptor = path == "-" ? dup(STDOUT_FILENO) : open(path, flags, 0o640)
        guard self.descriptor >= 0 else {
            throw RuntimeError(
                description: "cannot write \(path): \(String(cString: strerror(errno)))"
            )
        }
    }

    func flush(ifOver limit: Int) throws(RecordingError) {
        guard self.buffer.count > limit else { return }
        while !self.buffer.isEmpty {
            let count = Glibc.write(
                self.descriptor,
                self.buffer.readablePointer,
                self.buffer.count
            )
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else {
                throw RecordingError("cannot write: \(String(cString: strerror(errno)))")
            }
            self.buffer.consume(count)
        }
    }

    func close() {
        Glibc.close(self.descriptor)
    }
}
