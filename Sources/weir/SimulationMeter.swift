import Glibc
import Simulation
import Synchronization
import Workload

/// How far many simulations are, how long the rest will take, and how quick they were.
final class SimulationMeter: Sendable {
    private struct State {
        /// In requests, as `begin` was told.
        var cost = 0.0
        var done = 0.0
        var begunAt = 0.0
        /// What was shown last.
        var shown = ""
        var tenths = 0
        /// What was simulated, and the processor time of that.
        var requests: UInt64 = 0
        var worlds = 0
        var seconds = 0.0
    }

    private let style: SimulationStudy.ProgressStyle
    private let state = Mutex(State())

    /// Who is done sooner needs no lines.
    private static let linesAfterSeconds = 5.0
    /// What was done until then says little of the rest.
    private static let guessedAfterSeconds = 2.0

    init(style: SimulationStudy.ProgressStyle) {
        self.style = style
    }

    // MARK: Speed

    func run(_ world: World) -> WorldResult {
        let result = self.measure { world.run() }
        self.state.withLock {
            $0.requests += result.requests
            $0.worlds += 1
        }
        return result
    }

    /// Counts the processor time of what belongs to simulating.
    func measure<Result>(_ body: () -> Result) -> Result {
        let begin = Self.seconds(CLOCK_THREAD_CPUTIME_ID)
        let result = body()
        let passed = Self.seconds(CLOCK_THREAD_CPUTIME_ID) - begin
        self.state.withLock { $0.seconds += passed }
        return result
    }

    /// Requests per second of one core, in words.
    var speed: String {
        self.state.withLock { state in
            let rate = Double(state.requests) / max(state.seconds, 1e-6)
            return "simulated \(state.requests) requests in \(state.worlds) "
                + (state.worlds == 1 ? "run" : "runs")
                + ", \(DecimalText.figures(state.seconds)) s of processor time: "
                + "\(DecimalText.figures(rate / 1e6)) million requests per second and core"
        }
    }

    private static func seconds(_ clock: clockid_t) -> Double {
        var time = timespec()
        clock_gettime(clock, &time)  // tidy: how quick a simulation is says no clock of its own
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    // MARK: Progress

    /// - Parameter cost: of all that is to be done, in any unit.
    func begin(cost: Double) {
        self.state.withLock { state in
            state.cost = cost
            state.begunAt = Self.seconds(CLOCK_MONOTONIC)
            if self.style == .bar { self.show(&state) }
        }
    }

    func advance(_ cost: Double) {
        // Written under the lock, so that the bar never goes back.
        self.state.withLock { state in
            state.done += cost
            switch self.style {
            case .none: break
            case .bar: self.show(&state)
            case .lines: self.tell(&state)
            }
        }
    }

    func finish() {
        if self.style == .bar { Output.write("\r\u{1B}[K", to: STDERR_FILENO) }
        if self.style != .none { Output.write(self.speed + "\n", to: STDERR_FILENO) }
    }

    private func show(_ state: inout State) {
        let share = Self.share(state)
        let width = 30
        let filled = Int(share * Double(width))
        let bar =
            String(repeating: "#", count: filled) + String(repeating: "-", count: width - filled)
        let text = "[\(bar)] \(Int(share * 100)) %" + Self.left(state)
        if text == state.shown { return }
        state.shown = text
        Output.write("\r\u{1B}[K" + text, to: STDERR_FILENO)
    }

    /// A line for each tenth.
    private func tell(_ state: inout State) {
        let tenths = Int(Self.share(state) * 10)
        let passed = Self.seconds(CLOCK_MONOTONIC) - state.begunAt
        guard tenths > state.tenths, passed >= Self.linesAfterSeconds else { return }
        state.tenths = tenths
        let text = "\(tenths * 10) % after \(Self.words(passed))" + Self.left(state)
        Output.write(text + "\n", to: STDERR_FILENO)
    }

    private static func share(_ state: borrowing State) -> Double {
        state.cost > 0 ? min(1, state.done / state.cost) : 1
    }

    private static func left(_ state: borrowing State) -> String {
        let passed = self.seconds(CLOCK_MONOTONIC) - state.begunAt
        let share = self.share(state)
        guard passed >= self.guessedAfterSeconds, share > 0, share < 1 else { return "" }
        return ", about \(self.words(passed * (1 - share) / share)) left"
    }

    /// Minutes and seconds.
    private static func words(_ seconds: Double) -> String {
        let whole = Int(seconds.rounded())
        return whole < 60 ? "\(whole) s" : "\(whole / 60) min \(whole % 60) s"
    }
}
