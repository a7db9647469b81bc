import Core
import Testing

@testable import Traffic

@Suite struct TenantMeterTests {
    private let limited = TenantQuota(requestsPerSecond: 5, tokensPerMinute: 600, concurrency: 3)

    @Test func withoutAQuotaEverythingIsAdmitted() {
        var meter = TenantMeter(TenantQuota(), now: .zero)
        for _ in 0..<10_000 { #expect(meter.request(tokens: 1 << 40, now: .zero) == .admitted) }
        #expect(meter.requestReading(now: .zero) == nil && meter.tokenReading(now: .zero) == nil)
    }

    @Test func requestsPerSecondAreABucketOfOneSecond() {
        var meter = TenantMeter(TenantQuota(requestsPerSecond: 5), now: .zero)
        for _ in 0..<5 { #expect(meter.request(tokens: 0, now: .zero) == .admitted) }
        #expect(
            meter.request(tokens: 0, now: .zero)
                == .refused(.requests, retryAfterNanoseconds: 200_000_000)
        )
        #expect(meter.request(tokens: 0, now: .milliseconds(199)) != .admitted)
        #expect(meter.request(tokens: 0, now: .milliseconds(200)) == .admitted)
        let reading = meter.requestReading(now: .milliseconds(200))
        #expect(reading?.limit == 5 && reading?.remaining == 0)
        #expect(reading?.resetNanoseconds == 1_000_000_000)
    }

    @Test func tokensAreChargedAndSettled() {
        var meter = TenantMeter(TenantQuota(tokensPerMinute: 600), now: .zero)
        #expect(meter.request(tokens: 500, now: .zero) == .admitted)
        #expect(
            meter.request(tokens: 200, now: .zero)
                == .refused(.tokens, retryAfterNanoseconds: 10_000_000_000)
        )
        meter.ended(charged: 500, cost: 50, answer: 20, now: .zero)
        #expect(meter.tokenReading(now: .zero)?.remaining == 550)
        #expect(meter.request(tokens: 200, now: .zero) == .admitted)
        // More than was thought: the next ones wait for it.
        meter.ended(charged: 200, cost: 1_150, answer: 1_000, now: .zero)
        #expect(meter.tokenReading(now: .zero)?.remaining == 0)
        #expect(
            meter.request(tokens: 1, now: .zero)
                == .refused(.tokens, retryAfterNanoseconds: 60_100_000_000)
        )
    }

    @Test func whatIsLargerThanTheBucketWaitsUntilItIsFull() {
        var meter = TenantMeter(TenantQuota(tokensPerMinute: 60), now: .zero)
        #expect(meter.request(tokens: 1_000, now: .zero) == .admitted)
        guard case .refused(.tokens, let wait) = meter.request(tokens: 1_000, now: .zero) else {
            Issue.record("admitted")
            return
        }
        #expect(wait == 1_000_000_000_000)
        #expect(meter.request(tokens: 1_000, now: .zero + .seconds(1_001)) == .admitted)
    }

    @Test func debtIsBounded() {
        var meter = TenantMeter(TenantQuota(tokensPerMinute: 60), now: .zero)
        #expect(meter.request(tokens: 1, now: .zero) == .admitted)
        meter.ended(charged: 1, cost: .max, answer: nil, now: .zero)
        #expect(meter.request(tokens: 1, now: .zero + .seconds(602)) == .admitted)
    }

    @Test func concurrencyIsWhatHasNotEnded() {
        var meter = TenantMeter(self.limited, now: .zero)
        for _ in 0..<3 { #expect(meter.request(tokens: 0, now: .zero) == .admitted) }
        guard case .refused(.concurrency, _) = meter.request(tokens: 0, now: .zero) else {
            Issue.record("admitted")
            return
        }
        meter.ended(charged: 0, cost: 0, answer: nil, now: .zero)
        #expect(meter.request(tokens: 0, now: .zero) == .admitted)
        #expect(meter.inFlight == 3)
    }

    @Test func whoIsRefusedPaysNothing() {
        var meter = TenantMeter(self.limited, now: .zero)
        #expect(meter.request(tokens: 599, now: .zero) == .admitted)
        for _ in 0..<100 { #expect(meter.request(tokens: 2, now: .zero) != .admitted) }
        #expect(meter.requestReading(now: .zero)?.remaining == 4)
        #expect(meter.tokenReading(now: .zero)?.remaining == 1)
    }

    @Test func aNewQuotaKeepsWhatWasUsed() {
        var meter = TenantMeter(TenantQuota(tokensPerMinute: 600), now: .zero)
        #expect(meter.request(tokens: 500, now: .zero) == .admitted)
        meter.update(TenantQuota(tokensPerMinute: 1_000), now: .zero)
        #expect(meter.tokenReading(now: .zero)?.remaining == 500)
        meter.update(TenantQuota(tokensPerMinute: 100), now: .zero)
        #expect(meter.tokenReading(now: .zero)?.remaining == 0)
        meter.update(TenantQuota(), now: .zero)
        #expect(meter.request(tokens: 1 << 40, now: .zero) == .admitted)
    }

    @Test func answersAreGuessedByThoseBefore() {
        var meter = TenantMeter(TenantQuota(), now: .zero)
        #expect(meter.expectedAnswerTokens == TenantMeter.firstAnswerTokens)
        for _ in 0..<400 {
            #expect(meter.request(tokens: 0, now: .zero) == .admitted)
            meter.ended(charged: 0, cost: 9, answer: 8, now: .zero)
        }
        #expect((8...9).contains(meter.expectedAnswerTokens))
    }

    /// Whatever is asked for and however wrong the estimates: over time no more than the quota and
    /// one bucket is used, and who stays below it is never refused.
    @Test(arguments: 1...20) func holdsOverTime(seed: UInt64) {
        var random = RandomSource(seed: seed)
        let quota = TenantQuota(requestsPerSecond: 10, tokensPerMinute: 6_000)
        var meter = TenantMeter(quota, now: .zero)
        var now = Instant.zero
        var (requests, tokens) = (0, 0)
        for _ in 0..<20_000 {
            now = now + .milliseconds(Int64(random.next() % 60))
            let estimate = Int(random.next() % 200)
            guard meter.request(tokens: estimate, now: now) == .admitted else { continue }
            let cost = Int(random.next() % 200)
            meter.ended(charged: estimate, cost: cost, answer: nil, now: now)
            requests += 1
            tokens += cost
        }
        let seconds = Double(now.nanoseconds) / 1e9
        #expect(Double(requests) <= 10 * seconds + 10 + 1e-6, "seed \(seed)")
        // One that was admitted with too low an estimate may go beyond by what it cost.
        #expect(Double(tokens) <= 100 * seconds + 6_000 + 200, "seed \(seed)")
        #expect(Double(tokens) >= 90 * seconds, "seed \(seed): \(tokens) in \(seconds) s")
    }
}

@Suite struct TenantKeysTests {
    private func digest(_ first: UInt64, _ last: UInt8 = 0) throws -> KeyDigest {
        let digits = String(first, radix: 16)
        let start = String(repeating: "0", count: 16 - digits.count) + digits
        let end = String(last, radix: 16)
        let text =
            start + String(repeating: "0", count: 46) + (end.count == 1 ? "0" + end : end)
        return try #require(KeyDigest(hexadecimal: text))
    }

    @Test func digestsAreReadFromTextAndBytes() throws {
        let bytes = (0..<32).map { UInt8($0 * 7) }
        let text = bytes.map { byte in
            let digits = String(byte, radix: 16)
            return digits.count == 1 ? "0" + digits : digits
        }.joined()
        let fromBytes = KeyDigest(bytes.span.bytes)
        #expect(fromBytes != nil && fromBytes == KeyDigest(hexadecimal: text))
        #expect(fromBytes == KeyDigest(hexadecimal: text.uppercased()))
        for wrong in ["", "0", String(text.dropLast()), text + "0", "g" + text.dropFirst()] {
            #expect(KeyDigest(hexadecimal: wrong) == nil)
        }
        let short = KeyDigest(bytes.span.bytes.extracting(0..<31))
        #expect(short == nil)
    }

    @Test func everyBitCounts() {
        let bytes = [UInt8](repeating: 0x5A, count: 32)
        let digest = KeyDigest(bytes.span.bytes)
        for bit in 0..<256 {
            var other = bytes
            other[bit / 8] ^= 1 << UInt8(bit % 8)
            let found = KeyDigest(other.span.bytes)
            #expect(found != nil && found != digest)
        }
    }

    @Test func findsTheTenantOfAKey() throws {
        var keys = TenantKeys()
        let first = try self.digest(1)
        #expect(keys.isEmpty && keys.tenant(of: first) == nil)
        #expect(keys.add(try self.digest(1), tenant: 4))
        #expect(keys.add(try self.digest(2), tenant: 4))
        #expect(keys.add(try self.digest(2), tenant: 4), "twice the same is once")
        #expect(!keys.add(try self.digest(2), tenant: 5), "a key has one tenant")
        // Alike in what they are looked for by.
        #expect(keys.add(try self.digest(1, 9), tenant: 6))
        #expect(keys.tenant(of: try self.digest(1)) == 4)
        #expect(keys.tenant(of: try self.digest(1, 9)) == 6)
        #expect(keys.tenant(of: try self.digest(1, 8)) == nil)
        #expect(keys.tenant(of: try self.digest(3)) == nil)
    }

    @Test(arguments: [
        ("Bearer abc", "abc"), ("bearer abc", "abc"), ("BEARER   abc", "abc"), ("Bearer", nil),
        ("Bearer ", nil), ("Bearerabc", nil), ("Basic abc", nil), ("", nil), ("Bearer a b", nil),
        ("Bearer \u{E9}", nil), ("Bearer " + String(repeating: "x", count: 512), "x"),
        ("Bearer " + String(repeating: "x", count: 513), nil),
    ])
    func bearerKeysAreFound(value: String, key: String?) {
        let bytes = Array(value.utf8)
        let range = PresentedKey.bearer(bytes.span.bytes)
        #expect((range != nil) == (key != nil), "\(value)")
        guard let range, let key else { return }
        #expect(String(decoding: bytes[range], as: UTF8.self).hasPrefix(key))
    }
}
