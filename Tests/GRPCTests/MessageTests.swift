import Core
import Testing

@testable import GRPC

@Suite struct MessageObserverTests {
    @Test func countsMessagesInEverySplit() {
        let stream = Wire.message([1, 2, 3]) + Wire.message([]) + Wire.message([9], flag: 1)
        for cut in 0...stream.count {
            var observer = MessageObserver()
            for (number, piece) in [Array(stream[..<cut]), Array(stream[cut...])].enumerated() {
                observer.observe(piece.span.bytes, now: Instant(nanoseconds: UInt64(number) + 1))
            }
            #expect(observer.messages == 3 && !observer.isInsideMessage && !observer.isMalformed)
            #expect(observer.firstMessageAt?.nanoseconds == (cut >= 8 ? 1 : 2), "cut at \(cut)")
        }
    }

    @Test func knowsThatItIsInsideAMessage() {
        let stream = Wire.message([1, 2, 3])
        var observer = MessageObserver()
        for (index, byte) in stream.enumerated() {
            #expect(observer.isInsideMessage == (index > 0))
            let piece = [byte]
            observer.observe(piece.span.bytes, now: .zero)
        }
        #expect(!observer.isInsideMessage && observer.messages == 1)
    }

    @Test func aWrongPrefixEndsIt() {
        let stream = Wire.message([1]) + Wire.message([2], flag: 2) + Wire.message([3])
        var observer = MessageObserver()
        observer.observe(stream.span.bytes, now: .zero)
        #expect(observer.isMalformed && observer.messages == 1)
        observer.reset()
        #expect(!observer.isMalformed && observer.messages == 0 && observer.firstMessageAt == nil)
    }

    /// The largest length there is needs no memory.
    @Test func aHugeMessageIsOnlyCounted() {
        let prefix: [UInt8] = [0, 255, 255, 255, 255]
        let chunk = [UInt8](repeating: 2, count: 1 << 20)
        var observer = MessageObserver()
        observer.observe(prefix.span.bytes, now: .zero)
        for _ in 0..<4_095 { observer.observe(chunk.span.bytes, now: .zero) }
        #expect(observer.messages == 0)
        observer.observe(chunk.span.bytes.extracting(0..<(chunk.count - 1)), now: .zero)
        #expect(observer.messages == 1)
    }

    @Test func randomSplitsMakeNoDifference() {
        var random = RandomSource(seed: 7_331)
        for _ in 0..<2_000 {
            var stream: [UInt8] = []
            let count = random.int(below: 6)
            for _ in 0..<count {
                let body = (0..<random.int(below: 40)).map { _ in UInt8(random.int(below: 256)) }
                stream += Wire.message(body, flag: UInt8(random.int(below: 2)))
            }
            var observer = MessageObserver()
            for piece in Wire.pieces(stream, &random) {
                observer.observe(piece.span.bytes, now: .zero)
            }
            #expect(observer.messages == UInt64(count) && !observer.isInsideMessage)
        }
    }
}

@Suite struct ModelNameScannerTests {
    static func scan(_ pieces: [[UInt8]]) -> (ModelNameScanner.OnScan, ModelNameScanner) {
        var scanner = ModelNameScanner()
        var outcome = ModelNameScanner.OnScan.needMore
        for piece in pieces { outcome = scanner.scan(piece.span.bytes) }
        return (outcome, scanner)
    }

    static let request =
        Wire.text(1, bytes("digits")) + Wire.text(2, bytes("1")) + Wire.text(7, [1, 2, 3])

    @Test func findsTheNameInEverySplit() {
        let stream = Wire.message(Self.request)
        for cut in 0...stream.count {
            let (outcome, scanner) = Self.scan([Array(stream[..<cut]), Array(stream[cut...])])
            #expect(outcome == .complete && scanner.name == bytes("digits"), "cut at \(cut)")
        }
        // Known as soon as its last byte is there.
        #expect(Self.scan([Array(stream[..<13])]).0 == .found)
        #expect(Self.scan([Array(stream[..<12])]).0 == .needMore)
    }

    @Test func otherFieldsMayStandInFront() {
        let fields =
            Wire.key(3, 0) + [0xFF, 0xFF, 0x03] + Wire.key(9, 1) + [1, 2, 3, 4, 5, 6, 7, 8]
            + Wire.key(10, 5) + [1, 2, 3, 4] + Wire.text(5, [UInt8](repeating: 10, count: 300))
        let (outcome, scanner) = Self.scan([Wire.message(fields + Self.request)])
        #expect(outcome == .complete && scanner.name == bytes("digits"))
    }

