/// The bounds of a body.
package struct BodyLimits: Equatable, Sendable {
    /// Bytes of content, framing not counted.
    package var maxBodyBytes: UInt64
    /// Bytes of all chunk extensions of a body. They mean nothing to anybody and are dropped.
    package var maxChunkExtensionBytes: Int
    /// Bytes of the trailer section as received.
    package var maxTrailerBytes: Int
    /// Field lines of the trailer section.
    package var maxTrailers: Int

    package init(
        maxBodyBytes: UInt64 = .max,
        maxChunkExtensionBytes: Int = 4096,
        maxTrailerBytes: Int = 8192,
        maxTrailers: Int = 32
    ) {
        self.maxBodyBytes = maxBodyBytes
        self.maxChunkExtensionBytes = maxChunkExtensionBytes
        self.maxTrailerBytes = maxTrailerBytes
        self.maxTrailers = maxTrailers
    }
}

/// What one call of `BodyDecoder.next` found. `consumed` counts bytes from the front of its input;
/// the caller drops them and calls again with the rest.
package enum BodyStep: Equatable, Sendable {
    /// Content at these offsets of the input, never empty. Framing before it is consumed with it,
    /// and the line end behind a chunk if it is there.
    case data(range: Range<Int>, consumed: Int)
    /// All of the input was framing and is consumed; more is needed.
    case needMore(consumed: Int)
    /// The body is complete; what follows in the input belongs to the next message.
    case end(consumed: Int)
    case invalid(BodyError)
}

/// What the end of the connection means for a body.
package enum BodyEnd: Equatable, Sendable {
    case complete
    case truncated
}

/// Finds the content of a message body in the bytes of its connection.
///
/// States: for a length or until close, the bytes left; for chunks (RFC 9112, section 7.1), size →
/// extension → data → its line end, round again, and after the last chunk the trailer section. It
/// keeps no input but trailers, so that the caller's buffer can be of any size.
package struct BodyDecoder: Sendable {
    private var state: State {
        didSet { self.isDone = self.hasEnded }
    }
    /// Whether the body has ended; no byte that follows is its. Stored, as every read asks: a
    /// computed property would copy the decoder to look at it from another module.
    package private(set) var isDone = false
    /// Bytes of content left in the body or the chunk.
    private var remaining: UInt64
    /// Content bytes found so far.
    package private(set) var bodyBytes: UInt64 = 0
    private var sizeDigits = 0
    private var extensions = ChunkExtension()
    private var extensionBytes = 0
    private var trailerSection = TrailerSection()
    private let limits: BodyLimits

    private enum State {
        case length, untilClose
        case size, sizeEnd, chunkExtension, data, dataEnd, dataLineFeed, trailers
        case done
        case failed(BodyError)
    }

    /// Hexadecimal digits of a chunk size: as many as 64 bits have.
    private static let maxSizeDigits = 16

    package init(_ framing: RequestFraming, limits: BodyLimits = BodyLimits()) {
        self.limits = limits
        self.remaining = 0
        self.state = .done
        self.reset(framing)
    }

    /// A tunnel is read like a body until close.
    package init(_ framing: ResponseFraming, limits: BodyLimits = BodyLimits()) {
        self.limits = limits
        self.remaining = 0
        self.state = .done
        self.reset(framing)
    }

    private var hasEnded: Bool {
        if case .done = self.state { true } else { false }
    }

    /// Starts anew for another message, in place.
    package mutating func reset(_ framing: RequestFraming) {
        switch framing {
        case .none: self.begin(.done, length: 0)
        case .length(let length): self.begin(length == 0 ? .done : .length, length: length)
        case .chunked: self.begin(.size, length: 0)
        }
    }

    /// Starts anew for another response, in place. A tunnel is read like a body until close.
    package mutating func reset(_ framing: ResponseFraming) {
        switch framing {
        case .none: self.reset(RequestFraming.none)
        case .length(let length): self.reset(RequestFraming.length(length))
        case .chunked: self.reset(RequestFraming.chunked)
        case .untilClose, .tunnel: self.begin(.untilClose, length: 0)
        }
    }

    private mutating func begin(_ state: State, length: UInt64) {
        self.remaining = length
        self.bodyBytes = 0
        self.sizeDigits = 0
        self.extensionBytes = 0
        if self.trailerSection.hasBegun { self.trailerSection = TrailerSection() }
        self.state = length > self.limits.maxBodyBytes ? .failed(.bodyTooLarge) : state
    }

    /// Content bytes still to come for a body of given length, else nil.
    package var remainingLength: UInt64? {
        if case .length = self.state { self.remaining } else { nil }
    }

    /// The trailer fields that may be forwarded, each as `name: value` and a line end. Complete
    /// once `isDone`.
    package var trailers: [UInt8] { self.trailerSection.lines }

    /// Says that the caller has read `count` bytes that are content for certain, as many as were
    /// `remainingLength` or fewer, without showing them.
    package mutating func skip(_ count: Int) {
        guard case .length = self.state, count >= 0, UInt64(count) <= self.remaining else {
            preconditionFailure("skipped \(count) bytes of a body with fewer left")
        }
        self.remaining -= UInt64(count)
        self.bodyBytes += UInt64(count)
        if self.remaining == 0 { self.state = .done }
    }

    /// Looks at the front of `input`. A body without content ends with the first call.
    package mutating func next(_ input: RawSpan) -> BodyStep {
        switch self.state {
        case .done: return .end(consumed: 0)
        case .failed(let error): return .invalid(error)
        case .length: return self.take(input, from: 0)
        case .untilClose: return self.takeAll(input)
        case .size, .sizeEnd, .chunkExtension, .data, .dataEnd, .dataLineFeed, .trailers:
            return self.nextChunked(input)
        }
    }

    /// The peer closed. A body until close is complete then; any other that is not done is
    /// truncated.
    package mutating func finishAtEOF() -> BodyEnd {
        switch self.state {
        case .untilClose, .done:
            self.state = .done
            return .complete
        case .failed:
            return .truncated
        case .length, .size, .sizeEnd, .chunkExtension, .data, .dataEnd, .dataLineFeed,
            .trailers:
            self.state = .failed(.truncated)
            return .truncated
        }
    }

    // MARK: Plain content

    private mutating func take(_ input: RawSpan, from start: Int) -> BodyStep {
        let available = input.byteCount - start
        if available == 0 { return .needMore(consumed: start) }
        let count = Int(min(UInt64(available), self.remaining))
        self.remaining -= UInt64(count)
        self.bodyBytes += UInt64(count)
        if self.remaining == 0 {
            if case .length = self.state {
                self.state = .done
            } else if Self.hasLineEnd(input, at: start + count) {
                self.state = .size
                return .data(range: start..<(start + count), consumed: start + count + 2)
            } else {
                self.state = .dataEnd
            }
        }
        return .data(range: start..<(start + count), consumed: start + count)
    }

    @inline(__always)
    private static func hasLineEnd(_ input: RawSpan, at index: Int) -> Bool {
        index &+ 2 <= input.byteCount && input.byte(at: index) == ASCII.carriageReturn
            && input.byte(at: index &+ 1) == ASCII.lineFeed
    }

    private mutating func takeAll(_ input: RawSpan) -> BodyStep {
        let count = input.byteCount
        if count == 0 { return .needMore(consumed: 0) }
        guard UInt64(count) <= self.limits.maxBodyBytes - self.bodyBytes else {
            return self.fail(.bodyTooLarge)
        }
        self.bodyBytes += UInt64(count)
        return .data(range: 0..<count, consumed: count)
    }

    private mutating func fail(_ error: BodyError) -> BodyStep {
        self.state = .failed(error)
        return .invalid(error)
    }
}

