import Glibc

/// One file of a configuration, as bytes.
package struct ConfigurationFile: Sendable {
    /// As the user named it: problems name it so, and relative paths start from its folder.
    package var name: String
    package var bytes: [UInt8]

    package init(name: String, bytes: [UInt8]) {
        self.name = name
        self.bytes = bytes
    }

    package init(name: String, text: String) {
        self.init(name: name, bytes: Array(text.utf8))
    }

    /// The most bytes that are read: one more than the loader accepts, so that it can say so.
    private static let maxReadBytes = YAMLReader.Limits().maxBytes + 1

    /// Reads a file; what cannot be read is a problem like any other.
    package static func read(path: String) -> Result<ConfigurationFile, ReadFailure> {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return .failure(Self.failure(path, errno)) }
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65_536)
        while bytes.count < Self.maxReadBytes {
            let count = Glibc.read(descriptor, &chunk, chunk.count)
            if count < 0 {
                if errno == EINTR { continue }
                return .failure(Self.failure(path, errno))
            }
            if count == 0 { break }
            bytes.append(contentsOf: chunk[..<count])
        }
        return .success(ConfigurationFile(name: path, bytes: bytes))
    }

    /// Why a file could not be read.
    package struct ReadFailure: Error {
        package var problem: Problem
    }

    private static func failure(_ path: String, _ code: Int32) -> ReadFailure {
        let reason = String(cString: strerror(code))
        let hint: String? =
            switch code {
            case ENOENT: "check the path given with `-c`"
            case EACCES: "give this user the right to read it"
            case EISDIR: "name the files in it"
            default: nil
            }
        return ReadFailure(
            problem: Problem(
                file: path,
                position: nil,
                message: "cannot be read: \(reason)",
                hint: hint
            )
        )
    }
}
