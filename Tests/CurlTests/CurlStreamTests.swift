import Core
import Curl
import EventLoop
import HTTP
import HTTPService
import LoopTestSupport
import Testing

/// Keeps writers, so that a test decides when its server says what.
private final class Writers {
    var all: [ResponseWriter] = []
    var closed = 0

    func keep(_ writer: ResponseWriter) {
        self.all.append(writer)
        writer.onClose { self.closed += 1 }
    }
}

@Suite struct CurlStreamTests {
    private func streaming() throws -> (peers: Peers, writers: Writers) {
        let writers = Writers()
        let peers = try Peers { _, response in
            response.writeHead(contentType: "application/json")
            response.flushHead()
            writers.keep(response)
        }
        return (peers, writers)
    }

    @Test func handsOnWhatComesAsItComes() throws {
        let (peers, writers) = try self.streaming()
        let recorder = Recorder()
        peers.client.stream(peers.request(), recorder.stream)
        try peers.harness.run(until: "the head") { recorder.head != nil }
        #expect(recorder.head?.status == 200)
        #expect(recorder.bytes.isEmpty)
        for number in 1...5 {
            writers.all[0].write("line \(number)\n")
            try peers.harness.run(until: "line \(number)") {
                recorder.text.hasSuffix("line \(number)\n")
            }
        }
        writers.all[0].end()
        try peers.harness.run(until: "the end") { recorder.hasEnded }
        peers.harness.settle()
        #expect(recorder.ends == [nil])
        #expect(recorder.heads == 1)
        #expect(peers.client.count == 0)
    }

    @Test func saysThatAStreamWasCut() throws {
        let (peers, writers) = try self.streaming()
        let recorder = Recorder()
        peers.client.stream(peers.request(), recorder.stream)
        try peers.harness.run(until: "the head") { recorder.head != nil }
        writers.all[0].write("half a li")
        writers.all[0].cutShort()
        try peers.harness.run(until: "the end") { recorder.hasEnded }
        #expect(recorder.text == "half a li")
        guard case .connectionLost? = recorder.ends.first as? CurlError else {
            Issue.record("\(recorder.ends)")
            return
        }
    }

    @Test func givesUpOnASilentStreamAndNotOnABusyOne() throws {
        let (peers, writers) = try self.streaming()
        let recorder = Recorder()
        var request = peers.request()
        request.totalTimeout = nil
        request.idleTimeout = .milliseconds(60)
        peers.client.stream(request, recorder.stream)
        try peers.harness.run(until: "the head") { recorder.head != nil }
        // Alive for several times its limit.
        let start = peers.harness.loop.now
        try peers.harness.run(until: "a long life") {
            writers.all[0].write(".")
            return peers.harness.loop.now - start > .milliseconds(300) || recorder.hasEnded
        }
        #expect(!recorder.hasEnded)
        try peers.harness.run(until: "the end") { recorder.hasEnded }
        #expect(recorder.ends == [.timedOut(.idle)])
        try peers.harness.run(until: "the server to see it") { writers.closed == 1 }
    }

    @Test func restsWhilePaused() throws {
        let (peers, writers) = try self.streaming()
        let recorder = Recorder()
        let total = 20_000_000
        let piece = String(repeating: "x", count: 50_000)
        var request = peers.request()
        request.responseBytesMax = total
        let transfer = peers.client.stream(request, recorder.stream)
        try peers.harness.run(until: "the head") { recorder.head != nil }
        transfer.pause()
        #expect(transfer.isPaused)
        var written = 0
        let fill = {
            while written < total, writers.all[0].isWritable {
                writers.all[0].write(piece)
                written += 50_000
            }
        }
        writers.all[0].onWritable(fill)
        fill()
        peers.harness.settle(turns: 200)
        #expect(recorder.bytes.isEmpty)
        // Back-pressure has reached the server: what does not fit the sockets was not written.
        #expect(written < total)
        recorder.onChunk = {
            transfer.pause()
            #expect(transfer.isPaused)
        }
        transfer.resume()
        try peers.harness.run(until: "a chunk") { recorder.chunks == 1 }
        peers.harness.settle(turns: 200)
        #expect(recorder.chunks == 1, "a chunk came while paused")
        recorder.onChunk = {}
        transfer.resume()
        try peers.harness.run(until: "everything") { recorder.bytes.count == total }
        writers.all[0].end()
        try peers.harness.run(until: "the end") { recorder.hasEnded }
        #expect(recorder.ends == [nil])
    }

