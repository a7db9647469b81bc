import Core
import Testing

@testable import Orchestration

@Suite struct WriterWatchTests {
    private func at(_ seconds: Double) -> Instant { .zero + .seconds(1_000 + seconds) }

    @Test func takesTheFirstNumberAsItIs() {
        var watch = WriterWatch()
        #expect(watch.observe(4, at: self.at(0)) == nil)
        #expect(watch.mayWrite(at: self.at(0)))
        #expect(watch.words(at: self.at(0)) == nil)
    }

    @Test func knowsItsOwnWrites() {
        var watch = WriterWatch()
        _ = watch.observe(4, at: self.at(0))
        watch.wrote(6, over: 4, at: self.at(1))
        // The news of before the write is still on its way.
        #expect(watch.observe(4, at: self.at(2)) == nil)
        #expect(watch.observe(6, at: self.at(3)) == nil)
        #expect(watch.mayWrite(at: self.at(3)))
        // Seen: from now on the old number is somebody's doing.
        #expect(watch.observe(4, at: self.at(4)) == .init(from: 6, to: 4))
    }

    /// It wrote twice before the news of the first write came.
    @Test func knowsSeveralWritesUnderWay() {
        var watch = WriterWatch()
        _ = watch.observe(4, at: self.at(0))
        watch.wrote(1, over: 4, at: self.at(1))
        watch.wrote(2, over: 1, at: self.at(2))
        for late in [4, 1, 4] { #expect(watch.observe(late, at: self.at(3)) == nil) }
        #expect(!watch.isCurrent(4))
        #expect(watch.observe(2, at: self.at(4)) == nil)
        #expect(watch.observe(4, at: self.at(5)) == .init(from: 2, to: 4))
    }

    @Test func takesTheNumbersOfAnotherLeader() {
        var watch = WriterWatch()
        _ = watch.observe(1, at: self.at(0))
        watch.accept(5)
        #expect(watch.observe(5, at: self.at(1)) == nil)
        #expect(watch.mayWrite(at: self.at(1)))
        // From now on it is we who write.
        #expect(watch.observe(7, at: self.at(2)) == .init(from: 5, to: 7))
    }

    @Test func doesNotWaitForEverForItsOwnWrite() {
        var watch = WriterWatch()
        _ = watch.observe(4, at: self.at(0))
        watch.wrote(6, over: 4, at: self.at(1))
        #expect(watch.observe(4, at: self.at(10.9)) == nil)
        #expect(watch.observe(4, at: self.at(11.1)) == .init(from: 6, to: 4))
    }

    @Test func leavesForeignNumbersAloneEverLonger() {
        var watch = WriterWatch()
        _ = watch.observe(1, at: self.at(0))
        var now = 0.0
        for (edit, hold) in [30.0, 60, 120, 240, 480, 600, 600].enumerated() {
            #expect(watch.observe(10 + edit, at: self.at(now)) != nil)
            #expect(watch.observe(10 + edit, at: self.at(now)) == nil)
            #expect(!watch.mayWrite(at: self.at(now + hold - 0.1)))
            #expect(watch.words(at: self.at(now))?.contains("from") == true)
            #expect(watch.mayWrite(at: self.at(now + hold)))
            now += hold
        }
        #expect(watch.observe(1, at: self.at(now + 1_801)) != nil)
        #expect(watch.mayWrite(at: self.at(now + 1_801 + 30)))
    }

    @Test func writesNothingWhileSomebodyElseScales() {
        var watch = WriterWatch()
        _ = watch.observe(1, at: self.at(0))
        watch.rivals = ["HorizontalPodAutoscaler ns/b", "ScaledObject ns/a"]
        #expect(!watch.mayWrite(at: self.at(9_999)))
        let words = watch.words(at: self.at(9_999))
        #expect(words?.hasPrefix("HorizontalPodAutoscaler ns/b, ScaledObject ns/a scales") == true)
        watch.rivals = []
        #expect(watch.mayWrite(at: self.at(9_999)))
    }
}
