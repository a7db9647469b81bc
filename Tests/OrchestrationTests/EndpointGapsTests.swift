import Core
import Testing

@testable import Orchestration

@Suite struct EndpointGapsTests {
    private func at(_ seconds: Double) -> Instant { .zero + .seconds(1_000 + seconds) }

    @Test func believesAGapThatLasts() {
        var gaps = EndpointGaps()
        gaps.take(["a": .serviceMissing], from: 0, at: self.at(0))
        #expect(gaps.gap(of: "a", at: self.at(4.9)) == nil)
        #expect(gaps.gap(of: "a", at: self.at(5)) == .serviceMissing)
        #expect(gaps.gap(of: "b", at: self.at(5)) == nil)
        // The same again is the same gap, another one is not.
        gaps.take(["a": .serviceMissing], from: 0, at: self.at(6))
        #expect(gaps.gap(of: "a", at: self.at(6)) == .serviceMissing)
        gaps.take(["a": .noEndpoint], from: 0, at: self.at(7))
        #expect(gaps.gap(of: "a", at: self.at(11.9)) == nil)
        #expect(gaps.gap(of: "a", at: self.at(12)) == .noEndpoint)
        gaps.take([:], from: 0, at: self.at(13))
        #expect(gaps.gap(of: "a", at: self.at(99)) == nil)
    }

    @Test func believesWhatAllGatewaysSay() {
        var gaps = EndpointGaps()
        gaps.take(["a": .noEndpoint, "b": .noEndpoint], from: 0, at: self.at(0))
        gaps.take(["b": .noEndpoint], from: 1, at: self.at(1))
        #expect(gaps.gap(of: "a", at: self.at(9)) == nil)
        #expect(gaps.gap(of: "b", at: self.at(9)) == .noEndpoint)
        gaps.take(["b": .serviceMissing], from: 1, at: self.at(10))
        #expect(gaps.gap(of: "b", at: self.at(99)) == nil)
        gaps.forget(source: 1, at: self.at(100))
        #expect(gaps.gap(of: "a", at: self.at(104)) == nil)
        #expect(gaps.gap(of: "a", at: self.at(105)) == .noEndpoint)
        gaps.forget(source: 0, at: self.at(106))
        #expect(gaps.gap(of: "a", at: self.at(199)) == nil)
    }
}
