import Core
import EventLoop
import HTTP

/// A request as a handler sees it: valid during the handler's call, and nowhere else.
package struct HTTPRequest: ~Copyable {
    private let connection: ServerConnection

    init(_ connection: ServerConnection) {
        self.connection = connection
    }

    package var method: HTTPMethod { self.connection.head.method }
    package var peer: SocketAddress? { self.connection.peer }
    /// 0 for HTTP/1.0, 1 for HTTP/1.1.
    package var minorVersion: UInt8 { self.connection.head.minorVersion }

    /// The path as it was sent, percent-encoding and all.
    package var path: String { self.text(self.connection.head.pathRange) }

    /// What follows the question mark; nil without one.
    package var query: String? { self.connection.head.queryRange.map { self.text($0) } }

    /// The first field of that name.
    package func field(_ name: FieldName) -> String? {
        self.connection.head.first(name).map { self.text($0.valueRange) }
    }

    /// The first field of a name that has no `FieldName`. `name` is lower case.
    package func field(named name: StaticString) -> String? {
        let store = self.connection.headStore
        let bytes = store.readable
        for field in self.connection.head.fields
        where bytes.equalsIgnoringCase(name, field.nameRange) {
            return self.text(field.valueRange)
        }
        return nil
    }

    /// Whether the path is exactly `path`, without making a string.
    package func hasPath(_ path: StaticString) -> Bool {
        let store = self.connection.headStore
        return store.readable.equals(path, self.connection.head.pathRange)
    }

    /// The model that the path names (see `ModelPath`), its name decoded, and what follows the
    /// name.
    package var modelPath: (api: ModelPath.API, name: String, rest: String)? {
        let store = self.connection.headStore
        let bytes = store.readable
        guard let path = ModelPath(bytes, path: self.connection.head.pathRange),
            let name = PercentEncoding.decode(bytes, path.name)
        else { return nil }
        return (path.api, String(decoding: name, as: UTF8.self), self.text(path.rest))
    }

    package var bodyBytes: Int { self.connection.bodyRange.count }

    /// Lends the content, its transfer coding undone.
    package func withBody<Value, Failure: Error>(
        _ read: (RawSpan) throws(Failure) -> Value
    ) throws(Failure) -> Value {
        let store = self.connection.bodyStore
        let bytes = store.readable
        return try read(bytes.extracting(self.connection.bodyRange))
    }

    /// A copy of the content.
    package var body: [UInt8] { self.withBody { JSONText.array($0) } }

    private func text(_ range: ByteRange) -> String {
        let store = self.connection.headStore
        let bytes = store.readable
        return String(decoding: JSONText.array(bytes.slice(range)), as: UTF8.self)
    }
}
