import Core
import EventLoop
import HTTPService
import Kubernetes
import LoopTestSupport
import Testing

@Suite struct EventTests {
    static let target = ObjectReference(
        apiVersion: "weir.dev/v1alpha1",
        kind: "Model",
        namespace: "models",
        name: "digits",
        uid: "u",
        version: ResourceVersion("1")
    )
    static let options = EventOptions(controller: "weir.dev/controller", instance: "pod-1")
    static let start = Instant(nanoseconds: 1_000_000_000_000)

    static func note(_ reason: String = "ScaledUp", _ target: ObjectReference = target) -> EventNote
    {
        EventNote(reason: reason, action: "Scale", note: "from 1 to 2", regarding: target)
    }

    /// A series with its clock.
    private struct Book {
        var series: EventSeries
        var now = EventTests.start
        var random = RandomSource(seed: 1)

        init(_ options: EventOptions = EventTests.options) {
            self.series = EventSeries(options)
        }

        mutating func record(_ note: EventNote = EventTests.note()) -> EventSeries.Write? {
            let wall = 1_767_323_045 + (self.now - EventTests.start).secondsAsDouble
            return self.series.record(
                note,
                now: self.now,
                wallTime: wall,
                random: &self.random
            )
        }

        mutating func pass(_ seconds: Int) { self.now = self.now + .seconds(seconds) }
    }

