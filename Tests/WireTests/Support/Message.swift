/// A request or a response as it stood on the wire, read by rules of the tests' own: they must not
/// share mistakes with the parser under test.
struct Message: Equatable {
    var startLine: String
    var fields: [Field] = []
    var body: [UInt8] = []
    var trailers: [Field] = []

    struct Field: Equatable {
        var name: String
        var value: String
    }

    var status: Int {
        let words = self.startLine.split(separator: " ")
        return words.count > 1 ? Int(words[1]) ?? 0 : 0
    }

    var text: String { String(decoding: self.body, as: UTF8.self) }
    /// The request's target.
    var target: String {
        let words = self.startLine.split(separator: " ")
        return words.count > 1 ? String(words[1]) : ""
    }

    /// All values of a field, whatever the case of its name.
    func values(_ name: String) -> [String] {
        self.fields.filter { $0.name.lowercased() == name.lowercased() }.map(\.value)
    }

    /// The value of a field that must not come twice.
    subscript(_ name: String) -> String? {
        let values = self.values(name)
        return values.count > 1 ? "twice: \(values)" : values.first
    }

    var isChunked: Bool { self["transfer-encoding"] == "chunked" }
}

extension RawSocket {
    /// One request with its body.
    func readRequest() throws -> Message {
        var message = try self.readHead()
        if message.isChunked {
            try self.readChunks(into: &message)
        } else if let length = message["content-length"] {
            message.body = try self.read(count: try Self.number(length), for: "a request body")
        }
        return message
    }

    /// One response with its body; interim ones are skipped unless `interim` is true.
    func readResponse(to method: String = "GET", interim: Bool = false) throws -> Message {
        var message = try self.readHead()
        while !interim, message.status < 200, message.status != 101 {
            message = try self.readHead()
        }
        let hasNoBody = method == "HEAD" || message.status < 200
        if hasNoBody || message.status == 204 || message.status == 304 { return message }
        if message.isChunked {
            try self.readChunks(into: &message)
        } else if let length = message["content-length"] {
            message.body = try self.read(count: try Self.number(length), for: "a response body")
        } else {
            message.body = try self.readToEnd()
        }
        return message
    }

    /// A head without its body.
    func readHead() throws -> Message {
        var lines = try self.read(until: "\r\n\r\n", for: "a head").split(
            separator: "\r\n",
            omittingEmptySubsequences: true
        )
        guard !lines.isEmpty else { throw WireError.malformed("an empty head") }
        return Message(
            startLine: String(lines.removeFirst()),
            fields: try lines.map(Self.field)
        )
    }

    /// One chunk; empty for the last one, whose trailers stay unread.
    func readChunk() throws -> [UInt8] {
        let line = try self.readLine("a chunk's size")
        guard let size = Int(line, radix: 16) else {
            throw WireError.malformed("chunk size \(line)")
        }
        if size == 0 { return [] }
        let bytes = try self.read(count: size, for: "a chunk")
        guard try self.read(count: 2, for: "a chunk's end") == [13, 10] else {
            throw WireError.malformed("a chunk's end")
        }
        return bytes
    }

    /// A line without its end. (CRLF is one `Character`, hence one is dropped.)
    func readLine(_ what: String = "a line") throws -> String {
        String(try self.read(until: "\r\n", for: what).dropLast(1))
    }

    private func readChunks(into message: inout Message) throws {
        while true {
            let chunk = try self.readChunk()
            if chunk.isEmpty { break }
            message.body += chunk
        }
        while true {
            let line = try self.readLine("a trailer")
            if line.isEmpty { return }
            message.trailers.append(try Self.field(Substring(line)))
        }
    }

    private static func field(_ line: Substring) throws -> Message.Field {
        guard let colon = line.firstIndex(of: ":") else { throw WireError.malformed("\(line)") }
        let value = line[line.index(after: colon)...]
        // Canonical: exactly one space.
        guard value.hasPrefix(" "), !value.hasPrefix("  ") || value.count == 1 else {
            throw WireError.malformed("field line \(line)")
        }
        return Message.Field(name: String(line[..<colon]), value: String(value.dropFirst()))
    }

    private static func number(_ text: String) throws -> Int {
        guard let number = Int(text) else { throw WireError.malformed("length \(text)") }
        return number
    }
}
