import Core

@testable import ModelSimulator

/// A value by reference: `#expect` takes its operands as constants, and so cannot call `mutating`
/// methods on a variable.
@dynamicMemberLookup
final class Held<Value> {
    var value: Value

    init(_ value: Value) {
        self.value = value
    }

    subscript<Member>(dynamicMember path: KeyPath<Value, Member>) -> Member {
        self.value[keyPath: path]
    }
}

extension Held<BatchingEngine> {
    func submit(_ request: SequenceRequest, now: Instant) -> OnSubmit {
        self.value.submit(request, now: now)
    }

    func cancel(_ id: SequenceID, now: Instant) -> Bool {
        self.value.cancel(id, now: now)
    }

    func advance(to now: Instant) -> [EngineEvent] {
        self.value.advance(to: now)
    }
}

extension Held<ServiceStation> {
    func submit(_ id: SequenceID, now: Instant) -> OnSubmit {
        self.value.submit(id, now: now)
    }

    func cancel(_ id: SequenceID, now: Instant) -> Bool {
        self.value.cancel(id, now: now)
    }

    func advance(to now: Instant) -> [EngineEvent] {
        self.value.advance(to: now)
    }
}
