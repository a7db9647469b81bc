import Core
import Curl
import HTTPService

/// What Prometheus answered to an instant query (its HTTP API, version 1).
enum QueryAnswer: Equatable {
    case value(Double)
    /// Why there is no number, for people.
    case unknown(String)

    /// Reads an answer. Its status does not matter where it explains itself.
    static func read(status: UInt16, _ body: [UInt8]) -> QueryAnswer {
        var reader = AnswerReader()
        do throws(JSONError) {
            try reader.read(body.span.bytes)
        } catch {
            let isAnswer = status == 200
            return .unknown(
                isAnswer
                    ? "not an answer of Prometheus: \(error)" : "answered with status \(status)"
            )
        }
        return reader.answer(status: status)
    }
}

private struct AnswerReader {
    private var status = ""
    private var error = ""
    private var errorType = ""
    private var resultType = ""
    private var series = 0
    /// The first or only value.
    private var value: Double?

    mutating func read(_ bytes: RawSpan) throws(JSONError) {
        var cursor = JSONCursor()
        try cursor.object(bytes) { (cursor, key) throws(JSONError) in
            switch Self.text(bytes, key) {
            case "status": self.status = try cursor.string(bytes)
            case "error": self.error = try cursor.string(bytes)
            case "errorType": self.errorType = try cursor.string(bytes)
            case "data": try self.readData(&cursor, bytes)
            default: try cursor.skip(bytes)
            }
        }
        try cursor.end(bytes)
    }

    func answer(status: UInt16) -> QueryAnswer {
        if self.status == "error" || !self.error.isEmpty {
            let kind = self.errorType.isEmpty ? "" : "\(self.errorType): "
            return .unknown("\(kind)\(String(self.error.prefix(500)))")
        }
        guard status == 200, self.status == "success" else {
            return .unknown("answered with status \(status)")
        }
        switch self.resultType {
        case "scalar", "vector": break
        case "": return .unknown("not an answer of Prometheus: no result")
        default: return .unknown("the query gives a \(self.resultType), not a number")
        }
        if self.series > 1 {
            return .unknown(
                "the query gives \(self.series) series: make them one, for instance with sum(…)"
            )
        }
        guard let value = self.value else { return .unknown("the query gives no series") }
        return value.isFinite ? .value(value) : .unknown("the query gives \(value)")
    }

    private mutating func readData(_ cursor: inout JSONCursor, _ bytes: RawSpan) throws(JSONError) {
        // Errors have no data, or null.
        var result: Range<Int>?
        try cursor.objectOrSkip(bytes) { (cursor, key) throws(JSONError) in
            switch Self.text(bytes, key) {
            case "resultType": self.resultType = try cursor.string(bytes)
            case "result": result = try cursor.skip(bytes)
            default: try cursor.skip(bytes)
            }
        }
        guard let result else { return }
        let part = bytes.extracting(result)
        switch self.resultType {
        case "scalar":
            var reader = JSONCursor()
            self.value = try Self.pair(&reader, part)
        case "vector": try self.readVector(part)
        default: break
        }
    }

    private mutating func readVector(_ bytes: RawSpan) throws(JSONError) {
        var cursor = JSONCursor()
        try cursor.array(bytes) { (cursor) throws(JSONError) in
            self.series += 1
            try cursor.object(bytes) { (cursor, key) throws(JSONError) in
                guard Self.text(bytes, key) == "value", self.series == 1 else {
                    try cursor.skip(bytes)
                    return
                }
                self.value = try Self.pair(&cursor, bytes)
            }
        }
    }

    /// `[time, "value"]`.
    private static func pair(
        _ cursor: inout JSONCursor,
        _ bytes: RawSpan
    ) throws(JSONError) -> Double? {
        var index = 0
        var value: Double?
        try cursor.array(bytes) { (cursor) throws(JSONError) in
            if index == 1 {
                let text = try cursor.string(bytes)
                value = Self.number(text)
                if value == nil { throw cursor.error("`\(text.prefix(40))` is no number") }
            } else {
                try cursor.skip(bytes)
            }
            index += 1
        }
        return value
    }

    private static func number(_ text: String) -> Double? {
        switch text {
        case "NaN": return .nan
        case "+Inf", "Inf": return .infinity
        case "-Inf": return -.infinity
        default:
            let isDecimal = text.utf8.allSatisfy {
                (48...57).contains($0) || "+-.eE".utf8.contains($0)
            }
            return isDecimal ? Double(text) : nil
        }
    }

    private static func text(_ bytes: RawSpan, _ range: Range<Int>) -> String {
        bytes.extracting(range).withUnsafeBytes { String(decoding: $0, as: UTF8.self) }
    }
}

/// One instant query at a time, for whoever asks at times of its own.
package enum InstantQuery {
    package enum Result: Hashable, Sendable {
        case value(Double)
        /// The query worked and gave no number; why.
        case noValue(String)
        /// There is no answer; why.
        case error(String)
    }

    /// - Parameter timeout: until the last byte of the answer.
    package static func request(_ target: QueryTarget, timeout: Duration) -> CurlRequest {
        var request = CurlRequest(QueryURL.make(target))
        request.connectTimeout = timeout
        request.totalTimeout = timeout
        request.responseBytesMax = self.answerBytesMax
        request.allowsHTTP2 = false
        return request
    }

    package static let answerBytesMax = 1 << 20

    package static func read(_ answer: Swift.Result<CurlResponse, CurlError>) -> Result {
        switch answer {
        case .failure(let error): return .error("\(error)")
        case .success(let response):
            switch QueryAnswer.read(status: response.status, response.body) {
            case .value(let value): return .value(value)
            case .unknown(let why):
                return response.status == 200 ? .noValue(why) : .error(why)
            }
        }
    }
}

/// Queries in URLs.
enum QueryURL {
    /// The URL of an instant query.
    static func make(_ target: QueryTarget) -> String {
        var server = target.server[...]
        while server.last == "/" { server.removeLast() }
        return "\(server)/api/v1/query?query=\(Self.encode(target.query))"
    }

    /// All but unreserved characters percent-encoded (RFC 3986, section 2.3).
    static func encode(_ text: String) -> String {
        let digits = Array("0123456789ABCDEF".utf8)
        var bytes: [UInt8] = []
        for byte in text.utf8 {
            switch byte {
            case 48...57, 65...90, 97...122, UInt8(ascii: "-"), UInt8(ascii: "."),
                UInt8(ascii: "_"), UInt8(ascii: "~"):
                bytes.append(byte)
            default:
                bytes += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
