import Core
import EventLoop
import Glibc
import HTTPService

/// A pretend model server that listens. See the design note in ModelSimulator.swift.
///
/// On one loop: make it, and end it with `stop` or `close`, on that loop's thread. `run` does all
/// of that on threads of its own.
package final class ModelSimulatorServer {
    /// Where it listens, with the port that the kernel chose where 0 was asked for.
    package var address: SocketAddress { self.server.address }
    package var counts: HTTPServerCounts { self.server.counts }

    private let server: HTTPServer
    private let simulator: Simulator

    /// - Parameters:
    ///   - options: must have no `problems`; `threads` is not looked at.
    ///   - crash: what a crash fault does; ends the process unless a test says otherwise.
    package init(
        loop: EventLoop,
        options: ModelSimulatorOptions,
        crash: @escaping (FaultPlan.Crash) -> Void = ModelSimulatorServer.endProcess
    ) throws(SystemError) {
        precondition(options.problems.isEmpty, "\(options.problems)")
        // The handler needs the simulator, which needs the port for its name.
        let holder = Holder()
        self.server = try HTTPServer(
            loop: loop,
            address: options.address,
            options: options.server
        ) { request, response in
            holder.simulator?.handle(request, response)
        }
        self.simulator = Simulator(
            options: options,
            loop: loop,
            replica: options.replica ?? "\(self.server.address.port)",
            crash: crash
        )
        holder.simulator = self.simulator
    }

    /// Lets requests at hand finish, for `grace` at most.
    package func stop(within grace: Duration, completion: @escaping () -> Void = {}) {
        let simulator = self.simulator
        self.server.stop(within: grace) {
            simulator.close()
            completion()
        }
    }

    package func close() {
        self.server.close()
        self.simulator.close()
    }

    package static func endProcess(_ crash: FaultPlan.Crash) {
        switch crash {
        case .none: return
        case .exit: _exit(1)
        case .abort: abort()
        }
    }

    private final class Holder {
        var simulator: Simulator?
    }
}

/// A pretend model server as a program: its own threads, ended by `stop`.
package final class ModelSimulatorProcess: Sendable {
    package let address: SocketAddress
    private let workers: [Worker]

    private struct Worker: Sendable {
        let loop: EventLoop
        let server: LoopBound<ModelSimulatorServer>
        let thread: LoopThread
    }

    /// Listens and starts the threads.
    package init(options: ModelSimulatorOptions) throws(SystemError) {
        var options = options
        options.server.reusePort = options.threads > 1
        var workers: [Worker] = []
        for index in 0..<options.threads {
            let loop = try EventLoop()
            // Made on this thread while the loop has none; from then on the loop's.
            let server = try ModelSimulatorServer(loop: loop, options: options)
            // The kernel chose a port for the first one; the others join it.
            options.address = server.address
            workers.append(
                Worker(
                    loop: loop,
                    server: LoopBound(server, loop: loop),
                    thread: LoopThread(name: "simulator-\(index)", loop: loop)
                )
            )
        }
        self.address = options.address
        self.workers = workers
    }

    /// Lets requests at hand finish, for `grace` at most, and ends the threads. Any thread.
    package func stop(within grace: Duration) {
        for worker in self.workers {
            worker.loop.post {
                worker.server.value.stop(within: grace) { worker.loop.stop() }
            }
        }
    }

    /// Ends every request at hand and the threads. Any thread.
    package func stopNow() {
        for worker in self.workers {
            worker.loop.post {
                worker.server.value.close()
                worker.loop.stop()
            }
        }
    }

    /// Waits until the threads have ended.
    package func wait() {
        for worker in self.workers { worker.thread.join() }
    }
}
