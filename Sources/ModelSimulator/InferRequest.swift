import Core
import HTTP
import HTTPService

/// Tensor element types of the Open Inference Protocol, with the bytes of one element on the wire.
enum TensorType: String {
    case bool = "BOOL"
    case uint8 = "UINT8"
    case uint16 = "UINT16"
    case uint32 = "UINT32"
    case uint64 = "UINT64"
    case int8 = "INT8"
    case int16 = "INT16"
    case int32 = "INT32"
    case int64 = "INT64"
    case fp16 = "FP16"
    case fp32 = "FP32"
    case fp64 = "FP64"
    case bytes = "BYTES"

    /// Nil where elements differ in size.
    var elementBytes: Int? {
        switch self {
        case .bool, .uint8, .int8: 1
        case .uint16, .int16, .fp16: 2
        case .uint32, .int32, .fp32: 4
        case .uint64, .int64, .fp64: 8
        case .bytes: nil
        }
    }

    func accepts(_ kind: JSONCursor.Kind) -> Bool {
        switch (self, kind) {
        case (.bytes, .string), (.bool, .bool): true
        case (.bytes, _), (.bool, _): false
        case (_, .number): true
        case (_, _): false
        }
    }
}

/// One input: what it is and where its data lies in the request's bytes.
struct InferTensor {
    /// Dimensions of a shape at most.
    static let rankMax = 16

    var name = ""
    var type = TensorType.bytes
    var shape: [Int] = []
    /// The data as a JSON value, or nil for binary data.
    var json: Range<Int>?
    var binaryBytes: Int?
    var binary = 0..<0
    var jsonElements = 0

    /// The product of the shape; nil where it is not one that could be sent.
    var elements: Int? {
        var product = 1
        for size in self.shape {
            let (next, overflow) = product.multipliedReportingOverflow(by: size)
            guard size >= 0, !overflow else { return nil }
            product = next
        }
        return product
    }
}

/// What is read of `/v2/models/NAME/infer` (Open Inference Protocol, with Triton's binary
/// extension).
struct InferRequest {
    static let inputsMax = 256

    struct Output {
        var name: String
        var isBinary: Bool?
    }

    var id: String?
    var inputs: [InferTensor] = []
    var outputs: [Output] = []
    /// What outputs are unless they say otherwise; nil means as the inputs are.
    var prefersBinary: Bool?

    /// - Parameter jsonBytes: how much of `bytes` is JSON, from `Inference-Header-Content-Length`.
    init(_ bytes: RawSpan, jsonBytes: Int?) throws(JSONError) {
        let count = jsonBytes ?? bytes.byteCount
        guard count >= 0 && count <= bytes.byteCount else {
            throw JSONError(message: "Inference-Header-Content-Length is too large", offset: 0)
        }
        let header = bytes.extracting(0..<count)
        var cursor = JSONCursor()
        try cursor.object(header) { (cursor, key) throws(JSONError) in
            try self.readMember(&cursor, header, key: header.extracting(key))
        }
        try cursor.end(header)
        try self.placeBinaries(bytes, from: count)
        guard !self.inputs.isEmpty else { throw cursor.error("`inputs` must not be empty") }
    }

    private mutating func readMember(
        _ cursor: inout JSONCursor,
        _ bytes: RawSpan,
        key: RawSpan
    ) throws(JSONError) {
        if key.equals("id") {
            self.id = try cursor.string(bytes)
        } else if key.equals("inputs") {
            try cursor.array(bytes) { (cursor) throws(JSONError) in
                guard self.inputs.count < Self.inputsMax else {
                    throw cursor.error("more than \(Self.inputsMax) inputs")
                }
                self.inputs.append(try Self.tensor(&cursor, bytes))
            }
        } else if key.equals("outputs") {
            try cursor.array(bytes) { (cursor) throws(JSONError) in
                guard self.outputs.count < Self.inputsMax else {
                    throw cursor.error("more than \(Self.inputsMax) outputs")
                }
                self.outputs.append(try Self.output(&cursor, bytes))
            }
        } else if key.equals("parameters") {
            try Self.parameters(&cursor, bytes) { (cursor, name) throws(JSONError) in
                guard name.equals("binary_data_output") else { return false }
                self.prefersBinary = try cursor.bool(bytes)
                return true
            }
        } else {
            try cursor.skip(bytes)
        }
    }

