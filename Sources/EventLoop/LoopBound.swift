/// A value that belongs to one loop, carried across threads by reference.
///
/// Only the loop's own thread may look inside; another one traps. That is what makes it sound to
/// call it `Sendable` although the value is not.
package struct LoopBound<Value>: @unchecked Sendable {
    package let loop: EventLoop
    private let storage: Value

    package init(_ value: Value, loop: EventLoop) {
        self.loop = loop
        self.storage = value
    }

    package var value: Value {
        precondition(self.loop.isOnLoop, "a loop-bound value was reached from another thread")
        return self.storage
    }
}
