import Autoscaling

/// What a pod is as a replica: its state, and why it will not come where it does not.
package struct PodCondition: Sendable, Hashable {
    package enum State: Sendable, Hashable {
        /// Not placed, or its containers do not run yet.
        case pending
        /// Runs and was not ready yet.
        case starting
        case ready
        /// Was ready and is not now.
        case notReady
        case terminating
        /// Over: it counts for nothing.
        case ended
    }

    package var state: State
    /// Nil while it may still come by itself soon.
    package var obstacle: Obstacle?
    /// For people; empty where there is nothing to say.
    package var words: String

    package init(_ state: State, obstacle: Obstacle? = nil, words: String = "") {
        self.state = state
        self.obstacle = obstacle
        self.words = words
    }

    /// Restarts before a container that dies counts as one that goes on dying.
    package static let crashesMax = 2
    /// Characters of a message that are passed on.
    package static let wordsMax = 300

    /// How long a pod may take to become ready.
    package struct Patience: Sendable, Hashable {
        /// Since it was first seen.
        package var waited: Duration
        package var limit: Duration
        /// What sets the limit, for people.
        package var setting: String

        package init(waited: Duration, limit: Duration, setting: String) {
            self.waited = waited
            self.limit = limit
            self.setting = setting
        }

        fileprivate func obstacle(_ words: String) -> Obstacle? {
            guard self.waited >= self.limit else { return nil }
            let seconds = self.limit.components.seconds
            let why = words.isEmpty ? "" : ": \(words)"
            return Obstacle(
                .startTimeout,
                message: "it is not ready after \(seconds) s (\(self.setting))\(why)"
            )
        }
    }

    /// - Parameters:
    ///   - wasReady: whether it was ever seen ready.
    ///   - patience: nil where it may take as long as it likes.
    package init(_ pod: PodFacts, wasReady: Bool = false, patience: Patience?) {
        self.init(pod, wasReady: wasReady)
        guard self.state == .pending || self.state == .starting, self.obstacle == nil,
            let obstacle = patience?.obstacle(self.words)
        else { return }
        self.obstacle = obstacle
        self.words = obstacle.message
    }

    /// - Parameter wasReady: whether it was ever seen ready.
    package init(_ pod: PodFacts, wasReady: Bool = false) {
        if pod.phase == .succeeded || pod.phase == .failed {
            self.init(.ended, words: Self.sentence(pod.reason, pod.message))
            return
        }
        if pod.isTerminating {
            self.init(.terminating)
            return
        }
        if pod.isReady && pod.phase == .running {
            self.init(.ready)
            return
        }
        if let obstacle = Self.obstacle(pod) {
            let state: State = pod.phase == .running ? .starting : .pending
            self.init(wasReady ? .notReady : state, obstacle: obstacle, words: obstacle.message)
            return
        }
        switch pod.phase {
        case .running: self.init(wasReady ? .notReady : .starting, words: Self.waiting(pod))
        case .unknown: self.init(.notReady, words: "its node does not answer")
        case .pending, .succeeded, .failed: self.init(.pending, words: Self.waiting(pod))
        }
    }

    // MARK: Why it does not come

    private static func obstacle(_ pod: PodFacts) -> Obstacle? {
        if let unscheduled = pod.unscheduled {
            guard unscheduled.reason == "Unschedulable" else { return nil }
            return Obstacle(.noCapacity, message: Unschedulable(unscheduled.message).words)
        }
        for container in pod.containers {
            if let obstacle = self.obstacle(container) { return obstacle }
        }
        return nil
    }

    private static func obstacle(_ container: PodFacts.Container) -> Obstacle? {
        switch container.waitingReason {
        case "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull",
            "RegistryUnavailable", "ImageInspectError":
            return Obstacle(
                .imageError,
                message: "the image of container \(container.name) cannot be had: "
                    + self.sentence(container.waitingReason ?? "", container.waitingMessage)
            )
        case "CreateContainerConfigError", "CreateContainerError", "RunContainerError",
            "StartError", "ContainerCannotRun":
            return Obstacle(
                .imageError,
                message: "container \(container.name) cannot be started: "
                    + self.sentence(container.waitingReason ?? "", container.waitingMessage)
            )
        case "CrashLoopBackOff":
            return Obstacle(.crashLoop, message: self.crashes(container))
        default:
            guard !container.isReady, container.restarts > self.crashesMax,
                container.ended != nil
            else { return nil }
            return Obstacle(.crashLoop, message: self.crashes(container))
        }
    }

    private static func crashes(_ container: PodFacts.Container) -> String {
        let times = container.restarts == 1 ? "once" : "\(container.restarts) times"
        var text = "container \(container.name) was started again \(times)"
        guard let ended = container.ended else { return text }
        if ended.reason == "OOMKilled" {
            text += ": it used more memory than its limit (OOMKilled)"
        } else {
            text += ": it ended with exit code \(ended.exitCode)"
            if !ended.reason.isEmpty, ended.reason != "Error" { text += " (\(ended.reason))" }
        }
        return text + (ended.message.isEmpty ? "" : ": " + self.short(ended.message))
    }

    private static func waiting(_ pod: PodFacts) -> String {
        for container in pod.containers where !container.isReady {
            guard let reason = container.waitingReason else { continue }
            return "container \(container.name): "
                + self.sentence(reason, container.waitingMessage)
        }
        return ""
    }

    static func sentence(_ reason: String, _ message: String) -> String {
        if message.isEmpty { return reason }
        return reason.isEmpty ? self.short(message) : "\(reason): \(self.short(message))"
    }

    static func short(_ text: String) -> String {
        let line = String(text.map { $0.isNewline ? " " : $0 })
        return line.count > self.wordsMax ? line.prefix(self.wordsMax) + "…" : line
    }
}