// MARK: Chunks

extension BodyDecoder {
    private mutating func nextChunked(_ input: RawSpan) -> BodyStep {
        var index = 0
        while index < input.byteCount {
            if case .size = self.state, self.sizeDigits == 0 { self.takeHeader(input, &index) }
            if case .data = self.state { return self.take(input, from: index) }
            if let error = self.step(input.byte(at: index)) { return self.fail(error) }
            index += 1
            if case .done = self.state { return .end(consumed: index) }
        }
        return .needMore(consumed: index)
    }

    /// Passes the header of a chunk that is here whole, without extensions and with a size of a few
    /// digits. Anything else is left to the states, which know what is wrong with it.
    private mutating func takeHeader(_ input: RawSpan, _ index: inout Int) {
        var place = index
        var size: UInt64 = 0
        let end = min(input.byteCount, index &+ Self.quickDigitsMax)
        while place < end, let digit = ASCII.hexValue(input.byte(at: place)) {
            size = size &<< 4 | UInt64(digit)
            place &+= 1
        }
        guard size > 0, size <= self.limits.maxBodyBytes - self.bodyBytes,
            Self.hasLineEnd(input, at: place), place &+ 2 < input.byteCount
        else { return }
        self.remaining = size
        self.state = .data
        index = place &+ 2
    }

    private static let quickDigitsMax = 8

    /// One byte of framing.
    private mutating func step(_ byte: UInt8) -> BodyError? {
        switch self.state {
        case .size: return self.stepSize(byte)
        case .sizeEnd: return self.stepSizeEnd(byte)
        case .chunkExtension: return self.stepExtension(byte)
        case .dataEnd:
            if byte != ASCII.carriageReturn {
                return byte == ASCII.lineFeed ? .bareLineFeed : .invalidChunkEnd
            }
            self.state = .dataLineFeed
        case .dataLineFeed:
            if byte != ASCII.lineFeed { return .bareCarriageReturn }
            self.state = .size
        case .trailers:
            if let error = self.trailerSection.step(byte, limits: self.limits) { return error }
            if self.trailerSection.isDone { self.state = .done }
        case .length, .untilClose, .data, .done, .failed:
            preconditionFailure("no framing is expected in state \(self.state)")
        }
        return nil
    }

