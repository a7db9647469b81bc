import Core
import Testing

@testable import HTTP

/// A meter that expectations may take from.
private final class Meter {
    private var meter = FrameMeter()

    func take(_ kind: FrameAbuse, now: Instant) -> Bool { self.meter.take(kind, now: now) }
    func earn(_ kind: FrameAbuse, _ count: UInt32) { self.meter.earn(kind, count) }
}

struct FrameMeterTests {
    @Test(arguments: FrameAbuse.allCases)
    func allowsABurstAndThenARate(kind: FrameAbuse) {
        let meter = Meter()
        let allowance = FrameMeter.allowance(kind)
        var now = Instant(nanoseconds: 5)
        for _ in 0..<allowance.burst { #expect(meter.take(kind, now: now)) }
        #expect(!meter.take(kind, now: now))
        now = now + Duration.seconds(1)
        for _ in 0..<allowance.perSecond { #expect(meter.take(kind, now: now)) }
        #expect(!meter.take(kind, now: now))
        // Never more than a burst, however long it was quiet.
        now = now + Duration.seconds(1_000_000)
        for _ in 0..<allowance.burst { #expect(meter.take(kind, now: now)) }
        #expect(!meter.take(kind, now: now))
    }

    @Test func countsKindsByThemselves() {
        let meter = Meter()
        while meter.take(.ping, now: .zero) {}
        for kind in FrameAbuse.allCases where kind != .ping {
            #expect(meter.take(kind, now: .zero))
        }
    }

    @Test func allowsMoreForWhatWasDone() {
        let meter = Meter()
        while meter.take(.windowUpdate, now: .zero) {}
        meter.earn(.windowUpdate, 2)
        #expect(meter.take(.windowUpdate, now: .zero))
        #expect(meter.take(.windowUpdate, now: .zero))
        #expect(!meter.take(.windowUpdate, now: .zero))
        meter.earn(.windowUpdate, .max)
        var taken: UInt32 = 0
        while meter.take(.windowUpdate, now: .zero) { taken += 1 }
        #expect(taken == FrameMeter.allowance(.windowUpdate).burst)
    }

    @Test func namesEachKindOnce() {
        let labels = FrameAbuse.allCases.map(\.label.description)
        #expect(Set(labels).count == labels.count)
    }
}
