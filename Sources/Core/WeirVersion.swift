/// The version of this build, as `weir --version` and the metadata endpoints give it.
package enum WeirVersion {
    package static let current = "0.1.0"
}