    /// Calls `read` for each parameter; what it does not take is skipped.
    private static func parameters(
        _ cursor: inout JSONCursor,
        _ bytes: RawSpan,
        _ read: (inout JSONCursor, RawSpan) throws(JSONError) -> Bool
    ) throws(JSONError) {
        if try cursor.skipNull(bytes) { return }
        try cursor.object(bytes) { (cursor, key) throws(JSONError) in
            if try !read(&cursor, bytes.extracting(key)) { try cursor.skip(bytes) }
        }
    }

    private static func output(
        _ cursor: inout JSONCursor,
        _ bytes: RawSpan
    ) throws(JSONError) -> Output {
        var output = Output(name: "", isBinary: nil)
        try cursor.object(bytes) { (cursor, key) throws(JSONError) in
            let key = bytes.extracting(key)
            if key.equals("name") {
                output.name = try cursor.string(bytes)
            } else if key.equals("parameters") {
                try Self.parameters(&cursor, bytes) { (cursor, name) throws(JSONError) in
                    guard name.equals("binary_data") else { return false }
                    output.isBinary = try cursor.bool(bytes)
                    return true
                }
            } else {
                try cursor.skip(bytes)
            }
        }
        if output.name.isEmpty { throw cursor.error("an output has no name") }
        return output
    }

    // MARK: Inputs

    private static func tensor(
        _ cursor: inout JSONCursor,
        _ bytes: RawSpan
    ) throws(JSONError) -> InferTensor {
        var tensor = InferTensor()
        var type: TensorType?
        try cursor.object(bytes) { (cursor, key) throws(JSONError) in
            let key = bytes.extracting(key)
            if key.equals("name") {
                tensor.name = try cursor.string(bytes)
            } else if key.equals("datatype") {
                let name = try cursor.string(bytes)
                type = TensorType(rawValue: name)
                if type == nil { throw cursor.error("unknown datatype \(name.prefix(40))") }
            } else if key.equals("shape") {
                tensor.shape = try Self.shape(&cursor, bytes)
            } else if key.equals("data") {
                tensor.json = try cursor.skip(bytes)
            } else if key.equals("parameters") {
                try Self.parameters(&cursor, bytes) { (cursor, name) throws(JSONError) in
                    guard name.equals("binary_data_size") else { return false }
                    tensor.binaryBytes = try cursor.integer(bytes)
                    return true
                }
            } else {
                try cursor.skip(bytes)
            }
        }
        guard !tensor.name.isEmpty, let type else {
            throw cursor.error("an input needs `name`, `datatype`, `shape` and data")
        }
        tensor.type = type
        try Self.checkJSON(tensor, bytes, at: cursor)
        return tensor
    }

    private static func shape(
        _ cursor: inout JSONCursor,
        _ bytes: RawSpan
    ) throws(JSONError) -> [Int] {
        var shape: [Int] = []
        try cursor.array(bytes) { (cursor) throws(JSONError) in
            let size = try cursor.integer(bytes)
            guard size >= 0 else { throw cursor.error("a dimension is negative") }
            guard shape.count < InferTensor.rankMax else {
                throw cursor.error("too many dimensions")
            }
            shape.append(size)
        }
        return shape
    }

    /// Checks JSON data, flat or nested, against datatype and shape.
    private static func checkJSON(
        _ tensor: InferTensor,
        _ bytes: RawSpan,
        at end: JSONCursor
    ) throws(JSONError) {
        guard let range = tensor.json else { return }
        var cursor = JSONCursor()
        let data = bytes.extracting(range)
        let count = try Self.count(&cursor, data, tensor.type)
        if count != tensor.elements {
            throw end.error(
                "input \(tensor.name.prefix(100)) has \(count) elements, not those of its shape"
            )
        }
    }

