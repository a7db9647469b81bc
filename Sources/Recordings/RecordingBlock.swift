import Core

/// Requests as bytes, before they are compressed.
///
///     names:    count, then length and bytes of each
///     requests: count, then each as `RequestCoder` has it
///
/// All numbers are variable-length integers of 7 bits a byte, the lowest first (LEB128, as in the
/// DWARF standard, section 7.6); differences are zigzag-coded, so that small ones are short.
package struct RecordingBlock: Sendable {
    package enum Limits {
        package static let requests = 4_096
        package static let names = 4_096
        package static let nameBytes = 512
        package static let prefixHashes = 64
        /// Of a block before it is compressed.
        package static let bytes = 4 << 20
    }

    package private(set) var requestCount = 0
    /// The earliest and the latest arrival, in microseconds since 1970; 0 while it is empty.
    package private(set) var firstArrival: UInt64 = 0
    package private(set) var lastArrival: UInt64 = 0

    private var names: [[UInt8]] = []
    private var indices: [[UInt8]: Int] = [:]
    private var nameBytes = 0
    private var rows: [UInt8] = []
    private var previousArrival: UInt64 = 0
    /// The names of the request before, which the next one mostly has too; -1 before the first.
    private var recent = InlineArray<4, Int>(repeating: -1)

    package init() {}

    /// No further request may be added.
    package var isFull: Bool {
        self.requestCount == Limits.requests
            || self.rows.count + self.nameBytes + Self.requestBytesMax > Limits.bytes
            || self.names.count + Self.namesPerRequest > Limits.names
    }

    /// Bytes so far, about.
    package var byteCount: Int { self.rows.count + self.nameBytes }

    private static let namesPerRequest = 4
    private static let requestBytesMax =
        20 * 10 + namesPerRequest * (Limits.nameBytes + 2) + Limits.prefixHashes * 8

    // MARK: Writing

    /// Adds a request. Longer names and lists than the limits allow are cut.
    package mutating func append(_ request: RecordedRequest) {
        precondition(!self.isFull, "a request for a block that is full")
        if self.requestCount == 0 {
            (self.firstArrival, self.lastArrival) = (request.arrival, request.arrival)
            self.previousArrival = 0
        }
        self.firstArrival = min(self.firstArrival, request.arrival)
        self.lastArrival = max(self.lastArrival, request.arrival)
        self.requestCount += 1
        let flags = Flags(request)
        Varint.append(UInt64(flags.rawValue), to: &self.rows)
        let step = Int64(bitPattern: request.arrival &- self.previousArrival)
        Varint.append(Varint.zigzag(step), to: &self.rows)
        self.previousArrival = request.arrival
        self.append(name: request.model, column: 0)
        self.append(name: request.variant, column: 1)
        self.append(name: request.route, column: 2)
        self.append(name: request.error, column: 3)
        Varint.append(UInt64(request.status), to: &self.rows)
        Varint.append(UInt64(request.attempts), to: &self.rows)
        Varint.append(request.total, to: &self.rows)
        Varint.append(request.bytesIn, to: &self.rows)
        Varint.append(request.bytesOut, to: &self.rows)
        if request.tenant != 0 { self.append(fixed: request.tenant) }
        self.append(optional: request.queue)
        self.append(optional: request.firstByte)
        self.append(optional: request.firstToken)
        self.append(optional: request.inputTokens)
        self.append(optional: request.outputTokens)
        if flags.contains(.prefix) {
            let hashes = request.prefix.prefix(Limits.prefixHashes)
            Varint.append(UInt64(hashes.count), to: &self.rows)
            for hash in hashes { self.append(fixed: hash) }
        }
    }

    /// The bytes of all requests so far.
    package func encoded() -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(self.byteCount + 16)
        Varint.append(UInt64(self.names.count), to: &bytes)
        for name in self.names {
            Varint.append(UInt64(name.count), to: &bytes)
            bytes += name
        }
        Varint.append(UInt64(self.requestCount), to: &bytes)
        bytes += self.rows
        return bytes
    }

    package mutating func removeAll() {
        self = RecordingBlock()
    }

    private mutating func append(name: [UInt8], column: Int) {
        let last = self.recent[column]
        // Names of one model are one array, which is compared by its address.
        let isSame = last >= 0 && self.names[last] == name
        let index = isSame ? last : self.index(of: name)
        self.recent[column] = index
        Varint.append(UInt64(index), to: &self.rows)
    }

    private mutating func append(optional value: UInt64?) {
        if let value { Varint.append(value, to: &self.rows) }
    }

    private mutating func index(of name: [UInt8]) -> Int {
        if let index = self.indices[name] { return index }
        let index = self.names.count
        let kept = name.count > Limits.nameBytes ? Array(name.prefix(Limits.nameBytes)) : name
        self.indices[name] = index
        self.names.append(kept)
        self.nameBytes += kept.count + 2
        return index
    }

    private mutating func append(fixed value: UInt64) {
        for shift in stride(from: 0, to: 64, by: 8) {
            self.rows.append(UInt8(truncatingIfNeeded: value >> UInt64(shift)))
        }
    }

    private struct Flags: OptionSet {
        let rawValue: UInt8

        static let stream = Flags(rawValue: 1)
        static let tenant = Flags(rawValue: 2)
        static let queue = Flags(rawValue: 4)
        static let firstByte = Flags(rawValue: 8)
        static let firstToken = Flags(rawValue: 16)
        static let inputTokens = Flags(rawValue: 32)
        static let outputTokens = Flags(rawValue: 64)
        static let prefix = Flags(rawValue: 128)

        init(rawValue: UInt8) {
            self.rawValue = rawValue
        }

        init(_ request: RecordedRequest) {
            self = []
            if request.isStream { self.insert(.stream) }
            if request.tenant != 0 { self.insert(.tenant) }
            if request.queue != nil { self.insert(.queue) }
            if request.firstByte != nil { self.insert(.firstByte) }
            if request.firstToken != nil { self.insert(.firstToken) }
            if request.inputTokens != nil { self.insert(.inputTokens) }
            if request.outputTokens != nil { self.insert(.outputTokens) }
            if !request.prefix.isEmpty { self.insert(.prefix) }
        }
    }

    // MARK: Reading

    /// The requests of a block, in the order in which they were added.
    package static func requests(
        of bytes: [UInt8]
    ) throws(RecordingError) -> [RecordedRequest] {
        guard bytes.count <= Limits.bytes else {
            throw RecordingError("a block of \(bytes.count) bytes: \(Limits.bytes) are the most")
        }
        var reader = VarintReader(bytes)
        let nameCount = try reader.count(Limits.names, "names")
        var names: [[UInt8]] = []
        names.reserveCapacity(nameCount)
        for _ in 0..<nameCount {
            names.append(try reader.bytes(reader.count(Limits.nameBytes, "bytes of a name")))
        }
        let count = try reader.count(Limits.requests, "requests")
        var requests: [RecordedRequest] = []
        requests.reserveCapacity(count)
        var arrival: UInt64 = 0
        for _ in 0..<count {
            requests.append(try self.request(&reader, names, &arrival))
        }
        guard reader.isAtEnd else { throw reader.error("bytes behind the last request") }
        return requests
    }

    private static func request(
        _ reader: inout VarintReader,
        _ names: [[UInt8]],
        _ arrival: inout UInt64
    ) throws(RecordingError) -> RecordedRequest {
        var request = RecordedRequest()
        let flags = Flags(rawValue: UInt8(try reader.count(255, "as flags")))
        request.isStream = flags.contains(.stream)
        arrival &+= UInt64(bitPattern: Varint.unzigzag(try reader.next()))
        request.arrival = arrival
        request.model = try self.name(&reader, names)
        request.variant = try self.name(&reader, names)
        request.route = try self.name(&reader, names)
        request.error = try self.name(&reader, names)
        request.status = UInt16(try reader.count(Int(UInt16.max), "as status"))
        request.attempts = UInt32(try reader.count(Int(UInt32.max), "attempts"))
        request.total = try reader.next()
        request.bytesIn = try reader.next()
        request.bytesOut = try reader.next()
        if flags.contains(.tenant) { request.tenant = try reader.fixed() }
        if flags.contains(.queue) { request.queue = try reader.next() }
        if flags.contains(.firstByte) { request.firstByte = try reader.next() }
        if flags.contains(.firstToken) { request.firstToken = try reader.next() }
        if flags.contains(.inputTokens) { request.inputTokens = try reader.next() }
        if flags.contains(.outputTokens) { request.outputTokens = try reader.next() }
        if flags.contains(.prefix) {
            for _ in 0..<(try reader.count(Limits.prefixHashes, "hashes")) {
                request.prefix.append(try reader.fixed())
            }
        }
        return request
    }

    private static func name(
        _ reader: inout VarintReader,
        _ names: [[UInt8]]
    ) throws(RecordingError) -> [UInt8] {
        let index = try reader.count(Limits.names, "as a name")
        guard index < names.count else { throw reader.error("a name that is not in the list") }
        return names[index]
    }
}
