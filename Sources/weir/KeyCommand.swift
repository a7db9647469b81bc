import ArgumentParser
import Digests
import Glibc
import Traffic

/// `weir key`: makes a tenant's key and its hash.
struct KeyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "key",
        abstract: "Make a tenant's key, or the hash of one.",
        discussion: """
            The key is for the client, as `Authorization: Bearer KEY` or `x-api-key: KEY`; Weir is \
            given its hash alone, in the Tenant, and can show the key to nobody.

            Example: a new key; the hash goes into spec.keys of the Tenant
              weir key

            Example: the hash of a key that there is, read from standard input
              weir key --hash < key.txt
            """
    )

    @Flag(help: "Read a key from standard input and print its hash alone.") var hash = false

    /// 32 bytes: nobody can try so many, so that one round of a fast hash is enough.
    private static let keyBytes = 32
    private static let prefix = "weir-"

    func run() throws {
        if self.hash {
            Output.line(Self.hash(of: try Self.readKey()))
            return
        }
        let key = Self.prefix + Self.hexadecimal(Digests.randomBytes(Self.keyBytes))
        Output.line("key:    \(key)")
        Output.line("sha256: \(Self.hash(of: Array(key.utf8)))")
    }

    private static func hash(of key: [UInt8]) -> String {
        self.hexadecimal(Digests.sha256(key))
    }

    private static func hexadecimal(_ bytes: [UInt8]) -> String {
        bytes.map { byte in
            let digits = String(byte, radix: 16)
            return digits.count == 1 ? "0" + digits : digits
        }.joined()
    }

    /// One line; white space around it is none of it.
    private static func readKey() throws -> [UInt8] {
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4_096)
        while bytes.count <= chunk.count {
            let count = read(STDIN_FILENO, &chunk, chunk.count)
            if count < 0 && errno == EINTR { continue }
            if count <= 0 { break }
            bytes += chunk[..<count]
        }
        let key = Array(bytes.drop { $0 <= 0x20 }.reversed().drop { $0 <= 0x20 }.reversed())
        guard PresentedKey.isKey(key.span.bytes) else {
            throw RuntimeError(
                description: "that is no key: one line of 1 to \(PresentedKey.bytesMax) visible "
                    + "ASCII characters is expected on standard input"
            )
        }
        return key
    }
}
