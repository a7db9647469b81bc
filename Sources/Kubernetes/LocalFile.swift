import Glibc

/// Why a file cannot be read, in the system's words.
package struct FileProblem: Error, Sendable, Hashable {
    package var reason: String

    package init(reason: String) {
        self.reason = reason
    }
}

/// Small files: credentials and configuration.
package enum LocalFile {
    /// Bytes of a file at most.
    package static let bytesMax = 4 << 20

    /// Reads a whole file. What is no plain file (a FIFO would block) is refused. No copy of a
    /// part of it stays in memory: it may be a key.
    package static func read(_ path: String) -> Result<[UInt8], FileProblem> {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { return .failure(self.problem(errno)) }
        defer { close(descriptor) }
        var information = stat()
        guard fstat(descriptor, &information) == 0 else { return .failure(self.problem(errno)) }
        guard information.st_mode & S_IFMT == S_IFREG else {
            return .failure(FileProblem(reason: "it is no file"))
        }
        var chunk = [UInt8](repeating: 0, count: 16 << 10)
        defer { explicit_bzero(&chunk, chunk.count) }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(min(Int(information.st_size), self.bytesMax) + chunk.count)
        while true {
            let count = Glibc.read(descriptor, &chunk, chunk.count)
            if count < 0, errno == EINTR { continue }
            if count < 0 { return .failure(self.problem(errno)) }
            if count == 0 { return .success(bytes) }
            bytes += chunk[..<count]
            if bytes.count > self.bytesMax {
                return .failure(FileProblem(reason: "it has more than \(self.bytesMax) bytes"))
            }
        }
    }

    private static func problem(_ code: Int32) -> FileProblem {
        FileProblem(reason: String(cString: strerror(code)))
    }
}
