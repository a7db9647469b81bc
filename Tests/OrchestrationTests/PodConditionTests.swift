import Autoscaling
import Testing

@testable import Orchestration

@Suite struct PodConditionTests {
    private func pod(_ phase: PodFacts.Phase, _ edit: (inout PodFacts) -> Void = { _ in })
        -> PodFacts
    {
        var pod = PodFacts(uid: "u", name: "chat-1", phase: phase)
        edit(&pod)
        return pod
    }

    private func waiting(_ reason: String, _ message: String = "") -> PodFacts {
        self.pod(.pending) {
            $0.containers = [
                .init(name: "server", waitingReason: reason, waitingMessage: message)
            ]
        }
    }

    @Test func followsAPodThroughItsLife() {
        #expect(PodCondition(self.pod(.pending)).state == .pending)
        #expect(PodCondition(self.pod(.running)).state == .starting)
        #expect(PodCondition(self.pod(.running) { $0.isReady = true }).state == .ready)
        #expect(PodCondition(self.pod(.running), wasReady: true).state == .notReady)
        #expect(PodCondition(self.pod(.unknown)).state == .notReady)
        #expect(PodCondition(self.pod(.succeeded)).state == .ended)
        let leaving = self.pod(.running) {
            $0.isReady = true
            $0.isTerminating = true
        }
        #expect(PodCondition(leaving).state == .terminating)
    }

    @Test func saysWhyAPodEnded() {
        let evicted = self.pod(.failed) {
            $0.reason = "Evicted"
            $0.message = "The node was low on resource: memory."
            $0.isTerminating = true
        }
        let condition = PodCondition(evicted)
        #expect(condition.state == .ended)
        #expect(condition.words == "Evicted: The node was low on resource: memory.")
    }

    @Test(arguments: [PodFacts.Phase.pending, .running])
    func waitsForAPodAsLongAsItsWorkloadSays(_ phase: PodFacts.Phase) {
        let pod = self.pod(phase)
        func condition(_ seconds: Int, wasReady: Bool = false) -> PodCondition {
            PodCondition(
                pod,
                wasReady: wasReady,
                patience: .init(
                    waited: .seconds(seconds),
                    limit: .seconds(600),
                    setting: "progressDeadlineSeconds"
                )
            )
        }
        #expect(condition(599).obstacle == nil)
        let late = condition(600)
        #expect(late.obstacle?.kind == .startTimeout)
        #expect(late.words == "it is not ready after 600 s (progressDeadlineSeconds)")
        #expect(late.state == (phase == .pending ? .pending : .starting))
        // One that was ready is another matter.
        if phase == .running { #expect(condition(600, wasReady: true).obstacle == nil) }
    }

    /// What keeps it from starting says more than how long it has.
    @Test func namesTheCauseBeforeTheTime() {
        let condition = PodCondition(
            self.waiting("ImagePullBackOff"),
            patience: .init(waited: .seconds(9), limit: .seconds(1), setting: "x")
        )
        #expect(condition.obstacle?.kind == .imageError)
    }

    @Test func namesTheResourceThatNoNodeHas() {
        let pod = self.pod(.pending) {
            $0.unscheduled = .init(
                "Unschedulable",
                "0/5 nodes are available: 2 Insufficient nvidia.com/gpu, 3 Insufficient cpu. "
                    + "preemption: 0/5 nodes are available: 5 No preemption victims found."
            )
        }
        let condition = PodCondition(pod)
        #expect(condition.state == .pending)
        #expect(condition.obstacle?.kind == .noCapacity)
        #expect(condition.words.hasPrefix("no node has enough cpu, nvidia.com/gpu: 0/5 nodes"))
    }

    @Test(
        arguments: [
            ("0/3 nodes are available: 3 Insufficient nvidia.com/gpu.", ["nvidia.com/gpu"]),
            (
                "0/1 nodes are available: 1 node(s) had taint {a: }, that the pod didn't tolerate.",
                []
            ),
            ("", []), ("Insufficient ", []), ("Insufficient . ", []),
            ("0/2 nodes are available: 1 Insufficient a.b/c, 1 Insufficient a.b/c.", ["a.b/c"]),
        ] as [(String, [String])]
    )
    func takesTheSchedulersMessageApart(_ message: String, _ lacking: [String]) {
        #expect(Unschedulable(message).lacking == lacking)
        #expect(Unschedulable(message).words.hasPrefix("no node "))
    }

    @Test func waitsForGatesOfTheScheduler() {
        let pod = self.pod(.pending) {
            $0.unscheduled = .init("SchedulingGated", "waiting for a gate")
        }
        #expect(PodCondition(pod).obstacle == nil)
    }

    @Test(arguments: [
        "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull",
        "CreateContainerConfigError", "CreateContainerError", "RunContainerError",
    ])
    func reportsWhatCannotRun(_ reason: String) {
        let condition = PodCondition(self.waiting(reason, "no such thing"))
        #expect(condition.obstacle?.kind == .imageError)
        #expect(condition.words.contains("server"))
        #expect(condition.words.hasSuffix("\(reason): no such thing"))
    }

    @Test(arguments: ["ContainerCreating", "PodInitializing", "SomethingNew"])
    func waitsForWhatMayStillCome(_ reason: String) {
        let condition = PodCondition(self.waiting(reason))
        #expect(condition.obstacle == nil)
        #expect(condition.words == "container server: \(reason)")
    }

    @Test func seesACrashLoopBehindAnyContainer() {
        let pod = self.pod(.running) {
            $0.containers = [
                .init(name: "side", isReady: true),
                .init(
                    name: "server",
                    waitingReason: "CrashLoopBackOff",
                    ended: .init(reason: "OOMKilled", exitCode: 137),
                    restarts: 5
                ),
            ]
        }
        let condition = PodCondition(pod, wasReady: true)
        #expect(condition.state == .notReady)
        #expect(condition.obstacle?.kind == .crashLoop)
        #expect(condition.words.contains("5 times"))
        #expect(condition.words.contains("more memory than its limit"))
    }

    @Test(arguments: 0...5)
    func seesACrashLoopBetweenItsRestarts(_ restarts: Int) {
        let pod = self.pod(.running) {
            $0.containers = [
                .init(
                    name: "server",
                    ended: .init(reason: "Error", exitCode: 3, message: "bad\nweights"),
                    restarts: restarts
                )
            ]
        }
        let condition = PodCondition(pod)
        let isLoop = restarts > PodCondition.crashesMax
        #expect((condition.obstacle?.kind == .crashLoop) == isLoop)
        if isLoop { #expect(condition.words.hasSuffix("exit code 3: bad weights")) }
    }

    @Test func cutsLongMessages() {
        let long = String(repeating: "x", count: 10_000)
        #expect(PodCondition(self.waiting("ErrImagePull", long)).words.count < 400)
    }

    @Test func tellsQuotasFromOtherRefusals() {
        let quota = CreationFailure(
            reason: "FailedCreate",
            message: "pods \"a\" is forbidden: exceeded quota: gpus, requested: "
                + "requests.nvidia.com/gpu=1, used: 4, limited: 4"
        )
        #expect(quota.obstacle.kind == .quota)
        #expect(quota.obstacle.message.hasPrefix("a quota refuses the pod: pods"))
        let other = CreationFailure(reason: "FailedCreate", message: "denied by policy")
        #expect(other.obstacle.kind == .imageError)
        #expect(other.obstacle.message == "the pod is refused: FailedCreate: denied by policy")
    }
}
