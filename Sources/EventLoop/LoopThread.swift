import CPlatform
import Glibc

/// A thread that runs one event loop until the loop is stopped.
package final class LoopThread: Sendable {
    package let loop: EventLoop
    private let handle: pthread_t

    /// Starts the thread. `setUp` runs on it first; `tearDown` last, before the thread ends.
    package init(
        name: String,
        loop: EventLoop,
        setUp: @escaping @Sendable () -> Void = {},
        tearDown: @escaping @Sendable () -> Void = {}
    ) {
        self.loop = loop
        let start = Start(name: name, loop: loop, setUp: setUp, tearDown: tearDown)
        var handle = pthread_t()
        let code = pthread_create(
            &handle,
            nil,
            { context in
                guard let context else { return nil }
                let start = Unmanaged<Start>.fromOpaque(context).takeRetainedValue()
                weir_set_thread_name(start.name)
                start.setUp()
                start.loop.run()
                start.tearDown()
                return nil
            },
            Unmanaged.passRetained(start).toOpaque()
        )
        precondition(code == 0, "cannot start a thread: \(String(cString: strerror(code)))")
        self.handle = handle
    }

    /// Waits until the thread has ended; call once, after `loop.stop()`.
    package func join() {
        pthread_join(self.handle, nil)
    }

    private final class Start {
        let name: String
        let loop: EventLoop
        let setUp: @Sendable () -> Void
        let tearDown: @Sendable () -> Void

        init(
            name: String,
            loop: EventLoop,
            setUp: @escaping @Sendable () -> Void,
            tearDown: @escaping @Sendable () -> Void
        ) {
            self.name = name
            self.loop = loop
            self.setUp = setUp
            self.tearDown = tearDown
        }
    }
}
