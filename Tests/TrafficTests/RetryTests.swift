import Core
import Testing

@testable import Traffic

@Suite struct RetryPolicyTests {
    /// Every combination of the facts that are yes or no, with every retryability.
    static let allFacts: [RetryFacts] = Retryability.allCases.flatMap { retryability in
        (0..<64).map { bits in
            RetryFacts(
                retryability: retryability,
                isRepeatable: bits & 1 != 0,
                wasNeverSent: bits & 2 != 0,
                connectionWasReused: bits & 4 != 0,
                bodyIsReplayable: bits & 8 != 0,
                responseHasBegun: bits & 16 != 0,
                attempts: bits & 32 != 0 ? 2 : 1,
                attemptsMax: 2
            )
        }
    }

    /// The rules once more, as one sentence each.
    static func mayRetry(_ facts: RetryFacts) -> Bool {
        let errorAllows =
            facts.retryability == .yes
            || (facts.retryability == .onlyIfReused
                && (facts.connectionWasReused || facts.wasNeverSent))
        let requestAllows = facts.isRepeatable || facts.wasNeverSent
        return errorAllows && requestAllows && facts.bodyIsReplayable && !facts.responseHasBegun
            && facts.attempts < facts.attemptsMax
    }

    @Test func followsTheRulesForEveryCombinationOfFacts() {
        for facts in Self.allFacts {
            var budget = RetryBudget(millionths: 0, floorPerSecond: 1)
            let decision = RetryPolicy.decide(facts, budget: &budget, now: .seconds(1))
            if case .giveUp = decision {
                #expect(!Self.mayRetry(facts), "\(facts)")
                #expect(budget.retries == 0, "what is not retried costs nothing")
            } else {
                #expect(Self.mayRetry(facts), "\(facts)")
                #expect(budget.retries == 1)
            }
        }
        #expect(Self.allFacts.count { Self.mayRetry($0) } == 11)
    }

    @Test func onlyAStaleConnectionMayGoBackToTheSameEndpoint() {
        for facts in Self.allFacts where Self.mayRetry(facts) {
            var budget = RetryBudget()
            let expected: RetryDecision =
                facts.retryability == .onlyIfReused && !facts.wasNeverSent
                ? .retryPreferablyElsewhere : .retryElsewhere
            #expect(RetryPolicy.decide(facts, budget: &budget, now: .zero) == expected)
        }
    }

    static let reasons: [(RetryDecision.Reason, @Sendable (inout RetryFacts) -> Void)] = [
        (.responseBegun, { $0.responseHasBegun = true }),
        (.notRetryable, { $0.retryability = .no }),
        (.notRepeatable, { $0.isRepeatable = false }),
        (.bodyGone, { $0.bodyIsReplayable = false }),
        (.attemptsExhausted, { $0.attempts = 3 }),
    ]

    @Test(arguments: reasons.indices)
    func namesTheReason(index: Int) {
        var facts = RetryFacts(
            retryability: .yes,
            isRepeatable: true,
            wasNeverSent: false,
            connectionWasReused: false,
            bodyIsReplayable: true,
            responseHasBegun: false,
            attempts: 1,
            attemptsMax: 3
        )
        #expect(RetryPolicy.objection(to: facts) == nil)
        Self.reasons[index].1(&facts)
        #expect(RetryPolicy.objection(to: facts) == Self.reasons[index].0)
    }

    @Test func anEmptyBudgetRefuses() {
        var budget = RetryBudget(millionths: 0, floorPerSecond: 0)
        let facts = RetryFacts(
            retryability: .yes,
            isRepeatable: true,
            wasNeverSent: true,
            connectionWasReused: false,
            bodyIsReplayable: true,
            responseHasBegun: false,
            attempts: 1,
            attemptsMax: 3
        )
        #expect(
            RetryPolicy.decide(facts, budget: &budget, now: .zero) == .giveUp(.budgetExhausted)
        )
    }
}

@Suite struct RetryBudgetTests {
    @Test(arguments: [0, 50_000, 200_000, 1_000_000])
    func allowsTheShareOfTheRequests(millionths: Int) {
        var budget = RetryBudget(millionths: millionths, floorPerSecond: 0)
        for _ in 0..<1_000 { budget.recordRequest(now: .seconds(3)) }
        var retries = 0
        while retries < 5_000, budget.takeRetry(now: .seconds(4)) { retries += 1 }
        #expect(retries == millionths / 1_000)
    }

