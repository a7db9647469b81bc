import Core
import Testing

@testable import HTTP

/// HTTP/1 fields to HTTP/2.
struct OutgoingFieldsTests {
    private func pairs(_ list: OutgoingFields) -> [String] {
        let bytes = list.bytes
        return bytes.readable.withUnsafeBytes { memory in
            list.entries.map { entry in
                String(decoding: memory[entry.name.indices], as: UTF8.self) + "="
                    + String(decoding: memory[entry.value.indices], as: UTF8.self)
            }
        }
    }

    @Test func takesARequestOver() throws {
        let text = """
            POST /p?q=1 HTTP/1.1\r\nHost: h.example\r\nContent-Type: a/b\r\nX-Mixed: Yes\r\n\
            Connection: x-secret\r\nX-Secret: 1\r\nTE: trailers\r\nAuthorization: Bearer k\r\n\
            Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n
            """
        let bytes = Array(text.utf8)
        let head = RequestHead()
        guard case .complete = head.parse(bytes.span.bytes, limits: HeadLimits()) else {
            Issue.record("not a head")
            return
        }
        let list = OutgoingFields()
        list.append(request: head, bytes.span.bytes, scheme: "https")
        #expect(
            self.pairs(list) == [
                ":method=POST", ":scheme=https", ":path=/p?q=1", ":authority=h.example",
                "content-type=a/b", "x-mixed=Yes", "authorization=Bearer k",
            ]
        )
        #expect(
            list.entries.map(\.isSensitive) == [false, false, false, false, false, false, true]
        )
    }

    @Test func takesLinesOver() {
        let list = OutgoingFields()
        list.append(":status", 200)
        list.append(
            lines: Array("X-One: 1\r\nConnection: close\r\nDate: now\r\nX-Empty: \r\n".utf8)
                .span.bytes
        )
        #expect(self.pairs(list) == [":status=200", "x-one=1", "date=now", "x-empty="])
        list.removeAll()
        #expect(list.entries.isEmpty)
    }

    /// There and back again.
    @Test func whatWasTakenOverIsTheSameRequest() throws {
        let text = "PUT /a HTTP/1.1\r\nhost: h\r\nx: 1\r\ncontent-length: 3\r\n\r\n"
        let bytes = Array(text.utf8)
        let head = RequestHead()
        _ = head.parse(bytes.span.bytes, limits: HeadLimits())
        let list = OutgoingFields()
        list.append(request: head, bytes.span.bytes, scheme: "http")
        let block = FieldBlock()
        block.begin(.request, limits: HeadLimits())
        let memory = list.bytes
        for entry in list.entries {
            block.add(
                name: memory.readable.slice(entry.name),
                value: memory.readable.slice(entry.value)
            )
        }
        #expect(block.finish(endsStream: false) == nil)
        let again = block.head
        #expect(again.readable.withUnsafeBytes { Array($0) } == bytes)
    }
}
