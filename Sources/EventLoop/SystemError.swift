import Glibc

/// What a system call refused, and why.
package struct SystemError: Error, CustomStringConvertible, Hashable, Sendable {
    /// The call as a reader knows it: `bind 127.0.0.1:8080`.
    package let operation: String
    package let code: Int32

    package init(_ operation: String, code: Int32) {
        self.operation = operation
        self.code = code
    }

    package var reason: String {
        String(cString: strerror(self.code))
    }

    package var description: String {
        "\(self.operation): \(self.reason)"
    }
}
