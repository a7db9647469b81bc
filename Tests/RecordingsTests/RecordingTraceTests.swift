import Core
import Testing
import Workload

@testable import Recordings

@Suite struct RecordingTraceTests {
    private func request(
        _ milliseconds: UInt64,
        model: String = "river",
        _ change: (inout RecordedRequest) -> Void = { _ in }
    ) -> RecordedRequest {
        var request = RecordedRequest()
        request.arrival = 1_700_000_000_000_000 + milliseconds * 1_000
        request.model = Array(model.utf8)
        request.route = Array("/v1/chat/completions".utf8)
        request.status = 200
        change(&request)
        return request
    }

    private func trace(
        _ requests: [RecordedRequest],
        gapMax: Double? = nil,
        model: String? = nil
    ) throws -> RequestTrace {
        var trace = RecordingTrace(gapMax: gapMax, model: model)
        for request in requests { try trace.add(request) }
        return try trace.finish()
    }

    @Test func countsFromTheFirstArrival() throws {
        let trace = try self.trace([
            self.request(5) {
                ($0.inputTokens, $0.outputTokens) = (1_100, 7)
                $0.prefix = [11, 12]
            },
            self.request(30) {
                ($0.inputTokens, $0.outputTokens) = (3, 9)
                $0.prefix = [21, 22, 23]
            },
        ])
        #expect(trace.requests.map(\.offset) == [0, 25_000_000])
        #expect(trace.requests.map(\.inputTokens) == [1_100, 3])
        #expect(trace.requests.map(\.outputTokens) == [7, 9])
        // Three tokens are not even one block.
        #expect(trace.blocks == [11, 12, 21])
        #expect(trace.requests.map(\.blocks) == [0..<2, 2..<3])
    }

    @Test func estimatesWhatNobodyCounted() throws {
        let trace = try self.trace([
            self.request(0) { $0.outputTokens = 10 },
            self.request(1) { $0.outputTokens = 20 },
            self.request(2) {
                $0.bytesIn = 400
                $0.status = 503
            },
            self.request(3, model: "other") { $0.bytesIn = 8 },
        ])
        #expect(trace.requests.map(\.outputTokens) == [10, 20, 15, 0])
        #expect(trace.requests.map(\.inputTokens) == [0, 0, 100, 2])
    }

    @Test func leavesOutWhatAskedNoModelToWork() throws {
        let requests = [
            self.request(0),
            self.request(1, model: ""),
            self.request(2) { $0.route = Array(RecordedRoute.readiness.utf8) },
            self.request(3) { $0.route = Array(RecordedRoute.metadata.utf8) },
            self.request(4, model: "other"),
        ]
        #expect(try self.trace(requests).requests.count == 2)
        #expect(try self.trace(requests, model: "other").requests.count == 1)
        #expect(throws: RecordingError.self) { try self.trace(requests, model: "absent") }
        #expect(throws: RecordingError.self) { try self.trace([]) }
    }

    @Test func aHoleIsAnError() throws {
        let requests = [self.request(0), self.request(10_000)]
        #expect(throws: RecordingError.self) { try self.trace(requests, gapMax: 9) }
        #expect(try self.trace(requests, gapMax: 10).requests.count == 2)
    }

    @Test func tokensBeyondReasonAreCut() throws {
        let trace = try self.trace([
            self.request(0) { ($0.inputTokens, $0.outputTokens) = (.max, .max) }
        ])
        #expect(Int(trace.requests[0].inputTokens) == WorkloadLimits.promptTokensMax)
        #expect(Int(trace.requests[0].outputTokens) == WorkloadLimits.promptTokensMax)
    }
}