    @Test func hasAFloorForQuietModels() {
        var budget = RetryBudget(millionths: 200_000, floorPerSecond: 2)
        let taken = (0..<100).count { _ in budget.takeRetry(now: .seconds(1)) }
        #expect(taken == 20)
        let before = budget.takeRetry(now: .milliseconds(10_999))
        let after = budget.takeRetry(now: .seconds(11))
        #expect(!before)
        #expect(after, "the window has moved on")
    }

    @Test func timeThatStandsStillOrGoesBackIsHarmless() {
        var budget = RetryBudget(millionths: 1_000_000, floorPerSecond: 0)
        budget.recordRequest(now: .seconds(100))
        budget.recordRequest(now: .seconds(50))
        #expect(budget.requests == 2)
        let earlier = budget.takeRetry(now: .zero)
        #expect(earlier)
        budget.recordRequest(now: .distantFuture)
        #expect(budget.requests == 1)
    }

    @Test(arguments: [1, 2, 3] as [UInt64])
    func agreesWithTheOracle(seed: UInt64) {
        var random = RandomSource(seed: seed)
        var budget = RetryBudget(millionths: 300_000, floorPerSecond: 1)
        var requests: [Int] = []
        var retries: [Int] = []
        var now = 0
        for step in 0..<5_000 {
            now += random.below(random.chance(1) ? 30_000 : 300)
            let oldest = now / 1_000 - 9
            requests.removeAll { $0 / 1_000 < oldest }
            retries.removeAll { $0 / 1_000 < oldest }
            if random.chance(60) {
                budget.recordRequest(now: .milliseconds(now))
                requests.append(now)
            } else {
                let allowed = retries.count < requests.count * 3 / 10 + 10
                #expect(
                    budget.takeRetry(now: .milliseconds(now)) == allowed,
                    "seed \(seed), step \(step)"
                )
                if allowed { retries.append(now) }
            }
        }
    }
}

@Suite struct OutlierDetectorTests {
    static func detector(_ count: Int, share: Int = 500_000, errors: Int = 3) -> OutlierDetector {
        OutlierDetector(
            count: count,
            policy: OutlierPolicy(
                consecutiveErrors: errors,
                ejectFor: .seconds(10),
                ejectForMax: .seconds(25),
                ejectedMaxMillionths: share
            )
        )
    }

    static func fail(
        _ detector: inout OutlierDetector,
        _ endpoint: Int,
        times: Int = 3,
        now: Int = 0
    ) -> OutlierDetector.OnError {
        var last = OutlierDetector.OnError.counted
        for _ in 0..<times { last = detector.recordError(endpoint, now: .seconds(now)) }
        return last
    }

    @Test func ejectsAfterErrorsInARowAndNotBefore() {
        var detector = Self.detector(4)
        #expect(Self.fail(&detector, 1, times: 2) == .counted)
        detector.recordSuccess(1, now: .zero)
        #expect(Self.fail(&detector, 1, times: 2) == .counted, "a success starts the count anew")
        #expect(detector.isQuiet)
        #expect(Self.fail(&detector, 1, times: 1) == .ejected(until: .seconds(10)))
        #expect(!detector.admits(1, now: .seconds(9)))
        #expect(detector.admits(0, now: .seconds(9)))
        #expect(detector.ejectedCount == 1)
    }

    @Test func returnsThroughOneProbe() {
        var detector = Self.detector(4)
        _ = Self.fail(&detector, 1)
        #expect(detector.admits(1, now: .seconds(10)))
        detector.willSend(1, now: .seconds(10))
        #expect(!detector.admits(1, now: .seconds(11)), "one probe at a time")
        detector.recordSuccess(1, now: .seconds(12))
        #expect(detector.state(1) == .serving)
        #expect(detector.admits(1, now: .seconds(12)) && detector.isQuiet)
    }

    @Test func aProbeThatFailsEjectsLongerEachTimeUpToTheBound() {
        var detector = Self.detector(4)
        _ = Self.fail(&detector, 1)
        detector.willSend(1, now: .seconds(10))
        #expect(detector.recordError(1, now: .seconds(11)) == .ejected(until: .seconds(31)))
        detector.willSend(1, now: .seconds(31))
        #expect(detector.recordError(1, now: .seconds(32)) == .ejected(until: .seconds(57)))
        detector.willSend(1, now: .seconds(57))
        #expect(detector.recordError(1, now: .seconds(58)) == .ejected(until: .seconds(83)))
        #expect(detector.ejectedCount == 1)
    }

