import Core
import HTTP
import HTTPService
import LoopTestSupport
import Testing

@testable import ModelSimulator

@Suite struct SimulatorOpenAITests {
    @Test func answersAChatCompletion() throws {
        let test = try SimulatorHarness()
        let answer = try test.post("/v1/chat/completions", Bodies.chat(more: ",\"max_tokens\":3"))
        #expect(answer.status == 200)
        #expect(answer.field("content-type") == "application/json")
        #expect(answer.field("x-simulator-replica") == "r1")
        #expect(answer.text.contains("\"object\":\"chat.completion\""))
        #expect(answer.text.contains("\"role\":\"assistant\",\"content\":\""))
        #expect(answer.text.contains("\"finish_reason\":\"length\""))
        // "hello" is 2 tokens, the message around it 4.
        #expect(
            answer.text.contains(
                "\"usage\":{\"prompt_tokens\":6,\"completion_tokens\":3,\"total_tokens\":9}"
            )
        )
    }

    @Test func theSamePromptGivesTheSameText() throws {
        let test = try SimulatorHarness()
        func text(_ prompt: String, _ tokens: Int) throws -> Substring? {
            let body = Bodies.chat(prompt: prompt, more: ",\"max_tokens\":\(tokens)")
            let answer = try test.post("/v1/chat/completions", body)
            return answer.text.split(separator: "\"content\":\"").last?.prefix { $0 != "\"" }
        }
        let first = try #require(try text("a", 8))
        #expect(try text("a", 8) == first)
        #expect(try text("b", 8) != first)
        #expect(first.split(separator: " ").count == 8)
        #expect(first.hasPrefix(try #require(try text("a", 4))))
    }

    @Test(arguments: [
        ("", 20, "stop"), (",\"max_tokens\":7", 7, "length"), (",\"max_tokens\":20", 20, "stop"),
        (",\"max_completion_tokens\":7", 7, "length"), (",\"min_tokens\":30", 30, "stop"),
        (",\"max_tokens\":40,\"ignore_eos\":true", 40, "length"),
        (",\"max_tokens\":null", 20, "stop"),
    ])
    func honoursTheLimitsOfTheRequest(_ more: String, _ tokens: Int, _ reason: String) throws {
        let test = try SimulatorHarness { $0.outputTokens = 20 }
        let answer = try test.post("/v1/chat/completions", Bodies.chat(more: more))
        #expect(answer.text.contains("\"completion_tokens\":\(tokens),"))
        #expect(answer.text.contains("\"finish_reason\":\"\(reason)\""))
    }

    @Test func streamsAsOpenAIDoes() throws {
        let test = try SimulatorHarness()
        let more = ",\"max_tokens\":3,\"stream\":true,\"stream_options\":{\"include_usage\":true}"
        let answer = try test.post("/v1/chat/completions", Bodies.chat(more: more))
        #expect(answer.field("content-type") == "text/event-stream; charset=utf-8")
        let events = answer.text.split(separator: "\n\n").map(String.init)
        #expect(events.count == 7)
        #expect(events.allSatisfy { $0.hasPrefix("data: ") })
        #expect(events[0].contains("\"delta\":{\"role\":\"assistant\",\"content\":\"\"}"))
        for event in events[1...3] {
            #expect(event.contains("\"delta\":{\"content\":\""))
            #expect(event.contains("\"finish_reason\":null"))
            #expect(event.contains("\"usage\":null"))
        }
        #expect(events[4].contains("\"delta\":{},\"logprobs\":null,\"finish_reason\":\"length\""))
        #expect(events[5].contains("\"choices\":[],\"usage\":{\"prompt_tokens\":6,"))
        #expect(events[6] == "data: [DONE]")
        let plain = try test.post(
            "/v1/chat/completions",
            Bodies.chat(more: ",\"max_tokens\":3,\"stream\":true")
        )
        #expect(!plain.text.contains("usage"))
        #expect(plain.text.split(separator: "\n\n").count == 6)
    }

    @Test func tokensComeOneByOne() throws {
        let test = try SimulatorHarness { $0.batching.stepBase = .milliseconds(5) }
        let client = try test.client()
        let body = Bodies.chat(more: ",\"max_tokens\":20,\"stream\":true")
        try client.send(Bodies.post("/v1/chat/completions", body))
        for count in 1...20 {
            try client.wait(for: "\"delta\":{\"content\"", count: count)
            // What is to come is not there yet, but for a machine that stalled.
            if count == 1 { #expect(!client.text.contains("[DONE]")) }
        }
        try client.wait(for: "data: [DONE]\n\n")
    }

    @Test func completionsAndResponses() throws {
        let test = try SimulatorHarness { $0.outputTokens = 2 }
        let whole = try test.post("/v1/completions", #"{"model":"llama","prompt":[1,2,3]}"#)
        #expect(whole.text.contains("\"object\":\"text_completion\""))
        #expect(whole.text.contains("\"prompt_tokens\":3,\"completion_tokens\":2"))
        let streamed = try test.post(
            "/v1/completions",
            #"{"model":"llama","prompt":["abc"],"stream":true}"#
        )
        #expect(streamed.text.split(separator: "\n\n").count == 4)
        #expect(streamed.text.hasSuffix("data: [DONE]\n\n"))
        let response = try test.post("/v1/responses", #"{"model":"llama","input":"x"}"#)
        #expect(response.text.contains("\"status\":\"completed\""))
        let events = try test.post(
            "/v1/responses",
            #"{"model":"llama","input":[{"role":"user","content":"x"}],"stream":true}"#
        )
        let names = events.text.split(separator: "\n").filter { $0.hasPrefix("event: ") }
        #expect(names.count == 10)
        #expect(names.first == "event: response.created")
        #expect(names.last == "event: response.completed")
    }

    @Test func embeddingsAreUnitVectorsInBothEncodings() throws {
        let test = try SimulatorHarness { $0.embeddingSize = 8 }
        let answer = try test.post("/v1/embeddings", #"{"model":"llama","input":["a","b"]}"#)
        let vectors = answer.text.split(separator: "\"embedding\":[").dropFirst().map {
            $0.prefix { $0 != "]" }.split(separator: ",").compactMap { Double($0) }
        }
        #expect(vectors.count == 2)
        for vector in vectors {
            #expect(vector.count == 8)
            #expect(abs(vector.reduce(0) { $0 + $1 * $1 } - 1) < 1e-5)
        }
        #expect(vectors[0] != vectors[1])
        let coded = try test.post(
            "/v1/embeddings",
            #"{"model":"llama","input":[[1,2]],"encoding_format":"base64","dimensions":3}"#
        )
        // 3 single-precision numbers are 12 bytes, which are 16 letters.
        let text = coded.text.split(separator: "\"embedding\":\"").last?.prefix { $0 != "\"" }
        #expect(text?.count == 16)
    }

    @Test(arguments: [
        ("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="),
        ("fooba", "Zm9vYmE="), ("foobar", "Zm9vYmFy"),
    ])
    func base64HasTheVectorsOfItsStandard(_ text: String, _ expected: String) {
        #expect(Embedding.base64(Array(text.utf8)) == expected)
    }

    static let badBodies: [(String, String, Int)] = [
        ("/v1/chat/completions", "", 400),
        ("/v1/chat/completions", "{", 400),
        ("/v1/chat/completions", "[]", 400),
        ("/v1/chat/completions", "null", 400),
        ("/v1/chat/completions", "{\"messages\":[{\"content\":\"x\"}]}", 400),
        ("/v1/chat/completions", "{\"model\":7,\"messages\":[{\"content\":\"x\"}]}", 400),
        ("/v1/chat/completions", "{\"model\":\"llama\"}", 400),
        ("/v1/chat/completions", "{\"model\":\"llama\",\"messages\":[]}", 400),
        ("/v1/chat/completions", "{\"model\":\"llama\",\"messages\":\"x\"}", 400),
        ("/v1/chat/completions", "{\"model\":\"llama\",\"messages\":[7]}", 400),
        ("/v1/chat/completions", Bodies.chat(more: ",\"max_tokens\":0"), 400),
        ("/v1/chat/completions", Bodies.chat(more: ",\"max_tokens\":1.5"), 400),
        ("/v1/chat/completions", Bodies.chat(more: ",\"max_tokens\":1e400"), 400),
        ("/v1/chat/completions", Bodies.chat(more: ",\"stream\":\"yes\""), 400),
        ("/v1/chat/completions", Bodies.chat(more: ",\"n\":2"), 400),
        ("/v1/chat/completions", Bodies.chat(more: "}"), 400),
        ("/v1/chat/completions", Bodies.chat(model: "gpt"), 404),
        ("/v1/chat/completions", Bodies.chat(model: "\\u0000\\\""), 404),
        ("/v1/completions", "{\"model\":\"llama\",\"prompt\":[\"a\",\"b\"]}", 400),
        ("/v1/embeddings", "{\"model\":\"llama\"}", 400),
        ("/v1/embeddings", "{\"model\":\"llama\",\"input\":[]}", 400),
        ("/v1/embeddings", "{\"model\":\"llama\",\"input\":\"x\",\"dimensions\":0}", 400),
        ("/v1/nothing", "{}", 404),
    ]

    @Test(arguments: badBodies)
    func badRequestsGetOpenAIErrors(_ target: String, _ body: String, _ status: Int) throws {
        let test = try SimulatorHarness()
        let answer = try test.post(target, body)
        #expect(Int(answer.status) == status)
        #expect(answer.text.hasPrefix("{\"error\":{\"message\":\""))
        #expect(answer.text.contains("\"type\":\"invalid_request_error\",\"param\":"))
        var cursor = JSONCursor()
        try cursor.skip(answer.body.span.bytes)
        try cursor.end(answer.body.span.bytes)
    }

    @Test func theContextAndTheQueueAreBounded() throws {
        let test = try SimulatorHarness {
            $0.batching.stepBase = .seconds(60)
            $0.batching.batchMax = 1
            $0.batching.waitingMax = 1
            $0.batching.blocks = 10
        }
        let long = try test.post("/v1/chat/completions", Bodies.chat(more: ",\"max_tokens\":155"))
        #expect(long.status == 400)
        #expect(long.text.contains("context_length_exceeded"))
        let body = Bodies.chat(more: ",\"max_tokens\":5")
        let clients = try (0..<2).map { _ in try test.client() }
        for (index, client) in clients.enumerated() {
            try client.send(Bodies.post("/v1/chat/completions", body))
            try test.harness.run(until: "request \(index) in") {
                let running = try test.metric("vllm:num_requests_running")
                return try running + test.metric("vllm:num_requests_waiting") == Double(index + 1)
            }
        }
        let refused = try test.post("/v1/chat/completions", body)
        #expect(refused.status == 503)
        #expect(refused.field("retry-after") == "1")
        #expect(try test.metric("vllm:num_requests_running") == 1)
        #expect(try test.metric("vllm:num_requests_waiting") == 1)
        #expect(try test.metric("vllm:kv_cache_usage_perc") == 0.1)
    }

    @Test(arguments: [true, false])
    func aClientThatLeavesCancelsItsSequence(streams: Bool) throws {
        let test = try SimulatorHarness {
            $0.batching.stepBase = .milliseconds(2)
            $0.outputTokens = 100_000
        }
        let client = try test.client()
        let body = Bodies.chat(more: ",\"stream\":\(streams)")
        try client.send(Bodies.post("/v1/chat/completions", body))
        try test.harness.run(until: "some tokens") {
            try test.metric("vllm:generation_tokens_total") >= 3
        }
        #expect(try test.metric("vllm:num_requests_running") == 1)
        #expect(try test.metric("vllm:kv_cache_usage_perc") > 0)
        client.close()
        try test.harness.run(until: "the cancellation") {
            try test.metric("weir_simulator_cancelled_total") == 1
        }
        #expect(try test.metric("vllm:num_requests_running") == 0)
        #expect(try test.metric("vllm:kv_cache_usage_perc") == 0)
        #expect(try test.metric("vllm:request_success_total", label: "abort") == 1)
        let tokens = try test.metric("vllm:generation_tokens_total")
        test.harness.settle(turns: 200)
        #expect(try test.metric("vllm:generation_tokens_total") == tokens)
    }

    @Test func manyStreamsShareTheBatch() throws {
        let test = try SimulatorHarness { $0.batching.stepBase = .milliseconds(1) }
        let clients = try (0..<40).map { _ in try test.client() }
        for (index, client) in clients.enumerated() {
            let body = Bodies.chat(prompt: "p\(index)", more: ",\"max_tokens\":25,\"stream\":true")
            try client.send(Bodies.post("/v1/chat/completions", body))
        }
        for client in clients {
            try client.wait(for: "data: [DONE]")
            #expect(client.occurrences(of: "\"delta\":{\"content\"") == 25)
        }
        #expect(try test.metric("vllm:generation_tokens_total") == 1_000)
        #expect(try test.metric("vllm:request_success_total", label: "length") == 40)
        #expect(try test.metric("vllm:time_to_first_token_seconds_count") == 40)
        #expect(try test.metric("vllm:inter_token_latency_seconds_count") == 40 * 24)
    }

    @Test func survivesMutatedBodies() throws {
        let test = try SimulatorHarness { $0.outputTokens = 1 }
        var random = RandomSource(seed: 77)
        let bodies: [(String, [UInt8])] = [
            ("/v1/chat/completions", Array(Bodies.chat(more: ",\"max_tokens\":3").utf8)),
            ("/v1/embeddings", Array(#"{"model":"llama","input":["a",[1,2]]}"#.utf8)),
            ("/v2/models/digits/infer", Array(Bodies.infer.utf8)),
            ("/simulator/faults", Array(#"{"slowdown":1,"errorRate":0}"#.utf8)),
        ]
        for _ in 0..<1_500 {
            let (target, original) = bodies[.random(in: bodies.indices, using: &random)]
            var body = original
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                body[.random(in: body.indices, using: &random)] = .random(
                    in: 32...126,
                    using: &random
                )
            }
            let answer = try test.fetch(target, method: .post, body: body).get()
            #expect(
                [200, 400, 404].contains(answer.status),
                "\(String(decoding: body, as: UTF8.self))"
            )
        }
    }
}
