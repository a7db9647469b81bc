import Core
import EventLoop
import Testing

@testable import Proxy

/// What replicas say of their load beside their answers is kept: the latest, and not too much.
@Suite struct LoadReportBoardTests {
    private static let start = Instant(nanoseconds: 5_000_000_000_000)

    @Test func keepsTheLatestOfEachReplica() {
        let board = LoadReportBoard()
        board.put(Array("TEXT a=1".utf8), of: "one", at: Self.start)
        board.put(Array("TEXT a=2".utf8), of: "one", at: Self.start + .seconds(1))
        board.put(Array("TEXT a=3".utf8), of: "two", at: Self.start)
        let latest = board.latest(notOlderThan: 15, at: Self.start + .seconds(2))
        #expect(latest["one"]?.text == Array("TEXT a=2".utf8))
        #expect(latest["two"]?.text == Array("TEXT a=3".utf8))
        #expect(board.count == 3)
    }

    @Test func forgetsWhatIsOld() {
        let board = LoadReportBoard()
        board.put([65], of: "one", at: Self.start)
        board.put([66], of: "two", at: Self.start + .seconds(10))
        let latest = board.latest(notOlderThan: 15, at: Self.start + .seconds(16))
        #expect(latest.keys.sorted() == ["two"])
    }

    @Test func leavesWhatIsTooLongOrTooMuch() {
        let board = LoadReportBoard()
        let long = [UInt8](repeating: 65, count: LoadReportBoard.bytesMax + 1)
        board.put(long, of: "a", at: Self.start)
        #expect(board.latest(notOlderThan: 15, at: Self.start).isEmpty)
        for index in 0...LoadReportBoard.replicasMax {
            board.put([65], of: "\(index)", at: Self.start)
        }
        let kept = board.latest(notOlderThan: 15, at: Self.start)
        #expect(kept.count == LoadReportBoard.replicasMax)
        board.put([66], of: "0", at: Self.start)
        #expect(board.latest(notOlderThan: 15, at: Self.start)["0"]?.text == [66])
    }

    @Test func aReplicaIsHeardOncePerSecond() throws {
        let address = try #require(SocketAddress(host: "127.0.0.1", port: 1))
        let endpoint = Endpoint(slot: 0, name: "one", address: address, limit: .max)
        var taken = 0
        for step in 0..<50 {
            let now = Self.start + .milliseconds(100 * step)
            if endpoint.takesLoadReport(at: now) { taken += 1 }
        }
        #expect(taken == 5)
    }
}
