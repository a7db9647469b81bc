// Design note
//
// Recordings of traffic: what was asked for when, and how it went; never what was said.
//
//     RecordedRequest ─▶ RecordingBlock ─ zstd ─▶ SegmentFormat ─▶ a file
//
// A *segment* is a file: a header, blocks one behind the other, and, once it is closed, an index. A
// *block* is up to a few thousand requests in the order in which they ended, with the names that
// occur in them once. Blocks carry their lengths and a checksum, so that a segment whose end was
// torn by a crash is read up to its last whole block; the index only saves the reading.
//
// Sizes are bounded on both sides: `RecordingBlock.Limits` holds for writing and for reading, and
// whatever a file says is checked before it is believed.
//
// Not done here: compressing, files, rotation (module Recorder).

import Core

/// One request of a recording. Times are in microseconds.
package struct RecordedRequest: Equatable, Sendable {
    /// When it arrived, in microseconds since 1970.
    package var arrival: UInt64 = 0
    /// The model's name; empty where none was found.
    package var model: [UInt8] = []
    package var variant: [UInt8] = []
    /// Which tenant it was of, as a hash that says no more than that; 0 without tenants.
    package var tenant: UInt64 = 0
    /// What kind of request: the API's route, such as `/v1/chat/completions`.
    package var route: [UInt8] = []
    /// As it was answered; 0 where nothing was.
    package var status: UInt16 = 0
    /// A stable name of what went wrong; empty where nothing did.
    package var error: [UInt8] = []
    package var isStream = false
    /// Tries at replicas.
    package var attempts: UInt32 = 0
    /// From the arrival to a place at a replica.
    package var queue: UInt64?
    /// From the arrival to the first byte of the answer.
    package var firstByte: UInt64?
    /// From the arrival to the first token.
    package var firstToken: UInt64?
    /// From the arrival to the end.
    package var total: UInt64 = 0
    package var bytesIn: UInt64 = 0
    package var bytesOut: UInt64 = 0
    /// As the server counted them.
    package var inputTokens: UInt64?
    package var outputTokens: UInt64?
    /// Hashes of the prompt's beginning, each of one block more than the one before.
    package var prefix: [UInt64] = []

    package init() {}
}

/// What is wrong with a recording.
package struct RecordingError: Error, Equatable, Sendable, CustomStringConvertible {
    /// Where, in bytes from the beginning of the file; nil where no place is to blame.
    package var offset: Int?
    package var message: String

    package init(_ message: String, at offset: Int? = nil) {
        self.message = message
        self.offset = offset
    }

    package var description: String {
        self.offset.map { "at byte \($0): \(self.message)" } ?? self.message
    }
}
