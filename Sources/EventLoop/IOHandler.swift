import CEvent
import Core

/// What a descriptor is ready for.
public struct IOEvents: OptionSet, Sendable {
    public let rawValue: Int16
    @inlinable
    public init(rawValue: Int16) { self.rawValue = rawValue }

    // Libevent's own numbers, which `register` checks; as numbers they are inlined everywhere.
    @inlinable
    public static var read: IOEvents { IOEvents(rawValue: 0x02) }
    @inlinable
    public static var write: IOEvents { IOEvents(rawValue: 0x04) }
    /// The peer will send no more (it closed, or half-closed). Data may still wait to be read.
    @inlinable
    public static var closed: IOEvents { IOEvents(rawValue: 0x80) }
    /// What a connection registers for, once, for its whole life.
    @inlinable
    public static var all: IOEvents { IOEvents(rawValue: 0x86) }
}

/// One registered descriptor. Subclass it and override `ready`.
///
/// `open` and public only because Swift has no package-wide `open`. A class hierarchy rather than a
/// protocol: libevent keeps a pointer to the handler, and a virtual call costs less than a witness
/// call on this path. The handler registers itself unretained, so it must be deregistered before it
/// goes; `deinit` checks.
///
/// Edge-triggered handlers are registered once for both directions and never again: they must read
/// and write until the kernel says EAGAIN, or remember that there is more.
open class IOHandler {
    public private(set) final var descriptor: Int32 = -1
    private final var event: UnsafeMutablePointer<event>?

    public init() {}

    deinit {
        precondition(self.event == nil, "an I/O handler was dropped while registered")
    }

    /// Called on the loop's thread when the descriptor is ready. Errors and hang-ups arrive as
    /// `.read` and `.write` too: the next system call names them.
    open func ready(_ events: IOEvents) {}

    package final var isRegistered: Bool { self.event != nil }

    /// Starts watching. The descriptor stays the caller's: `deregister` does not close it.
    ///
    /// - Parameter outlivesTurn: the caller keeps a handler that it deregisters until the loop's
    ///   turn is over, so that it need not be held for each call.
    package final func register(
        descriptor: Int32,
        on loop: EventLoop,
        interest: IOEvents,
        edgeTriggered: Bool = false,
        outlivesTurn: Bool = false
    ) {
        precondition(self.event == nil, "registered twice")
        assert(IOEvents.all.rawValue == Int16(EV_READ | EV_WRITE | EV_CLOSED), "not libevent's")
        self.descriptor = descriptor
        let flags =
            interest.rawValue | Int16(EV_PERSIST) | (edgeTriggered ? Int16(EV_ET) : 0)
        let context = Unmanaged.passUnretained(self).toOpaque()
        guard
            let event = event_new(
                loop.eventBase,
                descriptor,
                flags,
                outlivesTurn ? Self.call : Self.holdAndCall,
                context
            )
        else { preconditionFailure("out of memory for an event") }
        precondition(event_add(event, nil) == 0, "epoll refused descriptor \(descriptor)")
        self.event = event
    }

    private static let call: event_callback_fn = { _, events, context in
        guard let context else { return }
        Unmanaged<IOHandler>.fromOpaque(context)._withUnsafeGuaranteedRef {
            $0.ready(IOEvents(rawValue: events & Int16(EV_READ | EV_WRITE | EV_CLOSED)))
        }
    }

    /// The handler may drop its last owner inside `ready`.
    private static let holdAndCall: event_callback_fn = { _, events, context in
        guard let context else { return }
        let handler = Unmanaged<IOHandler>.fromOpaque(context).takeUnretainedValue()
        handler.ready(IOEvents(rawValue: events & Int16(EV_READ | EV_WRITE | EV_CLOSED)))
    }

    /// Stops watching; idempotent.
    package final func deregister() {
        guard let event = self.event else { return }
        event_free(event)
        self.event = nil
    }
}

/// A one-shot or repeating timer of an event loop. Kept alive by the loop while it is armed.
package final class LoopTimer {
    private var event: UnsafeMutablePointer<event>?
    private var body: (() -> Void)?
    private let repeats: Bool

    init(base: OpaquePointer, delay: Duration, repeats: Bool, body: @escaping () -> Void) {
        self.body = body
        self.repeats = repeats
        // Released in `finish`, the one place that ends the timer.
        let context = Unmanaged.passRetained(self).toOpaque()
        let event = event_new(
            base,
            -1,
            repeats ? Int16(EV_PERSIST) : 0,
            { _, _, context in
                guard let context else { return }
                Unmanaged<LoopTimer>.fromOpaque(context).takeUnretainedValue().fire()
            },
            context
        )
        let microseconds = max(0, delay.nanosecondsClamped / 1_000)
        var interval = timeval(
            tv_sec: Int(microseconds / 1_000_000),
            tv_usec: Int(microseconds % 1_000_000)
        )
        precondition(event != nil && event_add(event, &interval) == 0, "out of memory for a timer")
        self.event = event
    }

    package func cancel() {
        self.finish()
    }

    package var isArmed: Bool { self.event != nil }

    private func fire() {
        if self.repeats {
            self.body?()
        } else {
            let body = self.body
            self.finish()
            body?()
        }
    }

    private func finish() {
        guard let event = self.event else { return }
        self.event = nil
        self.body = nil
        event_free(event)
        Unmanaged.passUnretained(self).release()
    }
}
