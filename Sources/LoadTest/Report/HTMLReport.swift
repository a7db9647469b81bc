import Core

/// One page with everything in it.
package enum HTMLReport {
    package static func write(_ summary: RunSummary, _ context: ReportContext, to buffer: ByteBuffer) {
        buffer.append("<!doctype html>" as StaticString)
    }
}
