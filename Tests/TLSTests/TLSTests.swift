import Core
import Testing

@testable import TLS

@Suite struct ServerNamesTests {
    private let names = ServerNames([
        ["default.example"],
        ["*.example.com", "example.com"],
        ["api.example.com", "*.api.example.com"],
        ["example.com", "*.example.com"],
    ])

    @Test(arguments: [
        ("api.example.com", 2),
        ("API.Example.COM", 2),
        ("api.example.com.", 2),
        ("www.example.com", 1),
        ("v1.api.example.com", 2),
        ("example.com", 1),
        // A wildcard stands for one label, neither for two nor for none.
        ("a.b.example.com", 0),
        ("a.v1.api.example.com", 0),
        (".example.com", 0),
        ("com", 0),
        ("", 0),
        (".", 0),
        ("*.example.com", 1),
        ("unknown.example", 0),
    ])
    func exactComesBeforeWildcardBeforeDefault(name: String, index: Int) {
        #expect(self.names.certificate(for: name) == index)
    }

    @Test func certificatesWithoutNamesAreDefaultsAlone() {
        #expect(ServerNames([[], ["a.example"]]).certificate(for: "a.example") == 1)
        #expect(ServerNames([[]]).certificate(for: "a.example") == 0)
    }
}

@Suite struct TicketKeyTests {
    private func key(_ number: UInt8) -> TicketKey {
        var random = [UInt8](repeating: number, count: TicketKey.bytes)
        defer { #expect(random.isEmpty) }
        return TicketKey(random: &random)
    }

    private static func name(_ number: UInt8) -> [UInt8] {
        [UInt8](repeating: number, count: TicketKey.nameBytes)
    }

    @Test func partsAreThoseOfTheRandomBytes() {
        var random = (0..<UInt8(TicketKey.bytes)).map { $0 }
        let key = TicketKey(random: &random)
        key.withParts { parts in
            #expect(Array(parts.name) == Array(0..<16))
            #expect(Array(parts.cipher) == Array(16..<48))
            #expect(Array(parts.mac) == Array(48..<80))
        }
        #expect("\(key)" == "a ticket key" && Mirror(reflecting: key).children.isEmpty)
    }

    @Test func wipesWhereItLies() {
        var bytes = [UInt8](repeating: 7, count: 100)
        bytes.reserveCapacity(200)
        Secrets.wipe(&bytes)
        #expect(bytes.isEmpty)
    }

    @Test func newestKeyMakesTicketsAndOlderOnesAreRead() {
        var ring = TicketKeyRing(first: self.key(0))
        #expect(ring.key(named: Self.name(0))?.isOld == false)
        ring.rotate(to: self.key(1))
        #expect(ring.newest.isNamed(Self.name(1)))
        #expect(ring.key(named: Self.name(0))?.isOld == true)
        #expect(ring.key(named: Self.name(1))?.isOld == false)
        #expect(ring.key(named: Self.name(9)) == nil)
    }

    @Test func oldKeysAreForgotten() {
        var ring = TicketKeyRing(first: self.key(0))
        for number in 1...UInt8(TicketKeyRing.keptMax) { ring.rotate(to: self.key(number)) }
        #expect(ring.keys.count == TicketKeyRing.keptMax)
        #expect(ring.key(named: Self.name(0)) == nil)
        #expect(ring.key(named: Self.name(1))?.isOld == true)
    }

    @Test func threadsShareOneRing() {
        var number: UInt8 = 0
        let random = { (count: Int) -> [UInt8] in
            number += 1
            return [UInt8](repeating: number, count: count)
        }
        let keys = TicketKeys(random: random)
        let first = keys.newest
        keys.rotate(random: random)
        #expect(keys.newest !== first)
        Self.name(1).withUnsafeBytes { #expect(keys.key(named: $0)?.key === first) }
    }
}

@Suite struct CertificateRenewalTests {
    private typealias Validity = CertificateRenewal.Validity
    private static let day: Int64 = 86_400
    private let good = Validity(notBefore: 0, notAfter: 100 * day)
    private let expired = Validity(notBefore: 0, notAfter: 8 * day)
    private let early = Validity(notBefore: 12 * day, notAfter: 100 * day)
    private let now = 10 * day

    private func decide(_ current: Validity?, _ new: Validity) -> CertificateRenewal {
        CertificateRenewal.decide(current: current, new: new, now: self.now)
    }

    @Test func aGoodOneIsTaken() {
        #expect(self.decide(nil, self.good) == .take)
        #expect(self.decide(self.good, self.good) == .take)
        #expect(self.decide(self.expired, self.good) == .take)
    }

    @Test func aGoodOneIsNotGivenUpForABadOne() {
        #expect(self.decide(self.good, self.expired) == .keep("it expired 2 days ago"))
        #expect(
            self.decide(self.good, self.early) == .keep("it is not valid before 2 days from now")
        )
    }

    @Test func aBadOneIsBetterThanNone() {
        #expect(self.decide(nil, self.expired) == .takeWithWarning("it expired 2 days ago"))
        #expect(
            self.decide(self.expired, self.early)
                == .takeWithWarning("it is not valid before 2 days from now")
        )
    }

