import Testing

@testable import Autoscaling

@Suite struct BudgetTests {
    @Test func grantsNoMoreThanIsWanted() {
        #expect(BudgetAllocator(total: 1).grants(for: []).isEmpty)
    }
}
