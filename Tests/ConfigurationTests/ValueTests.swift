import Core
import Testing

@testable import Configuration

@Suite struct ValueTests {
    @Test(arguments: [
        ("250ms", Int64(250_000_000)), ("30s", 30_000_000_000), ("1.5s", 1_500_000_000),
        ("1h30m", 5_400_000_000_000), ("0", 0), ("0s", 0), ("1us", 1_000), ("1µs", 1_000),
        ("2m0.000000001s", 120_000_000_001), ("87600h", 315_360_000_000_000_000),
    ])
    func readsDurations(text: String, nanoseconds: Int64) throws {
        let duration = try #require(DurationText.parse(text))
        #expect(duration.nanosecondsClamped == nanoseconds)
        #expect(DurationText.parse(DurationText.format(duration)) == duration)
    }

    @Test(arguments: [
        "", "s", "5", "5 s", " 5s", "5s ", "-5s", "+5s", "5S", "1.s", ".5s", "1.5.5s", "1e3s", "5d",
        "0.1ns", "99999999999999999999s", "87601h", "1h1", "auto", "0x5s", "1..5s", "５s",
    ])
    func refusesDurations(text: String) {
        #expect(DurationText.parse(text) == nil)
    }

    @Test(arguments: [
        ("0", 0), ("4096", 4_096), ("64KiB", 65_536), ("1MiB", 1_048_576),
        ("1.5GiB", 1_610_612_736),
        ("10M", 10_000_000), ("2k", 2_000), ("1kB", 1_000), ("3Gi", 3_221_225_472), ("7B", 7),
    ])
    func readsSizes(text: String, bytes: Int) throws {
        let size = try #require(SizeText.parse(text))
        #expect(size == bytes)
        #expect(SizeText.parse(SizeText.format(size)) == size)
    }

    @Test(arguments: [
        "", "KiB", "-1", "1 KiB", "1kib", "1K", "0.3", "0.0001KiB", "99999999999TiB", "1.KiB",
        "1e3",
    ])
    func refusesSizes(text: String) {
        #expect(SizeText.parse(text) == nil)
    }

    @Test(arguments: [
        ("0%", 0), ("5%", 50_000), ("99.9%", 999_000), ("0.0001%", 1), ("100%", 1_000_000),
        ("12.5%", 125_000), ("250%", 2_500_000),
    ])
    func readsPercentages(text: String, millionths: Int) throws {
        let percent = try #require(Percent(text: text))
        #expect(percent.millionths == millionths)
        #expect(percent.description == text)
    }

    @Test(arguments: ["", "%", "5", "5 %", "-5%", ".5%", "5.%", "0.00001%", "5%%", "1e2%", "½%"])
    func refusesPercentages(text: String) {
        #expect(Percent(text: text) == nil)
    }

    @Test(arguments: [
        ("127.0.0.1:8080", "127.0.0.1", 8_080), ("[::1]:80", "::1", 80), (":0", "", 0),
        ("localhost:65535", "localhost", 65_535), ("[2001:db8::1.2.3.4]:1", "2001:db8::1.2.3.4", 1),
        ("[1:2:3:4:5:6:7:8]:1", "1:2:3:4:5:6:7:8", 1), ("[::]:1", "::", 1), ("[1::]:1", "1::", 1),
    ])
    func readsAddresses(text: String, host: String, port: Int) throws {
        let address = try #require(ListenAddress(text: text))
        #expect(address == ListenAddress(host: host, port: port))
        #expect(address.description == text)
    }

    @Test(arguments: [
        "", "localhost", "localhost:", ":", "a:b", "1.2.3:4", "1.2.3.4.5:6", "01.2.3.4:5", "::1:80",
        "[::1]", "[::1]80", "[::1", "[:::1]:1", "[1:2]:1", "[::g]:1", "[1::2::3]:1", "h:-1", "h:+1",
        "h:000080", "a b:1", "-a:1", "a-:1", "a..b:1", "[12345::]:1", "[1:2:3:4:5:6:7::8:9]:1",
        "h:８",
    ])
    func refusesAddresses(text: String) {
        #expect(ListenAddress(text: text) == nil)
    }

    @Test(arguments: [
        ("http://h", "http://h:80"), ("https://h", "https://h:443"),
        ("HTTP://h:1/a?b", "http://h:1/a?b"),
        ("http://[::1]:9/", "http://[::1]:9/"),
        ("http://model_a.default.svc:1", "http://model_a.default.svc:1"),
    ])
    func readsURLs(text: String, canonical: String) throws {
        let url = try #require(EndpointURL(text: text))
        #expect(url.description == canonical)
        #expect(EndpointURL(text: canonical) == url)
    }

