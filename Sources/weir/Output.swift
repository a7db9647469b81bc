import ArgumentParser
import Glibc

/// What commands say to people: errors on stderr in one form, and whether colour is wanted.
enum Output {
    /// `weir: what happened: what to do`
    static func error(_ message: String) {
        self.write("weir: \(message)\n", to: STDERR_FILENO)
    }

    static func line(_ text: String) {
        self.write(text + "\n", to: STDOUT_FILENO)
    }

    static func write(_ text: String, to descriptor: Int32) {
        var bytes = Array(text.utf8)[...]
        while !bytes.isEmpty {
            let written = bytes.withUnsafeBytes {
                Glibc.write(descriptor, $0.baseAddress, $0.count)
            }
            if written < 0 && errno == EINTR { continue }
            guard written > 0 else { return }
            bytes = bytes.dropFirst(written)
        }
    }

    /// https://no-color.org: colour for terminals only, and not when NO_COLOR is set.
    static func wantsColor(_ descriptor: Int32, environment: [String: String]) -> Bool {
        isatty(descriptor) == 1 && environment["NO_COLOR", default: ""].isEmpty
            && environment["TERM"] != "dumb"
    }

    /// The environment as given to the process.
    static func environment() -> [String: String] {
        var result: [String: String] = [:]
        var cursor = environ
        while let entry = cursor.pointee {
            let text = String(cString: entry)
            if let equals = text.firstIndex(of: "=") {
                result[String(text[..<equals])] = String(text[text.index(after: equals)...])
            }
            cursor += 1
        }
        return result
    }
}

extension ExitCode {
    /// Wrong use of the command line.
    static let usage = ExitCode(2)
}
