import Core
import Curl
import EventLoop
import HTTPService
import Kubernetes
import LoopTestSupport
import Testing

/// An informer on a scripted server, and all that it told.
private final class Watched {
    let scene: Scene
    let informer: Informer<Int>
    var changes: [String] = []
    var syncs = 0
    var problems: [InformerProblem] = []
    /// The writer of the watch that is open.
    var stream: ResponseWriter?

    /// - Parameter list: answers lists; nil where the server has WatchList.
    init(
        usesWatchList: Bool = true,
        change: (inout ReflectorOptions) -> Void = { _ in },
        client: (inout ClusterAccess, inout ClientOptions) -> Void = { _, _ in },
        answer: @escaping (Watched, SeenRequest, ResponseWriter) -> Void
    ) throws {
        var options = ReflectorOptions()
        options.backoff = Scene.quick
        options.usesWatchList = usesWatchList
        // Ends that a test makes are no failures.
        options.shortestWatch = .zero
        change(&options)
        self.scene = try Scene(change: client) { _, _ in }
        let scope = InformerScope<Int>(.pods) { object in
            guard let value = object.spec["value"].integer else {
                throw ObjectProblem("no value")
            }
            return value
        }
        self.informer = Informer(self.scene.client, scope, options: options)
        self.informer.handlers = InformerHandlers(
            onChange: { [unowned self] in self.changes.append(Self.text($0)) },
            onSynced: { [unowned self] in self.syncs += 1 },
            onProblem: { [unowned self] in self.problems.append($0) }
        )
        self.scene.answer = { [unowned self] request, response in
            if request.isWatch { self.stream = response }
            answer(self, request, response)
        }
    }

    deinit { self.informer.stop() }

    static func text(_ change: ObjectChange<Int>) -> String {
        switch change {
        case .added(let key, let value): "+\(key.name)=\(value)"
        case .modified(let key, let old, let new): "~\(key.name)=\(old)>\(new)"
        case .deleted(let key, let value): "-\(key.name)=\(value)"
        }
    }

    func start(syncs: Int = 1) throws {
        self.informer.start()
        try self.wait(syncs: syncs)
    }

    func wait(syncs: Int) throws {
        try self.scene.run(until: "sync \(syncs), having \(self.changes) \(self.problems)") {
            self.syncs >= syncs
        }
    }

    func wait(changes: Int) throws {
        try self.scene.run(until: "\(changes) changes, having \(self.changes) \(self.problems)") {
            self.changes.count >= changes
        }
    }

    func wait(requests: Int) throws {
        try self.scene.run(until: "\(requests) requests") {
            self.scene.requests.count >= requests
        }
    }
}

@Suite struct InformerTests {
    static let key = ObjectKey(namespace: "a", name: "x")

    @Test func followsAWatchListAndThenItsEvents() throws {
        let it = try Watched { _, request, response in
            response.beginWatch()
            response.event("ADDED", item("x", 3, value: 1))
            response.event("ADDED", item("y", 4, value: 2))
            response.bookmark(5, ends: true)
        }
        try it.start()
        #expect(it.changes == ["+x=1", "+y=2"])
        let first = it.scene.requests[0]
        #expect(first.path == "/api/v1/pods")
        #expect(first.query["sendInitialEvents"] == "true")
        #expect(first.query["resourceVersionMatch"] == "NotOlderThan")
        #expect(first.query["allowWatchBookmarks"] == "true")
        #expect((300..<600).contains(Int(first.query["timeoutSeconds"] ?? "") ?? 0))
        it.stream?.event("MODIFIED", item("x", 6, value: 7))
        it.stream?.event("DELETED", item("y", 7, value: 2))
        try it.wait(changes: 4)
        #expect(it.changes[2...] == ["~x=1>7", "-y=2"])
        #expect(it.informer[Self.key] == 7 && it.informer.count == 1)
        #expect(it.informer.isWatching && it.problems.isEmpty)
    }

    /// B.17: a bookmark moves the version on and is not delivered; a clean end goes on from there.
    @Test func bookmarksMoveTheVersionOn() throws {
        let it = try Watched { it, request, response in
            response.beginWatch()
            if it.scene.requests.count == 1 {
                response.event("ADDED", item("x", 3))
                response.bookmark(5, ends: true)
                response.bookmark(9)
                response.end()
            }
        }
        try it.start()
        try it.wait(requests: 2)
        #expect(it.scene.requests[1].query["resourceVersion"] == "9")
        #expect(it.scene.requests[1].query["sendInitialEvents"] == nil)
        #expect(it.changes == ["+x=0"] && it.syncs == 1)
    }

