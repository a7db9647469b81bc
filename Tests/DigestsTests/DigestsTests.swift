import Digests
import Testing

@Suite struct DigestsTests {
    /// The examples of FIPS 180-4.
    @Test(arguments: [
        ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
        ),
    ])
    func isSHA256(text: String, hexadecimal: String) {
        #expect(self.hexadecimal(Digests.sha256(Array(text.utf8))) == hexadecimal)
    }

    private func hexadecimal(_ bytes: [UInt8]) -> String {
        bytes.map { byte in
            let digits = String(byte, radix: 16)
            return digits.count == 1 ? "0" + digits : digits
        }.joined()
    }

    /// Test cases 1, 2 and 6 of RFC 4231.
    @Test(arguments: [
        (
            [UInt8](repeating: 0x0B, count: 20), "Hi There",
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
        ),
        (
            Array("Jefe".utf8), "what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        ),
        (
            [UInt8](repeating: 0xAA, count: 131),
            "Test Using Larger Than Block-Size Key - Hash Key First",
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        ),
    ])
    func isHMAC(key: [UInt8], text: String, hexadecimal: String) {
        let code = Digests.hmacSHA256(key: key, Array(text.utf8))
        #expect(self.hexadecimal(code) == hexadecimal)
    }

    @Test func signsNothingAtAll() {
        let code = self.hexadecimal(Digests.hmacSHA256(key: Array("key".utf8), []))
        #expect(code == "5d5d139563c95b5967b9bd9a8c9b233a9dedb45072794cd232dc1b74832607d0")
    }

    @Test func randomBytesDiffer() {
        let found = Set((0..<100).map { _ in Digests.randomBytes(16) })
        #expect(found.count == 100 && found.allSatisfy { $0.count == 16 })
        #expect(Digests.randomBytes(0).isEmpty)
    }
}
