import Core
import Curl
import Kubernetes
import Testing

/// A reflector with its clock and its random numbers.
struct Reflection {
    var reflector: Reflector
    var random = RandomSource(seed: 1)
    var now = Instant(nanoseconds: 1_000_000_000_000)

    init(usesWatchList: Bool = true, change: (inout ReflectorOptions) -> Void = { _ in }) {
        var options = ReflectorOptions()
        options.usesWatchList = usesWatchList
        change(&options)
        self.reflector = Reflector(options)
    }

    mutating func next() -> Reflector.Step {
        self.reflector.next(now: self.now, random: &self.random)
    }

    /// Waits as long as it asks for, and returns what comes then, with how long it was.
    mutating func nextAfterWait() -> (step: Reflector.Step, waited: Duration) {
        guard case .wait(let delay) = self.next() else {
            Issue.record("no wait")
            return (.nothing, .zero)
        }
        self.now = self.now + (delay - .nanoseconds(1))
        guard case .wait = self.next() else {
            Issue.record("not waited to the end")
            return (.nothing, .zero)
        }
        self.now = self.now + .nanoseconds(1)
        return (self.next(), delay)
    }

    mutating func page(_ version: String, _ token: String? = nil) -> Reflector.OnPage {
        self.reflector.received(
            pageVersion: ResourceVersion(version),
            continueToken: token,
            now: self.now
        )
    }

    mutating func object(_ version: String) -> Reflector.OnEvent {
        self.reflector.received(
            EventSummary(.object, version: ResourceVersion(version)),
            now: self.now
        )
    }

    mutating func bookmark(_ version: String, ends: Bool = false) -> Reflector.OnEvent {
        self.reflector.received(
            EventSummary(.bookmark(endsInitialEvents: ends), version: ResourceVersion(version)),
            now: self.now
        )
    }

    mutating func end(_ error: APIError.Kind? = nil) {
        self.reflector.watchEnded(
            error.map { APIError($0, call: "GET /x") },
            now: self.now,
            random: &self.random
        )
    }

    mutating func listFails(_ error: APIError.Kind) {
        self.reflector.listFailed(
            APIError(error, call: "GET /x"),
            now: self.now,
            random: &self.random
        )
    }

    mutating func pass(_ duration: Duration) { self.now = self.now + duration }

    /// Brings it to a watch from that version.
    mutating func watch(from version: String = "10") {
        _ = self.next()
        if self.reflector.options.usesWatchList {
            _ = self.bookmark(version, ends: true)
        } else {
            _ = self.page(version)
            _ = self.next()
        }
    }
}

extension Reflector.Step {
    var watch: WatchOptions? {
        if case .watch(let options) = self { options } else { nil }
    }
}

func refusal(_ code: Int, _ reason: String = "", after: Duration? = nil) -> APIError.Kind {
    var status = Status(code: code, reason: reason)
    status.retryAfter = after
    return .refused(status)
}

@Suite struct ReflectorTests {
    // MARK: The first state

    @Test func beginsWithAWatchList() throws {
        var it = Reflection()
        let first = try #require(it.next().watch)
        #expect(first.sendsInitialEvents && first.resourceVersion == nil)
        #expect(first.idleTimeout == .seconds(30))
        #expect(it.next() == .nothing)
        #expect(it.object("5") == .apply)
        #expect(!it.reflector.isSynced && it.reflector.version == nil)
        #expect(it.bookmark("9", ends: true) == .finishState)
        #expect(it.reflector.isSynced && it.reflector.isWatching)
        #expect(it.reflector.version == ResourceVersion("9"))
        #expect(it.object("11") == .apply)
        it.pass(.seconds(400))
        it.end()
        let second = try #require(it.next().watch)
        #expect(!second.sendsInitialEvents && second.resourceVersion == ResourceVersion("11"))
        #expect(second.idleTimeout == .seconds(180))
    }

    @Test func listsInPagesWhereThereIsNoWatchList() throws {
        var it = Reflection(usesWatchList: false)
        #expect(it.next() == .list(limit: 500, continueToken: nil))
        #expect(it.next() == .nothing)
        #expect(it.page("7", "a") == .more)
        #expect(it.next() == .list(limit: 500, continueToken: "a"))
        #expect(!it.reflector.isSynced)
        #expect(it.page("7") == .finishState)
        #expect(it.reflector.isSynced)
        #expect(it.next().watch?.resourceVersion == ResourceVersion("7"))
    }