    private static func count(
        _ cursor: inout JSONCursor,
        _ data: RawSpan,
        _ type: TensorType
    ) throws(JSONError) -> Int {
        let kind = try cursor.peek(data)
        if kind != .array {
            guard type.accepts(kind) else {
                throw cursor.error("data is not of type \(type.rawValue)")
            }
            try cursor.skip(data)
            return 1
        }
        var total = 0
        try cursor.array(data) { (cursor) throws(JSONError) in
            total += try Self.count(&cursor, data, type)
        }
        return total
    }

    /// Finds the binary data behind the JSON and checks its size.
    private mutating func placeBinaries(_ bytes: RawSpan, from start: Int) throws(JSONError) {
        var offset = start
        for index in self.inputs.indices where self.inputs[index].json == nil {
            let tensor = self.inputs[index]
            let name = tensor.name.prefix(100)
            guard let count = tensor.binaryBytes, count >= 0, count <= bytes.byteCount - offset
            else {
                throw JSONError(message: "input \(name) has no data", offset: offset)
            }
            self.inputs[index].binary = offset..<(offset + count)
            let data = bytes.extracting(offset..<(offset + count))
            guard Self.elements(of: data, tensor.type) == tensor.elements else {
                throw JSONError(
                    message: "the data of \(name) does not fit its shape",
                    offset: offset
                )
            }
            offset += count
        }
        if offset != bytes.byteCount {
            throw JSONError(message: "bytes without a tensor at the end", offset: offset)
        }
    }

    /// Elements in binary data; nil where they do not come out even.
    private static func elements(of data: RawSpan, _ type: TensorType) -> Int? {
        if let size = type.elementBytes {
            return data.byteCount % size == 0 ? data.byteCount / size : nil
        }
        var offset = 0
        var count = 0
        while offset < data.byteCount {
            guard data.byteCount - offset >= 4 else { return nil }
            let length = data.unsafeLoadUnaligned(fromByteOffset: offset, as: UInt32.self)
            offset += 4 + Int(UInt32(littleEndian: length))
            count += 1
        }
        return offset == data.byteCount ? count : nil
    }
}

/// One Open Inference request in the station's hands; its answer is made when it comes in.
final class Inference {
    let id: SequenceID
    let response: ResponseWriter
    var truncates = false
    var submittedAt = Instant.zero
    private(set) var body: [UInt8] = []
    private var jsonBytes: Int?

    /// Echoes inputs: output k has input k's data, under the name that was asked for.
    init(
        id: SequenceID,
        response: ResponseWriter,
        model: String,
        request: InferRequest,
        bytes: RawSpan
    ) {
        self.id = id
        self.response = response
        self.writeAnswer(model, request, bytes)
    }

    var contentType: StaticString {
        self.jsonBytes == nil ? "application/json" : "application/octet-stream"
    }

    func addFields(to fields: ByteBuffer) {
        guard let jsonBytes = self.jsonBytes else { return }
        ResponseFields.add("Inference-Header-Content-Length", "\(jsonBytes)", to: fields)
    }

    private func writeAnswer(_ model: String, _ request: InferRequest, _ bytes: RawSpan) {
        let buffer = ByteBuffer(capacity: bytes.byteCount + 256)
        let binaries = ByteBuffer(capacity: 16)
        var json = JSONWriter(buffer)
        json.object { json in
            json.member("model_name", model)
            json.member("model_version", plain: "1")
            if let id = request.id { json.member("id", id) }
            json.key("outputs")
            json.beginArray()
            let wanted =
                request.outputs.isEmpty
                ? request.inputs.map { InferRequest.Output(name: $0.name, isBinary: nil) }
                : request.outputs
            for (index, output) in wanted.enumerated() {
                let input = request.inputs[index % request.inputs.count]
                // Without a wish an output is as its input is.
                let isBinary = output.isBinary ?? request.prefersBinary ?? (input.json == nil)
                Self.write(output.name, input, bytes, isBinary: isBinary, &json, binaries)
            }
            json.endArray()
        }
        if !binaries.isEmpty {
            self.jsonBytes = buffer.count
            buffer.append(binaries.readable)
        }
        self.body = Bytes.array(buffer.readable)
    }

