import Glibc

/// What the kernel tells about processes in /proc (proc(5)).
///
/// Processes come and go while it is read: whatever cannot be read is taken as not there.
package enum ProcessTable {
    /// Bytes read of one file, at most: more than the kernel lets an environment grow to by
    /// default.
    private static let fileBytesMax = 8 * 1024 * 1024

    package struct Entry: Equatable, Sendable {
        package let pid: Int32
        /// One letter: `R` running, `Z` a zombie, and so on.
        package let state: Character
        package let group: Int32
        package let session: Int32
        /// Clock ticks since boot; with the number, it names a process once and for all.
        package let startTime: UInt64

        /// Ended, and only waits to be collected.
        package var isDead: Bool { self.state == "Z" || self.state == "X" }
    }

    /// All process numbers at this moment, but for our own.
    package static func pids() -> [Int32] {
        guard let directory = opendir("/proc") else { return [] }
        defer { closedir(directory) }
        var pids: [Int32] = []
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { raw in
                String(decoding: raw.prefix { $0 != 0 }, as: UTF8.self)
            }
            if let pid = Int32(name), pid != getpid() { pids.append(pid) }
        }
        return pids
    }

    package static func entry(_ pid: Int32) -> Entry? {
        guard let bytes = readFile("/proc/\(pid)/stat", limit: 4_096) else { return nil }
        return self.parse(stat: String(decoding: bytes, as: UTF8.self))
    }

    /// The fields of /proc/PID/stat. The second is the program's name in parentheses and may hold
    /// anything, parentheses and spaces included, so the rest starts after the last `)`.
    package static func parse(stat: String) -> Entry? {
        guard let open = stat.firstIndex(of: "("), let close = stat.lastIndex(of: ")"), open < close
        else { return nil }
        let fields = stat[stat.index(after: close)...].split(separator: " ")
        // fields[0] is field 3 of the manual page: state, ppid, pgrp, session, …, starttime (22).
        guard fields.count > 19, let pid = Int32(stat[..<open].filter { $0 != " " }),
            let state = fields[0].first, let group = Int32(fields[2]),
            let session = Int32(fields[3]), let startTime = UInt64(fields[19])
        else { return nil }
        return Entry(
            pid: pid,
            state: state,
            group: group,
            session: session,
            startTime: startTime
        )
    }

    /// The environment a process was started with, `NAME=value` each; nil when it may not be read.
    package static func environment(_ pid: Int32) -> [ArraySlice<UInt8>]? {
        readFile("/proc/\(pid)/environ", limit: self.fileBytesMax)?.split(separator: 0)
    }

    /// Whether a process of the group is alive. A group with zombies alone is not.
    package static func hasLiveMember(group: Int32) -> Bool {
        self.pids().contains { pid in
            guard let entry = self.entry(pid) else { return false }
            return entry.group == group && !entry.isDead
        }
    }

    /// Differs from one boot to the next; empty where the kernel does not tell.
    package static func bootID() -> String {
        guard let bytes = readFile("/proc/sys/kernel/random/boot_id", limit: 64) else { return "" }
        return String(decoding: bytes.filter { $0 > 0x20 }, as: UTF8.self)
    }
}

/// The bytes of a file, at most `limit` of them; nil when it cannot be opened or read.
package func readFile(_ path: String, limit: Int) -> [UInt8]? {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    var result: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 16 * 1024)
    while result.count < limit {
        let count = read(descriptor, &chunk, min(chunk.count, limit - result.count))
        if count < 0, errno == EINTR { continue }
        if count < 0 { return nil }
        if count == 0 { break }
        result += chunk[..<count]
    }
    return result
}

/// Replaces a file as a whole: readers see the old or the new, never half. Returns errno, or 0.
///
/// Not synchronised to the disk: what it protects against is our own death, which the kernel's
/// cache outlives; after a crash of the machine nothing in these files means anything any more.
package func replaceFile(_ path: String, with text: String) -> Int32 {
    let temporary = path + ".new"
    let descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { return errno }
    let bytes = Array(text.utf8)
    var written = 0
    while written < bytes.count {
        let count = bytes.withUnsafeBytes { raw in
            write(descriptor, raw.baseAddress.map { $0 + written }, bytes.count - written)
        }
        if count < 0, errno == EINTR { continue }
        guard count > 0 else {
            let code = errno
            close(descriptor)
            unlink(temporary)
            return code
        }
        written += count
    }
    close(descriptor)
    return rename(temporary, path) == 0 ? 0 : errno
}