    @Test func aMessageWithoutANameIsComplete() {
        for body in [[], Wire.text(2, bytes("x")), Wire.text(1, [])] {
            let (outcome, scanner) = Self.scan([Wire.message(body)])
            #expect(outcome == .complete && scanner.name.isEmpty)
        }
    }

    @Test func nothingBehindTheFirstMessageIsRead() {
        let stream = Wire.message(Self.request) + Wire.message([0xFF]) + [7, 7]
        let (outcome, scanner) = Self.scan([stream])
        #expect(outcome == .complete && scanner.name == bytes("digits"))
    }

    @Test func compressedMessagesCannotBeRead() {
        #expect(Self.scan([Wire.message(Self.request, flag: 1)]).0 == .compressed)
    }

    @Test(
        arguments: [
            (.prefix, [2, 0, 0, 0, 0]),
            (.varint, Wire.message([0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x02])),
            (.varint, Wire.message([0x02, 0x00])),
            (.varint, Wire.message([0x18] + [UInt8](repeating: 0x80, count: 9) + [0x02])),
            (.wireType, Wire.message([0x13])), (.wireType, Wire.message([0x16])),
            (.length, Wire.message([0x12])), (.length, Wire.message([0x12, 0x05, 1])),
            (.length, Wire.message([0x0A, 0x05, 1])), (.length, Wire.message([0x19, 1, 2])),
            (.length, Wire.message([0x80])), (.length, Wire.message([0x10])),
            (.notText, Wire.message([0x08, 0x01])),
            (.repeatedName, Wire.message(Wire.text(1, [97]) + Wire.text(1, [98]))),
            (.repeatedName, Wire.message(Wire.text(1, []) + Wire.text(1, [98]))),
        ] as [(ModelNameScanner.Problem, [UInt8])]
    )
    func malformedMessagesAreRefused(problem: ModelNameScanner.Problem, stream: [UInt8]) {
        #expect(Self.scan([stream]).0 == .invalid(problem))
        #expect(Self.scan(stream.map { [$0] }).0 == .invalid(problem))
        #expect(!problem.message.description.isEmpty)
    }

    @Test func aCallThatEndsEarlyIsSaidToBe() {
        let stream = Wire.message(Self.request)
        for count in 0..<stream.count {
            var (_, scanner) = Self.scan([Array(stream[..<count])])
            let outcome = scanner.finish()
            #expect(outcome == .invalid(.truncated), "\(count) bytes")
        }
        var (_, scanner) = Self.scan([stream])
        let outcome = scanner.finish()
        #expect(outcome == .complete)
    }

    @Test func aLongNameIsCutAndNothingElseIsKept() {
        let long = [UInt8](repeating: 97, count: 100_000)
        let (outcome, scanner) = Self.scan([Wire.message(Wire.text(1, long))])
        #expect(outcome == .complete && scanner.name.count == ModelNameScanner.nameBytesMax)
    }

    @Test func fieldsInFrontOfTheNameAreLimited() {
        let empty = Wire.text(2, [])
        let most = [[UInt8]](repeating: empty, count: ModelNameScanner.fieldsMax - 1).flatMap { $0 }
        let (outcome, scanner) = Self.scan([Wire.message(most + Wire.text(1, [97]))])
        #expect(outcome == .complete && scanner.name == [97])
        #expect(Self.scan([Wire.message(most + empty + empty)]).0 == .invalid(.tooManyFields))
        // Behind the name there may be as many tensors as there are.
        let tail = Wire.text(1, [97]) + most + empty + empty
        #expect(Self.scan([Wire.message(tail)]).0 == .complete)
    }

    @Test func startsAnew() {
        var (_, scanner) = Self.scan([Wire.message(Self.request)])
        scanner.reset()
        #expect(scanner.name.isEmpty)
        let stream = Wire.message(Wire.text(1, bytes("other")))
        let outcome = scanner.scan(stream.span.bytes)
        #expect(outcome == .complete && scanner.name == bytes("other"))
    }

