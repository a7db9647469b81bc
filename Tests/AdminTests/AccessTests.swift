import Control
import EventLoop
import Foundation
import Glibc
import HTTP
import HTTPService
import Testing

@testable import Admin

/// A file with a token, gone at the end.
private final class TemporaryFile {
    let path: String

    init(_ text: String) throws {
        let folder = FileManager.default.temporaryDirectory
        var template = Array(folder.appending(path: "weir-token-XXXXXX").path.utf8CString)
        let descriptor = mkstemp(&template)
        guard descriptor >= 0 else { throw SystemError("mkstemp", code: errno) }
        self.path = String(decoding: template.prefix { $0 != 0 }.map(UInt8.init), as: UTF8.self)
        close(descriptor)
        try self.replace(with: text)
    }

    deinit { unlink(self.path) }

    func replace(with text: String) throws {
        let descriptor = open(self.path, O_WRONLY | O_TRUNC | O_CLOEXEC)
        defer { close(descriptor) }
        let bytes = Array(text.utf8)
        guard write(descriptor, bytes, bytes.count) == bytes.count else {
            throw SystemError("write", code: errno)
        }
    }
}

@Suite struct AccessTests {
    private static let anywhere = "0.0.0.0:0"

    @Test(arguments: [
        ("127.0.0.1", true), ("127.0.0.1:9901", true), ("127.8.8.8", true), ("localhost", true),
        ("LocalHost:1", true), ("[::1]", true), ("[::1]:80", true), ("evil.example", false),
        ("localhost.evil.example", false), ("127.0.0.1.evil.example:80", false), ("", false),
        ("10.0.0.1", false), ("[::2]:80", false), ("127.0.0.1:port", false),
    ])
    func hostsOfThisMachine(authority: String, isLocal: Bool) {
        #expect(AdminAccess.isLocal(authority: authority) == isLocal)
    }

    @Test func namesMadeToResolveHereAreRefused() throws {
        let fixture = try AdminFixture(models: Documents.river)
        let answer = try fixture.raw(
            "GET /api/v1/models HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
        )
        #expect(answer.hasPrefix("HTTP/1.1 403 "))
        #expect(!answer.contains("river"))
    }

    @Test(arguments: [
        ("Origin", "http://evil.example"), ("Origin", "null"), ("Origin", "https://127.0.0.1"),
        ("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Site", "same-site"),
    ])
    func pagesOfOtherSitesMayNotWrite(name: String, value: String) throws {
        let fixture = try AdminFixture(models: Documents.river)
        fixture.reloads = [.applied]
        let answer = try fixture.fetch(.post, "/api/v1/reload", fields: [(name, value)])
        #expect(answer.status == 403)
        #expect(fixture.reloads.count == 1, "nothing was reloaded")
    }

    @Test func theDashboardsOwnPageMayWrite() throws {
        let fixture = try AdminFixture(models: Documents.river)
        let answer = try fixture.fetch(
            .post,
            "/api/v1/reload",
            fields: [
                ("Origin", "http://\(fixture.admin.address)"), ("Sec-Fetch-Site", "same-origin"),
            ]
        )
        #expect(answer.status == 200)
    }

