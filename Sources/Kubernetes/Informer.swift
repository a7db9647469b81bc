import Core
import EventLoop
import HTTPService

/// Which objects an informer is about and what it keeps of them.
package struct InformerScope<Value> {
    package var resource: Resource
    /// Nil for all namespaces.
    package var namespace: String?
    package var labelSelector: String?
    package var fieldSelector: String?
    /// What is read of each object; name, namespace and version always are.
    package var projection: JSONProjection
    /// Makes what is kept. Where it throws, the object stays as it was, and the problem is told.
    package var decode: (KubernetesObject) throws -> Value

    package init(
        _ resource: Resource,
        namespace: String? = nil,
        projection: JSONProjection = .withoutBookkeeping,
        decode: @escaping (KubernetesObject) throws -> Value
    ) {
        self.resource = resource
        self.namespace = namespace
        self.projection = projection
        self.decode = decode
    }
}

extension InformerScope where Value == KubernetesObject {
    /// Keeps the objects themselves.
    package init(
        _ resource: Resource,
        namespace: String? = nil,
        projection: JSONProjection = .withoutBookkeeping
    ) {
        self.init(resource, namespace: namespace, projection: projection) { $0 }
    }
}

/// What an informer tells. All are called on the loop's thread.
package struct InformerHandlers<Value> {
    /// After the copy has changed. Also for what is there from the beginning.
    package var onChange: (ObjectChange<Value>) -> Void
    /// The copy is complete for the first time, and after every gap that had to be filled.
    package var onSynced: () -> Void
    /// Something does not work: the server cannot be asked, or an object cannot be read. The copy
    /// stays as it was; it is tried again.
    package var onProblem: (InformerProblem) -> Void

    package init(
        onChange: @escaping (ObjectChange<Value>) -> Void = { _ in },
        onSynced: @escaping () -> Void = {},
        onProblem: @escaping (InformerProblem) -> Void = { _ in }
    ) {
        self.onChange = onChange
        self.onSynced = onSynced
        self.onProblem = onProblem
    }
}

package enum InformerProblem: Sendable, CustomStringConvertible {
    case call(APIError)
    /// An object whose contents make no sense; why.
    case object(ObjectKey, String)

    package var description: String {
        switch self {
        case .call(let error): "\(error)"
        case .object(let key, let why): "\(key) cannot be read: \(why)"
        }
    }
}

