import Testing

@testable import Rollouts

@Suite struct FullLoadTests {
    @Test func whoHasTheMostRequestsSaysWhatAllOfThemNeed() {
        #expect(FullLoad.replicas([(90, 10), (10, 2)]) == 11)
        #expect(FullLoad.replicas([(10, 2), (90, 10)]) == 11)
        // Nine replicas for a tenth of the requests are no ground for eighty.
        #expect(FullLoad.replicas([(90, 3), (10, 9)]) == 3)
        #expect(FullLoad.replicas([(25, 2), (75, 9)]) == 11)
        #expect(FullLoad.replicas([(50, 3), (50, 5)]) == 9, "the larger of two alike")
    }

    @Test func whoHasNoShareOrWantsNothingSaysNothing() {
        #expect(FullLoad.replicas([]) == nil)
        #expect(FullLoad.replicas([(0, 7)]) == nil)
        #expect(FullLoad.replicas([(100, 0)]) == nil)
        #expect(FullLoad.replicas([(100, 0), (0, 7)]) == nil)
        #expect(FullLoad.replicas([(90, 0), (10, 1)]) == 1)
        #expect(FullLoad.replicas([(1, .max)]) == .max)
    }
}