    @Test func pausedStreamsAreNotIdle() throws {
        let (peers, writers) = try self.streaming()
        let recorder = Recorder()
        var request = peers.request()
        request.idleTimeout = .milliseconds(20)
        let transfer = peers.client.stream(request, recorder.stream)
        try peers.harness.run(until: "the head") { recorder.head != nil }
        transfer.pause()
        let start = peers.harness.loop.now
        try peers.harness.run(until: "a long rest") {
            peers.harness.loop.now - start > .milliseconds(150)
        }
        #expect(!recorder.hasEnded)
        transfer.resume()
        writers.all[0].write("x")
        writers.all[0].end()
        try peers.harness.run(until: "the end") { recorder.hasEnded }
        #expect(recorder.text == "x")
    }

    @Test func limitsAStreamOverItsWholeLife() throws {
        let (peers, writers) = try self.streaming()
        let recorder = Recorder()
        var request = peers.request()
        request.responseBytesMax = 10
        peers.client.stream(request, recorder.stream)
        try peers.harness.run(until: "the head") { recorder.head != nil }
        writers.all[0].write("12345")
        try peers.harness.run(until: "the first") { recorder.text == "12345" }
        writers.all[0].write("678901")
        try peers.harness.run(until: "the end") { recorder.hasEnded }
        #expect(recorder.ends == [.tooLarge(bytesMax: 10)])
        #expect(recorder.text == "12345")
    }

    // MARK: Cancellation

    enum Moment: CaseIterable {
        case atOnce, inHead, inData, inDataTwice, whilePaused, afterwards
    }

    @Test(arguments: Moment.allCases)
    func canBeCancelledAtAnyTime(moment: Moment) throws {
        let (peers, writers) = try self.streaming()
        let recorder = Recorder()
        var transfer: CurlTransfer?
        var stream = recorder.stream
        if moment == .inHead {
            let onHead = stream.onHead
            stream.onHead = {
                onHead($0)
                transfer?.cancel()
            }
        }
        recorder.onChunk = {
            if moment == .inData || moment == .inDataTwice { transfer?.cancel() }
            if moment == .inDataTwice { transfer?.cancel() }
        }
        transfer = peers.client.stream(peers.request(), stream)
        if moment == .atOnce { transfer?.cancel() }
        #expect(recorder.ends.isEmpty)
        if moment != .atOnce {
            try peers.harness.run(until: "a request") { writers.all.count == 1 }
            writers.all[0].write("data")
        }
        if moment == .whilePaused || moment == .afterwards {
            try peers.harness.run(until: "data") { recorder.chunks > 0 }
            if moment == .whilePaused {
                transfer?.pause()
                writers.all[0].write("more")
                peers.harness.settle()
            }
            transfer?.cancel()
            #expect(transfer?.hasEnded == true)
            transfer?.resume()
            #expect(recorder.ends.isEmpty, "ended within a call")
        }
        try peers.harness.run(until: "the end") { recorder.hasEnded }
        peers.harness.settle()
        #expect(recorder.ends == [.cancelled])
        #expect(recorder.chunks <= 1)
        #expect(moment != .inHead || recorder.chunks == 0)
        transfer?.cancel()
        transfer?.pause()
        transfer?.resume()
        peers.harness.settle()
        #expect(recorder.ends.count == 1)
        #expect(peers.client.count == 0)
        if moment != .atOnce {
            try peers.harness.run(until: "the server to see it") { writers.closed == 1 }
        }
    }

    @Test func requestsMayBeMadeAndCancelledFromCallbacks() throws {
        let (peers, writers) = try self.streaming()
        let first = Recorder()
        let second = Recorder()
        let third = Recorder()
        var others: [CurlTransfer] = []
        first.onChunk = {
            // The second one is started and at once given up, the third goes on.
            others.append(peers.client.stream(peers.request(), second.stream))
            others.append(peers.client.stream(peers.request(), third.stream))
            others[0].cancel()
        }
        peers.client.stream(peers.request(), first.stream)
        try peers.harness.run(until: "a request") { writers.all.count == 1 }
        writers.all[0].write("go")
        try peers.harness.run(until: "the third's head") { third.head != nil }
        #expect(second.ends == [.cancelled])
        #expect(second.heads == 0)
        // One ends another, whose end begins a fetch.
        var fetched: Result<CurlResponse, CurlError>?
        var stream = third.stream
        let onEnd = stream.onEnd
        stream.onEnd = { error in
            onEnd(error)
            peers.client.fetch(peers.request("/last")) { fetched = $0 }
        }
        let fourth = peers.client.stream(peers.request(), stream)
        first.onChunk = { fourth.cancel() }
        writers.all[0].write("again")
        try peers.harness.run(until: "a fetch after the end") { writers.all.count >= 3 }
        writers.all.last?.end()
        for writer in writers.all { writer.end() }
        try peers.harness.run(until: "the fetch") { fetched != nil }
        #expect(try fetched?.get().status == 200)
    }

