import Testing

@testable import Proxy

/// Who takes nothing for a whole time is told from who takes little.
@Suite struct StallWatchTests {
    /// What each look says after the first backlog was there at the beginning.
    private static func looks(_ first: Backlog, _ later: Backlog...) -> [Bool] {
        var watch = StallWatch()
        watch.begin(first)
        return later.map { watch.isStalled($0) }
    }

    @Test func whatDoesNotMoveIsStalled() {
        #expect(Self.looks(Backlog(bytes: 19_000), Backlog(bytes: 19_000)) == [true])
    }

    @Test func anyMovementBeginsTheTimeAnew() {
        let looks = Self.looks(
            Backlog(bytes: 19_000),
            Backlog(bytes: 18_999),
            Backlog(bytes: 18_000),
            Backlog(bytes: 18_000)
        )
        #expect(looks == [false, false, true])
    }

    /// A stream whose client has left it room waits for its turn while others are sent.
    @Test func whoWaitsForOthersIsNotStalled() {
        let looks = Self.looks(
            Backlog(bytes: 9, framesSent: 7, bytesAhead: 100),
            Backlog(bytes: 9, framesSent: 8, bytesAhead: 100),
            Backlog(bytes: 9, framesSent: 8, bytesAhead: 50),
            Backlog(bytes: 9, framesSent: 8, bytesAhead: 50)
        )
        #expect(looks == [false, false, true])
    }
}