    /// Random messages, valid and damaged, in random pieces, against a reader that knows the whole.
    @Test func agreesWithASlowReader() {
        var random = RandomSource(seed: 424_242)
        var seen = (names: 0, bad: 0)
        for round in 0..<20_000 {
            var message = self.randomMessage(&random)
            if round % 2 == 1, !message.isEmpty {
                for _ in 0...random.int(below: 3) {
                    message[random.int(below: message.count)] = UInt8(random.int(below: 256))
                }
            }
            let (outcome, scanner) = Self.scan(Wire.pieces(Wire.message(message), &random))
            switch NameOracle.read(message) {
            case .name(let name):
                #expect(outcome == .complete && scanner.name == name, "round \(round): \(message)")
                seen.names += 1
            case .none:
                #expect(outcome == .complete && scanner.name.isEmpty, "round \(round): \(message)")
            case .bad:
                guard case .invalid = outcome else {
                    Issue.record("round \(round): \(outcome) of \(message)")
                    continue
                }
                seen.bad += 1
            }
        }
        #expect(seen.names > 1_000 && seen.bad > 1_000)
    }

    private func randomMessage(_ random: inout RandomSource) -> [UInt8] {
        var message: [UInt8] = []
        for _ in 0..<random.int(below: 5) {
            let field = UInt64(2 + random.int(below: 40))
            switch random.int(below: 4) {
            case 0: message += Wire.key(field, 0) + Wire.varint(random.next())
            case 1: message += Wire.key(field, 1) + [UInt8](repeating: 1, count: 8)
            case 2: message += Wire.key(field, 5) + [UInt8](repeating: 1, count: 4)
            default:
                let text = [UInt8](repeating: 8, count: random.int(below: 200))
                message += Wire.text(field, text)
            }
            if random.int(below: 3) == 0 { message += Wire.text(1, bytes("m\(field)")) }
        }
        return message
    }
}

@Suite struct MethodTests {
    static func method(_ path: String) -> GRPCMethod {
        let path = bytes(path)
        return GRPCMethod(path: path.span.bytes)
    }

    @Test(
        arguments: [
            ("/inference.GRPCInferenceService/ModelInfer", .model(.infer)),
            ("/inference.GRPCInferenceService/ModelStreamInfer", .model(.streamInfer)),
            ("/inference.GRPCInferenceService/ModelReady", .model(.ready)),
            ("/inference.GRPCInferenceService/ModelMetadata", .model(.metadata)),
            ("/inference.GRPCInferenceService/ModelConfig", .model(.metadata)),
            ("/inference.GRPCInferenceService/ModelStatistics", .model(.metadata)),
            ("/inference.GRPCInferenceService/ServerLive", .fleet(.serverLive)),
            ("/inference.GRPCInferenceService/ServerReady", .fleet(.serverReady)),
            ("/inference.GRPCInferenceService/ServerMetadata", .fleet(.serverMetadata)),
            ("/inference.GRPCInferenceService/RepositoryIndex", .fleet(.repositoryIndex)),
            ("/inference.GRPCInferenceService/RepositoryModelLoad", .other),
            ("/inference.GRPCInferenceService/modelinfer", .other),
            ("/inference.GRPCInferenceService/ModelInfer/", .other),
            ("/inference.GRPCInferenceService", .other),
            ("/grpc.health.v1.Health/Check", .health(.check)),
            ("/grpc.health.v1.Health/Watch", .health(.watch)),
            ("/grpc.health.v1.Health/List", .other),
            ("/helloworld.Greeter/SayHello", .other), ("/", .other), ("", .other),
        ] as [(String, GRPCMethod)]
    )
    func readsPaths(path: String, method: GRPCMethod) {
        #expect(Self.method(path) == method)
    }

    @Test func knowsTheFormOfAPath() {
        for (text, isPath) in [
            ("/a/b", true), ("/a.B/C", true), ("/a", false), ("a/b", false), ("/a/", false),
            ("//b", false), ("/a/b/c", false), ("", false), ("/a/b/", false),
        ] {
            let path = bytes(text)
            #expect(GRPCMethod.isPath(path.span.bytes) == isPath, "\(text)")
        }
    }

    @Test func knowsContentTypes() {
        for (text, isType) in [
            ("application/grpc", true), ("application/grpc+proto", true),
            ("Application/GRPC;x=y", true), ("application/grpc-web", false),
            ("application/grpcx", false), ("application/json", false), ("application/grp", false),
            ("", false),
        ] {
            let value = bytes(text)
            #expect(GRPCMethod.isContentType(value.span.bytes) == isType, "\(text)")
        }
    }
}

