/// Tables for terminals.
package enum TextTable {
    /// Columns with two spaces between; from `numbersFrom` on they stand at the right.
    package static func aligned(_ rows: [[String]], numbersFrom: Int = 1) -> [String] {
        let count = rows.reduce(0) { max($0, $1.count) }
        let widths = (0..<count).map { column in
            rows.reduce(0) { max($0, column < $1.count ? $1[column].count : 0) }
        }
        return rows.map { row in
            let cells = row.enumerated().map { index, cell in
                let space = String(repeating: " ", count: widths[index] - cell.count)
                return index >= numbersFrom ? space + cell : cell + space
            }
            let line = cells.joined(separator: "  ")
            return String(line.reversed().drop { $0 == " " }.reversed())
        }
    }
}
