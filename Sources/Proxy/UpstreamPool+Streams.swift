import Core
import EventLoop
import TLS

/// Connections that carry several requests: used from the first one that has room, so that as few
/// are open as the replica's limits allow.
extension UpstreamPool {
    /// Whether the request goes on a stream of a shared connection.
    func isMultiplexed(for exchange: Exchange) -> Bool {
        switch self.endpoint.wire {
        case .http1: exchange.call != nil && self.endpoint.callAddress != nil
        case .http2: true
        case .negotiated: self.hasAgreedOnHTTP2
        }
    }

    /// A stream on a connection with room, or on a new one that is being made.
    func openStream(for exchange: Exchange) throws(SystemError) -> UpstreamStream {
        if let connection = self.multiplexed.first(where: \.hasRoom) {
            return connection.attach(exchange)
        }
        let connection = MultiplexedUpstream(
            worker: self.worker,
            pool: self,
            // Those that share connections with a replica of HTTP/1 are calls, all of them.
            descriptor: try Sockets.connect(
                to: self.endpoint.callAddress ?? self.endpoint.address
            )
        )
        self.add(connection)
        self.worker.stats.upstreamOpened += 1
        connection.start()
        return connection.attach(exchange)
    }

    /// A connection of one request has agreed on HTTP/2: it becomes one of many.
    func multiplex(_ connection: UpstreamConnection) {
        guard let exchange = connection.takeExchange() else { return connection.close() }
        self.hasAgreedOnHTTP2 = true
        let multiplexed = MultiplexedUpstream(
            worker: self.worker,
            pool: self,
            transport: connection.surrender()
        )
        self.add(multiplexed)
        multiplexed.start()
        exchange.adopt(multiplexed.attach(exchange))
        multiplexed.opened(hasInput: true)
    }
}
