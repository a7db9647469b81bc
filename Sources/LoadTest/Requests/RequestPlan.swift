import Core
import HTTP
import Workload

/// What requests say.
package enum RequestKind: Equatable, Sendable {
    /// The same request each time.
    case http(FixedRequest)
    /// `POST /v1/chat/completions`
    case chat(GenerationPlan)
    /// `POST /v1/completions`
    case completions(GenerationPlan)
    /// `POST /v2/models/MODEL/infer`
    case infer(InferPlan)

    /// Whether answers are searched for tokens.
    package var isGeneration: Bool {
        switch self {
        case .chat, .completions: true
        case .http, .infer: false
        }
    }
}

/// One request that is sent again and again.
package struct FixedRequest: Equatable, Sendable {
    package var method = HTTPMethod.get
    /// The method as it is written.
    package var methodText = "GET"
    /// Path and query; nil for those of the URL.
    package var target: String?
    package var body: [UInt8] = []

    package init() {}
}

/// Requests to a language model.
package struct GenerationPlan: Equatable, Sendable {
    package var model: String
    package var streams = true
    package var inputTokens = LengthDistribution.fixed(128)
    /// `max_tokens`; nil leaves it to the server.
    package var outputTokens: LengthDistribution? = .fixed(64)
    /// Asks to generate on past the end of a text, so that answers have the length asked for.
    package var ignoresEndOfText = true
    /// Tokens at the beginning of each prompt that it shares with others of its group.
    package var sharedPrefixTokens = 0
    /// How many different shared beginnings there are.
    package var prefixGroups = 1

    package init(model: String) {
        self.model = model
    }
}

/// Open Inference requests with random data.
package struct InferPlan: Equatable, Sendable {
    package enum DataType: String, Sendable, CaseIterable {
        case fp32 = "FP32"
        case fp64 = "FP64"
        case int32 = "INT32"
        case int64 = "INT64"
        case uint8 = "UINT8"
        case bool = "BOOL"
    }

    package struct Tensor: Equatable, Sendable {
        package var name: String
        package var dataType: DataType
        package var shape: [Int]

        /// Elements of a tensor at most.
        package static let elementsMax = 10_000_000

        /// What `init` reads.
        package static let grammar = "NAME:TYPE:DIMENSIONxDIMENSION… such as input:FP32:1x784"

        package init?(_ text: String) {
            let parts = text.split(separator: ":", omittingEmptySubsequences: false)
            guard parts.count == 3, !parts[0].isEmpty,
                let type = DataType(rawValue: parts[1].uppercased())
            else { return nil }
            let words = parts[2].split(separator: "x", omittingEmptySubsequences: false)
            let shape = words.compactMap { Int($0) }
            guard shape.count == words.count, shape.allSatisfy({ $0 > 0 }) else { return nil }
            var count = 1
            for dimension in shape {
                let (product, overflow) = count.multipliedReportingOverflow(by: dimension)
                guard !overflow, product <= Self.elementsMax else { return nil }
                count = product
            }
            (self.name, self.dataType, self.shape) = (String(parts[0]), type, shape)
        }

        var count: Int { self.shape.reduce(1, *) }
    }

    package var model: String
    package var inputs: [Tensor]

    package init(model: String, inputs: [Tensor]) {
        self.model = model
        self.inputs = inputs
    }
}

/// A header field to send.
package struct HeaderField: Equatable, Sendable {
    package var name: String
    package var value: String

    /// Reads `name: value`; nil for what would change the message's framing or is no field.
    package init?(_ text: String) {
        guard let colon = text.firstIndex(of: ":") else { return nil }
        let value = text[text.index(after: colon)...].drop { $0 == " " || $0 == "\t" }
        self.init(name: String(text[..<colon]), value: String(value))
    }

    package init?(name: String, value: String) {
        let framing = ["content-length", "transfer-encoding", "connection", "expect", "upgrade"]
        let special = Set("!#$%&'*+-.^_`|~".utf8)
        let isToken = name.utf8.allSatisfy {
            (0x30...0x39).contains($0) || (0x61...0x7A).contains($0 | 0x20) || special.contains($0)
        }
        guard !name.isEmpty, isToken, !framing.contains(name.lowercased()),
            value.utf8.allSatisfy({ ($0 >= 0x20 && $0 != 0x7F) || $0 == 0x09 })
        else { return nil }
        (self.name, self.value) = (name, value)
    }
}