    @Test func pastEjectionsAreForgottenWithGoodService() {
        var detector = Self.detector(4)
        for start in [0, 100] {
            _ = Self.fail(&detector, 1, now: start)
            detector.willSend(1, now: .seconds(start + 30))
            detector.recordSuccess(1, now: .seconds(start + 30))
        }
        #expect(Self.fail(&detector, 1, now: 131) == .ejected(until: .seconds(131 + 20)))
        detector.willSend(1, now: .seconds(151))
        detector.recordSuccess(1, now: .seconds(151))
        #expect(Self.fail(&detector, 1, now: 500) == .ejected(until: .seconds(510)))
    }

    @Test func aLostProbeDoesNotBlockForever() {
        var detector = Self.detector(4)
        _ = Self.fail(&detector, 1)
        detector.willSend(1, now: .seconds(10))
        detector.recordAbandoned(1)
        #expect(detector.admits(1, now: .seconds(10)))
        detector.willSend(1, now: .seconds(10))
        #expect(!detector.admits(1, now: .seconds(19)))
        #expect(detector.admits(1, now: .seconds(20)))
    }

    @Test func answersToOldRequestsChangeNothingWhileEjected() {
        var detector = Self.detector(4)
        _ = Self.fail(&detector, 1)
        #expect(detector.recordError(1, now: .seconds(1)) == .counted)
        detector.recordSuccess(1, now: .seconds(2))
        #expect(detector.state(1) == .ejected(until: .seconds(10)))
    }

    @Test(arguments: [
        (1, 500_000, 0), (2, 500_000, 1), (3, 500_000, 1), (4, 500_000, 2), (4, 0, 0),
        (10, 50_000, 1), (4, 1_000_000, 3), (0, 1_000_000, 0),
    ])
    func keepsToTheShare(count: Int, share: Int, expected: Int) {
        var detector = Self.detector(count, share: share)
        #expect(detector.outMax == expected)
        for endpoint in 0..<count { _ = Self.fail(&detector, endpoint, times: 5) }
        #expect(detector.ejectedCount == expected)
        #expect((0..<count).count { detector.admits($0, now: .seconds(1)) } == count - expected)
    }

    @Test func oneKeptByTheShareIsEjectedWhenThereIsRoom() {
        var detector = Self.detector(2)
        _ = Self.fail(&detector, 0)
        #expect(Self.fail(&detector, 1) == .keptByShare)
        detector.willSend(0, now: .seconds(10))
        detector.recordSuccess(0, now: .seconds(10))
        #expect(Self.fail(&detector, 1, times: 1, now: 11) == .ejected(until: .seconds(21)))
    }

    @Test func zeroErrorsTurnItOff() {
        var detector = Self.detector(4, errors: 0)
        #expect(Self.fail(&detector, 0, times: 100) == .counted)
        #expect(detector.isQuiet)
    }

    @Test func newEndpointSetsKeepWhatIsKnown() {
        var detector = Self.detector(4)
        _ = Self.fail(&detector, 2)
        let policy = detector.policy
        detector.update(count: 3, policy: policy, previousIndex: { [2, 0, nil][$0] })
        #expect(detector.state(0) == .ejected(until: .seconds(10)))
        #expect(detector.ejectedCount == 1)
        detector.update(count: 1, policy: policy, previousIndex: { $0 })
        #expect(detector.isQuiet, "the last one is never out")
    }

    @Test(arguments: [1, 2, 3, 4] as [UInt64])
    func invariantsHoldOverRandomOperations(seed: UInt64) {
        var random = RandomSource(seed: seed)
        var count = 6
        var detector = Self.detector(count)
        var now = 0
        for step in 0..<10_000 {
            now += random.below(3)
            let endpoint = random.below(count)
            switch random.below(12) {
            case 0...5:
                _ = detector.recordError(endpoint, now: .seconds(now))
            case 6, 7:
                detector.recordSuccess(endpoint, now: .seconds(now))
            case 8, 9:
                if detector.admits(endpoint, now: .seconds(now)) {
                    detector.willSend(endpoint, now: .seconds(now))
                }
            case 10:
                detector.recordAbandoned(endpoint)
            default:
                guard random.chance(5) else { continue }
                let old = count
                count = 2 + random.below(8)
                detector.update(count: count, policy: detector.policy) { $0 < old ? $0 : nil }
            }
            let out = (0..<count).count { detector.state($0) != .serving }
            #expect(detector.ejectedCount == out, "seed \(seed), step \(step)")
            for index in 0..<count {
                if case .ejected(let until) = detector.state(index) {
                    #expect(until <= .seconds(now + 25))
                }
            }
        }
    }
}
