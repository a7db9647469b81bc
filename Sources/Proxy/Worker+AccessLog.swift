import Core
import EventLoop
import HTTP
import Telemetry

/// One line per request, where the access log is on.
extension Worker {
    func logAccess(_ exchange: Exchange) {
        guard let log = self.shared.accessLog else { return }
        if case .shadow = exchange.client, !exchange.isClientGone { return }
        _ = log
    }
}
