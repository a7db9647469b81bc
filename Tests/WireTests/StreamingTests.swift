import Testing

/// Bodies that pass in pieces: at once, whole, and within bounded memory.
@Suite struct StreamingTests {
    /// Each event is readable at the client before the replica sends the next one.
    @Test(arguments: [true, false])
    func passesEventsOneByOne(chunked: Bool) throws {
        try Wire.one { wire, upstream in
            let client = try wire.client()
            try client.send(Ask.chat("{\"model\":\"m\",\"stream\":true}"))
            let server = try upstream.accept()
            _ = try server.readRequest()
            let framing = chunked ? "Transfer-Encoding: chunked\r\n" : ""
            try server.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\(framing)\r\n")
            #expect(try client.readHead()["content-type"] == "text/event-stream")
            for index in 0..<50 {
                let event = "data: {\"choices\":[{\"text\":\"t\(index)\"}]}\n\n"
                let size = String(event.utf8.count, radix: 16)
                try server.send(chunked ? "\(size)\r\n\(event)\r\n" : event)
                #expect(try client.readChunk() == Array(event.utf8))
            }
            if chunked { try server.send("0\r\n\r\n") } else { server.close() }
            #expect(try client.readChunk().isEmpty)
            #expect(try client.read(count: 2) == [13, 10])
        }
    }

    /// An event in pieces is passed in pieces: the gateway waits for no end.
    @Test func passesPartsOfAnEventAsTheyCome() throws {
        try Wire.one { wire, upstream in
            let client = try wire.client()
            try client.send(Ask.chat("{\"model\":\"m\"}"))
            let server = try upstream.accept()
            _ = try server.readRequest()
            try server.send(
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                    + "Transfer-Encoding: chunked\r\n\r\n14\r\n"
            )
            _ = try client.readHead()
            for byte in "data: twenty bytes\n\n".utf8 {
                try server.send([byte])
                #expect(try client.readChunk() == [byte])
            }
            try server.send("\r\n0\r\n\r\n")
            #expect(try client.readChunk().isEmpty)
        }
    }

