import Core
import EventLoop
import Glibc

/// Runs an event loop on the test's own thread, turn by turn, until what the test waits for is
/// true.
///
/// There is no sleeping: the loop blocks until something happens. A deadline turns a wait that
/// would never end into an error.
package final class LoopHarness {
    /// Far beyond what any wait takes on a loaded machine.
    package static let patience = Duration.seconds(20)

    package struct TimedOut: Error, CustomStringConvertible {
        package let description: String
    }

    package let loop: EventLoop

    package init() throws {
        self.loop = try EventLoop()
    }

    /// Turns the loop until `condition` holds.
    package func run(
        until what: String = "the condition",
        _ condition: () throws -> Bool
    ) throws {
        var isLate = false
        let deadline = self.loop.schedule(after: Self.patience) { isLate = true }
        // Conditions may depend on sockets that the loop does not watch.
        let poll = self.loop.scheduleRepeating(every: .milliseconds(1)) {}
        defer {
            deadline.cancel()
            poll.cancel()
        }
        while try !condition() {
            if isLate { throw TimedOut(description: "waited too long for \(what)") }
            self.loop.turn(mayBlock: true)
        }
    }

    /// Turns the loop for as long as anything is ready: what must not happen has had its chance.
    package func settle(turns: Int = 20) {
        for _ in 0..<turns { self.loop.turn(mayBlock: false) }
    }
}

/// A client at the level of bytes, on a harness's loop.
package final class RawClient {
    package private(set) var received: [UInt8] = []
    package private(set) var isEnded = false
    package private(set) var isReset = false
    private let harness: LoopHarness
    private var descriptor: Int32

    package init(_ harness: LoopHarness, to address: SocketAddress) throws {
        self.harness = harness
        self.descriptor = try Sockets.connect(to: address)
    }

    deinit { self.close() }

    package var text: String { String(decoding: self.received, as: UTF8.self) }

    /// Sends everything, letting the loop run while the kernel takes no more.
    package func send(_ bytes: [UInt8]) throws {
        var sent = 0
        try self.harness.run(until: "the server to read \(bytes.count) bytes") {
            while sent < bytes.count {
                switch self.write(bytes[sent...]) {
                case .bytes(let count): sent += count
                case .wouldBlock: return false
                case .endOfStream, .failed:
                    self.isReset = true
                    return true
                }
            }
            return true
        }
    }

    package func send(_ text: String) throws {
        try self.send(Array(text.utf8))
    }

    /// Reads what is there, at most `limit` bytes.
    package func poll(limit: Int = .max) {
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        var rest = limit
        while !self.isEnded && self.descriptor >= 0 && rest > 0 {
            let result = buffer.withUnsafeMutableBytes { bytes -> IOResult in
                guard let start = bytes.baseAddress else { return .wouldBlock }
                return Sockets.read(self.descriptor, into: start, count: min(bytes.count, rest))
            }
            switch result {
            case .bytes(let count):
                self.received += buffer[..<count]
                rest -= count
            case .wouldBlock, .failed(ENOTCONN): return
            case .endOfStream: self.isEnded = true
            case .failed:
                self.isEnded = true
                self.isReset = true
            }
        }
    }

    package func waitForEnd() throws {
        try self.harness.run(until: "the end of the connection") {
            self.poll()
            return self.isEnded
        }
    }

    /// Waits until `text` has come, `count` times.
    package func wait(for text: String, count: Int = 1) throws {
        try self.harness.run(until: "\(count) × \(text), having \(self.text.suffix(400))") {
            self.poll()
            return self.occurrences(of: text) >= count
        }
    }

    package func occurrences(of text: String) -> Int {
        let needle = Array(text.utf8)
        guard !needle.isEmpty, self.received.count >= needle.count else { return 0 }
        var found = 0
        var index = 0
        while index + needle.count <= self.received.count {
            if self.received[index] == needle[0],
                self.received[index..<(index + needle.count)].elementsEqual(needle)
            {
                found += 1
                index += needle.count
            } else {
                index += 1
            }
        }
        return found
    }

    package func forget() { self.received = [] }

    package func finishWriting() { Sockets.shutdownWriting(self.descriptor) }

    package func close(reset: Bool = false) {
        guard self.descriptor >= 0 else { return }
        if reset { Sockets.resetOnClose(self.descriptor) }
        Sockets.close(self.descriptor)
        self.descriptor = -1
    }

    private func write(_ bytes: ArraySlice<UInt8>) -> IOResult {
        bytes.withUnsafeBytes { raw in
            guard let start = raw.baseAddress else { return .wouldBlock }
            return Sockets.write(self.descriptor, from: start, count: raw.count)
        }
    }
}
