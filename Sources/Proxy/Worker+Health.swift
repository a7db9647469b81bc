import Core
import GRPC
import HTTP
import Traffic

/// What the gateway says of itself and its models by gRPC's health service.
extension Worker {
    /// Clients that watch at once, at most, per worker; one more is told to come back later.
    static let watchersMax = 1_000
    /// And of these on one connection: nobody may take all the places by a few connections.
    static let watchersPerConnectionMax = 10

    /// Of a model by one of its names, or of the gateway as a whole where the name is empty.
    /// Models that the tenant who asks may not use are not there for it.
    func health(of service: [UInt8], asks tenant: TenantRoute?) -> HealthCheck.Status {
        if self.isDraining { return .notServing }
        if service.isEmpty { return .serving }
        guard let index = self.snapshot.table.lookup(service.span.bytes),
            index < self.snapshot.models.count, let route = self.snapshot.models[index],
            tenant?.mayUse(route) != false
        else { return .serviceUnknown }
        // A model that is started by its first request can be called without a replica.
        let isReady = route.variants.contains { !$0.endpoints.isEmpty }
        return isReady || route.settings.startsReplicas ? .serving : .notServing
    }

    /// Keeps a call that wants to be told of changes.
    func watch(_ exchange: Exchange) {
        let beside = self.watchers.count { $0.client.connection === exchange.client.connection }
        guard self.watchers.count < Self.watchersMax, beside < Self.watchersPerConnectionMax else {
            return exchange.fail(ProxyError(.queueFull))
        }
        self.watchers.append(exchange)
    }

    /// Tells those that watch what is new. While draining they are told, and let go.
    func tellWatchers() {
        for exchange in self.watchers where exchange.phase == .watching {
            exchange.checkHealth()
            if self.isDraining { exchange.fail(ProxyError(.draining)) }
        }
    }
}
