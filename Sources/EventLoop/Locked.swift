import Glibc

/// A value behind a mutex. Touched off the request path only: mailboxes, saturated queues.
///
/// In place of `Synchronization.Mutex`, which on Linux is a bare futex. ThreadSanitizer does not
/// know it and takes every use for a race, and a sanitizer that cries wolf finds nothing.
package final class Locked<Value>: @unchecked Sendable {
    // @unchecked: `value` is reached inside `withLock` alone.
    private var value: Value
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>

    package init(_ value: sending Value) {
        self.value = value
        self.mutex = .allocate(capacity: 1)
        let code = pthread_mutex_init(self.mutex, nil)
        precondition(code == 0, "cannot make a mutex: \(String(cString: strerror(code)))")
    }

    deinit {
        pthread_mutex_destroy(self.mutex)
        self.mutex.deallocate()
    }

    /// Runs `body` while nobody else is inside. It must not come back to the same lock.
    package func withLock<Result, Failure: Error>(
        _ body: (inout Value) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        pthread_mutex_lock(self.mutex)
        defer { pthread_mutex_unlock(self.mutex) }
        return try body(&self.value)
    }
}
