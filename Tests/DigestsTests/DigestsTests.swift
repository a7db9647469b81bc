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
        let digest = Digests.sha256(Array(text.utf8)).map { byte in
            let digits = String(byte, radix: 16)
            return digits.count == 1 ? "0" + digits : digits
        }
        #expect(digest.joined() == hexadecimal)
    }

    @Test func randomBytesDiffer() {
        let found = Set((0..<100).map { _ in Digests.randomBytes(16) })
        #expect(found.count == 100 && found.allSatisfy { $0.count == 16 })
        #expect(Digests.randomBytes(0).isEmpty)
    }
}
