import Clusters
import Core
import Foundation
import Glibc
import Logging
import Rollouts

/// Keeps the status of rollouts, and what they looked like, as files in the state directory: one
/// status per model and one timeline per rollout. Each is replaced as a whole, so that a crash
/// leaves either the old one or the new one.
package final class RolloutStore: RolloutMemory {
    /// Timelines kept per model; the oldest go first.
    package static let timelinesMax = 8
    package static let bytesMax = 16 << 20
    private static let version = 1

    private struct File<Content: Codable>: Codable {
        var version: Int
        var content: Content
    }

    private let folder: String?
    private let logger: Logger

    /// - Parameter directory: the state directory; nil: nothing is kept.
    package init(directory: String?, logger: Logger) {
        self.folder = directory.map { $0 + "/rollouts" }
        self.logger = logger
    }

    // MARK: Status

    package func status(of model: String) -> RolloutStatus? {
        self.read("\(model).json", RolloutStatus.self)
    }

    /// False where it could not be written; why is logged.
    @discardableResult
    package func write(_ status: RolloutStatus, of model: String) -> Bool {
        self.write(status, "\(model).json")
    }

    /// Puts a status aside that cannot be used.
    package func discard(_ model: String, because reason: String) {
        guard let folder = self.folder else { return }
        let path = "\(folder)/\(model).json"
        _ = rename(path, path + ".unusable")
        self.logger.error(
            "the stored rollout cannot be used: the live variant serves without one",
            metadata: ["model": "\(model)", "reason": "\(reason)", "kept": "\(path).unusable"]
        )
    }

    // MARK: Templates

    func templates(of group: String) -> ProcessTemplates {
        self.read(Self.templatesName(group), ProcessTemplates.self) ?? ProcessTemplates()
    }

    func write(_ templates: ProcessTemplates, of group: String) {
        self.write(templates, Self.templatesName(group))
    }

    private static func templatesName(_ group: String) -> String { "\(group):templates.json" }

    // MARK: Timelines

    package func timeline(of model: String, rollout: Int) -> RolloutTimeline? {
        self.read(Self.name(model, rollout), RolloutTimeline.self)
    }

    package func write(_ timeline: RolloutTimeline) {
        self.write(timeline, Self.name(timeline.model, timeline.rollout))
        let old = timeline.rollout - Self.timelinesMax
        if let folder = self.folder, old > 0 {
            unlink("\(folder)/\(Self.name(timeline.model, old))")
        }
    }

    /// The numbers of a model's rollouts that are kept.
    package func rollouts(of model: String, upTo last: Int) -> [Int] {
        guard let folder = self.folder, last > 0 else { return [] }
        return (max(1, last - Self.timelinesMax + 1)...last).filter {
            access("\(folder)/\(Self.name(model, $0))", F_OK) == 0
        }
    }

    // A model's name has no slash, and no colon either.
    private static func name(_ model: String, _ rollout: Int) -> String {
        "\(model):\(rollout).json"
    }

    // MARK: Files

    private func read<Content: Codable>(_ name: String, _: Content.Type) -> Content? {
        guard let folder = self.folder else { return nil }
        let path = "\(folder)/\(name)"
        guard access(path, F_OK) == 0 else { return nil }
        guard let bytes = readFile(path, limit: Self.bytesMax) else {
            self.warn("cannot be read", path, "it is too large, or not for us")
            return nil
        }
        let decoder = JSONDecoder()
        decoder.nonConformingFloatDecodingStrategy = Self.decoding
        do {
            let file = try decoder.decode(File<Content>.self, from: Data(bytes))
            if file.version == Self.version { return file.content }
            self.warn("is of another version", path, "version \(file.version)")
        } catch {
            self.warn("makes no sense", path, "\(error)")
        }
        _ = rename(path, path + ".unusable")
        return nil
    }

    @discardableResult
    private func write(_ content: some Codable, _ name: String) -> Bool {
        guard let folder = self.folder else { return true }
        let encoder = JSONEncoder()
        encoder.nonConformingFloatEncodingStrategy = Self.encoding
        encoder.outputFormatting = [.sortedKeys]
        do {
            let data = try encoder.encode(File(version: Self.version, content: content))
            mkdir(folder, 0o700)
            let text = String(decoding: data, as: UTF8.self)
            let code = replaceFile("\(folder)/\(name)", with: text)
            if code == 0 { return true }
            self.warn("is not kept", name, String(cString: strerror(code)))
        } catch {
            self.warn("is not kept", name, "\(error)")
        }
        return false
    }

    private static let encoding = JSONEncoder.NonConformingFloatEncodingStrategy.convertToString(
        positiveInfinity: "inf",
        negativeInfinity: "-inf",
        nan: "nan"
    )
    private static let decoding = JSONDecoder.NonConformingFloatDecodingStrategy.convertFromString(
        positiveInfinity: "inf",
        negativeInfinity: "-inf",
        nan: "nan"
    )

    private func warn(_ what: String, _ path: String, _ reason: String) {
        self.logger.warning(
            "what is known of a rollout \(what)",
            metadata: ["file": "\(path)", "reason": "\(reason)"]
        )
    }
}