    @Test(arguments: [400, 405, 422, 501])
    func listsWhereTheServerRefusesTheWatchList(code: Int) {
        var it = Reflection()
        _ = it.next()
        it.end(refusal(code))
        #expect(it.next() == .list(limit: 500, continueToken: nil))
        _ = it.page("7")
        #expect(it.next().watch?.resourceVersion == ResourceVersion("7"))
        // And does not ask again.
        it.end(refusal(410, "Expired"))
        #expect(it.nextAfterWait().step == .list(limit: 500, continueToken: nil))
    }

    @Test func listsWhereTheMarkNeverComes() {
        // Ended in good order, silent, and too slow: each means that the mark will not come.
        for how in 0..<3 {
            var it = Reflection()
            // Once may be chance; twice is the server.
            for round in 0..<2 {
                let step = round == 0 ? it.next() : it.nextAfterWait().step
                #expect(step.watch?.sendsInitialEvents == true)
                #expect(it.object("5") == .apply)
                switch how {
                case 0: it.end()
                case 1: it.end(.transport(.timedOut(.idle)))
                default:
                    it.pass(.seconds(301))
                    #expect(it.object("6") == .abandon)
                }
                #expect(it.next() == .list(limit: 500, continueToken: nil))
                _ = it.page("7")
                _ = it.next()
                it.end(refusal(410))
            }
            #expect(it.nextAfterWait().step == .list(limit: 500, continueToken: nil))
        }
    }

    @Test func takesABookmarkBeforeTheMarkForAServerWithoutWatchList() {
        var it = Reflection()
        _ = it.next()
        _ = it.object("5")
        #expect(it.bookmark("6") == .abandon)
        #expect(it.next() == .list(limit: 500, continueToken: nil))
        // The stream's own end comes later.
        it.end(.cancelled)
        #expect(it.next() == .nothing)
    }

    @Test func doesNotGoOnFromAStateThatWasNotComplete() {
        var it = Reflection()
        _ = it.next()
        _ = it.object("5")
        it.end(.transport(.connectionLost("")))
        let (step, _) = it.nextAfterWait()
        #expect(step.watch?.sendsInitialEvents == true)
        #expect(step.watch?.resourceVersion == nil)
    }

    // MARK: Lists

    @Test func beginsAgainWhenTheContinueTokenHasExpired() {
        var it = Reflection(usesWatchList: false)
        _ = it.next()
        _ = it.page("7", "a")
        _ = it.next()
        it.listFails(refusal(410, "Expired"))
        // Larger pages: sooner done than the token expires again.
        #expect(it.nextAfterWait().step == .list(limit: 2_000, continueToken: nil))
        _ = it.page("8", "b")
        _ = it.next()
        it.listFails(refusal(410, "Expired"))
        #expect(it.nextAfterWait().step == .list(limit: 8_000, continueToken: nil))
        _ = it.page("9")
        _ = it.next()
        it.end(refusal(410))
        #expect(it.nextAfterWait().step == .list(limit: 500, continueToken: nil))
    }

    @Test func goesOnWithTheSamePageAfterALostConnection() {
        for error: APIError.Kind in [
            .transport(.connectionLost("")), refusal(429, after: .seconds(7)), refusal(500),
        ] {
            var it = Reflection(usesWatchList: false)
            _ = it.next()
            _ = it.page("7", "a")
            _ = it.next()
            it.listFails(error)
            #expect(it.nextAfterWait().step == .list(limit: 500, continueToken: "a"))
        }
    }

    @Test func asksForSmallerPagesWhereOneIsTooLarge() {
        var it = Reflection(usesWatchList: false)
        _ = it.next()
        var limits: [Int] = []
        for _ in 0..<10 {
            it.listFails(.transport(.tooLarge(bytesMax: 1)))
            if case .list(let limit, nil) = it.nextAfterWait().step { limits.append(limit) }
        }
        #expect(limits == [250, 125, 62, 31, 15, 7, 3, 1, 1, 1])
    }

    // MARK: Watches