    /// chunk-size is 1*HEXDIG and nothing else. The whitespace that RFC 9112, section 7.1.1, lets
    /// stand before an extension is refused as well: parsers differ over it.
    private mutating func stepSize(_ byte: UInt8) -> BodyError? {
        if let digit = ASCII.hexValue(byte) {
            self.sizeDigits += 1
            if self.sizeDigits > Self.maxSizeDigits { return .chunkSizeOverflow }
            // Sixteen digits fill the 64 bits exactly: nothing is shifted out.
            self.remaining = self.remaining << 4 | UInt64(digit)
            return self.remaining > UInt64(Int64.max) ? .chunkSizeOverflow : nil
        }
        guard self.sizeDigits > 0 else { return .invalidChunkSize }
        switch byte {
        case ASCII.carriageReturn: self.state = .sizeEnd
        case UInt8(ascii: ";"):
            self.extensions = ChunkExtension()
            self.state = .chunkExtension
            return self.countExtensionByte()
        case ASCII.lineFeed: return .bareLineFeed
        default: return .invalidChunkSize
        }
        return nil
    }

    private mutating func stepExtension(_ byte: UInt8) -> BodyError? {
        if byte == ASCII.carriageReturn, self.extensions.mayEnd {
            self.state = .sizeEnd
            return nil
        }
        if let error = self.extensions.step(byte) { return error }
        return self.countExtensionByte()
    }

    private mutating func countExtensionByte() -> BodyError? {
        self.extensionBytes += 1
        return self.extensionBytes > self.limits.maxChunkExtensionBytes
            ? .chunkExtensionsTooLarge : nil
    }

    private mutating func stepSizeEnd(_ byte: UInt8) -> BodyError? {
        guard byte == ASCII.lineFeed else { return .bareCarriageReturn }
        self.sizeDigits = 0
        if self.remaining == 0 {
            self.state = .trailers
            return nil
        }
        guard self.remaining <= self.limits.maxBodyBytes - self.bodyBytes else {
            return .bodyTooLarge
        }
        self.state = .data
        return nil
    }
}

/// The grammar of chunk extensions behind the first `;` (RFC 9112, section 7.1.1): names, perhaps
/// with a token or a quoted string, whitespace around `;` and `=` allowed.
struct ChunkExtension: Sendable {
    private var state = State.beforeName

    private enum State {
        case beforeName, name, afterName, beforeValue, value, quoted, escaped, afterValue
    }

    /// Whether the line may end here.
    var mayEnd: Bool {
        switch self.state {
        case .name, .value, .afterValue: true
        case .beforeName, .afterName, .beforeValue, .quoted, .escaped: false
        }
    }

    mutating func step(_ byte: UInt8) -> BodyError? {
        guard let next = self.successor(byte) else {
            switch byte {
            case ASCII.lineFeed: return .bareLineFeed
            default: return .invalidChunkExtension
            }
        }
        self.state = next
        return nil
    }

    private func successor(_ byte: UInt8) -> State? {
        let isSpace = ASCII.isWhitespace(byte)
        let isToken = ASCII.isToken(byte)
        switch self.state {
        case .beforeName: return isSpace ? .beforeName : isToken ? .name : nil
        case .name: return isToken ? .name : self.behindName(byte)
        case .afterName: return self.behindName(byte)
        case .beforeValue:
            if isSpace { return .beforeValue }
            return isToken ? .value : byte == UInt8(ascii: "\"") ? .quoted : nil
        case .value: return isToken ? .value : self.behindValue(byte)
        case .quoted:
            if byte == UInt8(ascii: "\"") { return .afterValue }
            if byte == UInt8(ascii: "\\") { return .escaped }
            return ASCII.isFieldContent(byte) ? .quoted : nil
        case .escaped: return ASCII.isFieldContent(byte) ? .quoted : nil
        case .afterValue: return self.behindValue(byte)
        }
    }

    private func behindName(_ byte: UInt8) -> State? {
        if ASCII.isWhitespace(byte) { return .afterName }
        if byte == UInt8(ascii: "=") { return .beforeValue }
        return byte == UInt8(ascii: ";") ? .beforeName : nil
    }

    private func behindValue(_ byte: UInt8) -> State? {
        if ASCII.isWhitespace(byte) { return .afterValue }
        return byte == UInt8(ascii: ";") ? .beforeName : nil
    }
}
