import HTTP
import TestSupport
import Testing

/// What the framing table cannot show: steps, ends of the connection, responses.
@Suite struct BodyDecoderTests {
    @Test func noBodyIsDoneAtOnce() {
        var decoder = BodyDecoder(RequestFraming.none)
        #expect(decoder.isDone)
        Self.expect(decoder.next("next"), .end(consumed: 0))
        Self.expect(decoder.finishAtEOF(), .complete)
    }

    @Test func aLengthOfZeroIsNoBody() {
        #expect(BodyDecoder(ResponseFraming.length(0)).isDone)
    }

    @Test func aLengthEndsWithItsLastByte() {
        var decoder = BodyDecoder(ResponseFraming.length(5))
        #expect(decoder.remainingLength == 5)
        Self.expect(decoder.next(""), .needMore(consumed: 0))
        Self.expect(decoder.next("abc"), .data(range: 0..<3, consumed: 3))
        #expect(decoder.remainingLength == 2)
        #expect(!decoder.isDone)
        Self.expect(decoder.next("deHTTP"), .data(range: 0..<2, consumed: 2))
        #expect(decoder.isDone)
        #expect(decoder.bodyBytes == 5)
        Self.expect(decoder.next("HTTP"), .end(consumed: 0))
    }

    @Test func untilCloseTakesAllAndEndsAtTheEnd() {
        for framing in [ResponseFraming.untilClose, .tunnel] {
            var decoder = BodyDecoder(framing)
            Self.expect(decoder.next("ab"), .data(range: 0..<2, consumed: 2))
            Self.expect(decoder.next(""), .needMore(consumed: 0))
            #expect(!decoder.isDone)
            Self.expect(decoder.finishAtEOF(), .complete)
            #expect(decoder.isDone)
        }
    }

    @Test func untilCloseHasALimit() {
        var decoder = BodyDecoder(ResponseFraming.untilClose, limits: BodyLimits(maxBodyBytes: 3))
        Self.expect(decoder.next("abc"), .data(range: 0..<3, consumed: 3))
        Self.expect(decoder.next("d"), .invalid(.bodyTooLarge))
    }

    @Test func aTooLargeLengthIsRefusedBeforeItsFirstByte() {
        var decoder = BodyDecoder(RequestFraming.length(4), limits: BodyLimits(maxBodyBytes: 3))
        #expect(!decoder.isDone)
        Self.expect(decoder.next(""), .invalid(.bodyTooLarge))
        Self.expect(decoder.finishAtEOF(), .truncated)
    }

    @Test func framingIsConsumedWithTheDataInIt() {
        var decoder = BodyDecoder(RequestFraming.chunked)
        #expect(
            decoder.next("3\r\nabc\r\n4\r\ndefg\r") == .data(range: 3..<6, consumed: 8)
        )
        Self.expect(decoder.next("4\r\ndefg\r"), .data(range: 3..<7, consumed: 7))
        Self.expect(decoder.next("\r\n0\r\n\r\nGET"), .end(consumed: 7))
        #expect(decoder.isDone)
        #expect(decoder.remainingLength == nil)
    }

    @Test func aLargeChunkComesInPieces() {
        var decoder = BodyDecoder(RequestFraming.chunked)
        #expect(
            decoder.next("7fffffffffffffff\r\nab") == .data(range: 18..<20, consumed: 20)
        )
        Self.expect(decoder.next("cd"), .data(range: 0..<2, consumed: 2))
        #expect(decoder.bodyBytes == 4)
    }

    @Test func anErrorStays() {
        var decoder = BodyDecoder(RequestFraming.chunked)
        Self.expect(decoder.next("x"), .invalid(.invalidChunkSize))
        Self.expect(decoder.next("0\r\n\r\n"), .invalid(.invalidChunkSize))
        Self.expect(decoder.finishAtEOF(), .truncated)
        #expect(!decoder.isDone)
    }

    /// Every prefix of a chunked body, when the connection ends there, is truncated.
    @Test func closingEarlyIsTruncationEverywhere() {
        let bytes = Array("3;a=\"b\"\r\nabc\r\n0\r\nX: y\r\n\r\n".utf8)
        for count in 0...bytes.count {
            var decoder = BodyDecoder(ResponseFraming.chunked)
            var start = 0
            while start < count {
                switch decoder.next(bytes.span.bytes.extracting(start..<count)) {
                case .data(_, let consumed), .needMore(let consumed), .end(let consumed):
                    start += consumed
                case .invalid(let error):
                    Issue.record("\(error)")
                    return
                }
            }
            Self.expect(decoder.finishAtEOF(), (count == bytes.count ? .complete : .truncated))
            #expect(decoder.isDone == (count == bytes.count))
        }
    }

    @Test func aClosedBodyStaysTruncated() {
        var decoder = BodyDecoder(RequestFraming.length(2))
        Self.expect(decoder.finishAtEOF(), .truncated)
        Self.expect(decoder.next("ab"), .invalid(.truncated))
    }

    /// The macro takes no mutating calls inside.
    private static func expect<Value: Equatable>(
        _ found: Value,
        _ expected: Value,
        at location: SourceLocation = #_sourceLocation
    ) {
        #expect(found == expected, sourceLocation: location)
    }

    @Test func contentReadElsewhereIsSkipped() {
        var decoder = BodyDecoder(RequestFraming.length(9))
        decoder.skip(4)
        #expect(decoder.remainingLength == 5)
        #expect(decoder.next(Array("ab".utf8).span.bytes) == .data(range: 0..<2, consumed: 2))
        decoder.skip(0)
        decoder.skip(3)
        #expect(decoder.isDone)
        #expect(decoder.bodyBytes == 9)
        #expect(decoder.next(Array("GET".utf8).span.bytes) == .end(consumed: 0))
    }

    @Test func labelsAreUnique() {
        #expect(Set(BodyError.allCases.map(\.label.description)).count == BodyError.allCases.count)
        #expect(Set(HeadError.allCases.map(\.label.description)).count == HeadError.allCases.count)
    }
}

extension BodyDecoder {
    /// One step with the bytes of `text`.
    fileprivate mutating func next(_ text: String) -> BodyStep {
        let bytes = Array(text.utf8)
        return self.next(bytes.span.bytes)
    }
}
