import Core
import EventLoop
import HTTP
import HTTPService
import LoopTestSupport
import Testing

@testable import ModelSimulator

@Suite struct SimulatorOpenInferenceTests {
    @Test func echoesTensors() throws {
        let test = try SimulatorHarness()
        let answer = try test.post("/v2/models/digits/infer", Bodies.infer)
        #expect(answer.status == 200)
        #expect(
            answer.text == """
                {"model_name":"digits","model_version":"1","id":"7","outputs":\
                [{"name":"x","datatype":"FP32","shape":[2,2],"data":[1,2.5,3,4]}]}
                """
        )
        let named = try test.post(
            "/v2/models/digits/versions/1/infer",
            #"{"inputs":[{"name":"x","shape":[1],"datatype":"BYTES","data":[["a"]]}],"#
                + #""outputs":[{"name":"y"},{"name":"z"}]}"#
        )
        #expect(named.text.contains(#"{"name":"y","datatype":"BYTES","shape":[1],"data":[["a"]]}"#))
        #expect(named.text.contains(#"{"name":"z","datatype":"BYTES","shape":[1],"data":[["a"]]}"#))
        #expect(try test.metric("weir_simulator_inferences_total") == 2)
    }

    @Test(arguments: [true, false])
    func takesBinaryTensors(binaryOutput: Bool) throws {
        let test = try SimulatorHarness()
        let header =
            #"{"inputs":[{"name":"x","shape":[2],"datatype":"INT16","#
            + #""parameters":{"binary_data_size":4}}],"parameters":{"binary_data_output":"#
            + "\(binaryOutput)}}"
        let answer = try test.fetch(
            "/v2/models/digits/infer",
            method: .post,
            body: Array(header.utf8) + [1, 0, 0xFE, 0xFF],
            fields: [("Inference-Header-Content-Length", "\(header.utf8.count)")]
        ).get()
        #expect(answer.status == 200)
        let count = answer.field("inference-header-content-length").flatMap { Int($0) }
        if binaryOutput {
            #expect(answer.field("content-type") == "application/octet-stream")
            #expect(count == answer.body.count - 4)
            #expect(answer.body.suffix(4) == [1, 0, 0xFE, 0xFF])
        } else {
            #expect(count == nil)
            #expect(answer.text.contains("\"data\":[1,-2]"))
        }
    }

    @Test(arguments: [
        "{}", #"{"inputs":[]}"#, #"{"inputs":[{}]}"#, "{\"inputs\":7}",
        #"{"inputs":[{"name":"x","shape":[3],"datatype":"FP32","data":[1,2]}]}"#,
        #"{"inputs":[{"name":"x","shape":[2],"datatype":"FP32","data":["a","b"]}]}"#,
        #"{"inputs":[{"name":"x","shape":[2],"datatype":"FP99","data":[1,2]}]}"#,
        #"{"inputs":[{"name":"x","shape":[-2],"datatype":"FP32","data":[1,2]}]}"#,
        #"{"inputs":[{"name":"x","shape":[4611686018427387904,4],"datatype":"FP32","data":[]}]}"#,
        #"{"inputs":[{"name":"x","shape":[2],"datatype":"FP32"}]}"#,
        #"{"inputs":[{"name":"x","shape":[2],"datatype":"FP32","parameters":{"binary_data_size":8}}]}"#,
    ])
    func badTensorsAreRefused(_ body: String) throws {
        let test = try SimulatorHarness()
        let answer = try test.post("/v2/models/digits/infer", body)
        #expect(answer.status == 400)
        #expect(answer.text.hasPrefix("{\"error\":\""))
    }

    @Test func halfPrecisionNumbersAreRead() {
        for (bits, value) in [
            (0x3C00, 1.0), (0xC000, -2), (0x7BFF, 65_504), (0x0001, 0x1p-24), (0x0000, 0),
            (0x3555, 0.333251953125), (0x7C00, .infinity),
        ] as [(UInt16, Double)] {
            #expect(TensorText.half(bits) == value)
        }
        #expect(TensorText.half(0x7E00).isNaN)
    }

    @Test func requestsQueueForTheServers() throws {
        let test = try SimulatorHarness {
            $0.serviceTime = .fixed(.seconds(3_600))
            $0.servers = 1
            $0.serviceWaitingMax = 1
        }
        let clients = try (0..<2).map { _ in try test.client() }
        for client in clients {
            try client.send(Bodies.post("/v2/models/digits/infer", Bodies.infer))
        }
        try test.harness.run(until: "both in") {
            try test.metric("vllm:num_requests_running") == 1
                && test.metric("vllm:num_requests_waiting") == 1
        }
        let refused = try test.post("/v2/models/digits/infer", Bodies.infer)
        #expect(refused.status == 503)
        for client in clients { client.close() }
        try test.harness.run(until: "both gone") {
            try test.metric("weir_simulator_cancelled_total") == 2
        }
        #expect(try test.metric("vllm:num_requests_running") == 0)
    }

    @Test func metadataAndMistakes() throws {
        let test = try SimulatorHarness()
        #expect(try test.get("/v2").text.contains("weir-model-simulator"))
        #expect(try test.get("/v2/models/digits").text.contains("\"versions\":[\"1\"]"))
        #expect(try test.get("/v2/models/d%69gits").status == 200)
        #expect(try test.get("/v2/models/other").status == 404)
        #expect(try test.get("/v2/models/digits/other").status == 404)
        #expect(try test.get("/v2/models/digits/infer").status == 405)
        #expect(try test.get("/v1/models/llama").text.contains("\"id\":\"llama\""))
        #expect(try test.get("/v1/models/other").status == 404)
        #expect(try test.get("/v1/models").text.contains("\"id\":\"digits\""))
        #expect(try test.get("/v1/chat/completions").field("allow") == "POST")
    }
}

