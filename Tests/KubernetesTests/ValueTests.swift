import Core
import HTTPService
import Testing

@testable import Kubernetes

@Suite struct ValueTests {
    // MARK: Projections

    @Test func keepsWhatAProjectionNames() throws {
        let text = """
            {"metadata":{"name":"x","labels":{"a":"b"},"managedFields":[{"f:x":{}}],
            "annotations":{"a.b/c":"1","d":"2",
            "kubectl.kubernetes.io/last-applied-configuration":"{}"}},
            "spec":{"containers":[{"name":"c","image":"i"},{"name":"d"}]},"status":{"x":1}}
            """
        let bytes = Array(text.utf8)
        let paths = JSONProjection.paths([
            "metadata.name", "spec.containers.name", "metadata.annotations[a.b/c]", "no.where",
        ])
        #expect(
            try JSONValue(bytes, keeping: paths) == [
                "metadata": ["name": "x", "annotations": ["a.b/c": "1"]],
                "spec": ["containers": [["name": "c"], ["name": "d"]]],
            ]
        )
        let clean = try JSONValue(bytes, keeping: .withoutBookkeeping)
        #expect(clean["metadata"]["managedFields"].isNull)
        #expect(clean["metadata"]["annotations"].strings == ["a.b/c": "1", "d": "2"])
        #expect(clean["status"]["x"] == 1)
        let identified = try JSONValue(
            bytes,
            keeping: JSONProjection.paths(["status"]).keepingIdentity
        )
        #expect(identified == ["metadata": ["name": "x"], "status": ["x": 1]])
    }

    // MARK: Status

    @Test func readsRefusals() throws {
        let body = """
            {"kind":"Status","code":429,"reason":"TooManyRequests","message":"slow down",
            "details":{"name":"n","kind":"pods","retryAfterSeconds":3,
            "causes":[{"reason":"r","message":"m","field":"f"}]}}
            """
        let status = Status(code: 429, body: Array(body.utf8), retryAfter: nil)
        #expect(status.retryAfter == .seconds(3) && status.isTooManyRequests)
        #expect(status.name == "n" && status.kind == "pods" && status.hasCause("r"))
        #expect("\(status)" == "429 TooManyRequests: slow down (f: m)")
        #expect(Status(code: 429, body: [], retryAfter: "7").retryAfter == .seconds(7))
        #expect(Status(code: 429, body: [], retryAfter: "x").retryAfter == nil)
        #expect(Status(code: 429, body: [], retryAfter: "-1").retryAfter == nil)
        let long = Status(code: 429, body: [], retryAfter: "99999999999999999")
        #expect(long.retryAfter == .seconds(3_600))
    }

    @Test func knowsAVersionThatIsTooLarge() throws {
        // As a server of version 1.20 answers.
        let body = """
            {"kind":"Status","code":504,"reason":"Timeout","message":
            "Timeout: Too large resource version: 99, current: 5","details":{"causes":
            [{"reason":"ResourceVersionTooLarge","message":"Too large resource version"}],
            "retryAfterSeconds":1}}
            """
        #expect(Status(code: 504, body: Array(body.utf8), retryAfter: nil).isTooLargeVersion)
        #expect(!Status(code: 504, message: "slow").isTooLargeVersion)
    }

    @Test func clipsLongRefusals() {
        let body = Array(String(repeating: "x", count: 100_000).utf8)
        #expect(Status(code: 500, body: body, retryAfter: nil).message.utf8.count == 512)
    }

    // MARK: Times

    @Test(arguments: [
        ("1970-01-01T00:00:00Z", 0), ("2026-01-02T03:04:05.000006Z", 1_767_323_045.000006),
        ("2000-02-29t23:59:60z", 951_868_800), ("2026-01-02T03:04:05+01:30", 1_767_317_645),
        ("1969-12-31T23:00:00-01:00", 0),
    ])
    func readsTimes(text: String, seconds: Double) {
        #expect(WallTime.seconds(rfc3339: text) == seconds)
    }

    @Test(arguments: [
        "", "2026-01-02", "2026-13-02T03:04:05Z", "2026-02-29T03:04:05Z", "2026-01-02T24:04:05Z",
        "2026-01-02T03:04:05", "2026-01-02T03:04:05.Z", "2026-01-02 03:04:05Z",
        "2026-01-02T03:04:05+0130", "x026-01-02T03:04:05Z", "2026-00-02T03:04:05Z",
    ])
    func refusesWhatIsNoTime(text: String) {
        #expect(WallTime.seconds(rfc3339: text) == nil)
    }

    @Test func writesTimesThatReadTheSame() {
        #expect(WallTime.micro(1_767_323_045.000006) == "2026-01-02T03:04:05.000006Z")
        #expect(WallTime.plain(1_767_323_045.9) == "2026-01-02T03:04:05Z")
        var random = RandomSource(seed: 1)
        for _ in 0..<10_000 {
            let seconds = Double(random.next() % 4_000_000_000)
            #expect(WallTime.seconds(rfc3339: WallTime.plain(seconds)) == seconds)
        }
    }

    // MARK: Limits and waits

    @Test func aBucketGivesWhatItSays() {
        var now = Instant(nanoseconds: 1_000_000_000)
        var bucket = TokenBucket(perSecond: 10, burst: 5, now: now)
        for _ in 0..<5 { #expect(bucket.take(now: now) == nil) }
        for _ in 0..<100 {
            guard let wait = bucket.take(now: now) else {
                Issue.record("too early")
                return
            }
            #expect(wait > .milliseconds(90) && wait <= .milliseconds(101))
            now = now + wait
            #expect(bucket.take(now: now) == nil)
        }
        now = now + .seconds(3_600)
        #expect(bucket.isFull(now: now))
        for _ in 0..<5 { #expect(bucket.take(now: now) == nil) }
        #expect(bucket.take(now: now) != nil)
    }

    @Test func escapesForBase64() {
        // RFC 4648, section 10.
        let cases = ["": "", "f": "Zg==", "fo": "Zm8=", "foo": "Zm9v", "foob": "Zm9vYg=="]
        for (text, coded) in cases { #expect(Base64.text(Array(text.utf8)) == coded) }
    }

    // MARK: Paths

    @Test func namesResourcesByTheirPaths() {
        #expect(Resource.pods.path() == "/api/v1/pods")
        #expect(
            Resource.deployments.path(namespace: "a", name: "b", subresource: "scale")
                == "/apis/apps/v1/namespaces/a/deployments/b/scale"
        )
        #expect(Resource.nodes.path(namespace: "a", name: "n") == "/api/v1/nodes/n")
        #expect(Resource.pods.path(name: "../x") == "/api/v1/pods/..%2Fx")
        #expect(Resource.deployments.description == "deployments.apps")
    }

    // MARK: Copies

    @Test func aStoreTakesOverAStateObjectByObject() {
        var store = ObjectStore<Int>()
        let key = { (name: String) in ObjectKey(namespace: "a", name: name) }
        let version = { (number: Int) in ResourceVersion("\(number)") }
        store.beginState()
        for name in ["x", "y", "z"] { _ = store.put(key(name), 1, version(1)) }
        #expect(store.finishState().isEmpty)
        store.beginState()
        #expect(store.confirm(key("x"), version(1)) == true)
        #expect(store.confirm(key("y"), version(2)) == false)
        guard case .modified(_, 1, 2) = store.put(key("y"), 2, version(2)) else {
            Issue.record("y was there")
            return
        }
        // Not one moment without what stays.
        #expect(store.count == 3)
        #expect(store.finishState().map(\.key) == [key("z")])
        #expect(store.count == 2 && store[key("y")] == 2)
        #expect(store.confirm(key("new"), version(1)) == false)
    }

    @Test func ownWritesAreSeenByTheirVersion() {
        let key = ObjectKey(namespace: "a", name: "x")
        let now = Instant(nanoseconds: 1_000_000_000_000)
        var tracker = WriteTracker()
        tracker.wrote(key, ResourceVersion("5"), now: now)
        #expect(!tracker.isCurrent(key, now: now))
        #expect(tracker.isCurrent(ObjectKey(namespace: "b", name: "x"), now: now))
        // Later by its looks, but that means nothing here.
        tracker.saw(key, ResourceVersion("9"))
        #expect(!tracker.isCurrent(key, now: now))
        tracker.saw(key, ResourceVersion("5"))
        #expect(tracker.isCurrent(key, now: now))
        // Seen before it was known of.
        tracker.wrote(key, ResourceVersion("9"), now: now)
        #expect(tracker.isCurrent(key, now: now))
        var comparing = WriteTracker(comparesVersions: true)
        comparing.wrote(key, ResourceVersion("10"), now: now)
        comparing.saw(key, ResourceVersion("9"))
        #expect(!comparing.isCurrent(key, now: now))
        comparing.saw(key, ResourceVersion("11"))
        #expect(comparing.isCurrent(key, now: now))
    }

    @Test func ownWritesAreSeenByDeletionsStatesAndTime() {
        let key = ObjectKey(namespace: "a", name: "x")
        let now = Instant(nanoseconds: 1_000_000_000_000)
        var tracker = WriteTracker()
        tracker.wrote(key, ResourceVersion("5"), now: now)
        tracker.sawDeletion(key, ResourceVersion("7"))
        #expect(tracker.isCurrent(key, now: now))
        tracker.beganState(now: now)
        tracker.wrote(key, ResourceVersion("8"), now: now + .seconds(1))
        tracker.finishedState()
        #expect(!tracker.isCurrent(key, now: now + .seconds(1)))
        tracker.beganState(now: now + .seconds(2))
        tracker.finishedState()
        #expect(tracker.isCurrent(key, now: now + .seconds(2)))
        tracker.wrote(key, ResourceVersion("9"), now: now)
        #expect(!tracker.isCurrent(key, now: now + .seconds(60)))
        #expect(tracker.isCurrent(key, now: now + .seconds(61)))
    }

    @Test func ownWritesAreBounded() {
        var tracker = WriteTracker()
        let now = Instant(nanoseconds: 1_000_000_000_000)
        for number in 0..<WriteTracker.writesMax + 10 {
            tracker.wrote(
                ObjectKey(namespace: "", name: "\(number)"),
                ResourceVersion("\(number)"),
                now: now
            )
        }
        #expect(!tracker.isCurrent(ObjectKey(namespace: "", name: "0"), now: now))
        let last = ObjectKey(namespace: "", name: "\(WriteTracker.writesMax + 9)")
        #expect(tracker.isCurrent(last, now: now))
        // Versions seen long ago are forgotten.
        for number in 0..<WriteTracker.recentMax + 1 {
            tracker.saw(last, ResourceVersion("v\(number)"))
        }
        tracker.wrote(ObjectKey(namespace: "", name: "1"), ResourceVersion("v1"), now: now)
        let later = now + WriteTracker.patience + .seconds(1)
        tracker.wrote(last, ResourceVersion("v0"), now: later)
        #expect(!tracker.isCurrent(last, now: later))
    }
}