@Suite struct AnswerTests {
    static func written(_ body: (ByteBuffer) -> Void) -> [UInt8] {
        let output = ByteBuffer(capacity: 16)
        body(output)
        return output.array
    }

    @Test func healthIsOneSmallMessage() {
        #expect(Self.written { HealthCheck.write(.serving, into: $0) } == [0, 0, 0, 0, 2, 8, 1])
        #expect(Self.written { HealthCheck.write(.notServing, into: $0) } == [0, 0, 0, 0, 2, 8, 2])
        #expect(Self.written { HealthCheck.write(.unknown, into: $0) } == [0, 0, 0, 0, 0])
        #expect(
            Self.written { HealthCheck.write(.serviceUnknown, into: $0) } == [0, 0, 0, 0, 2, 8, 3]
        )
    }

    @Test func aHealthCheckAsksByName() {
        #expect(
            Self.written { HealthCheck.writeRequest(service: "", into: $0) } == [0, 0, 0, 0, 0]
        )
        let named = Self.written { HealthCheck.writeRequest(service: "ab", into: $0) }
        #expect(named == [0, 0, 0, 0, 4, 0x0A, 2, 97, 98])
    }

    @Test(arguments: HealthCheck.Status.allCases)
    func aHealthCheckIsReadBack(status: HealthCheck.Status) {
        let bytes = Self.written { HealthCheck.write(status, into: $0) }
        #expect(HealthCheck.read(bytes.span.bytes) == status)
        for count in 0..<bytes.count {
            let part = Array(bytes[..<count])
            #expect(HealthCheck.read(part.span.bytes) == nil)
        }
    }

    @Test(
        arguments: [
            // Compressed, another field first, half a field, a status that there is none of.
            ([1, 0, 0, 0, 2, 8, 1], nil), ([0, 0, 0, 0, 2, 16, 1], nil), ([0, 0, 0, 0, 1, 8], nil),
            ([0, 0, 0, 0, 2, 8, 9], HealthCheck.Status.unknown),
        ] as [([UInt8], HealthCheck.Status?)]
    )
    func otherAnswersToAHealthCheck(bytes: [UInt8], status: HealthCheck.Status?) {
        #expect(HealthCheck.read(bytes.span.bytes) == status)
    }

    @Test(
        arguments: [
            ("grpc-status: 14\r\ngrpc-message: x\r\n", GRPCStatus.unavailable),
            ("a: b\r\nGRPC-Status:0\r\n", .ok), ("grpc-status: x\r\n", .unknown),
            ("grpc-statu: 1\r\ngrpc-statusx: 2\r\nother\r\n", nil), ("", nil),
        ] as [(String, GRPCStatus?)]
    )
    func theStatusAmongFields(lines: String, status: GRPCStatus?) {
        #expect(GRPCStatus(lines: Array(lines.utf8)) == status)
    }

    @Test func flagsAndMetadataReadBack() {
        let flag = Self.written { InferenceAnswers.writeFlag(true, into: $0) }
        #expect(flag == [0, 0, 0, 0, 2, 8, 1])
        #expect(Self.written { InferenceAnswers.writeFlag(false, into: $0) } == [0, 0, 0, 0, 0])
        let metadata = Self.written {
            InferenceAnswers.writeMetadata(
                name: "weir",
                version: "1.2",
                extensions: ["a"],
                into: $0
            )
        }
        let fields = Wire.text(1, bytes("weir")) + Wire.text(2, bytes("1.2")) + Wire.text(3, [97])
        #expect(metadata == Wire.message(fields))
    }

    @Test func theIndexNestsItsModels() {
        let long = String(repeating: "m", count: 300)
        let index = Self.written {
            InferenceAnswers.writeIndex(
                [
                    .init(name: long, isReady: true, reason: ""),
                    .init(name: "b", isReady: false, reason: "why"),
                ],
                into: $0
            )
        }
        let first = Wire.text(1, bytes(long)) + Wire.text(3, bytes("READY"))
        let second =
            Wire.text(1, bytes("b")) + Wire.text(3, bytes("UNAVAILABLE"))
            + Wire.text(4, bytes("why"))
        #expect(index == Wire.message(Wire.text(1, first) + Wire.text(1, second)))
    }
}
