import HTTP

/// Reads a request as HTTP files have it: a request line, fields, an empty line, and the body.
///
///     POST /v1/score
///     content-type: application/json
///
///     {"x": 1}
///
/// The version in the request line may be left out; so may the target, for that of the URL. Framing
/// fields are written by the generator and refused here.
package enum RequestFile {
    package static func read(
        _ bytes: [UInt8]
    ) throws(LoadError) -> (request: FixedRequest, fields: [HeaderField]) {
        var position = 0
        func line() -> String? {
            guard position < bytes.count else { return nil }
            let end = bytes[position...].firstIndex(of: 0x0A) ?? bytes.count
            var text = bytes[position..<end]
            if text.last == 0x0D { text = text.dropLast() }
            position = end + 1
            return String(decoding: text, as: UTF8.self)
        }
        guard let first = line(), !first.isEmpty else {
            throw LoadError("the request file is empty: expected a line such as POST /path")
        }
        var request = try self.requestLine(first)
        var fields: [HeaderField] = []
        var number = 1
        while let text = line(), !text.isEmpty {
            number += 1
            guard let field = HeaderField(text) else {
                throw LoadError(
                    "line \(number) of the request file is no field that can be sent: \(text)"
                )
            }
            fields.append(field)
        }
        if position < bytes.count { request.body = Array(bytes[position...]) }
        return (request, fields)
    }

    private static func requestLine(_ text: String) throws(LoadError) -> FixedRequest {
        let words = text.split(separator: " ")
        var request = FixedRequest()
        guard let method = words.first, words.count <= 3,
            words.count < 3 || words[2].hasPrefix("HTTP/1."),
            request.setMethod(String(method))
        else {
            throw LoadError(
                "the request file begins with \(text): expected a line such as POST /path"
            )
        }
        if words.count > 1 {
            let target = String(words[1])
            guard target.hasPrefix("/"), target.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else {
                throw LoadError(
                    "\(target) in the request file is no path: it must begin with a slash"
                )
            }
            request.target = target
        }
        return request
    }
}

extension FixedRequest {
    /// False for what is no method that a load generator can send.
    package mutating func setMethod(_ text: String) -> Bool {
        let known: [HTTPMethod] = [.get, .head, .post, .put, .delete, .options, .patch]
        let upper = text.uppercased()
        guard let method = known.first(where: { "\($0.name)" == upper }) else { return false }
        self.method = method
        self.methodText = upper
        return true
    }
}
