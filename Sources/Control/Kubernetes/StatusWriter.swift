import HTTPService
import Kubernetes

/// Applies the statuses of one kind of resource: where they changed, and as many in one tick as it
/// may.
///
/// What a resource says already is not written again, so that a new leader writes only what has
/// changed since. Everybody's turn comes: the next tick goes on behind the last one that was
/// written. On the control loop's thread.
final class StatusWriter {
    /// The fields that are ours.
    static let manager = "weir-controller-status"
    /// Written by `ClusterRollouts`.
    private static let othersField = "rollout"

    /// What would be written.
    struct Draft {
        /// Everything whose change is worth a write.
        var significant: String
        /// Made only where it is needed.
        var value: () -> JSONValue
    }

    var onProblem: (String) -> Void = { _ in }
    private let client: KubernetesClient
    private let kind: ResourceDirectory.Kind
    /// What was significant in what was written last.
    private var written: [ObjectKey: String] = [:]
    private var writing: Set<ObjectKey> = []
    private var rests = StatusRests()
    private var last: ObjectKey?

    init(_ client: KubernetesClient, _ kind: ResourceDirectory.Kind) {
        self.client = client
        self.kind = kind
    }

    /// Another process has led meanwhile.
    func forget() {
        self.written = [:]
        self.rests = StatusRests()
    }

    /// - Parameters:
    ///   - left: how many may be written yet; counted down.
    ///   - draft: nil where nothing is to be said yet.
    func write(
        _ directory: ResourceDirectory,
        left: inout Int,
        mayWrite: () -> Bool,
        draft: (ResourceDirectory.Item) -> Draft?
    ) {
        var items: [ResourceDirectory.Item] = []
        directory.forEach(self.kind) { items.append($0) }
        if self.written.count > items.count || !self.rests.isEmpty {
            let present = Set(items.map(\.key))
            self.written = self.written.filter { present.contains($0.key) }
            self.rests.keep(present)
        }
        for item in Self.turns(items, after: self.last) where !self.writing.contains(item.key) {
            if left <= 0 { return }
            if self.rests.pass(item.key) { continue }
            guard let draft = draft(item) else { continue }
            // Another object may have the name of one that is gone.
            let significant = "\(item.uid) \(draft.significant)"
            if self.written[item.key] == significant { continue }
            let status = draft.value()
            if Self.says(item.status, status) {
                self.written[item.key] = significant
                continue
            }
            guard mayWrite() else { return }
            self.send(item, status, significant)
            self.last = item.key
            left -= 1
        }
    }

    /// In the order of their names, beginning behind one of them.
    private static func turns(
        _ items: [ResourceDirectory.Item],
        after last: ObjectKey?
    ) -> [ResourceDirectory.Item] {
        let sorted = items.sorted { $0.key < $1.key }
        guard let last, let start = sorted.firstIndex(where: { $0.key > last }) else {
            return sorted
        }
        return Array(sorted[start...] + sorted[..<start])
    }

    /// Whether a status says already what a draft would, and nothing else that is ours.
    static func says(_ status: JSONValue, _ draft: JSONValue) -> Bool {
        draft.members.allSatisfy { status[$0.name] == $0.value }
            && status.members.allSatisfy {
                $0.name == self.othersField || !draft[$0.name].isNull
            }
    }

    private func send(
        _ item: ResourceDirectory.Item,
        _ status: JSONValue,
        _ significant: String
    ) {
        let key = item.key
        var object = KubernetesObject(
            self.kind.resource,
            namespace: key.namespace,
            name: key.name
        )
        object["status"] = status
        self.writing.insert(key)
        self.client.apply(
            self.kind.resource,
            object,
            manager: Self.manager,
            force: true,
            subresource: "status"
        ) { [weak self, kind] result in
            self?.writing.remove(key)
            switch result {
            case .success:
                self?.rests.taken(key)
                self?.written[key] = significant
            case .failure(let error):
                // After a conflict the next tick looks again.
                if error.isConflict || error.isCancelled { return }
                let isFirst = self?.rests.refused(key) ?? true
                // One that is gone needs nothing; it is there, if that happens again.
                if error.isNotFound, isFirst { return }
                self?.onProblem("the status of \(kind.rawValue) \(key) cannot be written: \(error)")
            }
        }
    }
}

/// Statuses that the server would not take are tried again less and less often.
struct StatusRests {
    static let ticksMax = 64

    /// For how many ticks, and how many of them are left.
    private var resting: [ObjectKey: (ticks: Int, left: Int)] = [:]

    var isEmpty: Bool { self.resting.isEmpty }

    /// A tick passes. Returns whether it rests in this one.
    mutating func pass(_ key: ObjectKey) -> Bool {
        guard let rest = self.resting[key], rest.left > 0 else { return false }
        self.resting[key]?.left -= 1
        return true
    }

    /// It rests for a tick, then for twice as many each time.
    /// - Returns: whether it is the first time.
    mutating func refused(_ key: ObjectKey) -> Bool {
        let before = self.resting[key]?.ticks
        let ticks = before.map { min(Self.ticksMax, $0 * 2) } ?? 1
        self.resting[key] = (ticks, ticks)
        return before == nil
    }

    mutating func taken(_ key: ObjectKey) { self.resting[key] = nil }

    mutating func keep(_ present: Set<ObjectKey>) {
        self.resting = self.resting.filter { present.contains($0.key) }
    }
}
