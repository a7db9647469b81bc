import Core
import EventLoop

/// Tells controllers at once of models that requests wait for: a `WakeLog`, and who waits for its
/// next entry. On the control loop's thread.
package final class WakeBoard {
    private struct Waiter {
        var after: Int
        var timer: LoopTimer
        var answer: (WakeAnswer?) -> Void
    }

    /// Questions that are kept waiting at a time: a controller asks one.
    package static let waitersMax = 32

    private let loop: EventLoop
    private var log = WakeLog()
    private var waiters: [Int: Waiter] = [:]
    private var nextTicket = 0

    package init(loop: EventLoop) {
        self.loop = loop
    }

    deinit {
        for waiter in self.waiters.values { waiter.timer.cancel() }
    }

    /// A request waits.
    package func note(_ wake: WakeLog.Wake) {
        guard self.log.note(wake, at: self.loop.now) else { return }
        for ticket in self.waiters.keys.sorted() { self.finish(ticket) }
    }

    /// Answers once: as soon as there is something new, with nothing when the time has passed, with
    /// nil where too many are waiting.
    /// - Returns: what to `cancel` it by; nil where it has been answered.
    package func ask(_ question: WakeQuestion, answer: @escaping (WakeAnswer?) -> Void) -> Int? {
        let wakes = self.log.wakes(after: question.after, at: self.loop.now)
        if !wakes.isEmpty {
            answer(WakeAnswer(last: self.log.last, wakes: wakes))
            return nil
        }
        guard self.waiters.count < Self.waitersMax else {
            answer(nil)
            return nil
        }
        let ticket = self.nextTicket
        self.nextTicket += 1
        let timer = self.loop.schedule(after: .seconds(question.seconds)) { [weak self] in
            self?.finish(ticket)
        }
        // What another run gave out means nothing here.
        let after = min(question.after, self.log.last)
        self.waiters[ticket] = Waiter(after: after, timer: timer, answer: answer)
        return ticket
    }

    /// Whoever asked has gone.
    package func cancel(_ ticket: Int) {
        self.waiters.removeValue(forKey: ticket)?.timer.cancel()
    }

    private func finish(_ ticket: Int) {
        guard let waiter = self.waiters.removeValue(forKey: ticket) else { return }
        waiter.timer.cancel()
        let wakes = self.log.wakes(after: waiter.after, at: self.loop.now)
        waiter.answer(WakeAnswer(last: self.log.last, wakes: wakes))
    }
}