/// Keeps a copy of a collection in step with the server, and tells of every change.
///
/// The shell around `Reflector` and `ObjectStore`. On the loop's thread. While the server is gone
/// the copy stays as it was. End it with `stop`.
package final class Informer<Value> {
    package let client: KubernetesClient
    package let scope: InformerScope<Value>
    /// Set before `start`.
    package var handlers: InformerHandlers<Value>

    private var reflector: Reflector
    private var store = ObjectStore<Value>()
    private var writes: WriteTracker
    private let projection: JSONProjection
    private var random: RandomSource
    private var call: APIHandle?
    private var timer: LoopTimer?
    private var isRunning = false
    /// Callbacks of calls before this one mean nothing any more.
    private var round = 0
    private var isFilling = false

    /// - Parameter comparesVersions: whether the server promises versions that grow.
    package init(
        _ client: KubernetesClient,
        _ scope: InformerScope<Value>,
        options: ReflectorOptions = ReflectorOptions(),
        comparesVersions: Bool = false,
        seed: UInt64 = 0,
        handlers: InformerHandlers<Value> = InformerHandlers()
    ) {
        self.client = client
        self.scope = scope
        self.handlers = handlers
        self.reflector = Reflector(options)
        self.writes = WriteTracker(comparesVersions: comparesVersions)
        self.projection = scope.projection.keepingIdentity
        self.random = RandomSource(seed: seed)
    }

    // MARK: The copy

    package subscript(_ key: ObjectKey) -> Value? { self.store[key] }
    package var count: Int { self.store.count }
    package var keys: [ObjectKey] { self.store.keys }
    package func forEach(_ body: (ObjectKey, Value) -> Void) { self.store.forEach(body) }
    package func version(of key: ObjectKey) -> ResourceVersion? { self.store.version(of: key) }

    /// Whether the copy has been complete once.
    package var isSynced: Bool { self.reflector.isSynced }
    /// Whether events are coming in: the copy is up to date as far as anybody can tell.
    package var isWatching: Bool { self.reflector.isWatching && !self.isFilling }
    /// Why the server cannot be asked; nil while it can.
    package var problem: APIError? { self.reflector.problem }

    // MARK: Own writes

    /// Remembers that this process has written the object and got this version for it.
    package func wrote(_ object: KubernetesObject) {
        let metadata = object.metadata
        self.writes.wrote(metadata.key, metadata.resourceVersion, now: self.client.loop.now)
    }

    package func wrote(_ key: ObjectKey, _ version: ResourceVersion) {
        self.writes.wrote(key, version, now: self.client.loop.now)
    }

    /// Whether the copy of this object shows all that this process has written to it.
    package func isCurrent(_ key: ObjectKey) -> Bool {
        self.writes.isCurrent(key, now: self.client.loop.now)
    }

    // MARK: Life

    package func start() {
        self.client.loop.assertOnLoop()
        if self.isRunning { return }
        self.isRunning = true
        self.advance()
    }

    /// Ends what is under way. The copy stays. Idempotent.
    package func stop() {
        self.client.loop.assertOnLoop()
        self.isRunning = false
        self.round += 1
        self.call?.cancel()
        self.call = nil
        self.timer?.cancel()
        self.timer = nil
    }

    private func advance() {
        guard self.isRunning, !self.client.isClosed else { return }
        let now = self.client.loop.now
        switch self.reflector.next(now: now, random: &self.random) {
        case .nothing: return
        case .wait(let delay):
            self.timer?.cancel()
            self.timer = self.client.loop.schedule(after: delay) { [weak self] in
                self?.timer = nil
                self?.advance()
            }
        case .list(let limit, let token):
            if token == nil { self.beginState(now) }
            self.list(limit: limit, token: token)
        case .watch(let options):
            if options.sendsInitialEvents { self.beginState(now) }
            self.watch(options)
        }
    }

    private func failed(_ error: APIError) {
        if !error.isCancelled { self.handlers.onProblem(.call(error)) }
    }

    // MARK: Lists

    private func list(limit: Int, token: String?) {
        self.round += 1
        let round = self.round
        var options = self.listOptions
        options.limit = limit
        options.continueToken = token
        let resource = self.scope.resource
        self.call = self.client.list(resource, options, keeping: self.projection) {
            [weak self] result in
            guard let self, self.round == round else { return }
            self.call = nil
            self.received(result)
            self.advance()
        }
    }

    private func received(_ result: Result<ObjectList, APIError>) {
        let now = self.client.loop.now
        switch result {
        case .success(let page):
            for item in page.items { self.put(item) }
            let outcome = self.reflector.received(
                pageVersion: page.resourceVersion,
                continueToken: page.continueToken,
                now: now
            )
            if outcome == .finishState { self.finishState() }
        case .failure(let error):
            self.reflector.listFailed(error, now: now, random: &self.random)
            self.failed(error)
        }
    }

    private var listOptions: ListOptions {
        var options = ListOptions(namespace: self.scope.namespace)
        options.labelSelector = self.scope.labelSelector
        options.fieldSelector = self.scope.fieldSelector
        return options
    }

    // MARK: Watches

    private func watch(_ options: WatchOptions) {
        self.round += 1
        let round = self.round
        self.call = self.client.watch(
            self.scope.resource,
            self.listOptions,
            options,
            keeping: self.projection,
            handlers: WatchHandlers(
                onEvent: { [weak self] event in
                    guard let self, self.round == round else { return }
                    self.received(event)
                },
                onEnd: { [weak self] error in
                    guard let self, self.round == round else { return }
                    self.ended(error)
                }
            )
        )
    }

    private func received(_ event: WatchEvent) {
        switch event {
        case .added(let object), .modified(let object):
            switch self.summarise(object) {
            case .apply: self.put(object)
            case .abandon: self.abandon()
            case .ignore, .finishState: break
            }
        case .deleted(let object):
            switch self.summarise(object) {
            case .apply: self.remove(object)
            case .abandon: self.abandon()
            case .ignore, .finishState: break
            }
        case .bookmark(let version, let endsInitialEvents):
            let summary = EventSummary(
                .bookmark(endsInitialEvents: endsInitialEvents),
                version: version
            )
            switch self.reflector.received(summary, now: self.client.loop.now) {
            case .finishState: self.finishState()
            case .abandon: self.abandon()
            case .ignore, .apply: break
            }
        case .error(let status):
            self.call?.cancel()
            self.ended(APIError(.refused(status), call: "watch of \(self.scope.resource)"))
        }
    }

    private func summarise(_ object: KubernetesObject) -> Reflector.OnEvent {
        let summary = EventSummary(.object, version: object.metadata.resourceVersion)
        return self.reflector.received(summary, now: self.client.loop.now)
    }

    private func ended(_ error: APIError?) {
        self.round += 1
        self.call = nil
        self.reflector.watchEnded(error, now: self.client.loop.now, random: &self.random)
        if let problem = self.reflector.problem, error != nil { self.failed(problem) }
        self.advance()
    }

    /// The machine has had enough of the stream and wants something else.
    private func abandon() {
        self.round += 1
        self.call?.cancel()
        self.call = nil
        self.advance()
    }

    // MARK: Changes

    private func beginState(_ now: Instant) {
        self.isFilling = true
        self.store.beginState()
        self.writes.beganState(now: now)
    }

    private func finishState() {
        self.isFilling = false
        self.writes.finishedState()
        for change in self.store.finishState() { self.handlers.onChange(change) }
        self.handlers.onSynced()
    }

    private func put(_ object: KubernetesObject) {
        let metadata = object.metadata
        let key = metadata.key
        let version = metadata.resourceVersion
        self.writes.saw(key, version)
        if self.store.confirm(key, version) { return }
        do {
            let value = try self.scope.decode(object)
            self.handlers.onChange(self.store.put(key, value, version))
        } catch {
            self.store.keep(key)
            self.handlers.onProblem(.object(key, "\(error)"))
        }
    }

    private func remove(_ object: KubernetesObject) {
        let metadata = object.metadata
        self.writes.sawDeletion(metadata.key, metadata.resourceVersion)
        if let change = self.store.remove(metadata.key) { self.handlers.onChange(change) }
    }
}

extension JSONProjection {
    /// The same, with what every copy needs.
    package var keepingIdentity: JSONProjection {
        guard case .only = self else { return self }
        return self.adding([
            "metadata.name", "metadata.namespace", "metadata.resourceVersion", "metadata.uid",
        ])
    }
}
