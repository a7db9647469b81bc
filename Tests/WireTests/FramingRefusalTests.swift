import Proxy
import TestSupport
import Testing

/// Requests that could be read in two ways are refused, and nothing of them is forwarded.
@Suite struct FramingRefusalTests {
    /// Those of the framing table whose first fault stands in the head or where no part of the body
    /// can have been forwarded before it. HTTP/2's preface is refused by who speaks HTTP/1 alone.
    static let refused: [FramingCase] = FramingCase.all.filter { framing in
        guard case .refused = framing.end else { return false }
        return !framing.isLimit && framing.name != "HTTP/2 preface"
    }

    @Test func theTableHasCasesEnough() {
        #expect(Self.refused.count >= 100)
    }

    /// All the table's cases on one gateway, each on its own connection. The replica answers each
    /// request it is sent and counts those that were whole.
    @Test(arguments: [1, 2])
    func refusesEveryAmbiguousRequestAndCloses(pieces: Int) throws {
        try Wire.run { wire in
            let upstream = try wire.upstream()
            let complete = Counter()
            upstream.serve { _, socket in
                complete.add()
                try socket.respond()
            }
            wire.publish([self.catchAll(wire, upstream)])
            for framing in Self.refused {
                let before = complete.value
                let whole = framing.requests.count
                let status = try self.lastStatus(of: framing, pieces: pieces, wire)
                guard case .refused(let expected, _) = framing.end else { continue }
                #expect(status == Int(expected), "\(framing.name)")
                #expect(complete.value - before <= whole, "\(framing.name) reached the replica")
            }
        }
    }

    /// The status of the last answer before the gateway ends the connection.
    private func lastStatus(
        of framing: FramingCase,
        pieces: Int,
        _ wire: Wire
    ) throws -> Int? {
        let client = try wire.client()
        defer { client.close() }
        let half = pieces == 1 ? framing.bytes.count : (framing.proofCount ?? 2) / 2
        try client.send(Array(framing.bytes[..<half]))
        // It may have been refused already.
        do { try client.send(Array(framing.bytes[half...])) } catch WireError.reset {}
        client.finish()
        var status: Int?
        while let response = try? client.readResponse(to: framing.name == "HEAD" ? "HEAD" : "GET") {
            status = response.status
        }
        return status
    }

    /// A model that takes whatever has a good head.
    private func catchAll(_ wire: Wire, _ upstream: ScriptedUpstream) -> Wire.Model {
        var model = Wire.Model(variants: [.init(endpoints: [wire.endpoint(upstream)])])
        model.settings.kind = .http
        model.prefix = "/"
        return model
    }

    /// The ways to smuggle that need both framings to be seen by somebody.
    @Test(arguments: [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n", "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 5\r\n", "Content-Length: +5\r\n", "Content-Length: 0x5\r\n",
        "Content-Length: 5 5\r\n", "Content-Length:\r\n", "Content-Length: -1\r\n",
        "Content-Length: 99999999999999999999\r\n", "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: gzip, chunked\r\n", "Transfer-Encoding: chunked, gzip\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: xchunked\r\n", "Transfer-Encoding:\r\n",
        "Transfer-Encoding: \"chunked\"\r\n", "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding\t: chunked\r\n", " Transfer-Encoding: chunked\r\n",
        "X: a\r\n Content-Length: 5\r\n", "X: a\rContent-Length: 5\r\n", "X: a\nb: c\r\n",
        "X: a\0b\r\n", "X\0: a\r\n", "X(: a\r\n", "Host: other\r\n", ": a\r\n", "no colon\r\n",
    ])
    func refusesAmbiguousFields(_ fields: String) throws {
        try Wire.one { wire, upstream in
            let client = try wire.client()
            try client.send(
                "POST /v2/models/m/infer HTTP/1.1\r\nHost: h\r\n\(fields)\r\n0\r\n\r\n"
                    + Ask.infer("m", "smuggled")
            )
            let response = try client.readResponse()
            #expect(response.status == 400 || response.status == 501)
            #expect(response["connection"] == "close")
            #expect(try client.waitForEnd() == .fin)
            // The first that the replica sees is this one.
            let next = try wire.client()
            try next.send(Ask.infer("m", "good"))
            let server = try upstream.accept()
            #expect(try server.readRequest().text == "good")
            try server.respond()
            #expect(try next.readResponse().status == 200)
        }
    }

    @Test(arguments: [
        "-1\r\n", "+5\r\nhello\r\n", "0x5\r\nhello\r\n", " 5\r\nhello\r\n", "5 \r\nhello\r\n",
        "\r\n", "g\r\n", "10000000000000000\r\n", "5\nhello\r\n", "5\r\nhelloX\r\n",
        "5\r\nhello\n", "5;a\nb\r\nhello\r\n", "0\r\nX : y\r\n\r\n", "0\r\nX: y\n\r\n",
        "0\r\n y\r\n\r\n",
    ])
    func refusesAmbiguousChunksAndCutsTheUpstream(_ chunks: String) throws {
        try Wire.one { wire, upstream in
            let client = try wire.client()
            try client.send(
                "POST /v2/models/m/infer HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            let server = try upstream.accept()
            _ = try server.readHead()
            try client.send(chunks)
            #expect(try client.readResponse().status == 400)
            #expect(try client.waitForEnd() == .fin)
            // The replica never sees the end of that request.
            #expect(try server.waitForEnd() == .reset)
            #expect(!String(decoding: server.received, as: UTF8.self).contains("0\r\n\r\n"))
        }
    }

    /// A request cut anywhere is not answered by anything but an error, nor forwarded as whole.
    @Test func forwardsNoTruncatedRequest() throws {
        try Wire.run { wire in
            let upstream = try wire.upstream()
            let complete = Counter()
            upstream.serve { _, socket in
                complete.add()
                try socket.respond()
            }
            wire.publish([.init(variants: [.init(endpoints: [wire.endpoint(upstream)])])])
            let request = Array(
                ("POST /v2/models/m/infer HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
                    + "3\r\nabc\r\n0\r\nT: v\r\n\r\n").utf8
            )
            for count in 1..<request.count {
                let client = try RawSocket.connect(port: wire.port)
                try client.send(Array(request[..<count]))
                client.finish()
                try client.waitForEnd()
            }
            #expect(complete.value == 0)
            #expect(try wire.fetch(String(decoding: request, as: UTF8.self)).status == 200)
            #expect(complete.value == 1)
        }
    }

    @Test func garbageIsRefusedAndTheNextConnectionServed() throws {
        try Wire.one { wire, upstream in
            for seed in 0..<50 {
                let client = try wire.client()
                let bytes = (0..<512).map { UInt8(truncatingIfNeeded: ($0 &* 167) ^ (seed &* 31)) }
                do { try client.send(bytes) } catch WireError.reset {}
                client.finish()
                try client.waitForEnd()
            }
            #expect(!upstream.hasWaiting)
            #expect(try wire.fetch("GET /v2 HTTP/1.1\r\nHost: h\r\n\r\n").status == 200)
        }
    }
}
