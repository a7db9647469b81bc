import Core
import EventLoop

/// Tells people what happens to objects, without ever holding anything up. On the loop's thread.
///
/// Writes go out one after the other; one that fails is tried again later, and dropped after a
/// number of tries. End it with `stop`.
package final class EventRecorder {
    package let client: KubernetesClient
    /// Events that were not written: too many waited, or the server did not take them.
    package private(set) var dropped = 0
    /// Events that were held back because one object had too many.
    package var suppressed: Int { self.series.suppressed }
    package var queueCount: Int { self.queue.count }

    private var series: EventSeries
    private var random: RandomSource
    private let wallClock: () -> Double
    private var queue: [(write: EventSeries.Write, tries: Int)] = []
    private var isWriting = false
    private var timer: LoopTimer?
    private var sweep: LoopTimer?

    /// Between two looks for series that have ended.
    private static let sweepPeriod = Duration.seconds(60)

    package init(
        _ client: KubernetesClient,
        options: EventOptions,
        seed: UInt64,
        wallClock: @escaping () -> Double = EventLoop.readWallClock
    ) {
        self.client = client
        self.series = EventSeries(options)
        self.random = RandomSource(seed: seed)
        self.wallClock = wallClock
        self.sweep = client.loop.scheduleRepeating(every: Self.sweepPeriod) { [weak self] in
            guard let self else { return }
            for write in self.series.expire(now: self.client.loop.now) { self.enqueue(write) }
        }
    }

    deinit { self.sweep?.cancel() }

    /// Something has happened. Returns at once.
    package func record(_ note: EventNote) {
        self.client.loop.assertOnLoop()
        guard self.sweep != nil else { return }
        let write = self.series.record(
            note,
            now: self.client.loop.now,
            wallTime: self.wallClock(),
            random: &self.random
        )
        if let write { self.enqueue(write) }
    }

    /// Drops what waits. Idempotent.
    package func stop() {
        self.sweep?.cancel()
        self.sweep = nil
        self.timer?.cancel()
        self.timer = nil
        self.queue = []
    }

    private func enqueue(_ write: EventSeries.Write) {
        if self.queue.count >= self.series.options.queueMax {
            self.dropped += 1
            return
        }
        self.queue.append((write, 0))
        self.writeNext()
    }

    private func writeNext() {
        guard !self.isWriting, self.timer == nil, !self.client.isClosed,
            let first = self.queue.first
        else { return }
        self.isWriting = true
        var call: APICall
        switch first.write {
        case .create(let event):
            call = APICall("POST", Resource.events.path(namespace: event.metadata.namespace))
            call.set(event.value)
        case .patch(let key, let patch):
            call = APICall("PATCH", Resource.events.path(of: key))
            call.set(patch, contentType: PatchKind.merge.contentType)
        }
        call.retriesMax = 0
        self.client.send(call) { [weak self] result in self?.written(result) }
    }

    private func written(_ result: Result<[UInt8], APIError>) {
        self.isWriting = false
        guard self.sweep != nil, !self.queue.isEmpty else { return }
        switch result {
        case .success: self.queue.removeFirst()
        case .failure(let error):
            if self.isWorthAnotherTry(error) {
                self.queue[0].tries += 1
                return self.wait()
            }
            let write = self.queue.removeFirst().write
            if error.isNotFound, case .patch(let key, _) = write,
                let replacement = self.series.replacement(of: key)
            {
                self.queue.insert((replacement, 0), at: 0)
            } else if !error.isAlreadyExists {
                self.dropped += 1
            }
        }
        self.writeNext()
    }

    /// What the server refuses for good is not sent again.
    private func isWorthAnotherTry(_ error: APIError) -> Bool {
        if self.queue[0].tries + 1 >= self.series.options.triesMax { return false }
        guard let status = error.status else { return !error.isCancelled }
        return status.code == 429 || status.code >= 500
    }

    private func wait() {
        let base = self.series.options.retryAfter.secondsAsDouble
        let delay = Duration.seconds(base * (1 + 0.25 * self.random.nextUnit()))
        self.timer = self.client.loop.schedule(after: delay) { [weak self] in
            self?.timer = nil
            self?.writeNext()
        }
    }
}
