import Core
import Reports
import Testing

@Suite struct RolloutPageTests {
    private func report() -> RolloutReport {
        var report = RolloutReport(
            model: "digits",
            rollout: 2,
            stable: "v2",
            canary: "v3",
            startedAt: 1_000
        )
        report.metrics = [
            .init(name: "successRate", threshold: 200), .init(name: "custom", threshold: 0),
        ]
        report.points = (0..<4).map { index in
            .init(
                seconds: 1_001 + Double(index),
                weight: index == 0 ? 0 : 10,
                stable: .init(requests: 90, errors: 0, p50: 0.004, p95: 0.009),
                canary: .init(requests: index * 5, errors: index, p50: nil, p95: nil),
                evidence: [index == 3 ? 400 : 0.5, 0]
            )
        }
        report.events = [
            .init(seconds: 1_000, kind: "started", message: "", weight: 0),
            .init(seconds: 1_004, kind: "failed", message: "</script><b>worse", weight: 10),
            .init(seconds: 1_005, kind: "rolledBack", message: "worse", weight: 0),
        ]
        report.verdicts = [["Metric", "Verdict"], ["successRate", "fail"]]
        return report
    }

    private func page(_ report: RolloutReport) -> String {
        let buffer = ByteBuffer(capacity: 1 << 16)
        RolloutPage(report).write(to: buffer)
        return buffer.readable.withUnsafeBytes { String(decoding: $0, as: UTF8.self) }
    }

    @Test func saysWhatCameOfItAndHowLongItTook() {
        var report = self.report()
        #expect(report.outcome == "rolled back")
        #expect(report.seconds == 5)
        report.events.removeLast()
        #expect(report.outcome == "under way")
        report.events.append(.init(seconds: 1_060, kind: "promoted", message: "", weight: 100))
        #expect(report.outcome == "live")
        #expect(report.seconds == 60)
    }

    @Test func showsSharesEvidenceAndLatencies() {
        let page = self.page(self.report())
        for title in [
            "Share of the requests", "Evidence against the new variant", "Latency of good answers",
            "Failed answers", "Metrics at the end", "What happened", "digits: v2 → v3",
        ] {
            #expect(page.contains(title), "\(title)")
        }
        // Wealth below 1 is no evidence, and twice what is enough is as much as is shown.
        #expect(page.contains(#""name":"successRate","color":"a","y":[0.0,0.0,0.0,113.0"#))
        // A metric with a threshold of one's own has no e-value.
        #expect(!page.contains(#""name":"custom""#))
        // What is not known is a gap.
        #expect(page.contains("[null,null,null,null]"))
    }

    @Test func whatComesFromOutsideIsNoMarkup() {
        let page = self.page(self.report())
        #expect(!page.contains("</script><b>"))
        #expect(page.contains(#"\u003c/script>\u003cb>worse"#) || page.contains(#"\u003c"#))
    }

    @Test func aRolloutWithoutPointsIsAPageAsWell() {
        var report = self.report()
        report.points = []
        report.events = []
        #expect(self.page(report).contains("under way"))
        #expect(report.seconds == 0)
    }
}