    @Test(arguments: ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""])
    func formsAreNoJSON(type: String) throws {
        let fixture = try AdminFixture(models: Documents.river)
        let answer = try fixture.fetch(
            .post,
            "/api/v1/reload",
            body: "{}",
            fields: [("Content-Type", type)]
        )
        #expect(answer.status == 415)
    }

    @Test(arguments: ["application/json", "Application/JSON; charset=utf-8", "application/json ;"])
    func contentIsJSON(type: String) throws {
        let fixture = try AdminFixture(models: Documents.river)
        let answer = try fixture.fetch(
            .post,
            "/api/v1/reload",
            body: "{}",
            fields: [("Content-Type", type)]
        )
        #expect(answer.status == 200)
    }

    @Test(
        arguments: [
            (nil, 401), ("Bearer wrong", 401), ("Bearer secre", 401), ("Bearer secrett", 401),
            ("Bearer secretsecret", 401), ("Basic secret", 401), ("Bearer", 401), ("secret", 401),
            ("Bearer secret", 200), ("bearer  secret", 200),
        ] as [(String?, UInt16)]
    )
    func writesElsewhereNeedTheToken(authorization: String?, status: UInt16) throws {
        let file = try TemporaryFile("  secret\n")
        let fixture = try AdminFixture(
            models: Documents.river,
            admin: Self.anywhere,
            tokenFile: file.path
        )
        let fields = authorization.map { [("Authorization", $0)] } ?? []
        let answer = try fixture.fetch(.post, "/api/v1/reload", fields: fields)
        #expect(answer.status == status)
        #expect((answer.field("www-authenticate") != nil) == (status == 401))
    }

    /// Every route that writes, also those that only a cluster has.
    @Test(
        arguments: [
            (.post, "reload"), (.put, "drain"), (.put, "tenants"),
            (.put, "deployments/river/replicas"), (.put, "models/river/live"),
            (.post, "rollouts/river/pause"), (.post, "rollouts/river/abort"),
        ] as [(HTTPMethod, String)]
    )
    func noWriteElsewhereGoesWithoutTheToken(method: HTTPMethod, path: String) throws {
        let file = try TemporaryFile("secret")
        let fixture = try AdminFixture(
            models: Documents.river,
            admin: Self.anywhere,
            tokenFile: file.path
        )
        for given in [nil, "Bearer wrong"] {
            let fields = given.map { [("Authorization", $0)] } ?? []
            let answer = try fixture.fetch(method, "/api/v1/" + path, body: "{}", fields: fields)
            #expect(answer.status == 401)
        }
    }

    @Test func readingElsewhereIsOpenButForOutput() throws {
        let file = try TemporaryFile("secret")
        let fixture = try AdminFixture(
            models: Documents.river,
            admin: Self.anywhere,
            tokenFile: file.path
        )
        #expect(try fixture.get("/api/v1/models").status == 200)
        #expect(try fixture.get("/api/v1/replicas/river.v1-0/output").status == 401)
    }

    @Test func withoutATokenNobodyWritesFromElsewhere() throws {
        let fixture = try AdminFixture(models: Documents.river, admin: Self.anywhere)
        let answer = try fixture.fetch(
            .post,
            "/api/v1/reload",
            fields: [("Authorization", "Bearer ")]
        )
        #expect(answer.status == 403)
    }

    @Test func aNewTokenTakesEffectAtOnce() throws {
        let file = try TemporaryFile("old")
        let fixture = try AdminFixture(
            models: Documents.river,
            admin: Self.anywhere,
            tokenFile: file.path
        )
        try file.replace(with: "new")
        func status(_ token: String) throws -> UInt16 {
            try fixture.fetch(
                .post,
                "/api/v1/reload",
                fields: [("Authorization", "Bearer \(token)")]
            ).status
        }
        #expect(try status("old") == 401)
        #expect(try status("new") == 200)
        try file.replace(with: "\n")
        #expect(try status("new") == 503, "an emptied file lets nobody in")
        #expect(try status("") == 503 || status("") == 401)
    }

    @Test(arguments: ["", " \n", String(repeating: "x", count: AdminLimits.tokenBytesMax + 1)])
    func uselessTokensAreRefusedAtTheStart(text: String) throws {
        let file = try TemporaryFile(text)
        #expect(throws: SystemError.self) {
            try AdminFixture(models: Documents.river, admin: Self.anywhere, tokenFile: file.path)
        }
    }

    @Test(arguments: ["/nonexistent/token", "/tmp", "/dev/zero"])
    func whatIsNoFileIsRefusedAtTheStart(path: String) {
        #expect(throws: SystemError.self) {
            try AdminFixture(models: Documents.river, admin: Self.anywhere, tokenFile: path)
        }
    }
}