    /// JSON data stays JSON even where binary is asked for; the protocol lets the server choose.
    private static func write(
        _ name: String,
        _ input: InferTensor,
        _ bytes: RawSpan,
        isBinary: Bool,
        _ json: inout JSONWriter,
        _ binaries: ByteBuffer
    ) {
        json.beginObject()
        json.member("name", name)
        json.member("datatype", input.type.rawValue)
        json.member(
            "shape",
            array: { json in
                for size in input.shape { json.integer(size) }
            }
        )
        if let range = input.json {
            json.key("data")
            json.raw(bytes.extracting(range))
        } else if isBinary {
            let data = bytes.extracting(input.binary)
            json.member("parameters", object: { $0.member("binary_data_size", data.byteCount) })
            binaries.append(data)
        } else {
            json.key("data")
            TensorText.write(bytes.extracting(input.binary), input.type, to: &json)
        }
        json.endObject()
    }
}

/// Binary tensor data as JSON.
enum TensorText {
    static func write(_ data: RawSpan, _ type: TensorType, to json: inout JSONWriter) {
        json.beginArray()
        var offset = 0
        while offset < data.byteCount {
            if let size = type.elementBytes {
                self.writeNumber(data, offset, type, to: &json)
                offset += size
            } else {
                let length = Int(self.load(data, offset, as: UInt32.self))
                let start = offset + 4
                json.string(bytes: data.extracting(start..<(start + length)))
                offset = start + length
            }
        }
        json.endArray()
    }

    private static func writeNumber(
        _ data: RawSpan,
        _ offset: Int,
        _ type: TensorType,
        to json: inout JSONWriter
    ) {
        switch type {
        case .bool: json.bool(self.load(data, offset, as: UInt8.self) != 0)
        case .uint8: json.integer(self.load(data, offset, as: UInt8.self))
        case .uint16: json.integer(self.load(data, offset, as: UInt16.self))
        case .uint32: json.integer(self.load(data, offset, as: UInt32.self))
        case .uint64: json.integer(self.load(data, offset, as: UInt64.self))
        case .int8: json.integer(self.load(data, offset, as: Int8.self))
        case .int16: json.integer(self.load(data, offset, as: Int16.self))
        case .int32: json.integer(self.load(data, offset, as: Int32.self))
        case .int64: json.integer(self.load(data, offset, as: Int64.self))
        case .fp16: json.number(self.half(self.load(data, offset, as: UInt16.self)))
        case .fp32:
            json.number(Double(Float(bitPattern: self.load(data, offset, as: UInt32.self))))
        case .fp64: json.number(Double(bitPattern: self.load(data, offset, as: UInt64.self)))
        case .bytes: preconditionFailure("a string is no number")
        }
    }

    /// IEEE 754 half precision, by hand: not every platform has `Float16`.
    static func half(_ bits: UInt16) -> Double {
        let exponent = Int(bits >> 10 & 31)
        let fraction = Double(bits & 1023) / 1024
        let magnitude: Double =
            switch exponent {
            case 0: fraction * 0x1p-14
            case 31: fraction == 0 ? .infinity : .nan
            default: (1 + fraction) * Double(sign: .plus, exponent: exponent - 15, significand: 1)
            }
        return bits >> 15 == 0 ? magnitude : -magnitude
    }

    private static func load<Number: FixedWidthInteger & BitwiseCopyable>(
        _ data: RawSpan,
        _ offset: Int,
        as type: Number.Type
    ) -> Number {
        Number(littleEndian: data.unsafeLoadUnaligned(fromByteOffset: offset, as: type))
    }
}
