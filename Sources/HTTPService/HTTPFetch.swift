import Core
import EventLoop
import Glibc
import HTTP

/// One request of an `HTTPFetch`.
package struct FetchRequest: Sendable {
    package var address: SocketAddress
    package var method: HTTPMethod = .get
    /// Path and query, as they go on the wire.
    package var target: String
    /// Further fields; `Host`, `Connection` and `Content-Length` are written anyway.
    package var fields: [(name: String, value: String)] = []
    package var body: [UInt8] = []
    /// From the start to the last byte of the answer.
    package var timeout: Duration = .seconds(10)
    /// Content of the answer at most.
    package var bodyBytesMax = 16 << 20
    package var headLimits = HeadLimits()

    package init(address: SocketAddress, target: String = "/") {
        self.address = address
        self.target = target
    }

    /// Whether it can be written without changing what the request is.
    var isWellFormed: Bool {
        let targetIsFine =
            self.target.utf8.first == UInt8(ascii: "/")
            && self.target.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F }
        let fieldsAreFine = self.fields.allSatisfy { field in
            !field.name.isEmpty
                && field.name.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F && $0 != UInt8(ascii: ":") }
                && field.value.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7F }
        }
        return targetIsFine && fieldsAreFine && self.method != .other && self.method != .connect
    }

    func write(to buffer: ByteBuffer) {
        buffer.append(self.method.name)
        buffer.append(" \(self.target) HTTP/1.1\r\nHost: \(self.address)\r\nConnection: close\r\n")
        for field in self.fields { buffer.append("\(field.name): \(field.value)\r\n") }
        if !self.body.isEmpty || !self.method.isSafe {
            buffer.append("Content-Length: \(self.body.count)\r\n")
        }
        buffer.append("\r\n" as StaticString)
        buffer.append(self.body)
    }
}

/// A whole answer.
package struct FetchResponse: Sendable {
    package var status: UInt16
    package var fields: [(name: String, value: String)]
    package var body: [UInt8]

    package var text: String { String(decoding: self.body, as: UTF8.self) }

    /// The first field of that name, letter case aside.
    package func field(_ name: String) -> String? {
        self.fields.first { $0.name.lowercased() == name.lowercased() }?.value
    }
}

/// Why there is no answer.
package enum FetchError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The target or a field cannot be sent.
    case invalidRequest
    case cannotConnect(SystemError)
    /// The connection broke.
    case connectionFailed(SystemError)
    case timedOut
    /// What came is no HTTP answer; why, as a label.
    case invalidResponse(String)
    /// The connection ended in the middle.
    case truncated
    case tooLarge
    case cancelled

    package var description: String {
        switch self {
        case .invalidRequest: "the request cannot be sent: wrong target or field"
        case .cannotConnect(let error): "\(error)"
        case .connectionFailed(let error): "\(error)"
        case .timedOut: "no complete answer in time"
        case .invalidResponse(let label): "not an HTTP answer (\(label))"
        case .truncated: "the answer was cut short"
        case .tooLarge: "the answer is too large"
        case .cancelled: "cancelled"
        }
    }
}

/// One request and its answer over a connection of its own. On the loop's thread.
///
/// Keeps itself alive until it has completed; the completion runs exactly once, never within
/// `start`.
package final class HTTPFetch {
    package typealias Completion = (Result<FetchResponse, FetchError>) -> Void

    private let connection: FetchConnection

    private init(_ connection: FetchConnection) {
        self.connection = connection
    }

    @discardableResult
    package static func start(
        _ request: FetchRequest,
        on loop: EventLoop,
        completion: @escaping Completion
    ) -> HTTPFetch {
        let connection = FetchConnection(request, loop: loop, completion: completion)
        connection.start()
        return HTTPFetch(connection)
    }

    /// Ends it with `.cancelled`, unless it has completed.
    package func cancel() {
        self.connection.finish(.failure(.cancelled))
    }

    /// Runs a loop of its own on this thread until the answer is there: for commands.
    package static func wait(
        for request: FetchRequest
    ) throws(FetchError) -> FetchResponse {
        let loop: EventLoop
        do throws(SystemError) {
            loop = try EventLoop()
        } catch {
            throw .cannotConnect(error)
        }
        var result: Result<FetchResponse, FetchError>?
        self.start(request, on: loop) { result = $0 }
        while true {
            if let result { return try result.get() }
            loop.turn(mayBlock: true)
        }
    }
}

private final class FetchConnection: IOHandler {
    /// Interim answers (1xx) before the real one.
    private static let interimMax = 16
    private static let readBytes = 16 << 10

    private let request: FetchRequest
    private let loop: EventLoop
    private var completion: HTTPFetch.Completion?
    private let input = ByteBuffer(capacity: 4 << 10)
    private let output = ByteBuffer(capacity: 1 << 10)
    private let head = ResponseHead()
    private var decoder: BodyDecoder?
    private var response = FetchResponse(status: 0, fields: [], body: [])
    private var interim = 0
    private var isConnected = false
    private var isOpen = false
    private var timer: LoopTimer?

