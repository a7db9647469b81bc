import CPlatform
import Glibc

/// The calling thread's place among those that want to run on its core.
final class CoreShare {
    /// Nanoseconds that the thread runs at most before others get their turn; in exchange its own
    /// comes sooner when it wakes. Its share of the core is the same, in smaller pieces. The
    /// shortest that the kernel takes (Linux 6.12 and later; earlier ones keep theirs).
    private static let slice: UInt64 = 100_000

    private let file: Int32
    private var text = [UInt8](repeating: 0, count: 128)

    /// For the calling thread, which alone may use it.
    init() {
        self.file = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC)
    }

    deinit {
        if self.file >= 0 { close(self.file) }
    }

    /// Asks for short slices; without effect where the system refuses.
    func askForShortSlices() {
        var scheduling = weir_scheduling()
        guard weir_get_scheduling(&scheduling) == 0, scheduling.policy == UInt32(SCHED_OTHER)
        else { return }
        scheduling.runtime = Self.slice
        _ = weir_set_scheduling(&scheduling)
    }

    /// Nanoseconds that the thread has been ready to run and did not, since it was started: the
    /// second number of `schedstat`. Nil where the system does not say.
    var waited: UInt64? {
        let count = pread(self.file, &self.text, self.text.count, 0)
        guard count > 0 else { return nil }
        let fields = self.text[..<count].split(separator: UInt8(ascii: " "))
        guard fields.count >= 2 else { return nil }
        return UInt64(String(decoding: fields[1], as: UTF8.self))
    }
}
