import Configuration
import Control
import Core
import HTTPService
import Proxy

/// `GET /api/v1/statistics`: rates and quantiles of the last seconds, for people.
struct StatisticsDocument {
    let control: ControlPlane
    let view: StatisticsWindow.View

    func write(to writer: inout JSONWriter) {
        let workers = self.view.current.workers
        writer.object {
            // Null the first time: there is nothing to compare to, and rates are unknown.
            $0.optional("windowSeconds", self.view.earlier == nil ? nil : self.view.seconds)
            $0.record("connections") { writer in
                writer.member("client", workers.clientConnections)
                writer.member("upstream", workers.upstreamConnections)
                writer.member("upstreamIdle", workers.upstreamConnectionsIdle)
            }
            $0.list("models") { writer in
                for model in self.control.configuration.models {
                    self.write(model.name, &writer)
                }
            }
        }
    }

    private func write(_ name: String, _ writer: inout JSONWriter) {
        let model = self.view.current.models[name] ?? ModelStatistics(name: name)
        let earlier = self.view.earlier?.models[name]
        writer.object {
            $0.member("name", name)
            $0.member("queueDepth", self.control.queueDepth(of: name))
            $0.optional("requestsPerSecond", self.rate(model.arrivals, earlier?.arrivals))
            let unrouted = Self.sum(model.unrouted)
            $0.member("refused", unrouted)
            $0.optional(
                "refusedPerSecond",
                self.rate(unrouted, earlier.map { Self.sum($0.unrouted) })
            )
            $0.record("queueWait") {
                Self.write(model.queueWait.recent(since: earlier?.queueWait), &$0)
            }
            $0.record("overhead") {
                Self.write(model.overhead.recent(since: earlier?.overhead), &$0)
            }
            $0.list("variants") { writer in
                for variant in model.variants {
                    let before = earlier?.variants.first { $0.name == variant.name }
                    self.write(variant, before, &writer)
                }
            }
        }
    }

    private func write(
        _ variant: VariantStatistics,
        _ earlier: VariantStatistics?,
        _ writer: inout JSONWriter
    ) {
        let requests = Self.sum(variant.requestsByCode)
        let errors = Self.serverErrors(variant)
        writer.object {
            $0.member("name", variant.name)
            $0.member("inFlight", variant.inFlight)
            $0.member("requests", requests)
            $0.member("errors", errors)
            $0.optional(
                "requestsPerSecond",
                self.rate(requests, earlier.map { Self.sum($0.requestsByCode) })
            )
            $0.optional("errorsPerSecond", self.rate(errors, earlier.map(Self.serverErrors)))
            $0.optional(
                "outputTokensPerSecond",
                self.rate(variant.outputTokens, earlier?.outputTokens)
            )
            $0.record("duration") {
                Self.write(variant.duration.recent(since: earlier?.duration), &$0)
            }
            $0.record("timeToFirstToken") {
                Self.write(variant.timeToFirstToken.recent(since: earlier?.timeToFirstToken), &$0)
            }
        }
    }

    /// Quantiles in seconds; null where nothing was measured.
    private static func write(_ histogram: LatencyHistogram, _ writer: inout JSONWriter) {
        func seconds(_ quantile: Double) -> Double? {
            histogram.quantile(quantile).map { Double($0) / 1e9 }
        }
        writer.optional("p50", seconds(0.5))
        writer.optional("p95", seconds(0.95))
        writer.optional("p99", seconds(0.99))
    }

    private static func sum(_ counts: [UInt16: UInt64]) -> UInt64 {
        counts.values.reduce(0, +)
    }

    private static func serverErrors(_ variant: VariantStatistics) -> UInt64 {
        variant.requestsByCode.reduce(0) { $1.key >= 500 ? $0 + $1.value : $0 }
    }

    /// Per second; nil without a window. What is new within the window began at 0, and what was
    /// begun anew counts from there.
    private func rate(_ current: UInt64, _ earlier: UInt64?) -> Double? {
        guard self.view.earlier != nil, self.view.seconds > 0 else { return nil }
        let earlier = earlier ?? 0
        return Double(current >= earlier ? current - earlier : current) / self.view.seconds
    }
}
