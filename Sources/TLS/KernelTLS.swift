import Glibc

/// Whether the kernel can encrypt by itself (kTLS).
package enum KernelTLS {
    /// TCP_ULP of <linux/tcp.h>: names what comes above TCP.
    private static let option: Int32 = 31

    /// Asks with a socket that is not connected: a kernel that can says that it must be first.
    package static func isOffered() -> Bool {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        let result = setsockopt(descriptor, Int32(IPPROTO_TCP), self.option, "tls", 3)
        return result == 0 || errno == ENOTCONN
    }
}
