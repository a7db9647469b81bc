/// Finds the model's name in the first message of a call: field 1, a string, as every request of
/// `inference.GRPCInferenceService` that is about a model has it (`model_name` or `name`).
///
/// Bytes come in any pieces and are looked at once; the scanner keeps the name and nothing else.
/// Fields other than the first are skipped by their length, however long. It reads on behind the
/// name for as long as it is given bytes: a second field 1, which would be the one that counts for
/// the server (protobuf keeps the last), is refused, so that nobody is sent to one model with
/// another one's name.
package struct ModelNameScanner: Sendable {
    package enum Problem: UInt8, CaseIterable, Error, Sendable {
        /// The first byte of the message was neither 0 nor 1.
        case prefix
        /// A varint is longer than ten bytes, or a field's number is 0 or too large.
        case varint
        /// A field's type is none that a message of this protocol can have.
        case wireType
        /// The last field is longer than the message.
        case length
        /// Field 1 is no string.
        case notText
        /// Field 1 comes twice.
        case repeatedName
        /// More than `fieldsMax` fields.
        case tooManyFields
        /// The call ended inside its first message.
        case truncated

        /// Stable name for logs.
        package var label: StaticString {
            switch self {
            case .prefix: "grpc-prefix"
            case .varint: "protobuf-varint"
            case .wireType: "protobuf-wire-type"
            case .length: "protobuf-length"
            case .notText: "protobuf-name-type"
            case .repeatedName: "protobuf-name-repeated"
            case .tooManyFields: "protobuf-fields"
            case .truncated: "grpc-truncated"
            }
        }

        /// A sentence for people.
        package var message: StaticString {
            switch self {
            case .prefix: "The message does not begin with gRPC's prefix."
            case .varint: "The message holds a number that is not valid protobuf."
            case .wireType: "The message holds a field of a type that it cannot have."
            case .length: "A field of the message is longer than the message."
            case .notText: "The model's name (field 1 of the message) is not text."
            case .repeatedName: "The message names its model (field 1) twice."
            case .tooManyFields: "The message has too many fields in front of the model's name."
            case .truncated: "The call ended within its first message."
            }
        }
    }

    package enum OnScan: Equatable, Sendable {
        case needMore
        /// `name` has it. More bytes may be scanned for a second one.
        case found
        /// The message has ended: with a name or, where `name` is empty, without.
        case complete
        /// The message is compressed, so nothing of it can be read.
        case compressed
        case invalid(Problem)
    }

    /// Longest name that is kept; a longer one is cut and equals none that there is.
    package static let nameBytesMax = 257
    /// Fields looked at, at most, until the name is there.
    package static let fieldsMax = 10_000

    private enum State {
        case prefix
        case key
        case varint
        case length
        case skipping
        case name
        case done
    }

    private var state = State.prefix
    private var prefixCount = 0
    /// Bytes of the message that have not been scanned.
    private var remaining: UInt64 = 0
    private var value: UInt64 = 0
    private var valueBytes = 0
    private var isName = false
    /// Bytes of the field at hand that have not been scanned.
    private var fieldRemaining: UInt64 = 0
    private var fields = 0
    private var outcome = OnScan.needMore
    package private(set) var name: [UInt8] = []
    private var hasName = false

    package init() {}

    /// Starts anew for another call.
    package mutating func reset() {
        let name = self.name
        self = ModelNameScanner()
        self.name = name
        self.name.removeAll(keepingCapacity: true)
    }

    /// Takes the next bytes of the call's body. Once it has said `complete`, `compressed` or
    /// `invalid` it says so again.
    package mutating func scan(_ bytes: RawSpan) -> OnScan {
        var offset = 0
        while offset < bytes.byteCount, self.state != .done {
            switch self.state {
            case .prefix:
                self.takePrefix(bytes.byte(at: offset))
                offset += 1
            case .key, .varint, .length:
                self.takeVarint(bytes.byte(at: offset))
                offset += 1
            case .skipping, .name:
                offset += self.takeField(bytes, from: offset)
            case .done:
                break
            }
        }
        return self.outcome
    }

    /// Nothing more comes.
    package mutating func finish() -> OnScan {
        if self.state != .done { self.end(.invalid(.truncated)) }
        return self.outcome
    }

    // MARK: Parts

    private mutating func end(_ outcome: OnScan) {
        self.outcome = outcome
        self.state = .done
    }

    private mutating func takePrefix(_ byte: UInt8) {
        self.prefixCount += 1
        if self.prefixCount == 1 {
            if byte > 1 { return self.end(.invalid(.prefix)) }
            if byte == 1 { return self.end(.compressed) }
            return
        }
        self.remaining = self.remaining << 8 | UInt64(byte)
        if self.prefixCount == MessageObserver.prefixBytes { self.beginField() }
    }

    /// The next field, or the end of the message.
    private mutating func beginField() {
        if self.remaining == 0 { return self.end(.complete) }
        self.beginVarint(.key)
    }

    private mutating func beginVarint(_ state: State) {
        self.state = state
        self.value = 0
        self.valueBytes = 0
    }

    /// Base-128 varints of at most ten bytes, the tenth at most 1: 64 bits.
    private mutating func takeVarint(_ byte: UInt8) {
        self.remaining -= 1
        if self.valueBytes == 9, byte > 1 { return self.end(.invalid(.varint)) }
        self.value |= UInt64(byte & 0x7F) << UInt64(7 * self.valueBytes)
        self.valueBytes += 1
        if byte & 0x80 != 0 {
            if self.remaining == 0 { self.end(.invalid(.length)) }
            return
        }
        switch self.state {
        case .key: self.keyEnded()
        case .varint: self.beginField()
        case .length: self.lengthEnded()
        case .prefix, .skipping, .name, .done: preconditionFailure("no varint in \(self.state)")
        }
    }

    private mutating func keyEnded() {
        let number = self.value >> 3
        guard number >= 1, number <= 536_870_911 else { return self.end(.invalid(.varint)) }
        self.fields += 1
        if !self.hasName, self.fields > Self.fieldsMax {
            return self.end(.invalid(.tooManyFields))
        }
        let type = self.value & 7
        self.isName = number == 1
        if self.isName, type != 2 { return self.end(.invalid(.notText)) }
        if self.isName, self.hasName { return self.end(.invalid(.repeatedName)) }
        switch type {
        case 0: self.beginValue { $0.beginVarint(.varint) }
        case 1: self.skip(8)
        case 2: self.beginValue { $0.beginVarint(.length) }
        case 5: self.skip(4)
        // Groups, which proto3 does not have, and types that nothing has.
        default: self.end(.invalid(.wireType))
        }
    }

    private mutating func beginValue(_ begin: (inout ModelNameScanner) -> Void) {
        if self.remaining == 0 { return self.end(.invalid(.length)) }
        begin(&self)
    }

    private mutating func lengthEnded() {
        if self.isName {
            guard self.value <= self.remaining else { return self.end(.invalid(.length)) }
            self.fieldRemaining = self.value
            self.state = .name
            if self.value == 0 { self.fieldEnded() }
            return
        }
        self.skip(self.value)
    }

    private mutating func skip(_ count: UInt64) {
        guard count <= self.remaining else { return self.end(.invalid(.length)) }
        self.fieldRemaining = count
        self.state = .skipping
        if count == 0 { self.beginField() }
    }

    private mutating func takeField(_ bytes: RawSpan, from offset: Int) -> Int {
        let count = Int(min(self.fieldRemaining, UInt64(bytes.byteCount - offset)))
        if self.state == .name {
            let kept = min(count, Self.nameBytesMax - self.name.count)
            for index in 0..<kept { self.name.append(bytes.byte(at: offset + index)) }
        }
        self.fieldRemaining -= UInt64(count)
        self.remaining -= UInt64(count)
        if self.fieldRemaining == 0 { self.fieldEnded() }
        return count
    }

    private mutating func fieldEnded() {
        if self.state == .name {
            self.hasName = true
            self.outcome = .found
        }
        self.beginField()
    }
}
