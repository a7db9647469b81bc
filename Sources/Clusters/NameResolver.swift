import CPlatform
import EventLoop
import Glibc

/// Looks names up with getaddrinfo(3), which blocks, on threads of its own.
///
/// Limits: `threadsMax` lookups at a time; the others wait their turn, at most one per asker.
package final class NameResolver {
    package static let threadsMax = 4

    package enum Answer: Equatable, Sendable {
        /// Numeric. The first that the system prefers.
        case address(String)
        case failure(String)
    }

    private struct Job {
        let name: String
        let completion: (Answer) -> Void
    }

    private let loop: EventLoop
    private var waiting: [Job] = []
    private var running = 0

    package init(loop: EventLoop) {
        self.loop = loop
    }

    /// Calls `completion` on the loop, later.
    package func resolve(_ name: String, completion: @escaping (Answer) -> Void) {
        self.loop.assertOnLoop()
        self.waiting.append(Job(name: name, completion: completion))
        self.startNext()
    }

    private func startNext() {
        guard self.running < Self.threadsMax, !self.waiting.isEmpty else { return }
        let job = self.waiting.removeFirst()
        self.running += 1
        let completion = LoopBound(
            { [weak self] (answer: Answer) in
                self?.running -= 1
                job.completion(answer)
                self?.startNext()
            },
            loop: self.loop
        )
        let loop = self.loop
        let name = job.name
        let started = startThread {
            let answer = lookUp(name)
            loop.post { completion.value(answer) }
        }
        if !started { loop.post { completion.value(.failure("no thread can be started")) } }
    }
}

/// Blocks. IPv4 and IPv6 in the order the system prefers.
private func lookUp(_ name: String) -> NameResolver.Answer {
    var hints = addrinfo()
    hints.ai_family = AF_UNSPEC
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    var list: UnsafeMutablePointer<addrinfo>?
    let code = getaddrinfo(name, nil, &hints, &list)
    guard code == 0, let first = list else {
        return .failure(
            "\(quoted(name)) cannot be looked up: \(String(cString: gai_strerror(code)))"
        )
    }
    defer { freeaddrinfo(list) }
    var text = [CChar](repeating: 0, count: Int(NI_MAXHOST))
    let result = getnameinfo(
        first.pointee.ai_addr,
        first.pointee.ai_addrlen,
        &text,
        socklen_t(text.count),
        nil,
        0,
        NI_NUMERICHOST
    )
    guard result == 0 else { return .failure("\(quoted(name)) has an address of an odd kind") }
    return .address(String(decoding: text.prefix { $0 != 0 }.map(UInt8.init), as: UTF8.self))
}

private final class ThreadBody {
    let run: @Sendable () -> Void
    init(_ run: @escaping @Sendable () -> Void) { self.run = run }
}

/// A detached thread that runs `body` once.
private func startThread(_ body: @escaping @Sendable () -> Void) -> Bool {
    // Released by the thread, or here where there is none.
    let context = Unmanaged.passRetained(ThreadBody(body))
    var thread = pthread_t()
    let code = pthread_create(
        &thread,
        nil,
        { context in
            guard let context else { return nil }
            Unmanaged<ThreadBody>.fromOpaque(context).takeRetainedValue().run()
            return nil
        },
        context.toOpaque()
    )
    if code != 0 {
        context.release()
        return false
    }
    pthread_detach(thread)
    return true
}
