import Autoscaling
import HTTPService

/// Learned capacities as JSON: curves as rows of numbers.
extension LearnedCapacity {
    func write(to writer: inout JSONWriter) {
        writer.object {
            if let limit = self.latencyLimit { $0.member("latencyLimit", limit) }
            if let limit = self.firstTokenLimit { $0.member("firstTokenLimit", limit) }
            $0.key("latency")
            self.latency.write(to: &$0)
            if let curve = self.firstToken {
                $0.key("firstToken")
                curve.write(to: &$0)
            }
        }
    }

    init(_ cursor: inout JSONCursor, _ text: [UInt8]) throws(JSONError) {
        self.init()
        let bytes = text.span.bytes
        var learned = LearnedCapacity()
        try cursor.object(bytes) { (cursor, key) throws(JSONError) in
            switch String(decoding: text[key], as: UTF8.self) {
            case "latencyLimit": learned.latencyLimit = try cursor.number(bytes)
            case "firstTokenLimit": learned.firstTokenLimit = try cursor.number(bytes)
            case "latency": learned.latency = try Curve(&cursor, text)
            case "firstToken": learned.firstToken = try Curve(&cursor, text)
            default: _ = try cursor.skip(bytes)
            }
        }
        self = learned
    }
}

extension LearnedCapacity.Curve {
    func write(to writer: inout JSONWriter) {
        writer.object {
            $0.member(
                "bins",
                array: { writer in
                    for bin in self.bins {
                        writer.array {
                            $0.integer(bin.index)
                            for value in [bin.count, bin.sum, bin.good] { $0.number(value) }
                        }
                    }
                }
            )
            $0.member(
                "shape",
                array: { writer in
                    for bucket in self.shape {
                        writer.array {
                            $0.integer(bucket.index)
                            $0.number(bucket.count)
                        }
                    }
                }
            )
        }
    }

    init(_ cursor: inout JSONCursor, _ text: [UInt8]) throws(JSONError) {
        self.init()
        let bytes = text.span.bytes
        var curve = LearnedCapacity.Curve()
        try cursor.object(bytes) { (cursor, key) throws(JSONError) in
            switch String(decoding: text[key], as: UTF8.self) {
            case "bins":
                for row in try Self.rows(&cursor, text, width: 4, most: Self.binsMax) {
                    curve.bins.append(
                        Bin(index: Int(row[0]), count: row[1], sum: row[2], good: row[3])
                    )
                }
            case "shape":
                for row in try Self.rows(&cursor, text, width: 2, most: Self.bucketsMax) {
                    curve.shape.append(Bucket(index: Int(row[0]), count: row[1]))
                }
            default: _ = try cursor.skip(bytes)
            }
        }
        guard curve.isSound else { throw cursor.error("a curve that nobody can have learned") }
        self = curve
    }

    /// Rows of so many numbers, the first of each an index.
    private static func rows(
        _ cursor: inout JSONCursor,
        _ text: [UInt8],
        width: Int,
        most: Int
    ) throws(JSONError) -> [[Double]] {
        let bytes = text.span.bytes
        var rows: [[Double]] = []
        try cursor.array(bytes) { (cursor) throws(JSONError) in
            var row: [Double] = []
            try cursor.array(bytes) { (cursor) throws(JSONError) in
                guard row.count < width else { throw cursor.error("a row of more than \(width)") }
                row.append(try cursor.number(bytes))
            }
            guard row.count == width, row[0].magnitude < 1_000, rows.count < most else {
                throw cursor.error("a row that is none of a curve")
            }
            rows.append(row)
        }
        return rows
    }
}
