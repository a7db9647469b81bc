import Core

/// What people get to read of a run: aligned tables, and self-contained pages with figures, tables
/// and plots, light and dark, with nothing loaded from anywhere.
///
/// A page is a fixed template and one JSON document that its script draws as SVG; `HTMLTemplate`
/// says which members it knows. Whatever comes from outside goes into the page as text, never as
/// markup.
package enum HTMLPage {
    /// The page around `data`, a JSON document.
    package static func write(_ data: ByteBuffer, to buffer: ByteBuffer) {
        buffer.append(HTMLTemplate.beforeData)
        Self.append(escaping: data, to: buffer)
        buffer.append(HTMLTemplate.afterData)
    }

    /// In JSON a `<` can only stand inside a string, and there it may be written as an escape; so
    /// nothing in the data can end the script element.
    private static func append(escaping data: ByteBuffer, to buffer: ByteBuffer) {
        let bytes = data.readable
        var start = 0
        for next in 0..<bytes.byteCount
        where bytes.unsafeLoad(fromByteOffset: next, as: UInt8.self) == UInt8(ascii: "<") {
            buffer.append(bytes.extracting(start..<next))
            buffer.append("\\u003c" as StaticString)
            start = next + 1
        }
        buffer.append(bytes.extracting(start..<bytes.byteCount))
    }
}
