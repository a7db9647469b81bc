import Core
import Glibc
import HTTPService

/// A small JSON file that says where a process listens: `{"http": "127.0.0.1:8080"}`. For scripts
/// that ask for port 0. It appears whole or not at all.
enum PortsFile {
    static func write(
        _ addresses: [(name: String, address: String)],
        to path: String
    ) throws(RuntimeError) {
        let buffer = ByteBuffer(capacity: 256)
        var writer = JSONWriter(buffer)
        writer.object { writer in
            for (name, address) in addresses {
                writer.key(escaping: name)
                writer.string(address)
            }
        }
        let temporary = path + ".new"
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw self.failure(path) }
        let count = Glibc.write(descriptor, buffer.readablePointer, buffer.count)
        close(descriptor)
        guard count == buffer.count, rename(temporary, path) == 0 else { throw self.failure(path) }
    }

    private static func failure(_ path: String) -> RuntimeError {
        RuntimeError(description: "cannot write \(path): \(String(cString: strerror(errno)))")
    }
}
