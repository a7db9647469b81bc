import Control
import EventLoop
import Proxy

/// Asks the workers for what they measured, with a bound on how many ask and how long they wait.
final class StatisticsCollector {
    enum Answer {
        case statistics(GatewayStatistics)
        /// Why there are none, for people.
        case unavailable(String)
    }

    private let control: ControlPlane
    private var waiting = 0

    init(_ control: ControlPlane) {
        self.control = control
    }

    /// `completion` runs exactly once: at once where there is nobody to ask, else when all workers
    /// have answered or the time is over.
    func collect(_ completion: @escaping (Answer) -> Void) {
        guard let gateway = self.control.gateway else {
            return completion(.statistics(GatewayStatistics()))
        }
        guard self.waiting < AdminLimits.collectionsMax else {
            return completion(.unavailable("too many are asking at the same time"))
        }
        self.waiting += 1
        var completion: ((Answer) -> Void)? = completion
        let finish: (Answer) -> Void = { [weak self] answer in
            guard let complete = completion else { return }
            completion = nil
            self?.waiting -= 1
            complete(answer)
        }
        let timer = self.control.loop.schedule(after: AdminLimits.collectTimeout) {
            finish(.unavailable("the workers do not answer in time"))
        }
        gateway.collect { statistics in
            timer.cancel()
            finish(.statistics(statistics))
        }
    }
}
