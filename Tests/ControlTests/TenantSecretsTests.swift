import Configuration
import Digests
import HTTPService
import Kubernetes
import Testing
import Traffic

@testable import Control

@Suite struct TenantSecretsTests {
    private let secret = ObjectKey(namespace: "ns", name: "team")
    private var reference: KeyBook.Reference { .init(secret: self.secret, entry: "key") }

    private func object(_ base64: String?) -> KeyBook.Answer {
        var object = KubernetesObject(.secrets, namespace: "ns", name: "team")
        if let base64 { object["data"] = ["key": .string(base64)] }
        return .secret(object)
    }

    private func digest(_ key: String) -> KeyDigest? {
        KeyDigest(Digests.sha256(Array(key.utf8)).span.bytes)
    }

    private func book() -> KeyBook {
        var book = KeyBook()
        book.want([self.reference])
        return book
    }

    @Test func keepsHashesOfKeys() {
        var book = self.book()
        #expect(!book.isComplete && book.secrets == [self.secret])
        // "first-key\n"
        let hasChanged = book.take(self.object("Zmlyc3Qta2V5Cg=="), of: self.secret)
        #expect(hasChanged && book.isComplete)
        #expect(book.keys(self.reference) == ["first-key"].compactMap(self.digest))
        #expect(book.problem(self.reference) == nil)
        let again = book.take(self.object("Zmlyc3Qta2V5Cg=="), of: self.secret)
        #expect(!again)
        #expect(!"\(book)".contains("first-key"))
    }

    @Test func takesAnOldAndANewKeyByLines() {
        let keys = KeyBook.keys(Array(" one \r\n\n\ttwo\n".utf8))
        #expect(keys == ["one", "two"].compactMap(self.digest))
        let many = (0...KeyBook.keysMax).map { "key-\($0)\n" }.joined()
        #expect(KeyBook.keys(Array(many.utf8)) == nil)
        #expect(KeyBook.keys(Array(many.dropLast(8).utf8))?.count == KeyBook.keysMax)
    }

    @Test(
        arguments: [
            [], Array("\n \n".utf8), Array("two words".utf8), [0xFF, 0xFE], Array("a\u{0}b".utf8),
            Array(repeating: 0x61, count: PresentedKey.bytesMax + 1),
        ]
    )
    func refusesWhatIsNoKey(_ bytes: [UInt8]) {
        #expect(KeyBook.keys(bytes) == nil)
    }

    @Test func tellsInWordsAndWithoutSecrets() {
        var book = self.book()
        let cases: [(KeyBook.Answer, String)] = [
            (.notFound, "SecretMissing"), (.forbidden, "SecretForbidden"),
            (.failed("no route"), "SecretUnreadable"), (self.object(nil), "SecretInvalid"),
            // "hidden value" is two words.
            (self.object("aGlkZGVuIHZhbHVl"), "SecretInvalid"),
            (self.object("hidden!"), "SecretInvalid"),
        ]
        for (answer, reason) in cases {
            _ = book.take(answer, of: self.secret)
            let problem = book.problem(self.reference)
            #expect(problem?.reason == reason)
            #expect(problem?.message.contains("ns/team") == true)
            #expect(problem?.message.contains("hidden") == false)
        }
    }

    @Test func keepsKeysWhileASecretCannotBeReadAndDropsThemWhenItIsGone() {
        var book = self.book()
        _ = book.take(self.object("a2V5"), of: self.secret)
        for answer in [KeyBook.Answer.forbidden, .failed("gone")] {
            _ = book.take(answer, of: self.secret)
            #expect(book.keys(self.reference).count == 1)
        }
        let hasChanged = book.take(.notFound, of: self.secret)
        #expect(hasChanged && book.keys(self.reference).isEmpty)
    }

    /// A gateway that has just started would answer 401 to keys that others know.
    @Test func whatCouldNotBeReadIsTriedAgainBeforeItGoesWithout() {
        var book = self.book()
        for _ in 1..<KeyBook.failuresMax {
            _ = book.take(.failed("the server is starting"), of: self.secret)
            #expect(!book.isComplete && !book.isNew(self.secret), "its turn comes by the timer")
        }
        _ = book.take(.failed("the server is starting"), of: self.secret)
        #expect(book.isComplete)
        // Another entry of it is wanted: it starts over.
        book.want([.init(secret: self.secret, entry: "other")])
        _ = book.take(.failed("no route"), of: self.secret)
        #expect(!book.isComplete)
    }

    @Test func forgetsWhatNobodyNames() {
        var book = self.book()
        _ = book.take(self.object("a2V5"), of: self.secret)
        book.want([.init(secret: self.secret, entry: "other")])
        #expect(!book.isComplete && book.keys(self.reference).isEmpty)
        book.want([])
        #expect(book.isComplete && book.secrets.isEmpty)
        let hasChanged = book.take(self.object("a2V5"), of: self.secret)
        #expect(!hasChanged)
    }

    @Test func anEntryIsInNoDescription() {
        var object = KubernetesObject(.secrets, namespace: "ns", name: "team")
        object["data"] = ["key": "a2V5"]
        let entry = SecretEntry("key", of: object)
        #expect(entry == .bytes(Array("key".utf8)))
        var text = ""
        dump(entry, to: &text)
        #expect(!"\(entry) \(text)".contains("107"))
    }

    @Test func reportsAreReadAsTheyAreWritten() throws {
        let problem = KeyProblem(reason: "SecretMissing", message: "there is none")
        let one = TenantReport(tenants: [
            .init(name: "ns/a", keys: 2), .init(name: "ns/b", keys: 1),
        ])
        let two = TenantReport(tenants: [.init(name: "ns/a", keys: 1, problems: [problem])])
        #expect(try TenantReport(one.value.bytes) == one)
        #expect(try TenantReport(two.value.bytes) == two)
        let merged = TenantReport.merged([one, two])
        #expect(merged["ns/a"] == .init(name: "ns/a", keys: 1, problems: [problem]))
        #expect(merged["ns/b"]?.problems == [])
        #expect(throws: JSONError.self) { try TenantReport(Array("{".utf8)) }
    }
}