    @Test func movesOnWithBookmarksWithoutDeliveringThem() {
        var it = Reflection()
        it.watch()
        #expect(it.bookmark("20") == .ignore)
        it.end()
        #expect(it.next().watch?.resourceVersion == ResourceVersion("20"))
    }

    @Test(arguments: [true, false])
    func asksForEverythingAfter410(usesWatchList: Bool) {
        var it = Reflection(usesWatchList: usesWatchList)
        it.watch()
        it.end(refusal(410, "Expired"))
        let (step, _) = it.nextAfterWait()
        if usesWatchList {
            #expect(step.watch?.sendsInitialEvents == true)
            // No older than what is known.
            #expect(step.watch?.resourceVersion == ResourceVersion("10"))
        } else {
            #expect(step == .list(limit: 500, continueToken: nil))
        }
    }

    @Test func asksForTheNewestStateWhereItsVersionIsUseless() {
        for error in [refusal(410, "Gone"), Self.tooLarge] {
            var it = Reflection()
            it.watch()
            it.end(refusal(410))
            #expect(it.nextAfterWait().step.watch?.resourceVersion == ResourceVersion("10"))
            it.end(error)
            let (step, _) = it.nextAfterWait()
            #expect(step.watch?.sendsInitialEvents == true)
            #expect(step.watch?.resourceVersion == nil)
            _ = it.bookmark("3", ends: true)
            it.end()
            #expect(it.next().watch?.resourceVersion == ResourceVersion("3"))
        }
    }

    private static var tooLarge: APIError.Kind {
        var status = Status(code: 504, reason: "Timeout", message: "Too large resource version")
        status.causes = [
            Status.Cause(reason: "ResourceVersionTooLarge", message: "", field: "")
        ]
        return .refused(status)
    }

    @Test func watchesTheSameVersionAgainAfter429AndWaitsAsAsked() {
        var it = Reflection()
        it.watch()
        it.end(refusal(429, "TooManyRequests", after: .seconds(7)))
        let (step, waited) = it.nextAfterWait()
        #expect(waited == .seconds(7))
        #expect(step.watch?.resourceVersion == ResourceVersion("10"))
        #expect(step.watch?.sendsInitialEvents == false)
    }

    @Test func watchesTheSameVersionAgainForAsLongAsNobodyListens() {
        var it = Reflection()
        it.watch()
        for _ in 0..<50 {
            it.end(.transport(.cannotConnect("refused")))
            let (step, waited) = it.nextAfterWait()
            #expect(step.watch?.sendsInitialEvents == false)
            #expect(step.watch?.resourceVersion == ResourceVersion("10"))
            #expect(waited >= .milliseconds(800) && waited <= .seconds(60))
        }
        #expect(it.reflector.failures == 50 && it.reflector.problem != nil)
        _ = it.object("11")
        #expect(it.reflector.failures == 0 && it.reflector.problem == nil)
    }

    @Test func asksForEverythingAfterFiveInternalErrors() {
        var it = Reflection()
        it.watch()
        for round in 1...6 {
            it.end(refusal(500))
            #expect(it.nextAfterWait().step.watch?.sendsInitialEvents == (round == 6))
        }
    }

    @Test func backsOffWhereAWatchEndsAtOnceWithoutEvents() {
        for (passed, events, waits) in [(999, 0, true), (1_000, 0, false), (10, 1, false)] {
            var it = Reflection()
            it.watch()
            it.end()
            _ = it.next()
            it.pass(.milliseconds(passed))
            for _ in 0..<events { _ = it.bookmark("11") }
            it.end()
            guard case .wait(let delay) = it.next() else {
                #expect(!waits)
                continue
            }
            #expect(waits && delay >= .milliseconds(800) && delay <= .milliseconds(1_600))
            #expect(it.nextAfterWait().step.watch?.resourceVersion == ResourceVersion("10"))
        }
    }

    @Test(arguments: [
        CurlError.connectionLost("reset"), .timedOut(.idle), .timedOut(.total),
    ])
    func watchesAgainAtOnceAfterASilentDeath(error: CurlError) {
        var it = Reflection()
        it.watch()
        it.pass(.seconds(200))
        it.end(.transport(error))
        #expect(it.next().watch?.resourceVersion == ResourceVersion("10"))
    }

