/// Text in aligned columns.
struct Table {
    struct Column {
        var title: String
        /// Numbers stand at the right.
        var isNumber = false
    }

    let columns: [Column]
    private(set) var rows: [[String]] = []

    init(_ columns: [Column]) {
        self.columns = columns
    }

    mutating func add(_ row: [String]) {
        precondition(row.count == self.columns.count, "\(row.count) cells")
        self.rows.append(row.map(Self.printable))
    }

    /// The title line and one line per row; no spaces at the ends of lines.
    var text: String {
        let all = [self.columns.map(\.title)] + self.rows
        let widths = self.columns.indices.map { column in
            all.reduce(0) { max($0, $1[column].count) }
        }
        return all.map { row in
            let cells = row.enumerated().map { index, cell in
                let space = String(repeating: " ", count: widths[index] - cell.count)
                return self.columns[index].isNumber ? space + cell : cell + space
            }
            let line = cells.joined(separator: "  ")
            return String(line.reversed().drop { $0 == " " }.reversed())
        }.joined(separator: "\n")
    }

    /// What a replica wrote must not move the cursor of whoever looks at it.
    private static func printable(_ text: String) -> String {
        String(
            text.map { $0.isNewline || ($0.asciiValue ?? 0x20) < 0x20 || $0 == "\u{7F}" ? " " : $0 }
        )
    }
}