    /// Request and response stream at the same time.
    @Test func passesBothDirectionsAtOnce() throws {
        try Wire.one { wire, upstream in
            let client = try wire.client()
            try client.send(
                "POST /v2/models/m/infer HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            let server = try upstream.accept()
            _ = try server.readHead()
            try server.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            _ = try client.readHead()
            for index in 10..<30 {
                try client.send("2\r\n\(index)\r\n")
                #expect(try server.readChunk() == Array("\(index)".utf8))
                try server.send("2\r\n\(index)\r\n")
                #expect(try client.readChunk() == Array("\(index)".utf8))
            }
            try client.send("0\r\n\r\n")
            #expect(try server.readChunk().isEmpty)
            try server.send("0\r\n\r\n")
            #expect(try client.readChunk().isEmpty)
        }
    }

    // MARK: Back-pressure

    /// What the gateway itself may hold of one direction, over the kernel's own buffers.
    private static let heldMax = 1024 * 1024
    /// Kernel buffers on two loopback connections; far below what is offered.
    private static let kernelMax = 24 * 1024 * 1024
    private static let offered = 256 * 1024 * 1024

    @Test func aSlowReaderSlowsTheReplica() throws {
        try Wire.one { wire, upstream in
            let client = try wire.client(receiveBuffer: 4096)
            try client.send(Ask.get())
            let server = try upstream.accept()
            _ = try server.readRequest()
            try server.send("HTTP/1.1 200 OK\r\nContent-Length: \(Self.offered)\r\n\r\n")
            let ahead = try server.sendUntilBlocked(limit: Self.offered)
            #expect(ahead < Self.kernelMax, "the replica could send \(ahead) bytes ahead")
            let carried = Carried(server)
            let writer = Background {
                let rest = try carried.value.sendUntilBlocked(
                    limit: Self.offered - ahead,
                    pauseMilliseconds: 20_000
                )
                if rest != Self.offered - ahead { throw WireError.timeout("the rest: \(rest)") }
            }
            _ = try client.readHead()
            #expect(try client.skip(Self.offered) == Self.offered)
            try writer.join()
        }
    }

    @Test(arguments: [true, false])
    func aSlowReplicaSlowsTheClient(chunked: Bool) throws {
        try Wire.one { wire, upstream in
            upstream.setReceiveBuffer(4096)
            let client = try wire.client()
            let size = Self.offered
            let framing =
                chunked
                ? "Transfer-Encoding: chunked\r\n\r\n\(String(size, radix: 16))\r\n"
                : "Content-Length: \(size)\r\n\r\n"
            try client.send("POST /v2/models/m/infer HTTP/1.1\r\nHost: h\r\n\(framing)")
            let server = try upstream.accept()
            #expect(try server.readHead().isChunked == chunked)
            let ahead = try client.sendUntilBlocked(limit: size)
            #expect(ahead < Self.kernelMax, "the client could send \(ahead) bytes ahead")
            let carried = Carried(client)
            let writer = Background {
                _ = try carried.value.sendUntilBlocked(
                    limit: size - ahead,
                    pauseMilliseconds: 20_000
                )
                if chunked { try carried.value.send("\r\n0\r\n\r\n") }
            }
            if chunked {
                #expect(try self.skipChunks(server) == size)
            } else {
                #expect(try server.skip(size) == size)
            }
            try writer.join()
            try server.respond("done")
            #expect(try client.readResponse().text == "done")
        }
    }

    /// The sum of all chunks up to the last.
    private func skipChunks(_ server: RawSocket) throws -> Int {
        var total = 0
        while true {
            let line = try server.readLine()
            guard let size = Int(line, radix: 16) else { throw WireError.malformed(line) }
            if size == 0 {
                _ = try server.read(count: 2)
                return total
            }
            _ = try server.skip(size + 2)
            total += size
            server.forget()
        }
    }

    /// Large bodies in both directions arrive as they were sent.
    @Test(arguments: [(1, 0), (65_535, 65_536), (65_537, 131_072), (3_000_001, 5_000_003)])
    func passesEveryByte(up: Int, down: Int) throws {
        try Wire.one { wire, upstream in
            let body = Self.pattern(up)
            let answer = Self.pattern(down)
            let client = try wire.client()
            let carried = Carried(client)
            let writer = Background {
                try carried.value.send(
                    "POST /v2/models/m/infer HTTP/1.1\r\nHost: h\r\nContent-Length: \(up)\r\n\r\n"
                )
                try carried.value.send(body)
            }
            let server = try upstream.accept()
            #expect(try server.readRequest().body == body)
            try writer.join()
            let peer = Carried(server)
            let answering = Background {
                try peer.value.send("HTTP/1.1 200 OK\r\nContent-Length: \(down)\r\n\r\n")
                try peer.value.send(answer)
            }
            #expect(try client.readResponse().body == answer)
            try answering.join()
        }
    }

    /// Bodies that are kept until their last bytes name the model, which go to where they are kept
    /// without a copy, and from there to a replica that takes them slowly. On one connection, so
    /// that memory is used again.
    @Test(arguments: [true, false], [false, true])
    func passesLongBodiesThatNameTheirModelLast(chunked: Bool, slowly: Bool) throws {
        try Wire.one { wire, upstream in
            if slowly { upstream.setReceiveBuffer(4096) }
            let client = try wire.client()
            var server: RawSocket?
            for count in [70_000, 400_000, 65_537, 1_000_000, 131_072] {
                let text = String(repeating: "words \\n of \(count), ", count: count / 20)
                let body = Array("{\"prompt\":\"\(text)\",\"model\":\"m\"}".utf8)
                let framing =
                    chunked
                    ? "Transfer-Encoding: chunked\r\n\r\n\(String(body.count, radix: 16))\r\n"
                    : "Content-Length: \(body.count)\r\n\r\n"
                let carried = Carried(client)
                let writer = Background {
                    try carried.value.send(
                        "POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\n\(framing)"
                    )
                    try carried.value.send(body)
                    if chunked { try carried.value.send("\r\n0\r\n\r\n") }
                }
                let peer = try server ?? upstream.accept()
                server = peer
                let received = try peer.readRequest().body
                #expect(received == body, "\(received.count) bytes of \(body.count)")
                try writer.join()
                try peer.respond("done")
                #expect(try client.readResponse().text == "done")
            }
        }
    }

    private static func pattern(_ count: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 2_654_435_761 >> 11) }
    }
}
