import Clusters
import Configuration
import Core
import EventLoop
import Logging
import Rollouts
import Traffic

/// What the replicas of a process deployment are made of.
struct ProcessTemplate: Sendable, Equatable, Codable {
    struct Variable: Sendable, Equatable, Codable {
        var name: String
        var value: String
    }

    var command: [String]
    var workingDirectory: String?
    var environment: [Variable]

    init(_ spec: ProcessGroupSpec) {
        self.command = spec.command
        self.workingDirectory = spec.workingDirectory
        self.environment = spec.environment.map { Variable(name: $0.name, value: $0.value) }
    }

    func apply(to spec: inout ProcessGroupSpec) {
        spec.command = self.command
        spec.workingDirectory = self.workingDirectory
        spec.environment = self.environment.map { .init(name: $0.name, value: $0.value) }
    }

    /// The same for equal templates, over restarts too; another one for different ones.
    var revision: String {
        let words =
            self.command + ["\u{0}", self.workingDirectory ?? "\u{0}"]
            + self.environment.flatMap { [$0.name, $0.value] }
        let hash = words.reduce(UInt64(0)) { hash, word in
            let bytes = Array(word.utf8)
            return ByteHash.combine(hash, ByteHash.hash(bytes.span.bytes))
        }
        let digits = String(hash, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }
}

/// The templates of one process deployment: those of its last revisions, and whether the one that
/// the configuration has was found bad.
struct ProcessTemplates: Sendable, Equatable, Codable {
    struct Hold: Sendable, Equatable, Codable {
        /// The configuration's revision, which is not used.
        var refused: String
        /// The one in its place.
        var good: String
    }

    /// Revisions that can be gone back to.
    static let templatesMax = 4

    /// The newest last.
    private(set) var templates: [ProcessTemplate] = []
    private(set) var hold: Hold?

    subscript(revision: String) -> ProcessTemplate? {
        self.templates.first { $0.revision == revision }
    }

    /// The configuration has this template now; another one than was refused is given a chance.
    mutating func configure(_ template: ProcessTemplate) {
        let revision = template.revision
        if self.hold?.refused != revision { self.hold = nil }
        if self.templates.last == template { return }
        self.templates.removeAll { $0 == template }
        self.templates.append(template)
        while self.templates.count > Self.templatesMax {
            let index = self.templates.firstIndex { $0.revision != self.hold?.good }
            self.templates.remove(at: index ?? 0)
        }
    }

    /// - Returns: false where the good revision is not known any more.
    mutating func refuse(_ revision: String, goingBackTo good: String) -> Bool {
        guard self[good] != nil, revision != good else { return false }
        self.hold = Hold(refused: revision, good: good)
        return true
    }

    mutating func release() { self.hold = nil }

    /// What replicas are made of now: the configuration's template, or the one in its place.
    var effective: ProcessTemplate? {
        self.hold.flatMap { self[$0.good] } ?? self.templates.last
    }
}

/// Deployments whose template was changed in place, of the processes of this machine.
extension RolloutDriver {
    /// Takes in what the configuration makes replicas of.
    func noteTemplates() {
        for deployment in self.control.configuration.processDeployments {
            guard self.isWatched(deployment.name) else { continue }
            let name = deployment.name
            var templates = self.templates[name] ?? self.store.templates(of: name)
            let before = templates
            templates.configure(ProcessTemplate(ProcessGroupSpec(deployment)))
            self.templates[name] = templates
            if templates != before { self.store.write(templates, of: name) }
        }
        for name in self.templates.keys where !self.isWatched(name) { self.templates[name] = nil }
    }

    /// Whether somebody compares the deployment's revisions.
    private func isWatched(_ group: String) -> Bool {
        (self.book.owners[group] ?? []).contains {
            self.book.resources[$0.model]?.spec.rolloutPolicy != nil
        }
    }

    /// The revision that a variant's replicas are made of; empty where nobody compares any.
    func revision(of variant: String, _ model: String) -> String {
        guard let group = self.group(of: variant, model) else { return "" }
        return self.templates[group]?.effective?.revision ?? ""
    }

    func group(of variant: String, _ model: String) -> String? {
        guard let variant = self.book.resources[model]?.spec.variant(named: variant),
            case .workload(let reference) = variant.backend,
            reference.kind == .processDeployment
        else { return nil }
        return reference.name
    }

    /// Replaces a template that was found bad.
    func adjust(_ spec: inout ProcessGroupSpec) {
        guard let templates = self.templates[spec.name], templates.hold != nil else { return }
        templates.effective?.apply(to: &spec)
    }

    func rollBackTemplate(_ variant: VariantReference, of model: String) {
        guard let group = self.group(of: variant.name, model),
            var templates = self.templates[group],
            let deployment = self.control.configuration.processDeployment(group)
        else { return }
        let refused = ProcessTemplate(ProcessGroupSpec(deployment)).revision
        guard templates.refuse(refused, goingBackTo: variant.revision) else {
            return self.control.logger.error(
                "the last good template is not known any more",
                metadata: ["deployment": "\(group)", "revision": "\(variant.revision)"]
            )
        }
        self.templates[group] = templates
        self.store.write(templates, of: group)
        self.control.logger.warning(
            "the template goes back to its last good revision: change it in the file",
            metadata: ["deployment": "\(group)", "revision": "\(variant.revision)"]
        )
        self.applyTemplates()
    }

    /// What was refused is tried again.
    func releaseTemplate(of variant: String, _ model: String) {
        guard let group = self.group(of: variant, model), self.templates[group]?.hold != nil else {
            return
        }
        self.templates[group]?.release()
        if let templates = self.templates[group] { self.store.write(templates, of: group) }
        self.applyTemplates()
    }

    /// Outside of what made it necessary: the machine is told of its own effect.
    private func applyTemplates() {
        let bound = LoopBound(Weak(self), loop: self.control.loop)
        self.control.loop.post {
            guard let driver = bound.value.object else { return }
            driver.control.reapplyWorkloads()
            driver.adopt(driver.control.configuration)
        }
    }
}
