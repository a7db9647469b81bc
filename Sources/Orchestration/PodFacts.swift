/// What is known of a pod, as far as its replica's state depends on it.
package struct PodFacts: Sendable, Hashable {
    package enum Phase: String, Sendable, Hashable, CaseIterable {
        case pending = "Pending"
        case running = "Running"
        case succeeded = "Succeeded"
        case failed = "Failed"
        case unknown = "Unknown"
    }

    /// A condition's reason and message.
    package struct Reason: Sendable, Hashable {
        package var reason: String
        package var message: String

        package init(_ reason: String, _ message: String) {
            self.reason = reason
            self.message = message
        }
    }

    /// Why a container does not run, or did not.
    package struct Ended: Sendable, Hashable {
        /// `OOMKilled`, `Error`, `Completed`…
        package var reason: String
        package var exitCode: Int
        package var message: String

        package init(reason: String, exitCode: Int, message: String = "") {
            self.reason = reason
            self.exitCode = exitCode
            self.message = message
        }
    }

    package struct Container: Sendable, Hashable {
        package var name: String
        /// Set while it waits: `ImagePullBackOff`, `CrashLoopBackOff`, `ContainerCreating`…
        package var waitingReason: String?
        package var waitingMessage: String
        /// How it ended the last time.
        package var ended: Ended?
        package var restarts: Int
        package var isReady: Bool

        package init(
            name: String,
            waitingReason: String? = nil,
            waitingMessage: String = "",
            ended: Ended? = nil,
            restarts: Int = 0,
            isReady: Bool = false
        ) {
            self.name = name
            self.waitingReason = waitingReason
            self.waitingMessage = waitingMessage
            self.ended = ended
            self.restarts = restarts
            self.isReady = isReady
        }
    }

    package var uid: String
    package var name: String
    package var phase: Phase
    /// Of the pod as a whole: `Evicted`, `NodeLost`…
    package var reason: String
    package var message: String
    /// Deletion was asked for.
    package var isTerminating: Bool
    /// The condition `Ready`.
    package var isReady: Bool
    /// The condition `PodScheduled` where it is false: reason and message.
    package var unscheduled: Reason?
    /// With the init containers first.
    package var containers: [Container]

    package init(uid: String, name: String, phase: Phase = .pending) {
        self.uid = uid
        self.name = name
        self.phase = phase
        self.reason = ""
        self.message = ""
        self.isTerminating = false
        self.isReady = false
        self.containers = []
    }
}
