/// HTTP/1.1 as values: heads, fields, framing, body decoding, serialising and the gateway's errors.
///
/// Purpose: decide from bytes what a message is and where it ends, and write messages that leave
/// the next hop no choice of reading. Everything here is pure: bytes in, values out. Sockets,
/// timers and buffers belong to the caller.
///
/// Rules it keeps:
/// - Strict where RFC 9110 and 9112 leave a choice: what two parsers could read differently is
///   refused.
/// - A parse result is offsets into the caller's bytes; nothing is copied, nothing becomes a
///   `String`.
/// - Parsers are resumable: they are called again with the same bytes and more, and look at a byte
///   once. A violation is reported with the first byte that proves it.
/// - `RequestHead` and `ResponseHead` are reused from message to message and then allocate nothing.
/// - Limits: `HeadLimits`, `BodyLimits`, `RequestHead.maxMethodBytes`,
///   `FieldSection.maxConnectionOptions`.
///
/// What it does not do: HTTP/2 (its preface is recognised), content codings, caching, routing.
///
/// Reading order: `Bytes`, `FieldName`, `FieldSection`, `RequestHead`, `ResponseHead`,
/// `BodyDecoder`, `HeadWriter`, `ProxyError`.
