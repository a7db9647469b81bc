import Core
import Testing

@testable import Autoscaling

/// What is known of loads that no request meets, and of how alike two series are.
struct LoadCurveTests {
    /// Requests at a load, which take `seconds` on average, half of them a little less.
    private func learn(
        _ curve: inout LoadCurve,
        load: Double,
        seconds: Double,
        requests: Int = 100
    ) {
        var times = TimeHistogram()
        times.record(seconds: seconds * 0.9, times: requests / 2)
        times.record(seconds: seconds * 1.1, times: requests - requests / 2)
        curve.learn(times, good: Double(requests), load: load)
    }

    private func seconds(_ curve: LoadCurve, at load: Double) throws -> Double {
        let fit = try #require(curve.fit(limitSeconds: 60, slots: 8, full: nil))
        return fit.seconds[LoadCurve.bin(of: load)]
    }

    /// Light loads tell what heavy ones will cost: nothing, or how much.
    @Test(arguments: [0.0, 0.1, 0.4])
    func lowLoadsTellOfHighOnes(slope: Double) throws {
        var curve = LoadCurve()
        for load in [0.5, 1, 1.5, 2, 3, 4] {
            self.learn(&curve, load: load, seconds: 2 + slope * load, requests: 300)
        }
        let truth = 2 + slope * 7.5
        let foretold = try self.seconds(curve, at: 7.5)
        #expect(foretold > truth * 0.93 && foretold < truth * 1.2, "\(foretold), truly \(truth)")
    }

    /// Few requests at one load say nothing of the slope: then it is taken to be steep.
    @Test func isCarefulBeforeLoadsDiffered() throws {
        var curve = LoadCurve()
        self.learn(&curve, load: 1, seconds: 2, requests: 20)
        #expect(try self.seconds(curve, at: 2) > 2.2)
    }

    /// A night with next to no load makes nothing that was seen in the day less true.
    @Test func keepsWhatWasSeenUnderLoad() throws {
        var curve = LoadCurve()
        for _ in 0..<50 {
            self.learn(&curve, load: 7, seconds: 5)
            self.learn(&curve, load: 1, seconds: 4)
            curve.forget(seconds: 15)
        }
        let before = try self.seconds(curve, at: 7)
        for _ in 0..<(8 * 240) {
            self.learn(&curve, load: 1, seconds: 4, requests: 5)
            curve.forget(seconds: 15)
        }
        let after = try self.seconds(curve, at: 7)
        #expect(abs(after - before) < 0.05 * before, "\(before) before, \(after) after")
        #expect(abs(after - 5) < 0.3)
    }

    /// What has become slower is believed at once where requests meet it, and heavier loads cannot
    /// be quicker, whatever they once were.
    @Test func noLoadIsQuickerThanALighterOne() throws {
        var curve = LoadCurve()
        for _ in 0..<50 {
            self.learn(&curve, load: 7, seconds: 5)
            self.learn(&curve, load: 1, seconds: 4)
            curve.forget(seconds: 15)
        }
        for _ in 0..<(4 * 240) {
            self.learn(&curve, load: 1, seconds: 12)
            curve.forget(seconds: 15)
        }
        #expect(try self.seconds(curve, at: 7) > 10)
    }

    @Test(arguments: [UInt64(1), 2, 3, 4])
    func timesNeverFallWithTheLoad(seed: UInt64) throws {
        var random = RandomSource(seed: seed)
        var curve = LoadCurve()
        for _ in 0..<40 {
            self.learn(
                &curve,
                load: 0.2 + 12 * random.nextUnit(),
                seconds: 0.1 + 10 * random.nextUnit(),
                requests: 2 + Int(100 * random.nextUnit())
            )
        }
        let fit = try #require(curve.fit(limitSeconds: 5, slots: 8, full: nil))
        for bin in 1..<LoadCurve.binCount {
            #expect(fit.seconds[bin] >= fit.seconds[bin - 1], "seed \(seed), bin \(bin)")
            #expect(fit.share[bin] <= fit.share[bin - 1] + 1e-9, "seed \(seed), bin \(bin)")
        }
    }

    // MARK: Likeness

    @Test func seesWhatIsAlike() {
        var same = Likeness()
        var other = Likeness()
        var still = Likeness()
        var random = RandomSource(seed: 7)
        for index in 0..<400 {
            let value = index / 10 % 2 == 0 ? 8.0 : 1.0
            same.add(value, value + random.nextUnit(), fading: 0.999)
            other.add(value, 8 * random.nextUnit(), fading: 0.999)
            still.add(5, value, fading: 0.999)
        }
        #expect(same.correlation > 0.95)
        #expect(abs(other.correlation) < 0.2)
        #expect(still.correlation == 0)
        #expect(Likeness().correlation == 0)
    }

    @Test func forgetsWhatWasAlike() {
        var likeness = Likeness()
        for index in 0..<400 { likeness.add(Double(index % 5), Double(index % 5), fading: 0.98) }
        #expect(likeness.correlation > 0.99)
        for index in 0..<400 { likeness.add(Double(index % 5), Double(index % 7), fading: 0.98) }
        #expect(likeness.correlation < 0.3)
    }
}
