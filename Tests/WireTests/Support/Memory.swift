import Glibc

/// What the process holds, as the kernel counts it.
enum Memory {
    /// Resident bytes (`/proc/self/statm`, second number, in pages).
    static func resident() throws -> Int {
        let text = try Self.file("/proc/self/statm")
        guard let pages = text.split(separator: " ").dropFirst().first.flatMap({ Int($0) }) else {
            throw WireError.malformed(text)
        }
        return pages * Int(getpagesize())
    }

    /// Descriptors that are open.
    static func descriptors() throws -> Int {
        guard let directory = opendir("/proc/self/fd") else {
            throw WireError.system("opendir", errno)
        }
        defer { closedir(directory) }
        var count = 0
        while readdir(directory) != nil { count += 1 }
        // Two for `.` and `..`, one for the directory itself.
        return count - 3
    }

    private static func file(_ path: String) throws -> String {
        let descriptor = open(path, O_RDONLY)
        guard descriptor >= 0 else { throw WireError.system("open \(path)", errno) }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 4096)
        let count = read(descriptor, &bytes, bytes.count)
        guard count >= 0 else { throw WireError.system("read \(path)", errno) }
        return String(decoding: bytes[..<count], as: UTF8.self)
    }
}
