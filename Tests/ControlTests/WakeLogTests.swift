import Core
import EventLoop
import HTTPService
import LoopTestSupport
import Testing

@testable import Control

@Suite struct WakeLogTests {
    private let chat = WakeLog.Wake(model: "chat", variant: nil)
    private let digits = WakeLog.Wake(model: "digits", variant: "v2")

    private func at(_ seconds: Double) -> Instant { .zero + .seconds(1_000 + seconds) }

    @Test func tellsEachWakeOnce() {
        var log = WakeLog()
        #expect(log.wakes(after: 0, at: self.at(0)) == [])
        #expect(log.note(self.chat, at: self.at(0)) == true)
        #expect(log.note(self.digits, at: self.at(0.1)) == true)
        #expect(log.wakes(after: 0, at: self.at(0.2)) == [self.chat, self.digits])
        #expect(log.wakes(after: 1, at: self.at(0.2)) == [self.digits])
        #expect(log.wakes(after: 2, at: self.at(0.2)) == [])
    }

    @Test func oneRequestStandsForAll() {
        var log = WakeLog()
        #expect(log.note(self.chat, at: self.at(0)) == true)
        #expect(log.note(self.chat, at: self.at(0.9)) == false)
        #expect(log.last == 1)
        #expect(log.note(self.chat, at: self.at(1)) == true)
        #expect(log.wakes(after: 1, at: self.at(1)) == [self.chat])
    }

    @Test func forgetsWhatIsOld() {
        var log = WakeLog()
        _ = log.note(self.chat, at: self.at(0))
        #expect(log.wakes(after: 0, at: self.at(9.9)) == [self.chat])
        #expect(log.wakes(after: 0, at: self.at(10)) == [])
        #expect(log.last == 1)
    }

    /// A gateway that was started again gives numbers out anew.
    @Test func aNumberOfAnotherRunMeansEverything() {
        var log = WakeLog()
        _ = log.note(self.chat, at: self.at(0))
        #expect(log.wakes(after: 700, at: self.at(0)) == [self.chat])
    }

    @Test func isBounded() {
        var log = WakeLog()
        for number in 0...WakeLog.entriesMax {
            _ = log.note(WakeLog.Wake(model: "\(number)", variant: nil), at: self.at(0))
        }
        let kept = log.wakes(after: 0, at: self.at(0))
        #expect(kept.count == WakeLog.entriesMax)
        #expect(kept.first?.model == "1")
    }

    // MARK: Documents

    @Test func readsWhatItWrites() throws {
        let answer = WakeAnswer(last: 7, wakes: [self.chat, self.digits])
        let buffer = ByteBuffer(capacity: 64)
        var writer = JSONWriter(buffer)
        answer.write(to: &writer)
        let bytes = buffer.readable.withUnsafeBytes { Array($0) }
        #expect(try WakeAnswer(bytes) == answer)
        let question = WakeQuestion(after: 3, seconds: 20)
        let query = question.target.split(separator: "?").last.map(String.init)
        #expect(WakeQuestion(query: query) == question)
    }

    @Test(arguments: [
        "", "{}", #"{"last":-1,"wakes":[]}"#, #"{"last":"1"}"#, #"{"last":1,"wakes":[{}]}"#,
        #"{"last":1,"wakes":[{"model":1}]}"#, #"{"last":1}x"#,
    ])
    func refusesAnswersThatAreNone(_ text: String) {
        #expect(throws: JSONError.self) { try WakeAnswer(Array(text.utf8)) }
    }

    @Test(arguments: [
        nil, "", "after=1", "after=1&seconds=0", "after=1&seconds=61", "after=-1&seconds=5",
        "after=x&seconds=5", "more=1&seconds=5", "after&seconds=5",
    ])
    func refusesQuestionsThatAreNone(_ query: String?) {
        #expect(WakeQuestion(query: query) == nil)
    }

    // MARK: The board

    @Test func answersAtOnceWhatIsNews() throws {
        let harness = try LoopHarness()
        let board = WakeBoard(loop: harness.loop)
        var answers: [WakeAnswer?] = []
        let ticket = board.ask(WakeQuestion(after: 0, seconds: 60)) { answers.append($0) }
        #expect(ticket != nil)
        board.note(self.chat)
        #expect(answers == [WakeAnswer(last: 1, wakes: [self.chat])])
        // What has not been heard yet is told without waiting.
        board.note(self.digits)
        #expect(board.ask(WakeQuestion(after: 1, seconds: 60)) { answers.append($0) } == nil)
        #expect(answers.last == .some(WakeAnswer(last: 2, wakes: [self.digits])))
        harness.settle()
    }

    @Test func answersNothingWhenTheTimeIsOver() throws {
        let harness = try LoopHarness()
        let board = WakeBoard(loop: harness.loop)
        var answers: [WakeAnswer?] = []
        _ = board.ask(WakeQuestion(after: 0, seconds: 1)) { answers.append($0) }
        try harness.run(until: "the answer") { !answers.isEmpty }
        #expect(answers == [WakeAnswer(last: 0, wakes: [])])
    }

    @Test func boundsThoseWhoWait() throws {
        let harness = try LoopHarness()
        let board = WakeBoard(loop: harness.loop)
        var answers: [WakeAnswer?] = []
        let question = WakeQuestion(after: 0, seconds: 60)
        let tickets = (0..<WakeBoard.waitersMax).map { _ in
            board.ask(question) { answers.append($0) }
        }
        #expect(board.ask(question) { answers.append($0) } == nil)
        #expect(answers == [nil])
        board.cancel(try #require(tickets[0]))
        #expect(board.ask(question) { answers.append($0) } != nil)
        board.note(self.chat)
        #expect(answers.count == 1 + WakeBoard.waitersMax)
    }
}
