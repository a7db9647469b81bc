import Core
import HTTPService

/// What a controller asks of a gateway: `PUT /api/v1/drain`.
///
/// The endpoints, by the UIDs of their pods, that get no new request from now on; all others do. It
/// holds for `seconds` unless it is asked again, so that nothing stays out of service when the
/// controller is gone.
package struct DrainRequest: Sendable, Equatable {
    package var endpoints: [String]
    package var seconds: Int

    package static let endpointsMax = 1_000
    package static let secondsMax = 3_600

    package init(endpoints: [String], seconds: Int) {
        self.endpoints = endpoints
        self.seconds = seconds
    }

    package init(_ bytes: RawSpan) throws(JSONError) {
        var cursor = JSONCursor()
        var endpoints: [String]?
        var seconds: Int?
        try cursor.object(bytes) { (cursor, key) throws(JSONError) in
            switch key.text(of: bytes) {
            case "endpoints":
                var list: [String] = []
                try cursor.array(bytes) { (cursor) throws(JSONError) in
                    guard list.count < Self.endpointsMax else {
                        throw cursor.error("there are more than \(Self.endpointsMax) endpoints")
                    }
                    list.append(try cursor.string(bytes))
                }
                endpoints = list
            case "seconds": seconds = try cursor.integer(bytes)
            default: throw cursor.error("the fields here are `endpoints` and `seconds`")
            }
        }
        try cursor.end(bytes)
        guard let endpoints else { throw cursor.error("`endpoints` is missing") }
        guard let seconds, (1...Self.secondsMax).contains(seconds) else {
            throw cursor.error("`seconds` must be between 1 and \(Self.secondsMax)")
        }
        self.init(endpoints: endpoints, seconds: seconds)
    }

    package func write(to writer: inout JSONWriter) {
        writer.object {
            $0.member("endpoints", array: { for name in self.endpoints { $0.string(name) } })
            $0.member("seconds", self.seconds)
        }
    }
}

/// What the gateway answers: the endpoints of the request that nothing is sent to any more and at
/// which nothing is in flight, those that it does not know included.
package struct DrainAnswer: Sendable, Equatable {
    /// Of the gateway's table when it answered.
    package var generation: UInt64
    package var drained: [String]

    package init(generation: UInt64, drained: [String]) {
        self.generation = generation
        self.drained = drained
    }

    package init(_ text: [UInt8]) throws(JSONError) {
        let bytes = text.span.bytes
        var cursor = JSONCursor()
        var generation = 0
        var drained: [String]?
        try cursor.object(bytes) { (cursor, key) throws(JSONError) in
            switch key.text(of: bytes) {
            case "generation": generation = try cursor.integer(bytes)
            case "drained":
                var list: [String] = []
                try cursor.array(bytes) { (cursor) throws(JSONError) in
                    guard list.count < DrainRequest.endpointsMax else {
                        throw cursor.error("more endpoints than were asked for")
                    }
                    list.append(try cursor.string(bytes))
                }
                drained = list
            default: try cursor.skip(bytes)
            }
        }
        try cursor.end(bytes)
        guard let drained else { throw cursor.error("`drained` is missing") }
        self.init(generation: UInt64(clamping: generation), drained: drained)
    }

    package func write(to writer: inout JSONWriter) {
        writer.object {
            $0.member("generation", Int(clamping: self.generation))
            $0.member("drained", array: { for name in self.drained { $0.string(name) } })
        }
    }
}

extension Range<Int> {
    /// A key that lies here, as it stands.
    fileprivate func text(of bytes: RawSpan) -> String {
        bytes.extracting(self).withUnsafeBytes { String(decoding: $0, as: UTF8.self) }
    }
}
