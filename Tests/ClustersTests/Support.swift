import Core
import EventLoop
import Foundation
import Testing

@testable import Clusters

/// A directory of its own, removed with the object.
final class TemporaryDirectory {
    let path: String

    init() {
        self.path = NSTemporaryDirectory() + "/weir-clusters-" + UUID().uuidString
        try? FileManager.default.createDirectory(
            atPath: self.path,
            withIntermediateDirectories: true
        )
    }

    deinit { try? FileManager.default.removeItem(atPath: self.path) }

    func write(_ name: String, _ text: String, mode: Int = 0o644) throws -> String {
        let path = self.path + "/" + name
        try text.write(toFile: path, atomically: true, encoding: .utf8)
        try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: path)
        return path
    }
}

/// Turns a loop until something is so, or far too much time has passed.
final class LoopDriver {
    let loop: EventLoop

    init() throws {
        self.loop = try EventLoop()
    }

    /// - Returns: whether it came to be so.
    @discardableResult
    func run(within limit: Duration = .seconds(30), until condition: () -> Bool) -> Bool {
        let deadline = EventLoop.readClock() + limit
        // Wakes the loop so that a condition outside of it, or the limit, is noticed.
        let pulse = self.loop.scheduleRepeating(every: .milliseconds(10)) {}
        defer { pulse.cancel() }
        while !condition() {
            if EventLoop.readClock() > deadline { return false }
            self.loop.turn(mayBlock: true)
        }
        return true
    }
}

/// A cluster on a loop with everything it told. `drains` says whether drains are answered at once.
final class ClusterRig {
    let driver: LoopDriver
    let directory: TemporaryDirectory
    let cluster: ProcessCluster
    var changes: [ReplicaChange] = []
    var lines: [String] = []
    var notices: [String] = []
    var drainsAtOnce = true

    init(
        directory: TemporaryDirectory = TemporaryDirectory(),
        environment: [String: String] = testEnvironment,
        sentinel: [String] = [],
        configure: (inout ProcessCluster.Options) -> Void = { _ in }
    ) throws {
        self.directory = directory
        self.driver = try LoopDriver()
        var options = ProcessCluster.Options(
            stateDirectory: directory.path + "/state",
            environment: environment,
            seed: UInt64.random(in: 0 ... .max)
        )
        options.sentinelCommand = sentinel
        configure(&options)
        self.cluster = try ProcessCluster(loop: self.driver.loop, options: options)
        self.cluster.onChange = { [unowned self] change in
            self.changes.append(change)
            if case .updated(let status) = change, status.state == .draining, self.drainsAtOnce {
                self.cluster.drained(status.id)
            }
        }
        self.cluster.onOutput = { [unowned self] in self.lines.append("\($0) \($1.rawValue) \($2)")
        }
        self.cluster.onNotice = { [unowned self] in self.notices.append($0) }
    }

    func replicas(_ group: String = "g") -> [ReplicaStatus] {
        self.cluster.group(group)?.replicas ?? []
    }

    func count(_ state: ReplicaState, _ group: String = "g") -> Int {
        self.replicas(group).count { $0.state == state }
    }

    @discardableResult
    func waitFor(_ count: Int, _ state: ReplicaState, _ group: String = "g") -> Bool {
        self.driver.run { self.count(state, group) == count }
    }

    /// All states a replica was told to be in, in order.
    func history(_ group: String = "g", index: Int = 0) -> [ReplicaState] {
        var states: [ReplicaState] = []
        for case .updated(let status) in self.changes
        where status.id.group == group && status.id.index == index && status.state != states.last {
            states.append(status.state)
        }
        return states
    }

    /// Ends everything; a test that forgets it crashes.
    func finish(within limit: Duration = .seconds(5)) {
        var isDone = false
        self.cluster.shutdown(within: limit) { isDone = true }
        #expect(self.driver.run { isDone })
    }
}

let testEnvironment = ["PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"]

/// Python that serves GET /ready with 200 and everything else with 404, once `delay` has passed.
let server = """
    import http.server, os, sys, time
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            status = 200 if self.path == '/ready' else 404
            if os.environ.get('UNREADY') and os.path.exists(os.environ['UNREADY']): status = 503
            self.send_response(status); self.send_header('content-length', '0'); self.end_headers()
        def log_message(self, *arguments): pass
    time.sleep(float(os.environ.get('DELAY', '0')))
    print('serving on', sys.argv[1], flush=True)
    http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), Handler).serve_forever()
    """

func serverSpec(_ name: String = "g", replicas: Int = 1) -> ProcessGroupSpec {
    ProcessGroupSpec(
        name: name,
        replicas: replicas,
        command: ["python3", "-c", server, "$(PORT)"],
        readiness: ReadinessSpec(path: "/ready", period: .milliseconds(30)),
        startupTimeout: .seconds(30),
        terminationGracePeriod: .seconds(5),
        drainDeadline: .seconds(20),
        backOff: RestartBackOff(first: .milliseconds(50), longest: .milliseconds(400))
    )
}

/// A group that runs a shell script and is ready never, unless it listens.
func shellSpec(_ script: String, name: String = "g", replicas: Int = 1) -> ProcessGroupSpec {
    var spec = serverSpec(name, replicas: replicas)
    spec.command = ["/bin/sh", "-c", script]
    return spec
}

/// Whether the process exists and is not a zombie.
func isAlive(_ pid: Int32) -> Bool {
    ProcessTable.entry(pid).map { !$0.isDead } ?? false
}