/// The scheduler's message, taken apart:
/// `0/5 nodes are available: 2 Insufficient nvidia.com/gpu, 3 node(s) had taint…`.
package struct Unschedulable: Sendable, Hashable {
    /// Resources of which no node has enough, by how many nodes lack them, most first.
    package var lacking: [String] = []
    package var words: String

    package init(_ message: String) {
        var lacking: [(resource: String, nodes: Int)] = []
        let marker = "Insufficient "
        for part in message.split(whereSeparator: { $0 == "," || $0 == ":" }) {
            guard let range = part.firstRange(of: marker) else { continue }
            let resource = part[range.upperBound...].prefix { !$0.isWhitespace && $0 != ";" }
            var name = resource
            while name.hasSuffix(".") { name = name.dropLast() }
            if name.isEmpty || lacking.contains(where: { $0.resource == name }) { continue }
            let count = part[..<range.lowerBound].split(separator: " ").last.flatMap { Int($0) }
            lacking.append((String(name), count ?? 0))
        }
        self.lacking = lacking.sorted { ($1.nodes, $0.resource) < ($0.nodes, $1.resource) }
            .map(\.resource)
        let text = PodCondition.short(message)
        if self.lacking.isEmpty {
            self.words = text.isEmpty ? "no node can take it" : "no node can take it: \(text)"
        } else {
            let names = self.lacking.joined(separator: ", ")
            self.words = "no node has enough \(names): \(text)"
        }
    }
}

/// Why the pods that are missing are not even made: the condition `ReplicaFailure` of a Deployment
/// or ReplicaSet, reason `FailedCreate`.
package struct CreationFailure: Sendable, Hashable {
    package var obstacle: Obstacle

    package init(reason: String, message: String) {
        let isQuota =
            message.contains("exceeded quota") || message.contains("failed quota")
        let text = PodCondition.sentence(isQuota ? "" : reason, message)
        self.obstacle =
            isQuota
            ? Obstacle(.quota, message: "a quota refuses the pod: \(text)")
            : Obstacle(.imageError, message: "the pod is refused: \(text)")
    }
}
