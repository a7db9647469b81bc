import Configuration
import Core
import EventLoop
import Logging
import Proxy
import Recorder

/// Keeps a gateway's recorder as the configuration has it: starts one, replaces it on a reload, and
/// ends it with the gateway.
///
/// Confined to the control loop's thread. A folder that cannot be written to costs the recording,
/// not the gateway: that is logged, and tried again with the next configuration.
package final class TrafficRecording {
    /// What was recorded since the start, by all recorders one after the other.
    package let counters = RecorderCounters()
    private let loop: EventLoop
    private let logger: Logger
    private var spec: RecorderSpec?
    private var recorder: TrafficRecorder?
    /// Replaced, and not yet closed: workers still may use them.
    private var retired: [TrafficRecorder] = []

    init(loop: EventLoop, logger: Logger) {
        self.loop = loop
        self.logger = logger
    }

    package var isOn: Bool { self.recorder != nil }

    /// Brings the gateway's recorder to what the configuration says.
    func adopt(_ spec: RecorderSpec?, _ gateway: Gateway) {
        if spec == self.spec && (spec == nil || self.recorder != nil) { return }
        self.spec = spec
        let old = self.recorder
        self.recorder = spec.flatMap { self.open($0) }
        if let old { self.retired.append(old) }
        gateway.record(with: self.recorder) { [weak self] in
            guard let self, let old, self.retired.contains(where: { $0 === old }) else { return }
            self.retired.removeAll { $0 === old }
            // Held until it has ended: a recorder must not go before.
            old.close(on: self.loop) { _ = old }
        }
    }

    private func open(_ spec: RecorderSpec) -> TrafficRecorder? {
        var options = RecorderOptions(folder: spec.path)
        options.sampleMillionths = spec.sample.millionths
        options.totalBytes = spec.maxBytes
        // Several segments at least, or removing the oldest would be removing all.
        options.segmentBytes = min(spec.maxSegmentBytes, spec.maxBytes / Self.segmentsMin)
        options.segmentAge = spec.maxSegmentAge
        let logger = self.logger
        do throws(SystemError) {
            let recorder = try TrafficRecorder(options, counters: self.counters) { message in
                logger.warning("recorder", metadata: ["event": "\(message)"])
            }
            logger.info("recording traffic", metadata: ["folder": "\(spec.path)"])
            return recorder
        } catch {
            logger.error("traffic is not recorded", metadata: ["reason": "\(error)"])
            return nil
        }
    }

    private static let segmentsMin = 4

    /// Writes what there is and closes the files. The gateway must have been stopped before.
    func stop() {
        for recorder in self.retired { recorder.close() }
        self.retired = []
        self.recorder?.close()
        self.recorder = nil
    }
}
