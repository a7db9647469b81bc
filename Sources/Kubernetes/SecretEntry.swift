import Foundation
import HTTPService

/// One entry of a Secret. Its bytes are the caller's alone: they are in no description and in no
/// error.
package enum SecretEntry: Sendable, Equatable {
    case bytes([UInt8])
    case missing
    /// What the server sent is not base64.
    case malformed

    package init(_ name: String, of secret: KubernetesObject) {
        guard let text = secret["data"][name].string else {
            self = .missing
            return
        }
        guard let data = Data(base64Encoded: text) else {
            self = .malformed
            return
        }
        self = .bytes(Array(data))
    }
}

extension SecretEntry: CustomStringConvertible, CustomReflectable {
    package var description: String {
        switch self {
        case .bytes: "an entry"
        case .missing: "no entry"
        case .malformed: "an entry that is not base64"
        }
    }

    /// Nothing to be dumped.
    package var customMirror: Mirror { Mirror(self, children: []) }
}
