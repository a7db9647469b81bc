import COpenSSL

/// What must not stay in memory once it was used.
package enum Secrets {
    /// Overwrites and empties. Copies that others hold of the array are theirs to wipe.
    package static func wipe(_ bytes: inout [UInt8]) {
        bytes.withUnsafeMutableBytes { OPENSSL_cleanse($0.baseAddress, $0.count) }
        bytes = []
    }
}
