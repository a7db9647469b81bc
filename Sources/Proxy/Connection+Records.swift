import Core
import EventLoop
import TLS

/// Writing large bodies to a TLS session: in full records, as each costs a write of its own.
extension Connection {
    /// As `write` for plain text. A full record is written from where it is; what is less goes to
    /// `output`, where the next bytes fill it up.
    final func writeRecords(
        _ pointer: UnsafeRawPointer,
        count: Int,
        suffix: StaticString
    ) {
        var sent = 0
        if let waiting = self.output?.count, waiting > 0 {
            let room = TLSSession.recordBytes - waiting % TLSSession.recordBytes
            sent = min(count, room)
            self.compose().append(pointer, count: sent)
            self.flush()
            if self.hasWriteFailed { return }
        }
        let whole = (count - sent) / TLSSession.recordBytes * TLSSession.recordBytes
        if whole > 0, !self.isWriteBlocked {
            let written = self.writeWhole(pointer + sent, count: whole)
            if self.hasWriteFailed { return }
            sent += written
        }
        if sent == count, suffix.utf8CodeUnitCount == 0 { return }
        let output = self.compose()
        output.append(pointer + sent, count: count - sent)
        output.append(suffix)
    }

    /// As `writePart` for plain text: what is not taken must be offered again.
    final func writePartOfRecords(_ pointer: UnsafeRawPointer, count: Int) -> Int {
        guard self.flush() else { return 0 }
        return self.writeWhole(pointer, count: count)
    }

    /// The number of bytes that the session took; fewer than `count` where it is blocked.
    private final func writeWhole(_ pointer: UnsafeRawPointer, count: Int) -> Int {
        switch self.transport.write(from: pointer, count: count) {
        case .bytes(let sent):
            self.worker.bytesWritten(sent)
            if sent < count { self.isWriteBlocked = true }
            return sent
        case .wouldBlock, .endOfStream:
            self.isWriteBlocked = true
            return 0
        case .failed:
            self.noteWriteFailure()
            return 0
        }
    }
}
