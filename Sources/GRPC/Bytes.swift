extension RawSpan {
    /// The byte at `offset`, which is checked against the bounds. Why there is unsafe code here: a
    /// raw span has no safe way to read a byte, and every bit pattern is one.
    @inline(__always)
    func byte(at offset: Int) -> UInt8 {
        unsafe self.unsafeLoad(fromByteOffset: offset, as: UInt8.self)
    }

    /// Whether the bytes are those of `literal`, which is ASCII.
    func matches(_ literal: StaticString) -> Bool {
        let count = literal.utf8CodeUnitCount
        guard count == self.byteCount else { return false }
        // Sound: the loop ends at the literal's own count.
        return (0..<count).allSatisfy { unsafe literal.utf8Start[$0] == self.byte(at: $0) }
    }

    /// The bytes behind `literal`, where they begin with it.
    @_lifetime(copy self)
    func dropping(_ literal: StaticString) -> RawSpan? {
        let count = literal.utf8CodeUnitCount
        guard count <= self.byteCount, self.extracting(0..<count).matches(literal) else {
            return nil
        }
        return self.extracting(count..<self.byteCount)
    }
}