    init(_ request: FetchRequest, loop: EventLoop, completion: @escaping HTTPFetch.Completion) {
        self.request = request
        self.loop = loop
        self.completion = completion
    }

    func start() {
        // The timers hold the fetch; `finish` cancels them and so lets it go.
        self.timer = self.loop.schedule(after: self.request.timeout) {
            self.finish(.failure(.timedOut))
        }
        guard self.request.isWellFormed else { return self.failLater(.invalidRequest) }
        self.request.write(to: self.output)
        do throws(SystemError) {
            let descriptor = try Sockets.connect(to: self.request.address)
            self.isOpen = true
            self.register(
                descriptor: descriptor,
                on: self.loop,
                interest: [.read, .write],
                edgeTriggered: true
            )
        } catch {
            self.failLater(.cannotConnect(error))
        }
    }

    override func ready(_ events: IOEvents) {
        if !self.isConnected {
            let code = Sockets.pendingError(self.descriptor)
            if code != 0 {
                let error = SystemError("connect to \(self.request.address)", code: code)
                return self.finish(.failure(.cannotConnect(error)))
            }
            guard events.contains(.write) else { return }
            self.isConnected = true
        }
        self.send()
        self.receive()
    }

    /// Idempotent.
    func finish(_ result: Result<FetchResponse, FetchError>) {
        guard let completion = self.completion else { return }
        self.completion = nil
        self.timer?.cancel()
        self.timer = nil
        if self.isOpen {
            self.isOpen = false
            self.deregister()
            Sockets.close(self.descriptor)
        }
        completion(result)
    }

    private func failLater(_ error: FetchError) {
        self.timer?.cancel()
        self.timer = self.loop.schedule(after: .zero) { self.finish(.failure(error)) }
    }

    private func send() {
        while !self.output.isEmpty {
            let result = Sockets.write(
                self.descriptor,
                from: self.output.readablePointer,
                count: self.output.count
            )
            switch result {
            case .bytes(let count): self.output.consume(count)
            case .wouldBlock: return
            case .endOfStream, .failed:
                // The server may have answered before it stopped listening: read on.
                self.output.removeAll()
            }
        }
    }

    private func receive() {
        while self.completion != nil {
            self.input.reserve(Self.readBytes)
            let result = Sockets.read(
                self.descriptor,
                into: self.input.writablePointer,
                count: self.input.writableCount
            )
            switch result {
            case .bytes(let count):
                self.input.advance(count)
                self.parse()
            case .wouldBlock: return
            case .endOfStream: self.endOfStream()
            case .failed(let code):
                let error = SystemError("read from \(self.request.address)", code: code)
                self.finish(.failure(.connectionFailed(error)))
            }
        }
    }

    private func endOfStream() {
        guard var decoder = self.decoder else { return self.finish(.failure(.truncated)) }
        switch decoder.finishAtEOF() {
        case .complete: self.finish(.success(self.response))
        case .truncated: self.finish(.failure(.truncated))
        }
    }

    private func parse() {
        while self.decoder == nil && self.completion != nil {
            let input = self.input
            switch self.head.parse(input.readable, limits: self.request.headLimits) {
            case .needMore: return
            case .invalid(let error):
                return self.finish(.failure(.invalidResponse("\(error.label)")))
            case .complete(let count): self.takeHead(count)
            }
        }
        self.takeBody()
    }

    private func takeHead(_ count: Int) {
        if self.head.isInformational && self.head.status != 101 {
            self.interim += 1
            self.head.reset()
            self.input.consume(count)
            if self.interim > Self.interimMax {
                self.finish(.failure(.invalidResponse("too-many-interim-responses")))
            }
            return
        }
        let input = self.input
        let bytes = input.readable
        self.response.status = self.head.status
        self.response.fields = self.head.fields.map {
            (Self.text(bytes, $0.nameRange), Self.text(bytes, $0.valueRange))
        }
        self.decoder = BodyDecoder(self.head.framing(requestMethod: self.request.method))
        self.input.consume(count)
    }

    private func takeBody() {
        while self.completion != nil, self.decoder != nil {
            let input = self.input
            let bytes = input.readable
            guard let step = self.decoder?.next(bytes) else { return }
            switch step {
            case .data(let range, let consumed):
                self.response.body += JSONText.array(bytes.extracting(range))
                self.input.consume(consumed)
                if self.response.body.count > self.request.bodyBytesMax {
                    self.finish(.failure(.tooLarge))
                }
            case .needMore(let consumed):
                self.input.consume(consumed)
                return
            case .end: self.finish(.success(self.response))
            case .invalid(let error): self.finish(.failure(.invalidResponse("\(error.label)")))
            }
        }
    }

    private static func text(_ bytes: RawSpan, _ range: ByteRange) -> String {
        String(decoding: JSONText.array(bytes.slice(range)), as: UTF8.self)
    }
}
