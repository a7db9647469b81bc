import Testing

@testable import Admin

@Suite struct StartMemoryTests {
    @Test func onlyCodeOfFilesIsGivenBack() {
        let maps = """
            55d0c0000000-55d0c1f4f000 r-xp 00000000 fe:01 123456                     /usr/bin/we ir
            55d0c1f4f000-55d0c201d000 r--p 01f4e000 fe:01 123456                     /usr/bin/we ir
            55d0c201d000-55d0c448d000 rw-p 0201c000 fe:01 123456                     /usr/bin/we ir
            55d0e0000000-55d0e0021000 rw-p 00000000 00:00 0                          [heap]
            7f0000000000-7f0000100000 rwxp 00000000 fe:01 9                          /tmp/patched
            7f1000000000-7f1000155000 r-xp 00026000 fe:01 77                         /lib/libc.so.6
            7f2000000000-7f2000001000 r-xp 00000000 00:00 0
            7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0                          [vdso]
            nonsense r-xp 00000000 fe:01 77 /lib/nothing
            """
        #expect(
            StartMemory.code(in: maps) == [
                0x55d0_c000_0000..<0x55d0_c1f4_f000, 0x7f10_0000_0000..<0x7f10_0015_5000,
            ]
        )
    }

    /// In a process of its own: here other tests map code at the same time.
    @Test func aProcessIsSmallerAndRunsOn() async {
        await #expect(processExitsWith: .success) {
            let before = ProcessFacts.current().residentBytes
            StartMemory.giveBack()
            let after = ProcessFacts.current().residentBytes
            precondition(after > 0 && after < before, "\(before) bytes became \(after)")
        }
    }
}