@Suite struct SimulatorServerTests {
    @Test func metricsAreWellFormed() throws {
        let test = try SimulatorHarness { $0.models = ["a\"b\\c"] }
        let body = Bodies.chat(model: #"a\"b\\c"#, more: ",\"max_tokens\":3")
        #expect(try test.post("/v1/chat/completions", body).status == 200)
        let answer = try test.get("/metrics")
        #expect(answer.field("content-type")?.hasPrefix("text/plain; version=0.0.4") == true)
        var names: Set<Substring> = []
        for line in answer.text.split(separator: "\n") where !line.hasPrefix("# TYPE ") {
            #expect(Double(line.split(separator: " ").last ?? "") != nil, "\(line)")
            #expect(line.contains(#"model_name="a\"b\\c",engine="0""#), "\(line)")
            names.insert(line.prefix { $0 != "{" })
        }
        for name in [
            "vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc",
            "vllm:prompt_tokens_total", "vllm:generation_tokens_total", "vllm:cache_config_info",
            "vllm:time_to_first_token_seconds_bucket", "vllm:e2e_request_latency_seconds_sum",
            "vllm:request_success_total", "weir_simulator_cancelled_total",
        ] {
            #expect(names.contains(Substring(name)), "\(name)")
        }
        #expect(try test.metric("vllm:prompt_tokens_total") == 6)
        #expect(try test.metric("vllm:generation_tokens_total") == 3)
        let last = answer.text.split(separator: "\n").last {
            $0.hasPrefix("vllm:e2e_request_latency_seconds_bucket") && $0.contains("+Inf")
        }
        #expect(last?.hasSuffix(" 1") == true)
    }

    @Test func instantAnswersAreOfTheirSize() throws {
        let test = try SimulatorHarness {
            $0.instant = true
            $0.responseBytes = 1_000
        }
        let answer = try test.post("/whatever", "this is not read")
        #expect(answer.status == 200)
        #expect(answer.text.contains("\"content\":\"\(String(repeating: "x", count: 1_000))\""))
        #expect(answer.field("x-simulator-replica") == "r1")
        try test.setFaults(#"{"errorRate":1}"#)
        #expect(try test.post("/whatever", "x").status == 500)
    }

    @Test func rawAnswers() throws {
        let test = try SimulatorHarness()
        #expect(try test.get("/raw/bytes/3000000").body.count == 3_000_000)
        #expect(try test.get("/raw/bytes/0").body.isEmpty)
        let chunks = try test.get("/raw/chunks/1000/100")
        #expect(chunks.body.count == 100_000)
        #expect(chunks.field("transfer-encoding") == "chunked")
        #expect(try test.get("/raw/slow/5/1").body.count == 5)
        #expect(try test.get("/raw/status/418").status == 418)
        #expect(try test.get("/raw/delay/1").status == 200)
        #expect(try test.post("/raw/echo", "abc").text == "abc")
        for bad in ["/raw/", "/raw/bytes/-1", "/raw/bytes/x", "/raw/status/100", "/raw/chunks/1/0"]
        {
            #expect(try test.get(bad).status == 404)
        }
    }

    @Test func optionsSayAllThatIsWrong() throws {
        let address = try #require(SocketAddress("127.0.0.1:0"))
        var options = ModelSimulatorOptions(address: address)
        #expect(options.problems.isEmpty)
        options.models = []
        options.servers = 0
        options.threads = 2
        options.batching.batchMax = 0
        options.faults.errorRate = 7
        #expect(options.problems.count == 5)
    }

    @Test(arguments: [1, 3])
    func theProcessServesOnItsThreadsAndStops(threads: Int) throws {
        let address = try #require(SocketAddress("127.0.0.1:0"))
        var options = ModelSimulatorOptions(address: address)
        options.instant = true
        options.threads = threads
        let process = try ModelSimulatorProcess(options: options)
        for _ in 0..<20 {
            var request = FetchRequest(address: process.address, target: "/v1/chat/completions")
            request.method = .post
            #expect(try HTTPFetch.wait(for: request).status == 200)
        }
        process.stop(within: .seconds(10))
        process.wait()
        #expect(throws: FetchError.self) {
            try HTTPFetch.wait(for: FetchRequest(address: process.address))
        }
    }
}
