import Testing

@testable import LoadTest
@testable import Workload

@Suite("Traces")
struct TraceTests {
    private func read(_ text: String, gapMax: Double? = 300) throws -> Trace {
        try TraceReader(gapMax: gapMax).read(Array(text.utf8))
    }

    private func requests(_ text: String, gapMax: Double? = 300) throws -> RequestTrace {
        guard case .requests(let trace) = try self.read(text, gapMax: gapMax) else {
            throw WorkloadError("not a trace of requests")
        }
        return trace
    }

    private static let azure = """
        TIMESTAMP,ContextTokens,GeneratedTokens\r
        2023-11-16 23:59:59.5000000,374,44\r
        2023-11-17 00:00:00.7500000,396,109\r
        2023-11-17 00:00:00.7500000,1,1\r

        """

    @Test func readsAzureAcrossMidnight() throws {
        let trace = try self.requests(Self.azure)
        #expect(trace.requests.map(\.offset) == [0, 1_250_000_000, 1_250_000_000])
        #expect(trace.requests.map(\.inputTokens) == [374, 396, 1])
        #expect(trace.requests.map(\.outputTokens) == [44, 109, 1])
    }

    @Test func readsOtherColumnsAndZones() throws {
        let trace = try self.requests(
            "Timestamp,Model,Request tokens,Response tokens\n5,ChatGPT,10,20\n45.5,GPT-4,30,40\n"
        )
        #expect(trace.requests.map(\.offset) == [0, 40_500_000_000])
        #expect(trace.requests[1].inputTokens == 30)
        #expect(
            TraceReader.time("2024-05-10T00:00:01.5+00:00")
                == TraceReader.time("2024-05-10 00:00:01.5")
        )
        #expect(TraceReader.time("1970-01-02 00:00:00") == 86_400)
        #expect(TraceReader.time("2024-03-01 00:00:00") == 1_709_251_200)
    }

    @Test func readsMooncakeWithItsBlocks() throws {
        let trace = try self.requests(
            """
            {"timestamp": 27000, "input_length": 700, "output_length": 6, "hash_ids": [4, 5]}
            {"timestamp": 27500, "input_length": 600, "output_length": 9, "hash_ids": [4, 6]}
            """
        )
        #expect(trace.requests.map(\.offset) == [0, 500_000_000])
        #expect(trace.blocks == [4, 5, 4, 6])
        #expect(trace.requests[1].blocks == 2..<4)
    }

    @Test func readsWindows() throws {
        let header =
            "category,model,window_start_s,total_rate_rps,active_clients,rate_weighted_cv\n"
        let text =
            header + "language,m,0,8.5,20,2.5\nlanguage,m,600,0,20,1\nlanguage,m,1200,4,2,1.5\n"
        guard case .windows(let trace) = try self.read(text) else {
            Issue.record("not windows")
            return
        }
        #expect(trace.windows.map(\.rate) == [8.5, 0, 4])
        #expect(trace.windows.map(\.start) == [0, 600, 1_200])
        #expect(trace.windows[0].variation == 2.5)
        #expect(trace.duration == 1_800)
    }

    @Test(arguments: [
        ("", 0, "empty"),
        ("a,b,c\n1,2,3\n", 1, "no trace format"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n", 0, "no requests"),
        ("timestamp,input_tokens,output_tokens\n1,2,3\n2,,3\n", 3, "input tokens"),
        ("timestamp,input_tokens,output_tokens\n1,2,3\n\n2,2,3\n", 3, "values"),
        ("timestamp,input_tokens,output_tokens\n1,2,3\n2,2\n", 3, "values"),
        ("timestamp,input_tokens,output_tokens\n5,2,3\n2,2,3\n", 3, "before"),
        ("timestamp,input_tokens,output_tokens\n5,2,-3\n", 2, "output tokens"),
        ("timestamp,input_tokens,output_tokens\nnever,2,3\n", 2, "no time"),
        ("timestamp,input_tokens\n0,2\n301,2\n", 3, "hole"),
        ("{\"timestamp\": 0, \"input_length\": 5}\n{\"timestamp\": 1,\n", 2, "byte"),
        ("{\"input_length\": 5}\n", 1, "timestamp"),
        ("{\"timestamp\": -1}\n", 1, "below 0"),
        ("{\"timestamp\": 1, \"input_length\": 99999999999}\n", 1, "tokens"),
        ("window_start_s,total_rate_rps\n0,5\n", 0, "two windows"),
        ("window_start_s,total_rate_rps\n0,5\n600,5\n1800,5\n", 4, "hole"),
        ("window_start_s,total_rate_rps\n0,5\n600,x\n", 3, "number"),
        ("window_start_s,total_rate_rps\n600,5\n0,5\n", 3, "behind"),
    ])
    func namesTheLineThatIsWrong(_ text: String, line: Int, words: String) throws {
        let error = #expect(throws: TraceError.self) { try self.read(text) }
        #expect(error?.line == line)
        #expect(error?.message.contains(words) == true, "\(error?.description ?? "none")")
    }

    @Test func allowsAHoleWhenTold() throws {
        let text = "timestamp,input_tokens\n0,2\n301,2\n"
        #expect(try self.requests(text, gapMax: nil).duration == 301)
    }

    @Test func cutsAndSpeedsUp() throws {
        let lines = (0..<100).map { "\($0),1,1" }.joined(separator: "\n")
        let trace = try self.read("timestamp,input_tokens,output_tokens\n" + lines)
        var selection = TraceSelection()
        selection.start = 10
        selection.duration = 20
        selection.speed = 4
        guard case .requests(let part) = try trace.selected(selection, seed: 1) else { return }
        #expect(part.requests.count == 20)
        #expect(part.requests.first?.offset == 0)
        let last = try #require(part.requests.last)
        #expect(last.offset == 4_750_000_000)
        selection.start = 1_000
        #expect(throws: WorkloadError.self) { try trace.selected(selection, seed: 1) }
    }

    @Test(arguments: [0.25, 2.5])
    func scalesTheNumberOfRequests(_ factor: Double) throws {
        let lines = (0..<4_000).map { "\(Double($0) / 10),1,1" }.joined(separator: "\n")
        let trace = try self.read("timestamp,input_tokens,output_tokens\n" + lines)
        var selection = TraceSelection()
        selection.scale = factor
        guard case .requests(let part) = try trace.selected(selection, seed: 9) else { return }
        #expect((Double(part.requests.count) / (4_000 * factor) - 1).magnitude < 0.05)
        let offsets = part.requests.map(\.offset)
        #expect(offsets == offsets.sorted())
        #expect(part.duration <= 399.9)
    }

    @Test func scalesWindows() throws {
        let trace = Trace.windows(
            WindowTrace(windows: [TraceWindow(start: 0, duration: 600, rate: 10, variation: 1)])
        )
        var selection = TraceSelection()
        selection.start = 100
        selection.duration = 300
        selection.speed = 10
        selection.scale = 0.5
        guard case .windows(let part) = try trace.selected(selection, seed: 1) else { return }
        #expect(part.windows == [TraceWindow(start: 0, duration: 30, rate: 50, variation: 1)])
    }
}
