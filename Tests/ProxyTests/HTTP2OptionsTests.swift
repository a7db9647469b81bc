import HTTP
import HTTP2
import Testing

@testable import Proxy

/// What a listener says of HTTP/2.
@Suite struct HTTP2OptionsTests {
    @Test func aSessionKeepsWhatTheListenerSays() {
        var options = HTTP2Options()
        options.maxConcurrentStreams = 7
        options.streamWindowBytes = 70_000
        let usual = options.settings(HeadLimits(maxHeadBytes: 4_096))
        #expect(usual.maxConcurrentStreams == 7)
        #expect(usual.streamWindowBytes == 70_000)
        #expect(usual.head.maxHeadBytes == 4_096)
        options.maxHeadBytes = 9_999
        let own = options.settings(HeadLimits(maxHeadBytes: 4_096, maxFields: 8))
        #expect(own.head.maxHeadBytes == 9_999)
        #expect(own.head.maxFields == 8)
    }
}
