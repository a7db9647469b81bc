import EventLoop
import Glibc
import Synchronization

/// A thread of a test: for what must happen while the test itself is blocked.
final class Background: Sendable {
    private let thread: pthread_t
    private let state: State

    private final class State: Sendable {
        let body: @Sendable () throws -> Void
        let failure = Locked<(any Error)?>(nil)
        init(_ body: @escaping @Sendable () throws -> Void) { self.body = body }
    }

    init(_ body: @escaping @Sendable () throws -> Void) {
        let state = State(body)
        var thread = pthread_t()
        let code = pthread_create(
            &thread,
            nil,
            { context in
                guard let context else { return nil }
                let state = Unmanaged<State>.fromOpaque(context).takeRetainedValue()
                do { try state.body() } catch { state.failure.withLock { $0 = error } }
                return nil
            },
            Unmanaged.passRetained(state).toOpaque()
        )
        precondition(code == 0, "pthread_create: \(code)")
        self.state = state
        self.thread = thread
    }

    /// Waits for its end; throws what it threw. Call once.
    func join() throws {
        pthread_join(self.thread, nil)
        if let failure = self.state.failure.withLock({ $0 }) { throw failure }
    }
}