    @Test func theFirstOneIsAnEvent() throws {
        var book = Book()
        guard case .create(let event) = book.record() else {
            Issue.record("nothing created")
            return
        }
        let name = event.metadata.name
        #expect(name.hasPrefix("digits.") && event.metadata.namespace == "models")
        #expect(
            event.value == [
                "apiVersion": "events.k8s.io/v1", "kind": "Event",
                "metadata": ["name": .string(name), "namespace": "models"],
                "eventTime": "2026-01-02T03:04:05.000000Z",
                "reportingController": "weir.dev/controller", "reportingInstance": "pod-1",
                "action": "Scale", "reason": "ScaledUp", "type": "Normal", "note": "from 1 to 2",
                "regarding": [
                    "apiVersion": "weir.dev/v1alpha1", "kind": "Model", "namespace": "models",
                    "name": "digits", "uid": "u", "resourceVersion": "1",
                ],
            ]
        )
    }

    /// B.17: the second one makes it a series of two; then it is written every half hour, and at
    /// its end.
    @Test func repeatsBecomeASeries() throws {
        var book = Book()
        guard case .create(let event) = book.record() else {
            Issue.record("nothing created")
            return
        }
        book.pass(10)
        var moved = Self.target
        moved.version = ResourceVersion("2")
        #expect(
            book.record(Self.note("ScaledUp", moved))
                == .patch(
                    event.key,
                    [
                        "series": [
                            "count": 2, "lastObservedTime": "2026-01-02T03:04:15.000000Z",
                        ]
                    ]
                )
        )
        // Every minute for half an hour: silent until then.
        for _ in 0..<29 {
            book.pass(60)
            #expect(book.record() == nil)
            #expect(book.series.expire(now: book.now).isEmpty)
        }
        book.pass(60)
        guard case .patch(_, let patch) = book.record() else {
            Issue.record("not refreshed")
            return
        }
        #expect(patch["series"]["count"] == 32)
        book.pass(60)
        #expect(book.record() == nil)
        book.pass(359)
        #expect(book.series.expire(now: book.now).isEmpty)
        book.pass(1)
        guard case .patch(event.key, let last)? = book.series.expire(now: book.now).first else {
            Issue.record("no end")
            return
        }
        #expect(last["series"]["count"] == 33 && book.series.seriesCount == 0)
        guard case .create = book.record() else {
            Issue.record("no new event")
            return
        }
    }

    @Test func differentEventsAreNoSeries() {
        var book = Book()
        var warning = Self.note()
        warning.isWarning = true
        var other = Self.target
        other.name = "letters"
        for note in [
            Self.note(), Self.note("ScaledDown"), warning, Self.note("ScaledUp", other),
        ] {
            guard case .create = book.record(note) else {
                Issue.record("no event of its own")
                continue
            }
        }
        #expect(book.series.seriesCount == 4)
    }

    @Test func holdsBackAFloodOfOneObject() {
        var book = Book()
        let count = { (book: inout Book, reasons: Range<Int>, target: ObjectReference) in
            reasons.count { book.record(Self.note("R\($0)", target)) != nil }
        }
        #expect(count(&book, 0..<100, Self.target) == 25)
        #expect(book.series.suppressed == 75)
        var other = Self.target
        other.name = "letters"
        #expect(count(&book, 0..<10, other) == 10)
        // One more after five minutes.
        book.pass(301)
        #expect(count(&book, 200..<210, Self.target) == 1)
    }

    @Test func remembersNoMoreThanItsLimits() {
        var options = Self.options
        options.seriesMax = 10
        options.sourcesMax = 20
        var book = Book(options)
        var created = 0
        for number in 0..<100 {
            var target = Self.target
            target.name = "m\(number)"
            if book.record(Self.note("R", target)) != nil { created += 1 }
            #expect(book.series.seriesCount <= 10)
        }
        #expect(created == 20)
        // Sources that have been quiet for long make room.
        book.pass(100_000)
        #expect(book.record(Self.note("R", Self.target)) != nil)
    }

    @Test func clipsWhatIsTooLong() {
        var book = Book()
        var note = Self.note(String(repeating: "é", count: 200))
        note.note = String(repeating: "é", count: 2_000)
        note.regarding.name = String(repeating: "n", count: 253)
        guard case .create(let event) = book.record(note) else {
            Issue.record("nothing created")
            return
        }
        #expect((event["note"].string ?? "").utf8.count <= 1_024)
        #expect((event["reason"].string ?? "").utf8.count <= 128)
        #expect(event.metadata.name.utf8.count <= 253)
    }

    @Test func eventsOfWhatHasNoNamespaceAreInTheDefaultOne() {
        var book = Book()
        var note = Self.note()
        note.regarding.namespace = ""
        guard case .create(let event) = book.record(note) else {
            Issue.record("nothing created")
            return
        }
        #expect(event.metadata.namespace == "default")
        #expect(event["regarding"]["namespace"].isNull)
    }

    // MARK: Writing them

    private func recorder(
        _ scene: Scene,
        change: (inout EventOptions) -> Void = { _ in }
    ) -> EventRecorder {
        var options = Self.options
        options.retryAfter = .milliseconds(1)
        change(&options)
        return EventRecorder(scene.client, options: options, seed: 1)
    }

    @Test func writesEventsAndTheirSeries() throws {
        let scene = try Scene { request, response in
            response.respond(request.json, status: request.method == "POST" ? 201 : 200)
        }
        let recorder = self.recorder(scene)
        defer { recorder.stop() }
        for _ in 0..<3 { recorder.record(Self.note()) }
        try scene.run(until: "both writes") {
            scene.requests.count == 2 && recorder.queueCount == 0
        }
        let (first, second) = (scene.requests[0], scene.requests[1])
        let path = "/apis/events.k8s.io/v1/namespaces/models/events"
        #expect(first.method == "POST" && first.path == path)
        #expect(second.method == "PATCH")
        #expect(second.path == "\(path)/\(first.json["metadata"]["name"].string ?? "")")
        #expect(second.fields["content-type"] == "application/merge-patch+json")
        #expect(second.json["series"]["count"] == 2)
    }

    @Test func triesAgainAndGivesUpInTheEnd() throws {
        let scene = try Scene { $1.refuse(500) }
        let recorder = self.recorder(scene)
        defer { recorder.stop() }
        recorder.record(Self.note())
        try scene.run(until: "the end") { recorder.dropped == 1 }
        #expect(scene.requests.count == 12 && recorder.queueCount == 0)
    }

    @Test func dropsWhatIsRefusedForGood() throws {
        let scene = try Scene { $1.refuse(403, reason: "Forbidden") }
        let recorder = self.recorder(scene)
        defer { recorder.stop() }
        recorder.record(Self.note())
        try scene.run(until: "the end") { recorder.dropped == 1 }
        #expect(scene.requests.count == 1)
    }

    /// The server keeps events for an hour; a series may last longer.
    @Test func createsAnEventAgainThatIsGone() throws {
        let scene = try Scene { request, response in
            if request.method == "PATCH" { return response.refuse(404, reason: "NotFound") }
            response.respond(request.json, status: 201)
        }
        let recorder = self.recorder(scene)
        defer { recorder.stop() }
        recorder.record(Self.note())
        recorder.record(Self.note())
        try scene.run(until: "the third write") {
            scene.requests.count == 3 && recorder.queueCount == 0
        }
        #expect(scene.requests.map(\.method) == ["POST", "PATCH", "POST"])
        #expect(scene.requests[2].json["series"]["count"] == 2)
        #expect(recorder.dropped == 0)
    }

    @Test func neverHoldsMoreThanItsQueue() throws {
        let scene = try Scene { _, _ in }
        let recorder = self.recorder(scene) {
            $0.queueMax = 5
            $0.burst = 100
        }
        defer { recorder.stop() }
        for number in 0..<20 { recorder.record(Self.note("R\(number)")) }
        #expect(recorder.queueCount == 5 && recorder.dropped == 15)
    }
}
