/// One request, as the access log tells it.
///
/// Names are bytes that the worker holds anyway, so that filling a record copies nothing.
package struct AccessLogRecord {
    /// When the request arrived, in nanoseconds since 1970.
    package var timeNanoseconds: UInt64 = 0
    package var method: [UInt8] = []
    /// As it was answered; 0 where nothing was.
    package var status: UInt16 = 0
    /// How a call of gRPC ended, as that project spells it; nil for other requests.
    package var callStatus: StaticString?
    package var model: [UInt8] = []
    package var variant: [UInt8] = []
    /// The replica's address.
    package var endpoint: [UInt8] = []
    package var client: [UInt8] = []
    /// Nanoseconds; nil where the request did not get that far.
    package var queue: UInt64?
    package var connect: UInt64?
    package var firstByte: UInt64?
    package var firstToken: UInt64?
    package var total: UInt64 = 0
    package var bytesIn: UInt64 = 0
    package var bytesOut: UInt64 = 0
    package var inputTokens: UInt64?
    package var outputTokens: UInt64?
    /// Tries at replicas, the first included.
    package var attempts = 0
    /// A stable name of what went wrong; nil where nothing did.
    package var error: StaticString?

    package init() {}
}
