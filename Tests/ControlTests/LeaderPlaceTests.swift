import Core
import Testing

@testable import Control

@Suite struct LeaderPlaceTests {
    private static let identity = "weir-controller-5f_c0ffee-1"

    private func text(of place: LeaderPlace?, after seconds: UInt64) -> String {
        LeaderPlace.textOfGateway(place, at: Instant(nanoseconds: (100 + seconds) * 1_000_000_000))
    }

    @Test func aGatewayTellsWhoLeads() throws {
        let now = Instant(nanoseconds: 100_000_000_000)
        let place = try #require(LeaderPlace(Self.identity, at: now))
        let text = self.text(of: place, after: 2)
        #expect(text.contains("a gateway runs no rollouts"))
        #expect(text.contains("ask the admin address of weir-controller-5f,"))
        let late = self.text(of: place, after: 60)
        #expect(
            late.contains("none has been heard of for 60 s; the last one was weir-controller-5f")
        )
        #expect(self.text(of: nil, after: 0).contains("none has asked this gateway for anything"))
    }

    @Test func aControllerTellsWhoLeads() {
        func text(_ holder: String) -> String {
            LeaderPlace.textOfController(holder: holder, own: "me_1", lease: "weir/weir-controller")
        }
        #expect(text(Self.identity).contains("does not lead (lease weir/weir-controller)"))
        #expect(text(Self.identity).contains("ask the admin address of weir-controller-5f,"))
        #expect(text("").contains("no controller leads at the moment"))
        #expect(text("me_1").contains("no controller leads at the moment"))
    }

    @Test func whatIsNoIdentityIsNotRepeated() {
        let now = Instant(nanoseconds: 0)
        for text in ["", "a b", "a\nb", "é", String(repeating: "a", count: 257)] {
            #expect(LeaderPlace(text, at: now) == nil, "\(text)")
        }
        #expect(LeaderPlace.host("_x") == "_x" && LeaderPlace.host("host") == "host")
        #expect(LeaderPlace.host("a_b_c") == "a_b")
    }
}
