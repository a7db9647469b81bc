import HTTP
import Traffic

/// Finding the model of a request in its path and headers, and percent escapes.
///
/// The input's first byte chooses the method; the lines after it are the path, `x-weir-model` and
/// `x-gateway-model-name`, the latter two if they are there.
enum RoutingInvariants {
    static let seeds: [[UInt8]] = [
        "0/v1/models", "0/v1/models/", "1/v1/chat/completions", "1/v1/responses", "0/v2", "0/v2/",
        "0/v2/health/ready", "1/v2/repository/index", "1/v2/models/m/infer", "0/v2/models/m/ready",
        "1/v2/models/m/versions/1/infer", "1/v2/models/a%2Fb/generate_stream", "0/v2/models/%",
        "1/v1/models/a/b:predict", "1/v1/models/ft:x:explain", "1/v1/models/:predict",
        "1/v2/models/%00/infer", "0/v2/models//ready", "0/a/%2e%2E/b", "0/..", "0/./x", "0/.%2e/",
        "1/v1/completions\nweir", "1/v2/models/m/infer\n\ngateway", "1/\na\nb", "9/v1/embeddings/",
        "1/v2/models/%25%34%31/infer", "0/v2/models/m/versions/", "0*",
    ].map { Array($0.utf8) }

    static func violation(_ bytes: [UInt8]) -> String? {
        guard let first = bytes.first else { return nil }
        let method = HTTPMethod(rawValue: first % 10) ?? .other
        let lines = bytes.dropFirst().split(
            separator: 10,
            maxSplits: 2,
            omittingEmptySubsequences: false
        ).map(Array.init)
        let request = Request(
            path: lines[0],
            weirModel: lines.count > 1 ? lines[1] : nil,
            gatewayModel: lines.count > 2 ? lines[2] : nil,
            method: method
        )
        return Self.decision(request) ?? Self.modelPath(lines[0]) ?? Self.dotSegments(lines[0])
            ?? Self.escaped(lines[0])
    }

    // MARK: Decisions

    private struct Request {
        var path: [UInt8]
        var weirModel: [UInt8]?
        var gatewayModel: [UInt8]?
        var method: HTTPMethod

        /// The decision with the name in it read, as offsets depend on where things stand.
        func decide(after before: String = "") -> (decision: RoutingDecision, name: [UInt8]?) {
            // The bytes behind the path would make another path of it, were they read.
            let head = Array(before.utf8) + self.path + Array("/infer:predict".utf8)
            let weir = self.weirModel ?? []
            let gateway = self.gatewayModel ?? []
            let bytes = head + weir + gateway
            func range(_ start: Int, _ count: Int) -> ByteRange {
                ByteRange(start: UInt32(start), count: UInt32(count))
            }
            let decision = RequestRouting.decide(
                bytes.span.bytes,
                path: range(before.utf8.count, self.path.count),
                method: self.method,
                weirModel: self.weirModel.map { range(head.count, $0.count) },
                gatewayModelName: self.gatewayModel.map { range(head.count + weir.count, $0.count) }
            )
            guard case .name(let name, _) = decision.target else { return (decision, nil) }
            return (decision, Array(bytes[name.indices]))
        }
    }

    private static func decision(_ request: Request) -> String? {
        let (decision, name) = request.decide()
        let moved = request.decide(after: "GET /v2/models/x")
        guard moved.name == name, Self.isSame(moved.decision, decision) else {
            return "depends on where the path stands"
        }
        let isInference = decision.operation == .inference
        guard decision.isRepeatable == (request.method.isIdempotent || isInference) else {
            return "repeatable: \(decision.isRepeatable)"
        }
        if let name, name.isEmpty { return "an empty name" }
        for header in [request.weirModel, request.gatewayModel] {
            guard let header, !header.isEmpty else { continue }
            guard name == header else { return "a header does not decide" }
            break
        }
        guard request.path.last != UInt8(ascii: "/"), !request.path.isEmpty else { return nil }
        var slashed = request
        slashed.path.append(UInt8(ascii: "/"))
        let other = slashed.decide()
        return other.name == name && Self.isSame(other.decision, decision)
            ? nil : "a slash at the end makes a difference"
    }

    /// Equal, but for where a name stands.
    private static func isSame(_ left: RoutingDecision, _ right: RoutingDecision) -> Bool {
        var left = left
        if case .name(_, let isEncoded) = left.target,
            case .name(let range, isEncoded) = right.target
        {
            left.target = .name(range, isEncoded: isEncoded)
        }
        return left == right
    }

    // MARK: Paths

    private static func modelPath(_ path: [UInt8]) -> String? {
        let whole = ByteRange(start: 0, count: UInt32(path.count))
        guard let model = ModelPath(path.span.bytes, path: whole) else { return nil }
        let name = Array(path[model.name.indices])
        let rest = Array(path[model.rest.indices])
        let prefix = Array((model.api == .v1 ? "/v1/models/" : "/v2/models/").utf8)
        guard prefix + name + rest == path, !name.isEmpty else { return "parts do not add up" }
        guard model.isEncoded == name.contains(UInt8(ascii: "%")) else { return "isEncoded" }
        if model.api == .v2, name.contains(UInt8(ascii: "/")) { return "a slash in a V2 name" }
        guard let decoded = PercentEncoding.decode(path.span.bytes, model.name) else {
            return "a name that cannot be decoded"
        }
        // Control bytes that stand there as they are have been refused with the request's head.
        let controls = name.count { $0 < 32 || $0 == 127 }
        guard decoded.count(where: { $0 < 32 || $0 == 127 }) == controls else {
            return "an escaped control byte in a name"
        }
        let buffer = NameBuffer(percentEncoded: name.span.bytes)
        guard decoded.count <= NameBuffer.capacity else {
            return buffer == nil ? nil : "a name of \(decoded.count) bytes"
        }
        return buffer?.bytes.array == decoded ? nil : "two decoders disagree"
    }

    private static func dotSegments(_ path: [UInt8]) -> String? {
        let whole = ByteRange(start: 0, count: UInt32(path.count))
        let expected = path.split(
            separator: UInt8(ascii: "/"),
            omittingEmptySubsequences: false
        ).contains { segment in
            let text = Array(segment).text.lowercased().split(
                separator: "%2e",
                omittingEmptySubsequences: false
            ).joined(separator: ".")
            return text == "." || text == ".."
        }
        return RequestPath.hasDotSegments(path.span.bytes, whole) == expected
            ? nil : "dot segments: \(!expected)"
    }

    /// Any bytes are the name of a model once they are escaped.
    private static func escaped(_ name: [UInt8]) -> String? {
        guard !name.isEmpty, !name.contains(where: { $0 < 32 || $0 == 127 }) else { return nil }
        let digits = Array("0123456789abcdefABCDEF".utf8)
        let encoded = name.flatMap { byte -> [UInt8] in
            // Digits of both cases.
            let low = Int(byte & 15)
            return [
                UInt8(ascii: "%"), digits[Int(byte >> 4)],
                digits[low > 9 && byte > 127 ? low + 6 : low],
            ]
        }
        let path = Array("/v2/models/".utf8) + encoded + Array("/infer".utf8)
        let whole = ByteRange(start: 0, count: UInt32(path.count))
        guard let model = ModelPath(path.span.bytes, path: whole) else { return "escapes refused" }
        return PercentEncoding.decode(path.span.bytes, model.name) == name
            ? nil : "escaped, the name is another"
    }
}
