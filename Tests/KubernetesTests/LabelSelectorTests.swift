import Kubernetes
import Testing

@Suite struct LabelSelectorTests {
    private let labels = ["app": "chat", "tier": "a", "example.com/x": ""]

    @Test(arguments: [
        ("app=chat", true), ("app==chat", true), (" app = chat ", true), ("app=other", false),
        ("none=chat", false), ("app!=chat", false), ("app!=other", true), ("none!=chat", true),
        ("app", true), ("none", false), ("!none", true), ("!app", false), ("! none", true),
        ("app in (x, chat)", true), ("app in (x)", false), ("app notin (x,y)", true),
        ("app notin (chat)", false), ("none notin (x)", true), ("none in (x)", false),
        ("app=chat,tier in (a, b),!old", true), ("app=chat,tier in (c, d)", false),
        ("example.com/x=", true), ("example.com/x=1", false),
    ])
    func matches(_ text: String, _ expected: Bool) throws {
        #expect(try #require(LabelSelector(text: text)).matches(self.labels) == expected)
    }

    @Test(arguments: [
        "", " ", ",", "a,", "=b", "a=b=c", "a in b", "a in (b", "a in (b) c", "a of (b)", "!",
        "a b",
        "in (b)", "a=(b)", "ä=b", "a in (b;c)",
    ])
    func refuses(_ text: String) {
        #expect(LabelSelector(text: text) == nil)
    }

    @Test func isBounded() {
        let parts = (0...200).map { "l\($0)=v" }
        #expect(LabelSelector(text: parts.prefix(100).joined(separator: ",")) != nil)
        #expect(LabelSelector(text: parts.joined(separator: ",")) == nil)
    }
}
