import Glibc

/// Memory that only the start needed, given back once that is over.
///
/// To read a configuration and put everything together takes the program all over its code and that
/// of its libraries, and the kernel maps sixteen pages for each that is touched. Serving needs a
/// fraction of them. The pages are unchanged parts of files: to drop them takes nothing out of the
/// kernel's cache, and what is needed again is mapped again within microseconds.
package enum StartMemory {
    /// How long after the start it is over: connections were made, and a cluster was listed.
    package static let delay = Duration.seconds(10)

    /// Drops the pages of code that is mapped from files.
    package static func giveBack() {
        guard let maps = ProcessFacts.read("/proc/self/maps") else { return }
        for range in Self.code(in: maps) {
            guard let start = UnsafeMutableRawPointer(bitPattern: range.lowerBound) else {
                continue
            }
            // Sound: nobody writes to these pages, so that the file has all there is in them. Where
            // the kernel refuses, they stay.
            madvise(start, range.count, Self.notNeeded)
        }
    }

    /// MADV_DONTNEED.
    private static let notNeeded: Int32 = 4

    /// Where code is mapped that nobody can write to, in the words of `/proc/PID/maps` (proc(5)):
    /// `START-END r-xp OFFSET DEVICE INODE PATH`.
    static func code(in maps: String) -> [Range<UInt>] {
        maps.split(separator: "\n").compactMap { line in
            let words = line.split(separator: " ", maxSplits: 5, omittingEmptySubsequences: true)
            guard words.count == 6, words[1] == "r-xp",
                words[5].drop(while: { $0 == " " }).hasPrefix("/")
            else { return nil }
            let ends = words[0].split(separator: "-")
            guard ends.count == 2, let start = UInt(ends[0], radix: 16),
                let end = UInt(ends[1], radix: 16), start < end
            else { return nil }
            return start..<end
        }
    }
}