    @Test(arguments: [
        "", "http://", "h:1", "ftp://h", "http:/h", "http://h:0", "http://u@h", "http://h/#x",
        "http://h?x", "http://h:1/ x", "http://h:1/é", "http://:80", "http://h:", "http://[::1",
    ])
    func refusesURLs(text: String) {
        #expect(EndpointURL(text: text) == nil)
    }

    @Test(arguments: [
        (0.000001, "0.000001"), (0.0000125, "0.0000125"), (0.1, "0.1"), (6, "6"),
        (1e9, "1000000000"),
        (0.30000000000000004, "0.30000000000000004"), (1234.5, "1234.5"),
    ])
    func writesNumbersWithoutExponents(number: Double, text: String) {
        #expect(NumberText.format(number) == text)
        #expect(NumberText.parse(text) == number)
    }

    @Test(arguments: ["", ".", ".5", "5.", "1e5", "0x1", "+1", "-1", "1.2.3", "nan", "1_000"])
    func refusesNumbers(text: String) {
        #expect(NumberText.parse(text) == nil)
    }

    @Test func readsCronExpressions() throws {
        let cron = try CronExpression(text: "*/15 8-10,20 1 jan-MAR mon-5/2")
        #expect(cron.minutes == 1 | 1 << 15 | 1 << 30 | 1 << 45)
        #expect(cron.hours == 1 << 8 | 1 << 9 | 1 << 10 | 1 << 20)
        #expect(cron.daysOfMonth == 2)
        #expect(cron.months == 0b1110)
        #expect(cron.daysOfWeek == 1 << 1 | 1 << 3 | 1 << 5)
        #expect(cron.anyDayMatches)
        #expect(try CronExpression(text: "0 0 * * 7").daysOfWeek == 1)
        #expect(try CronExpression(text: "5/20 * * * *").minutes == 1 << 5 | 1 << 25 | 1 << 45)
        #expect(try !CronExpression(text: "0 0 * * *").anyDayMatches)
    }

    @Test(arguments: [
        "", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *",
        "* * * * 8", "5-1 * * * *", "*/0 * * * *", "*/x * * * *", "a * * * *", "1,, * * * *",
        "- * * * *",
    ])
    func refusesCronExpressions(text: String) {
        #expect(throws: CronExpression.Failure.self) { try CronExpression(text: text) }
    }

    @Test(arguments: [
        ("weight", "weights", true), ("wieghts", "weights", true), ("xyz", "weights", false),
        ("v3", "v1", false), ("a", "b", false), ("abd", "abc", true),
        ("maxConnection", "maxConnections", true),
    ])
    func suggestsNearNames(text: String, candidate: String, isNear: Bool) {
        #expect((Words.nearest(to: text, among: [candidate]) != nil) == isNear)
    }

    @Test(arguments: [
        ("", "", 0), ("abc", "abc", 0), ("abc", "", 3), ("kitten", "sitting", 3), ("ab", "ba", 1),
        ("abcd", "acbd", 1),
    ])
    func measuresEdits(left: String, right: String, distance: Int) {
        #expect(Words.distance(left, right) == distance)
        #expect(Words.distance(right, left) == distance)
    }

    @Test func findsVariables() {
        #expect(VariableReferences.names(in: "a$(PORT)b$(X)") == ["PORT", "X"])
        #expect(VariableReferences.names(in: "$$(PORT) $(") == [])
        #expect(VariableReferences.names(in: "$$$(PORT)") == ["PORT"])
        #expect(VariableReferences.names(in: "$PORT $") == [])
        #expect(VariableReferences.isBuiltIn("PORT_grpc"))
        #expect(!VariableReferences.isBuiltIn("PORT_"))
        #expect(!VariableReferences.isBuiltIn("PORTS"))
    }

    @Test func resolvesPathsAgainstTheFile() {
        let source = ResourceSource(file: "configs/a.yaml", line: 1)
        #expect(source.resolve("../x") == "configs/../x")
        #expect(source.resolve("./x") == "configs/x")
        #expect(source.resolve(".") == "configs")
        #expect(source.resolve("/x") == "/x")
        #expect(ResourceSource(file: "a.yaml", line: 1).resolve(".") == ".")
        #expect(ResourceSource(file: "/a.yaml", line: 1).resolve("x") == "/x")
    }
}