    @Test func theEndsOfItsTimeBelongToIt() {
        #expect(Validity(notBefore: 5, notAfter: 7).problem(at: 5) == nil)
        #expect(Validity(notBefore: 5, notAfter: 7).problem(at: 7) == nil)
        #expect(Validity(notBefore: 5, notAfter: 7).problem(at: 8) != nil)
        #expect(Validity(notBefore: 5, notAfter: 7).problem(at: 4) != nil)
    }
}

@Suite struct IdentityTests {
    private func problem(_ certificate: String, _ key: String) -> String? {
        do throws(TLSError) {
            _ = try Identity(certificate: Array(certificate.utf8), key: Array(key.utf8))
            return nil
        } catch {
            return error.description
        }
    }

    private let broken = """
        -----BEGIN CERTIFICATE-----
        bm8gY2VydGlmaWNhdGU=
        -----END CERTIFICATE-----

        """

    @Test func whatIsNoCertificateIsSaid() {
        #expect(self.problem("", "") == "there is no certificate in PEM in it")
        #expect(self.problem("some text", "") == "there is no certificate in PEM in it")
        let problem = self.problem(self.broken, "")
        #expect(problem?.hasPrefix("a certificate in it cannot be read: ") == true)
        #expect(throws: TLSError.self) { try Authorities(Array(self.broken.utf8)) }
        #expect(throws: TLSError.self) { try Authorities([]) }
    }

    @Test func aClientNeedsNothing() throws {
        _ = try ClientContext(ClientContext.Options())
        var options = ClientContext.Options()
        options.trust = .anybody
        _ = try ClientContext(options)
    }

    @Test func randomBytesDiffer() {
        #expect(SecureRandom.bytes(32) != SecureRandom.bytes(32))
        #expect(SecureRandom.bytes(0).isEmpty)
    }
}

@Suite struct ProtocolTests {
    private func choose(_ offered: [UInt8], _ ours: [String]) -> String? {
        offered.withUnsafeBufferPointer { bytes in
            ServerContext.choose(among: bytes, ours).map {
                String(decoding: bytes[$0], as: UTF8.self)
            }
        }
    }

    private static let http1: [UInt8] = [8] + Array("http/1.1".utf8)
    private static let http2: [UInt8] = [2] + Array("h2".utf8)

    @Test func ourPreferenceDecides() {
        let both = Self.http1 + Self.http2
        #expect(self.choose(both, ["h2", "http/1.1"]) == "h2")
        #expect(self.choose(both, ["http/1.1"]) == "http/1.1")
        #expect(self.choose(Self.http2, ["http/1.1"]) == nil)
        #expect(self.choose([], ["http/1.1"]) == nil)
    }

    @Test func brokenListsChooseNothing() {
        for end in 1..<Self.http1.count {
            #expect(self.choose(Array(Self.http1[..<end]), ["http/1.1"]) == nil)
        }
        #expect(self.choose([0, 0, 0], ["http/1.1"]) == nil)
        #expect(self.choose([255] + Array("http/1.1".utf8), ["http/1.1"]) == nil)
        // A name within a name is none.
        #expect(self.choose([10] + Array("xxhttp/1.1".utf8), ["http/1.1"]) == nil)
    }
}
