import HTTP
import HTTP2

/// How a listener speaks HTTP/2.
package struct HTTP2Options: Sendable, Equatable {
    /// Without it clients are spoken to in HTTP/1.1 alone.
    package var isEnabled = true
    /// Requests of one connection at once; at least 1.
    package var maxConcurrentStreams = 100
    /// Bytes of one body on their way to a replica that does not take them; at least 65 535.
    package var streamWindowBytes = 128 * 1024
    /// Bytes of all bodies of a connection on their way to the gateway; at least 65 535.
    package var connectionWindowBytes = 1024 * 1024
    /// Bytes of a field block when decoded; nil: as many as a head of HTTP/1 may have.
    package var maxHeadBytes: Int?

    package init() {}

    /// What a session announces, and keeps.
    func settings(_ head: HeadLimits) -> HTTP2Settings {
        var settings = HTTP2Settings()
        settings.maxConcurrentStreams = UInt32(clamping: self.maxConcurrentStreams)
        settings.streamWindowBytes = Int32(clamping: self.streamWindowBytes)
        settings.connectionWindowBytes = Int32(clamping: self.connectionWindowBytes)
        settings.head = head
        if let maxHeadBytes = self.maxHeadBytes {
            settings.head = HeadLimits(
                maxHeadBytes: maxHeadBytes,
                maxFields: head.maxFields,
                maxTargetBytes: head.maxTargetBytes
            )
        }
        settings.offersWebSockets = true
        return settings
    }
}