    /// B.17: the server refuses, or ends the stream without mark: lists and watches instead.
    @Test(arguments: [400, 422, 200])
    func listsWhereThereIsNoWatchList(code: Int) throws {
        let it = try Watched { _, request, response in
            guard request.isWatch else {
                let token = request.query["continue"]
                return response.respond(
                    token == nil
                        ? page([item("x", 3)], 8, continueToken: "more")
                        : page([item("y", 4)], 8)
                )
            }
            if request.query["sendInitialEvents"] != nil {
                if code != 200 { return response.refuse(code, reason: "Invalid") }
                response.beginWatch()
                response.event("ADDED", item("x", 3))
                return response.end()
            }
            response.beginWatch()
            response.event("MODIFIED", item("y", 9, value: 5))
        }
        try it.start()
        try it.wait(changes: 3)
        #expect(it.changes == ["+x=0", "+y=0", "~y=0>5"])
        let requests = it.scene.requests
        #expect(requests.map(\.isWatch) == [true, false, false, true])
        #expect(requests[1].query["limit"] == "500" && requests[2].query["continue"] == "more")
        #expect(requests[3].query["resourceVersion"] == "8")
    }

    /// B.17: 410 inside a stream, and as its HTTP status: everything is asked for again, and what
    /// has gone meanwhile is told as deleted.
    @Test(arguments: [true, false], [true, false])
    func tellsWhatHasGoneMeanwhile(inStream: Bool, usesWatchList: Bool) throws {
        let it = try Watched(usesWatchList: usesWatchList) { it, request, response in
            let isFirst = it.syncs == 0
            let items = isFirst ? ["x", "y", "z"] : ["y", "new"]
            let objects = items.map { item($0, $0 == "y" ? 4 : 5) }
            if !request.isWatch {
                return response.respond(page(objects, isFirst ? 8 : 18))
            }
            if !usesWatchList, it.syncs == 2 { return response.beginWatch() }
            if request.query["sendInitialEvents"] == nil {
                if !inStream { return response.refuse(410, reason: "Expired") }
                response.beginWatch()
                return response.event(
                    "ERROR",
                    [
                        "kind": "Status", "code": 410, "reason": "Expired", "message": "too old",
                    ]
                )
            }
            response.beginWatch()
            for object in objects { response.event("ADDED", object) }
            response.bookmark(isFirst ? 8 : 18, ends: true)
            if isFirst { response.end() }
        }
        try it.start(syncs: 2)
        #expect(it.changes == ["+x=0", "+y=0", "+z=0", "+new=0", "-x=0", "-z=0"])
        #expect(it.informer.count == 2)
        #expect(it.problems.count == 1 && "\(it.problems[0])".contains("410"))
    }

    /// B.17: an expired continue token begins the list anew; nothing is told twice.
    @Test func beginsTheListAnewWhenItsTokenExpires() throws {
        var hasExpired = false
        let it = try Watched(usesWatchList: false) { _, request, response in
            if request.isWatch { return response.beginWatch() }
            if request.query["continue"] != nil {
                hasExpired = true
                return response.refuse(410, reason: "Expired")
            }
            let items = [item("x", 3), item("y", 4)]
            response.respond(
                hasExpired
                    ? page(items, 9) : page([item("x", 3)], 8, continueToken: "more")
            )
        }
        try it.start()
        #expect(it.changes == ["+x=0", "+y=0"])
        #expect(it.scene.requests[2].query["limit"] == "2000")
    }

    /// B.17: 429 goes on from the same version, without a list.
    @Test func goesOnFromTheSameVersionAfter429() throws {
        let it = try Watched { it, request, response in
            if it.scene.requests.count == 2 { return response.refuse(429, retryAfter: "0") }
            response.beginWatch()
            if it.scene.requests.count == 1 {
                response.bookmark(5, ends: true)
                response.end()
            }
        }
        try it.start()
        try it.wait(requests: 3)
        #expect(it.scene.requests[2].query["resourceVersion"] == "5")
        #expect(it.scene.requests[2].query["sendInitialEvents"] == nil)
        #expect(it.syncs == 1)
    }

    /// B.17: frames split at each byte, two in one write, and one beyond 1 MiB.
    @Test func takesFramesHoweverTheyAreCut() throws {
        let it = try Watched { _, _, response in
            response.beginWatch()
            let text = (["type": "ADDED", "object": item("x", 3, value: 1)] as JSONValue).text
            for byte in Array((text + "\n").utf8) {
                response.write([byte].span.bytes)
            }
            response.write(text.replacing("\"x\"", with: "\"y\"") + "\n" + text + "\n")
            var large = item("large", 9)
            large["metadata"]["annotations"] = [
                "a": .string(String(repeating: "é", count: 1 << 20))
            ]
            response.event("ADDED", large)
            response.bookmark(10, ends: true)
        }
        try it.start()
        #expect(it.changes == ["+x=1", "+y=1", "+large=0"])
        #expect(it.problems.isEmpty)
    }

    @Test func refusesFramesBeyondItsLimitAndKeepsWhatItHas() throws {
        let it = try Watched(
            client: { _, options in options.frameBytesMax = 1_000 }
        ) { it, request, response in
            response.beginWatch()
            if it.syncs == 0 { response.event("ADDED", item("x", 3)) }
            response.bookmark(5, ends: true)
            if it.scene.requests.count == 1 {
                response.write(String(repeating: "x", count: 2_000))
            }
        }
        try it.start(syncs: 2)
        #expect(it.problems.count == 1)
        #expect("\(it.problems[0])".contains("an event of more than 1000 bytes"))
    }

