import Core
import Testing

@testable import Scraping

@Suite struct PollScheduleTests {
    private func options(jitter: Double = 0, backOffMax: Duration = .seconds(30)) -> PollOptions {
        var options = PollOptions()
        options.jitter = jitter
        options.backOffMax = backOffMax
        return options
    }

    @Test func failingTargetsAreAskedEverMoreRarely() {
        var random = RandomSource(seed: 1)
        var schedule = PollSchedule(period: .seconds(1), options: self.options())
        var delays = [schedule.delay(&random)]
        for _ in 0..<8 {
            schedule.failed()
            delays.append(schedule.delay(&random))
        }
        #expect(delays.map(\.components.seconds) == [1, 1, 2, 4, 8, 16, 30, 30, 30])
        schedule.succeeded()
        #expect(schedule.delay(&random) == .seconds(1))
    }

    @Test func backsOffToNoLessThanAPeriod() {
        var random = RandomSource(seed: 1)
        var schedule = PollSchedule(
            period: .seconds(60),
            options: self.options(backOffMax: .seconds(30))
        )
        for _ in 0..<1_000 { schedule.failed() }
        #expect(schedule.delay(&random) == .seconds(60))
    }

    @Test(arguments: 0..<10 as Range<UInt64>)
    func jitterSpreadsWithinItsShare(seed: UInt64) {
        var random = RandomSource(seed: seed)
        let schedule = PollSchedule(period: .seconds(10), options: self.options(jitter: 0.1))
        let delays = (0..<1_000).map { _ in schedule.delay(&random).secondsAsDouble }
        #expect(delays.allSatisfy { $0 >= 9 && $0 <= 11 }, "seed \(seed)")
        #expect(delays.contains { $0 < 9.2 } && delays.contains { $0 > 10.8 }, "seed \(seed)")
        let first = (0..<1_000).map { _ in schedule.firstDelay(&random).secondsAsDouble }
        #expect(first.allSatisfy { $0 >= 0 && $0 < 10 }, "seed \(seed)")
        #expect(first.contains { $0 < 1 } && first.contains { $0 > 9 }, "seed \(seed)")
    }
}

@Suite struct QueryAnswerTests {
    static let good: [(String, Double)] = [
        (
            #"{"status":"success","data":{"resultType":"scalar","result":[1700000000.1,"42.5"]}}"#,
            42.5
        ),
        (
            #"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":"b"},"#
                + #""value":[1700000000,"-3e2"]}]}}"#, -300
        ),
        // The order of members is Prometheus' own affair.
        (
            #"{"data":{"result":[{"value":[1,"7"],"metric":{}}],"resultType":"vector"},"#
                + #""warnings":["x"],"status":"success"}"#, 7
        ),
    ]

    @Test(arguments: good.indices)
    func readsNumbers(index: Int) {
        let (text, value) = Self.good[index]
        #expect(QueryAnswer.read(status: 200, Array(text.utf8)) == .value(value))
    }

    private static func vector(_ values: String...) -> String {
        let series = values.map { "{\"metric\":{},\"value\":[1,\"\($0)\"]}" }
        return "{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":"
            + "[\(series.joined(separator: ","))]}}"
    }

    static let unknown: [(UInt16, String, String)] = [
        (200, vector(), "gives no series"), (200, vector("NaN"), "gives nan"),
        (200, vector("+Inf"), "gives inf"), (200, vector("-Inf"), "gives -inf"),
        (200, vector("1", "2"), "2 series: make them one"), (200, vector("x"), "`x` is no number"),
        (200, vector("0x10"), "is no number"),
        (
            200, #"{"status":"success","data":{"resultType":"matrix","result":[[1]]}}"#,
            "gives a matrix"
        ),
        (
            200, #"{"status":"success","data":{"resultType":"string","result":[1,"a"]}}"#,
            "gives a string"
        ),
        (200, #"{"status":"success","data":{"resultType":"scalar","result":[1]}}"#, "no series"),
        (200, #"{"status":"success","data":{}}"#, "no result"),
        (200, #"{"status":"success"}"#, "no result"), (200, "{}", "status 200"),
        (200, "", "not an answer of Prometheus"), (200, "<html>", "not an answer of Prometheus"),
        (200, "[]", "not an answer of Prometheus"), (502, "<html>", "status 502"),
        (
            400, #"{"status":"error","errorType":"bad_data","error":"parse error at char 3"}"#,
            "bad_data: parse error at char 3"
        ),
        (503, #"{"status":"error","errorType":"timeout","error":"t","data":null}"#, "timeout: t"),
        (401, "Unauthorized", "status 401"),
    ]

    @Test(arguments: unknown.indices)
    func saysWhyThereIsNoNumber(index: Int) {
        let (status, text, words) = Self.unknown[index]
        guard case .unknown(let why) = QueryAnswer.read(status: status, Array(text.utf8)) else {
            Issue.record("a number")
            return
        }
        #expect(why.contains(words), "\(why)")
    }

    @Test(arguments: ["http://p:9090", "http://p:9090/", "http://p:9090//"])
    func queriesAreEncoded(server: String) {
        let target = QueryTarget(server: server, query: "sum(rate(a{b=\"é\"}[1m])) + 1")
        #expect(
            QueryURL.make(target)
                == "http://p:9090/api/v1/query?query="
                + "sum%28rate%28a%7Bb%3D%22%C3%A9%22%7D%5B1m%5D%29%29%20%2B%201"
        )
    }
}
