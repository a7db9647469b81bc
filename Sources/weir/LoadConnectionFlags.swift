import ArgumentParser
import LoadTest
import TLS

/// How `weir load` connects, and whom it believes.
struct ConnectionFlags: ParsableArguments {
    @Option(
        help: "https: trust these authorities (PEM) in place of the system's. Repeatable."
    )
    var ca: [String] = []
    @Option(help: "https: show this certificate, with its chain (PEM), to servers that ask.")
    var cert: String?
    @Option(help: "Its private key (PEM); without it the key is looked for in --cert.")
    var key: String?
    @Flag(name: [.long, .customShort("k")], help: "https: check no certificate.")
    var insecure = false
    @Flag(
        help: """
            https: resume the session of an earlier connection, as one client would. Without it \
            every connection makes a full handshake, as new clients do.
            """
    )
    var sessionTickets = false
    @Option(
        help: """
            Connect elsewhere than the URL says: \(Detour.grammar), as curl has it; empty ones \
            mean any or unchanged. Repeatable.
            """
    )
    var connectTo: [String] = []
    @Flag(help: "Send each request on a connection of its own.") var noKeepAlive = false

    func apply(to plan: inout LoadPlan) throws {
        plan.keepsConnections = !self.noKeepAlive
        plan.resumesSessions = self.sessionTickets
        for text in self.connectTo {
            guard let detour = Detour(text) else {
                throw ValidationError("--connect-to must be \(Detour.grammar), not \(text)")
            }
            plan.detours.append(detour)
        }
        try self.checkUse(plan)
        if !self.ca.isEmpty {
            var bytes: [UInt8] = []
            for path in self.ca {
                let read = try LoadFile.read(path)
                _ = try Self.naming("--ca \(path)") { () throws(TLSError) in try Authorities(read) }
                bytes += read + [UInt8(ascii: "\n")]
            }
            plan.security.trust = .authorities(
                try Self.naming("--ca") { () throws(TLSError) in try Authorities(bytes) }
            )
        }
        if self.insecure { plan.security.trust = .anybody }
        guard let cert = self.cert else { return }
        let certificate = try LoadFile.read(cert)
        let key = try self.key.map { try LoadFile.read($0) } ?? certificate
        let what = "--cert \(cert)" + (self.key.map { ", --key \($0)" } ?? "")
        plan.security.identity = try Self.naming(what) { () throws(TLSError) in
            try Identity(certificate: certificate, key: key)
        }
    }

    private func checkUse(_ plan: LoadPlan) throws {
        if self.insecure, !self.ca.isEmpty {
            throw ValidationError("--insecure checks nothing: leave out --ca")
        }
        if self.key != nil, self.cert == nil {
            throw ValidationError("--key needs the certificate that it is for: --cert")
        }
        let given = [
            ("--ca", !self.ca.isEmpty), ("--cert", self.cert != nil),
            ("--insecure", self.insecure), ("--session-tickets", self.sessionTickets),
        ]
        guard let (name, _) = given.first(where: \.1) else { return }
        if !plan.targets.contains(where: \.isSecure) {
            throw ValidationError("\(name) is for https:// URLs, and there is none")
        }
    }

    private static func naming<Value>(
        _ what: String,
        _ read: () throws(TLSError) -> Value
    ) throws(LoadError) -> Value {
        do throws(TLSError) {
            return try read()
        } catch {
            throw LoadError("\(what): \(error)")
        }
    }
}