    @Test(arguments: [
        "nonsense", "{}", #"{"type":"ADDED","object":{}}"#, #"{"type":"X","object":{}}"#,
    ])
    func asksAgainWhereTheStreamMakesNoSense(frame: String) throws {
        let it = try Watched { it, request, response in
            response.beginWatch()
            response.event("ADDED", item("x", 3))
            response.bookmark(5, ends: true)
            if it.scene.requests.count == 1 { response.write(frame + "\n") }
        }
        try it.start(syncs: 2)
        #expect(it.changes == ["+x=0"] && it.problems.count == 1)
    }

    /// B.17: a watch that nothing comes from is opened again.
    @Test func noticesASilentDeath() throws {
        let it = try Watched(
            change: { $0.silenceMax = .milliseconds(30) }
        ) { it, request, response in
            response.beginWatch()
            if it.scene.requests.count == 1 { response.bookmark(5, ends: true) }
            if it.scene.requests.count == 2 {
                response.event("MODIFIED", item("x", 6, value: 1))
            }
        }
        // The first stream has the other limit: it has to end for the second one to begin.
        try it.start()
        it.stream?.end()
        try it.wait(requests: 3)
        #expect(it.scene.requests[2].query["resourceVersion"] == "6")
        // On a connection of its own: the old one may be dead.
        #expect(it.scene.server.counts.accepted >= 2)
    }

    /// A stream cut within an event is lost; the event comes again.
    @Test func takesAnEventAgainThatWasCutShort() throws {
        let it = try Watched { it, request, response in
            response.beginWatch()
            switch it.scene.requests.count {
            case 1:
                response.bookmark(5, ends: true)
                response.write(#"{"type":"ADDED","obj"#)
                response.end()
            case 2: response.event("ADDED", item("x", 6))
            default: break
            }
        }
        try it.start()
        try it.wait(changes: 1)
        #expect(it.scene.requests[1].query["resourceVersion"] == "5")
        #expect(it.changes == ["+x=0"])
    }

    @Test func keepsAnObjectThatCannotBeReadAsItWas() throws {
        let it = try Watched { it, _, response in
            response.beginWatch()
            response.event("ADDED", item("x", 3, value: 1))
            response.bookmark(5, ends: true)
        }
        try it.start()
        var broken = item("x", 6)
        broken["spec"] = [:]
        it.stream?.event("MODIFIED", broken)
        try it.scene.run(until: "the problem") { !it.problems.isEmpty }
        #expect("\(it.problems[0])" == "a/x cannot be read: no value")
        #expect(it.informer[Self.key] == 1 && it.changes == ["+x=1"])
        it.stream?.event("MODIFIED", item("x", 7, value: 2))
        try it.wait(changes: 2)
        #expect(it.informer[Self.key] == 2)
    }

    /// While the server is gone, the copy stays; when it is back, what has changed is told.
    @Test func keepsItsCopyWhileTheServerIsGone() throws {
        let it = try Watched { it, request, response in
            if (2...5).contains(it.scene.requests.count) { return response.abort() }
            response.beginWatch()
            if it.scene.requests.count == 1 {
                response.event("ADDED", item("x", 3))
                response.bookmark(5, ends: true)
                return response.end()
            }
            response.event("ADDED", item("y", 6))
        }
        try it.start()
        try it.wait(changes: 2)
        #expect(it.changes == ["+x=0", "+y=0"] && it.syncs == 1)
        #expect(it.scene.requests.last?.query["resourceVersion"] == "5")
    }

    // MARK: Own writes

    @Test func knowsWhenItHasSeenAnOwnWrite() throws {
        let it = try Watched { _, _, response in
            response.beginWatch()
            response.event("ADDED", item("x", 3, value: 1))
            response.bookmark(5, ends: true)
        }
        try it.start()
        #expect(it.informer.isCurrent(Self.key))
        it.informer.wrote(KubernetesObject(item("x", 8)))
        #expect(!it.informer.isCurrent(Self.key))
        it.stream?.event("MODIFIED", item("x", 7, value: 2))
        try it.wait(changes: 2)
        #expect(!it.informer.isCurrent(Self.key))
        it.stream?.event("MODIFIED", item("x", 8, value: 3))
        try it.wait(changes: 3)
        #expect(it.informer.isCurrent(Self.key))
        // The event may be faster than the answer to the write.
        it.stream?.event("MODIFIED", item("x", 9, value: 4))
        it.stream?.event("MODIFIED", item("x", 10, value: 5))
        try it.wait(changes: 5)
        it.informer.wrote(KubernetesObject(item("x", 9)))
        #expect(it.informer.isCurrent(Self.key))
    }

    @Test func stopsForGood() throws {
        let it = try Watched { _, _, response in
            response.beginWatch()
            response.bookmark(5, ends: true)
        }
        try it.start()
        it.informer.stop()
        it.stream?.event("ADDED", item("x", 6))
        it.scene.harness.settle()
        try it.scene.run(until: "the call to end") { it.scene.client.count == 0 }
        #expect(it.changes.isEmpty && it.problems.isEmpty && it.scene.requests.count == 1)
        it.informer.stop()
    }
}
