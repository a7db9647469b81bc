import Core
import Reports
import Testing

@Suite("Reports")
struct ReportsTests {
    private func page(_ json: String) -> String {
        let data = ByteBuffer(capacity: 64)
        data.append(json)
        let buffer = ByteBuffer(capacity: 64)
        HTMLPage.write(data, to: buffer)
        return String(decoding: buffer.readable.withUnsafeBytes { Array($0) }, as: UTF8.self)
    }

    @Test func nothingInTheDataEndsTheScript() {
        let page = self.page(#"{"title":"</script><script>alert(1)"}"#)
        #expect(!page.contains("</script><script>alert"))
        #expect(page.contains(#"\u003c/script>\u003cscript>alert(1)"#))
    }

    @Test func pageIsSelfContained() {
        let page = self.page("{}")
        #expect(page.hasPrefix("<!doctype html>") && page.hasSuffix("</html>\n"))
        for outside in ["src=\"http", "href=\"http", "@import", "url(http"] {
            #expect(!page.contains(outside), "\(outside)")
        }
        #expect(page.contains("prefers-color-scheme: dark"))
    }

    @Test func columnsStandBelowEachOther() {
        let lines = TextTable.aligned([["name", "n"], ["a", "1"], ["longer", "23"], ["b"]])
        #expect(lines == ["name     n", "a        1", "longer  23", "b"])
    }
}