    @Test func closingEndsEverything() throws {
        let (peers, writers) = try self.streaming()
        let recorders = (0..<10).map { _ in Recorder() }
        for recorder in recorders {
            peers.client.stream(peers.request(), recorder.stream)
        }
        try peers.harness.run(until: "all heads") { recorders.allSatisfy { $0.head != nil } }
        let queued = Recorder()
        peers.client.stream(peers.request(), queued.stream)
        peers.client.close()
        #expect((recorders + [queued]).allSatisfy { $0.ends == [.cancelled] })
        try peers.harness.run(until: "the server to see it") { writers.closed == 10 }
        peers.client.close()
    }

    @Test func mayBeClosedFromWithinACallback() throws {
        let (peers, writers) = try self.streaming()
        let recorder = Recorder()
        let other = Recorder()
        recorder.onChunk = { peers.client.close() }
        peers.client.stream(peers.request(), recorder.stream)
        peers.client.stream(peers.request(), other.stream)
        try peers.harness.run(until: "both requests") { writers.all.count == 2 }
        for writer in writers.all { writer.write("x") }
        try peers.harness.run(until: "the ends") { recorder.hasEnded && other.hasEnded }
        #expect(recorder.ends == [.cancelled])
        #expect(other.ends == [.cancelled])
    }

    // MARK: Many

    @Test func manyStreamsAtATime() throws {
        let (peers, writers) = try self.streaming()
        let recorders = (0..<200).map { _ in Recorder() }
        for recorder in recorders { peers.client.stream(peers.request(), recorder.stream) }
        try peers.harness.run(until: "all heads") { recorders.allSatisfy { $0.head != nil } }
        #expect(writers.all.count == 200)
        for round in 0..<10 {
            for writer in writers.all { writer.write("\(round)") }
            peers.harness.settle()
        }
        for writer in writers.all { writer.end() }
        try peers.harness.run(until: "all ends") { recorders.allSatisfy(\.hasEnded) }
        #expect(recorders.allSatisfy { $0.text == "0123456789" && $0.ends == [nil] })
    }

    @Test func connectionsToAHostAreBounded() throws {
        let writers = Writers()
        let peers = try Peers(hostConnectionsMax: 3) { _, response in
            writers.keep(response)
        }
        var done = 0
        for _ in 0..<30 { peers.client.fetch(peers.request()) { _ in done += 1 } }
        while done < 30 {
            let before = done
            try peers.harness.run(until: "a request") { !writers.all.isEmpty }
            peers.harness.settle()
            #expect(writers.all.count <= 3)
            for writer in writers.all { writer.respond(contentType: "text/plain", text: "") }
            writers.all.removeAll()
            try peers.harness.run(until: "an answer") { done > before }
        }
        #expect(peers.server.counts.accepted == 3)
    }

    @Test func requestsAreBounded() throws {
        let peers = try Peers()
        var failures: [CurlError] = []
        let extra = 5
        for _ in 0..<(CurlLimits.requestsMax + extra) {
            // Nobody answers there, and no connection is tried before the loop turns.
            peers.client.fetch(peers.request()) { result in
                if let error = result.error { failures.append(error) }
            }
        }
        peers.harness.loop.turn(mayBlock: false)
        peers.harness.settle(turns: 2)
        #expect(failures.count { $0 == .tooManyRequests } == extra)
        peers.client.close()
        #expect(failures.count { $0 == .tooManyRequests } == extra)
    }

    @Test func aThousandRequestsLeaveNoConnectionBehind() throws {
        let peers = try Peers { request, response in
            if request.hasPath("/cut") { return response.cutShort() }
            response.respond(contentType: "text/plain", text: "x")
        }
        // What the first ones open for good.
        for path in ["/", "/cut"] { _ = try peers.fetch(peers.request(path)) }
        var ended = 0
        for round in 0..<20 {
            for number in 0..<50 {
                let path = number % 7 == 0 ? "/cut" : "/"
                let transfer = peers.client.fetch(peers.request(path)) { _ in ended += 1 }
                if number % 11 == 0 { transfer.cancel() }
            }
            try peers.harness.run(until: "round \(round)") { ended == (round + 1) * 50 }
        }
        #expect(ended == 1_000)
        peers.client.close()
        // The descriptors of the process say nothing: tests beside this one open and close theirs.
        try peers.harness.run(until: "idle connections to close") {
            peers.server.counts.connections == 0
        }
    }
}