    @Test func asksForEverythingWhereTheStreamMakesNoSense() {
        for error: APIError.Kind in [.malformed("x"), refusal(403), refusal(404), refusal(401)] {
            var it = Reflection()
            it.watch()
            it.end(error)
            #expect(it.nextAfterWait().step.watch?.sendsInitialEvents == true)
        }
    }

    @Test func spreadsTheEndsOfWatches() {
        var it = Reflection()
        it.watch()
        var seen: Set<Int64> = []
        for _ in 0..<200 {
            it.end()
            let seconds = it.next().watch?.timeout.components.seconds ?? 0
            #expect((300..<600).contains(seconds))
            seen.insert(seconds)
            it.pass(.seconds(seconds))
        }
        #expect(seen.count > 50)
    }

    // MARK: Waits

    @Test func waitsAsClientGoDoes() {
        var it = Reflection()
        it.watch()
        var base = 0.8
        for _ in 0..<12 {
            it.end(.transport(.cannotConnect("")))
            let waited = it.nextAfterWait().waited.secondsAsDouble
            #expect(waited >= base && waited <= base * 2, "\(waited) of \(base)")
            base = min(base * 2, 30)
        }
        // Quiet for two minutes: from the beginning again.
        it.pass(.seconds(121))
        it.end(.transport(.cannotConnect("")))
        #expect(it.nextAfterWait().waited <= .milliseconds(1_600))
    }

    // MARK: Whatever happens

    /// Random servers: the machine never asks twice at a time, never goes on from a version that
    /// was not named, and comes back to a watch.
    @Test(arguments: 0..<200 as Range<UInt64>)
    func staysInStep(seed: UInt64) {
        var dice = RandomSource(seed: seed)
        var it = Reflection(usesWatchList: dice.next() % 2 == 0)
        it.random = RandomSource(seed: seed)
        var named: Set<ResourceVersion> = []
        var version = 0
        let name = {
            version += 1
            return "\(version)"
        }
        for _ in 0..<300 {
            switch it.next() {
            case .wait(let delay):
                #expect(delay > .zero && delay <= .seconds(300))
                it.pass(delay)
            case .nothing: Issue.record("stuck, seed \(seed)")
            case .list(let limit, _):
                #expect(limit > 0)
                let text = name()
                switch dice.next() % 4 {
                case 0: it.listFails(Self.error(&dice))
                case 1: _ = it.page(text, "t\(text)")
                default:
                    _ = it.page(text)
                    named.insert(ResourceVersion(text))
                }
            case .watch(let options):
                if let asked = options.resourceVersion {
                    #expect(named.contains(asked), "seed \(seed)")
                } else {
                    #expect(options.sendsInitialEvents)
                }
                var isOpen = true
                for _ in 0..<dice.next() % 5 where isOpen {
                    let text = name()
                    let mark = dice.next() % 3 == 0
                    let outcome = mark ? it.bookmark(text, ends: true) : it.object(text)
                    isOpen = outcome != .abandon
                    if it.reflector.isWatching { named.insert(ResourceVersion(text)) }
                }
                #expect(it.next() == .nothing || !isOpen, "seed \(seed)")
                it.pass(.milliseconds(Int(dice.next() % 3_000)))
                it.end(dice.next() % 2 == 0 ? nil : Self.error(&dice))
            }
        }
        for _ in 0..<10 where !it.reflector.isWatching {
            switch it.next() {
            case .wait(let delay): it.pass(delay)
            case .list: _ = it.page("last")
            case .watch(let options):
                if options.sendsInitialEvents { _ = it.bookmark("last", ends: true) }
            case .nothing: break
            }
        }
        #expect(it.reflector.isWatching, "seed \(seed)")
    }

    static func error(_ dice: inout RandomSource) -> APIError.Kind {
        switch dice.next() % 9 {
        case 0: refusal(410)
        case 1: refusal(429, after: .seconds(Int(dice.next() % 400)))
        case 2: refusal(500)
        case 3: refusal(400)
        case 4: .transport(.connectionLost(""))
        case 5: .transport(.cannotConnect(""))
        case 6: .transport(.timedOut(.idle))
        case 7: .malformed("")
        default: .credentials("")
        }
    }
}
