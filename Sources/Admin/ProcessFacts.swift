import Glibc

/// What the kernel knows of this process, under the names Prometheus clients use for it.
package struct ProcessFacts: Sendable, Equatable {
    package var cpuSeconds = 0.0
    package var residentBytes: UInt64 = 0
    package var virtualBytes: UInt64 = 0
    package var openDescriptors: UInt64 = 0
    package var maxDescriptors: UInt64 = 0
    /// Seconds since 1970.
    package var startTime = 0.0
    package var threads: UInt64 = 0

    package init() {}

    /// Reads them from `/proc/self`; what cannot be read stays 0.
    package static func current() -> ProcessFacts {
        var facts = ProcessFacts()
        if let text = Self.read("/proc/self/stat") {
            facts.parse(
                stat: text,
                ticksPerSecond: Double(max(1, sysconf(Int32(_SC_CLK_TCK)))),
                pageBytes: UInt64(max(1, sysconf(Int32(_SC_PAGESIZE)))),
                bootTime: Self.read("/proc/stat").flatMap(Self.bootTime) ?? 0
            )
        }
        facts.openDescriptors = Self.countEntries("/proc/self/fd")
        var limit = rlimit()
        if getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 {
            facts.maxDescriptors = UInt64(limit.rlim_cur)
        }
        return facts
    }

    /// `/proc/PID/stat` (proc(5)). The second field, the program's name, may hold anything, even
    /// parentheses and spaces; all others are numbers behind the last parenthesis.
    mutating func parse(
        stat text: String,
        ticksPerSecond: Double,
        pageBytes: UInt64,
        bootTime: Double
    ) {
        guard let name = text.lastIndex(of: ")") else { return }
        // The first of these is field 3.
        let fields = text[text.index(after: name)...].split(whereSeparator: \.isWhitespace)
        func field(_ number: Int) -> UInt64 {
            number - 3 < fields.count ? UInt64(fields[number - 3]) ?? 0 : 0
        }
        self.cpuSeconds = (Double(field(14)) + Double(field(15))) / ticksPerSecond
        self.threads = field(20)
        self.startTime = bootTime + Double(field(22)) / ticksPerSecond
        self.virtualBytes = field(23)
        self.residentBytes = field(24) &* pageBytes
    }

    /// The line `btime N` of `/proc/stat`: when the machine started, in seconds since 1970.
    static func bootTime(_ text: String) -> Double? {
        for line in text.split(separator: "\n") where line.hasPrefix("btime ") {
            return Double(line.dropFirst("btime ".utf8.count))
        }
        return nil
    }

    /// Bytes read of such a file at most. `/proc/stat` grows with the number of interrupts.
    private static let fileBytesMax = 1 << 20

    private static func read(_ path: String) -> String? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var content: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 16 << 10)
        while content.count < Self.fileBytesMax {
            let count = chunk.withUnsafeMutableBytes {
                Glibc.read(descriptor, $0.baseAddress, $0.count)
            }
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { break }
            content += chunk[..<count]
        }
        return String(decoding: content, as: UTF8.self)
    }

    /// Entries but `.` and `..`, and the descriptor that reading takes.
    private static func countEntries(_ path: String) -> UInt64 {
        guard let directory = opendir(path) else { return 0 }
        defer { closedir(directory) }
        var count: UInt64 = 0
        while readdir(directory) != nil { count += 1 }
        return count > 3 ? count - 3 : 0
    }
}
