import Testing

/// After `101` the connection is the two ends' own.
@Suite struct TunnelTests {
    private static let upgrade =
        "GET /a HTTP/1.1\r\nHost: h\r\nX-Weir-Model: m\r\nConnection: Upgrade\r\n"
        + "Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

    /// Both ends of an open tunnel.
    private func open(
        _ wire: Wire,
        _ upstream: ScriptedUpstream,
        early: String = "",
        greeting: String = ""
    ) throws -> (client: RawSocket, server: RawSocket) {
        let client = try wire.client()
        try client.send(Self.upgrade + "\r\n" + early)
        let server = try upstream.accept()
        let request = try server.readHead()
        #expect(request["connection"]?.lowercased() == "upgrade")
        #expect(request["upgrade"] == "websocket")
        #expect(request["sec-websocket-key"] == "dGhlIHNhbXBsZSBub25jZQ==")
        try server.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
                + "Sec-WebSocket-Accept: x\r\n\r\n" + greeting
        )
        let response = try client.readResponse(interim: true)
        #expect(response.status == 101)
        #expect(response["upgrade"] == "websocket")
        #expect(response["connection"]?.lowercased() == "upgrade")
        #expect(response["sec-websocket-accept"] == "x")
        return (client, server)
    }

    @Test func passesBytesBothWays() throws {
        try Wire.one { wire, upstream in
            let (client, server) = try self.open(wire, upstream)
            for index in 0..<20 {
                let bytes = (0..<index * 1000).map { UInt8(truncatingIfNeeded: $0 + index) }
                try client.send(bytes)
                #expect(try server.read(count: bytes.count) == bytes)
                try server.send(bytes)
                #expect(try client.read(count: bytes.count) == bytes)
            }
        }
    }

    /// Bytes that came with the heads belong to the tunnel too.
    @Test func passesWhatCameWithTheHeads() throws {
        try Wire.one { wire, upstream in
            let (client, server) = try self.open(
                wire,
                upstream,
                early: "from the client",
                greeting: "from the server"
            )
            #expect(try client.read(count: 15) == Array("from the server".utf8))
            #expect(try server.read(count: 15) == Array("from the client".utf8))
        }
    }

    @Test func theClientMayEndFirst() throws {
        try Wire.one { wire, upstream in
            let (client, server) = try self.open(wire, upstream)
            try client.send("last words")
            client.finish()
            #expect(try server.readToEnd() == Array("last words".utf8))
            try server.send("and an answer")
            server.finish()
            #expect(try client.readToEnd() == Array("and an answer".utf8))
        }
    }

    /// Its FIN comes with the request, long before the upgrade is accepted.
    @Test func theClientMayEndBeforeTheTunnelIsOpen() throws {
        try Wire.one { wire, upstream in
            let client = try wire.client()
            try client.send(Self.upgrade + "\r\nall of it")
            client.finish()
            let server = try upstream.accept()
            _ = try server.readHead()
            try server.send(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n"
                    + "Upgrade: websocket\r\n\r\n"
            )
            #expect(try server.readToEnd() == Array("all of it".utf8))
            try server.send("an answer")
            server.finish()
            #expect(try client.readResponse().status == 101)
            #expect(try client.readToEnd() == Array("an answer".utf8))
        }
    }

    @Test func theServerMayEndFirst() throws {
        try Wire.one { wire, upstream in
            let (client, server) = try self.open(wire, upstream)
            try server.send("last words")
            server.finish()
            #expect(try client.readToEnd() == Array("last words".utf8))
            try client.send("and an answer")
            client.finish()
            #expect(try server.readToEnd() == Array("and an answer".utf8))
        }
    }

    /// What was sent before the second end arrives whole, however slowly it is read.
    @Test(arguments: [true, false])
    func losesNothingAtTheEnd(clientEndsLast: Bool) throws {
        try Wire.one { wire, upstream in
            upstream.setReceiveBuffer(4096)
            let (client, server) = try self.open(wire, upstream)
            let (writer, reader) = clientEndsLast ? (client, server) : (server, client)
            reader.finish()
            #expect(try writer.readToEnd().isEmpty)
            let size = 16 * 1024 * 1024
            let carried = Carried(writer)
            let sending = Background {
                try carried.value.send([UInt8](repeating: 1, count: size))
                carried.value.finish()
            }
            #expect(try reader.skip() == size)
            try sending.join()
        }
    }

    @Test func aResetOfOneEndEndsTheOther() throws {
        try Wire.one { wire, upstream in
            let (client, server) = try self.open(wire, upstream)
            client.reset()
            #expect(try server.waitForEnd() == .reset)
            let (secondClient, secondServer) = try self.open(wire, upstream)
            secondServer.reset()
            try secondClient.waitForEnd()
        }
    }

    @Test func aSlowEndSlowsTheOther() throws {
        try Wire.one { wire, upstream in
            let (client, server) = try self.open(wire, upstream)
            let limit = 128 * 1024 * 1024
            let ahead = try client.sendUntilBlocked(limit: limit)
            #expect(ahead < 32 * 1024 * 1024)
            let back = try server.sendUntilBlocked(limit: limit)
            #expect(back < 32 * 1024 * 1024)
            #expect(try server.skip(ahead) == ahead)
            #expect(try client.skip(back) == back)
            try client.send("on")
            #expect(try server.read(count: 2) == Array("on".utf8))
        }
    }

    @Test func anUpgradeThatIsDeclinedIsAnUsualAnswer() throws {
        try Wire.one { wire, upstream in
            let client = try wire.client()
            try client.send(Self.upgrade + "\r\n" + Ask.get("/b"))
            let server = try upstream.accept()
            _ = try server.readRequest()
            try server.respond("no", status: "426 Upgrade Required")
            #expect(try client.readResponse().status == 426)
            #expect(try server.readRequest().target == "/b")
            try server.respond("yes")
            #expect(try client.readResponse().text == "yes")
        }
    }

    @Test func aSwitchNobodyAskedForIsABadAnswer() throws {
        try Wire.one { wire, upstream in
            let client = try wire.client()
            try client.send(Ask.get())
            let server = try upstream.accept()
            _ = try server.readRequest()
            try server.send(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
            )
            #expect(try client.readResponse(interim: true).status == 502)
            #expect(try server.waitForEnd() == .reset)
        }
    }

    /// Behind a switch to HTTP/2 nobody would check what its requests ask for.
    @Test func doesNotOfferHTTP2InClearText() throws {
        try Wire.one { wire, upstream in
            let client = try wire.client()
            try client.send(
                "GET /a HTTP/1.1\r\nHost: h\r\nX-Weir-Model: m\r\nConnection: Upgrade, HTTP2-Settings"
                    + "\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n"
            )
            let server = try upstream.accept()
            let request = try server.readRequest()
            #expect(request["upgrade"] == nil)
            #expect(request["http2-settings"] == nil)
            try server.respond()
            #expect(try client.readResponse().status == 200)
        }
    }
}
