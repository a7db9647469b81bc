import Core

/// Where the controller that leads is, for people who asked somebody else.
package struct LeaderPlace: Equatable {
    /// Carried by what the leading controller asks of gateways.
    package static let fieldName: StaticString = "x-weir-leader"
    /// Longer identities are no controller's.
    static let identityBytesMax = 256
    /// One that has asked nothing for so long leads no more, as far as a gateway knows.
    static let silence = Duration.seconds(10)

    private(set) var identity: String
    private var heardAt: Instant

    /// Nil where it cannot be a controller's identity.
    init?(_ identity: String, at now: Instant) {
        let isPlain = identity.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F }
        guard isPlain, !identity.isEmpty, identity.utf8.count <= Self.identityBytesMax else {
            return nil
        }
        self.identity = identity
        self.heardAt = now
    }

    /// What a gateway says to those who want something of a rollout.
    static func textOfGateway(_ place: LeaderPlace?, at now: Instant) -> String {
        let rule = "a gateway runs no rollouts, the controller that leads does: "
        guard let place else {
            return rule + "none has asked this gateway for anything yet; see the controllers' logs"
        }
        let seconds = (now - place.heardAt).secondsAsDouble
        if now - place.heardAt <= Self.silence { return rule + Self.advice(place.identity) }
        let last = "the last one was \(Self.host(place.identity))"
        return rule + "none has been heard of for \(Int(seconds)) s; \(last)"
    }

    /// What a controller that does not lead says.
    /// - Parameters:
    ///   - holder: of the lease; empty for nobody.
    ///   - lease: namespace and name.
    static func textOfController(holder: String, own: String, lease: String) -> String {
        if holder.isEmpty || holder == own {
            return "no controller leads at the moment (lease \(lease)): try again in some seconds"
        }
        return "this controller does not lead (lease \(lease)): \(Self.advice(holder))"
    }

    private static func advice(_ identity: String) -> String {
        let host = Self.host(identity)
        return "ask the admin address of \(host), for instance `kubectl port-forward \(host) 9901`"
    }

    /// An identity is the host's name, on a cluster the pod's, and something unique behind `_`.
    static func host(_ identity: String) -> String {
        guard let end = identity.lastIndex(of: "_"), end > identity.startIndex else {
            return identity
        }
        return String(identity[..<end])
    }
}
