import Core
import Foundation
import Logging
import Testing

@testable import Telemetry

@Suite struct LineLogHandlerTests {
    /// What a logger wrote.
    private static func output(
        _ format: LineLogHandler.Format,
        level: Logger.Level = .info,
        _ body: (inout Logger) -> Void
    ) -> String {
        var descriptors: [Int32] = [0, 0]
        #expect(pipe(&descriptors) == 0)
        let handler = LineLogHandler(
            label: "test",
            format: format,
            level: level,
            descriptor: descriptors[1],
            clock: { 1_795_226_193_693_000_000 }
        )
        var logger = Logger(label: "test") { _ in handler }
        body(&logger)
        close(descriptors[1])
        defer { close(descriptors[0]) }
        let handle = FileHandle(fileDescriptor: descriptors[0], closeOnDealloc: false)
        return String(decoding: handle.readDataToEndOfFile(), as: UTF8.self)
    }

    @Test func writesJSON() {
        let text = Self.output(.json) { logger in
            logger[metadataKey: "model"] = "digits"
            logger.warning(
                "replica left",
                metadata: ["code": "1", "list": ["a", "b"], "map": ["k": "v\n"], "time": "x"]
            )
        }
        #expect(
            text
                == "{\"time\":\"2026-11-21T01:56:33.693Z\","
                + "\"level\":\"warning\",\"logger\":\"test\","
                + "\"message\":\"replica left\",\"code\":\"1\",\"list\":[\"a\",\"b\"],"
                + "\"map\":{\"k\":\"v\\n\"},\"model\":\"digits\",\"time_\":\"x\"}\n"
        )
    }

    @Test func writesText() {
        let text = Self.output(.text(colour: false)) { logger in
            logger.info(
                "replica ready",
                metadata: ["replica": "v1-0", "why": "two words", "none": ""]
            )
        }
        #expect(
            text == "2026-11-21T01:56:33.693Z info     replica ready none=\"\" replica=v1-0 "
                + "why=\"two words\"\n"
        )
    }

    @Test func coloursOnlyWhenAsked() {
        let text = Self.output(.text(colour: true)) { $0.error("x") }
        #expect(text.contains("\u{1B}[31merror   \u{1B}[0m x"))
    }

    @Test func aMessageStaysOnItsLine() {
        let text = Self.output(.text(colour: false)) { logger in
            logger.info("a\nb\u{1B}[31m", metadata: ["k\n": "v\u{1B}"])
        }
        #expect(text.utf8.count { $0 == 0x0A } == 1)
        #expect(!text.contains("\u{1B}"))
    }

    @Test func respectsTheLevel() {
        let text = Self.output(.json, level: .warning) { logger in
            logger.info("quiet")
            logger.warning("loud")
        }
        #expect(text.contains("loud") && !text.contains("quiet"))
    }

    @Test func longLinesAreBoundedAndStayJSON() throws {
        let text = Self.output(.json) { logger in
            logger.info(
                "x",
                metadata: ["a": "\(String(repeating: "y", count: 100_000))", "b": "kept"]
            )
        }
        #expect(text.utf8.count <= LineLogHandler.maxLineBytes + 1)
        let object = try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any]
        #expect(object?["b"] as? String == "kept")
    }

    @Test func deepMetadataIsBounded() {
        var value = Logger.Metadata.Value.string("x")
        for _ in 0..<1_000 { value = .array([value]) }
        let text = Self.output(.json) { $0.info("x", metadata: ["deep": value]) }
        #expect(text.contains("[[[[[[[[null]]]]]]]]"))
    }
}
