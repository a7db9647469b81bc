import Core
import Curl
import EventLoop
import Foundation
import LoopTestSupport
import Testing

@Suite struct CurlTLSTests {
    private func certificates() throws -> Certificates { try Certificates.shared.get() }

    @Test(arguments: [true, false])
    func trustsTheAuthorityGiven(asData: Bool) throws {
        let certificates = try self.certificates()
        let peer = try TLSPeer(certificates)
        let peers = try Peers()
        var request = peer.request("/x")
        request.tls.authorities =
            asData
            ? .data(try certificates.scratch.bytes("ca.pem")) : .file(certificates.path("ca.pem"))
        #expect(try peers.fetch(request).get().text == "-|/x|-|127.0.0.1:\(peer.port)")
    }

    struct Refusal: Sendable {
        var words: [String]
        var certificate = "server"
        var authorities: String? = "ca"
        var serverName: String?
    }

    static let refusals = [
        Refusal(
            words: ["self-signed certificate", "unable to get local issuer"],
            authorities: nil
        ),
        Refusal(words: ["certificate"], authorities: "stranger"),
        Refusal(words: ["127.0.0.1"], certificate: "other"),
        Refusal(words: ["wrong.test"], serverName: "wrong.test"),
        Refusal(words: ["expired"], certificate: "expired"),
    ]

    @Test(arguments: refusals.indices)
    func refusesCertificatesThatDoNotHold(index: Int) throws {
        let refusal = Self.refusals[index]
        let certificates = try self.certificates()
        let peer = try TLSPeer(certificates, certificate: refusal.certificate)
        let peers = try Peers()
        var request = peer.request()
        request.tls.authorities = refusal.authorities.map {
            .file(certificates.path("\($0).pem"))
        }
        request.tls.serverName = refusal.serverName
        let failure = try #require(try peers.failure(request))
        guard case .certificateRefused(let why) = failure else {
            Issue.record("\(failure)")
            return
        }
        #expect(refusal.words.contains { why.contains($0) }, "\(why)")
        #expect(failure.isBeforeSending)
        // Only where that was asked for, anything goes.
        request.tls.acceptsAnyCertificate = true
        #expect(try peers.fetch(request).get().status == 200)
    }

    /// A connection that was made without a check must not be used where one is asked for.
    @Test func doesNotShareConnectionsBetweenDegreesOfTrust() throws {
        let certificates = try self.certificates()
        let peer = try TLSPeer(certificates)
        let peers = try Peers()
        var request = peer.request()
        request.tls.acceptsAnyCertificate = true
        #expect(try peers.fetch(request).get().status == 200)
        request.tls.acceptsAnyCertificate = false
        guard case .certificateRefused = try peers.failure(request) else {
            Issue.record("used a connection that was not checked")
            return
        }
    }

    @Test func asksForTheServerNameGiven() throws {
        let certificates = try self.certificates()
        let peer = try TLSPeer(certificates)
        let peers = try Peers()
        var request = peer.request("/x?y")
        request.tls.authorities = .file(certificates.path("ca.pem"))
        request.tls.serverName = "server.test"
        let text = try peers.fetch(request).get().text
        #expect(text == "-|/x?y|server.test|127.0.0.1:\(peer.port)")
    }

    @Test(arguments: [true, false])
    func showsItsCertificate(asData: Bool) throws {
        let certificates = try self.certificates()
        let peer = try TLSPeer(certificates, clientAuthority: "ca")
        let peers = try Peers()
        var request = peer.request()
        request.tls.authorities = .file(certificates.path("ca.pem"))
        func material(_ name: String) throws -> CurlMaterial {
            asData ? .data(try certificates.scratch.bytes(name)) : .file(certificates.path(name))
        }
        request.tls.certificate = try material("client.pem")
        request.tls.key = try material("client.key")
        #expect(try peers.fetch(request).get().text.hasPrefix("client|/|"))
    }

    /// With TLS 1.3 a server's refusal arrives after the handshake, with whatever is read first.
    @Test(arguments: [nil, "strange-client"])
    func saysThatItsCertificateWasRefused(name: String?) throws {
        let certificates = try self.certificates()
        let peer = try TLSPeer(certificates, clientAuthority: "ca")
        let peers = try Peers()
        var request = peer.request()
        request.tls.authorities = .file(certificates.path("ca.pem"))
        request.tls.certificate = name.map { .file(certificates.path("\($0).pem")) }
        request.tls.key = name.map { .file(certificates.path("\($0).key")) }
        switch try peers.failure(request) {
        case .tlsFailed, .connectionLost: break
        case let other: Issue.record("\(String(describing: other))")
        }
    }

    @Test func saysWhatIsWrongWithItsOwnFiles() throws {
        let certificates = try self.certificates()
        let peer = try TLSPeer(certificates)
        let peers = try Peers()
        let good = CurlMaterial.file(certificates.path("client.pem"))
        let key = CurlMaterial.file(certificates.path("client.key"))
        let garbage = CurlMaterial.data(Array("no certificate".utf8))
        let cases: [(CurlMaterial?, CurlMaterial?, CurlMaterial?)] = [
            (.file(certificates.path("absent.pem")), nil, nil), (garbage, nil, nil),
            (nil, .file(certificates.path("absent.pem")), key),
            (nil, good, .file(certificates.path("absent.key"))), (nil, garbage, key),
            (nil, good, garbage), (nil, good, .file(certificates.path("server.key"))),
        ]
        for (authorities, certificate, key) in cases {
            var request = peer.request()
            request.tls.authorities = authorities
            request.tls.certificate = certificate
            request.tls.key = key
            request.tls.acceptsAnyCertificate = authorities == nil
            guard case .badMaterial = try peers.failure(request) else {
                Issue.record("\(request.tls)")
                continue
            }
        }
    }

    @Test func refusesOldVersions() throws {
        let certificates = try self.certificates()
        let peer = try TLSPeer(certificates, maximumVersion: "TLSv1_1")
        let peers = try Peers()
        var request = peer.request()
        request.tls.acceptsAnyCertificate = true
        guard case .tlsFailed = try peers.failure(request) else {
            Issue.record("spoke TLS 1.1")
            return
        }
    }

    @Test func saysThatAServerSpeaksNoTLS() throws {
        let peers = try Peers()
        let url = peers.request().url.replacingOccurrences(of: "http:", with: "https:")
        guard case .tlsFailed = try peers.failure(CurlRequest(url)) else {
            Issue.record("TLS with a plain server")
            return
        }
    }

    /// Requests that could share a connection wait for the handshake, not for the answer.
    @Test func aHangingAnswerHoldsNobodyUp() throws {
        let certificates = try self.certificates()
        let peer = try TLSPeer(certificates)
        let peers = try Peers()
        let hanging = Recorder()
        var request = peer.request("/hang")
        request.tls.acceptsAnyCertificate = true
        let transfer = peers.client.stream(request, hanging.stream)
        request.url = peer.request("/next").url
        for _ in 0..<3 { #expect(try peers.fetch(request).get().status == 200) }
        #expect(!hanging.hasEnded)
        transfer.cancel()
        try peers.harness.run(until: "the end") { hanging.hasEnded }
    }
}
