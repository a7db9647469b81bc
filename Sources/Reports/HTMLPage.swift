import Core
import HTTPService

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

    /// An element of `tables`: a title, and rows of cells, the head first.
    package static func table(_ title: String, _ rows: [[String]], _ json: inout JSONWriter) {
        json.object { json in
            json.member("title", title)
            json.member(
                "rows",
                array: { json in
                    for row in rows {
                        json.array { json in for cell in row { json.string(cell) } }
                    }
                }
            )
        }
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
