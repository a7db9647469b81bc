import Benchmark
import Core
import HTTP
import Traffic

// What happens for every request, one piece at a time, on inputs as they come in practice. Each
// measurement is of a thousand calls, or of one where a call takes long.
//
// `check` compares the first quartile of the samples with what is recorded in `thresholds.json`, and
// misses where it takes twice as long: that catches what was lost by mistake (a specialisation, a
// constant bound), not single per cents. Instructions would be finer; virtual machines often count
// none.

/// Bytes of a text.
private func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

/// A head as Python's `openai` sends it.
private let head = bytes(
    """
    POST /v1/chat/completions HTTP/1.1\r
    Host: gateway.example.com:8080\r
    Accept-Encoding: gzip, deflate\r
    Connection: keep-alive\r
    Accept: application/json\r
    Content-Type: application/json\r
    User-Agent: OpenAI/Python 1.99.1\r
    X-Stainless-Lang: python\r
    X-Stainless-OS: Linux\r
    X-Stainless-Runtime: CPython\r
    Authorization: Bearer sk-0123456789abcdef0123456789abcdef\r
    x-stainless-retry-count: 0\r
    Content-Length: 600\r
    \r\n
    """
)

/// A chat request whose only message has `size` bytes, the model's name behind it.
private func chat(_ size: Int) -> [UInt8] {
    let words = bytes("the river carries water past a wall of stone, \\\"slowly\\\"\\n")
    var content: [UInt8] = []
    while content.count < size { content += words }
    return bytes(#"{"messages":[{"role":"user","content":""#) + content
        + bytes(#""}],"stream":true,"max_tokens":64,"model":"river"}"#)
}

/// Endpoints with a few requests each.
private struct Endpoints: BalancedEndpoints {
    let loads: [Int]

    init(_ count: Int) { self.loads = (0..<count).map { $0 * 7 % 5 } }

    var count: Int { self.loads.count }
    func inFlight(_ index: Int) -> Int { self.loads[index] }
    func limit(_ index: Int) -> Int { 64 }
    func isEligible(_ index: Int) -> Bool { true }
    func identity(_ index: Int) -> UInt64 { ByteHash.mix(UInt64(index) + 1) }
}

/// Many short samples, so that most of them are not interrupted.
private func settings(_ factor: BenchmarkScalingFactor) -> Benchmark.Configuration {
    .init(
        metrics: [.wallClock],
        warmupIterations: 3,
        scalingFactor: factor,
        maxDuration: .milliseconds(500),
        maxIterations: 2_000
    )
}

private func addParsing() {
    Benchmark("parse a request head", configuration: settings(.kilo)) { benchmark in
        let request = RequestHead()
        let limits = HeadLimits()
        for _ in benchmark.scaledIterations {
            request.reset()
            guard case .complete = request.parse(head.span.bytes, limits: limits) else {
                return benchmark.error("the head was refused")
            }
        }
    }
    for (name, size, factor) in [
        ("600 B", 520, BenchmarkScalingFactor.kilo), ("400 KB", 400_000, .one),
    ] {
        let body = chat(size)
        for (what, needs) in [
            ("model", JSONKeyScanner.Needs.model), ("model and prefix", [.model, .prompt]),
        ] {
            Benchmark(
                "scan a body of \(name) for \(what)",
                configuration: settings(factor)
            ) { benchmark in
                var scanner = JSONKeyScanner()
                for _ in benchmark.scaledIterations {
                    scanner.reset(needs: needs)
                    guard scanner.scan(body.span.bytes) == .complete else {
                        return benchmark.error("the body was refused")
                    }
                    blackHole(scanner.model)
                }
            }
        }
    }
}

private func addChoosing() {
    let names = (0..<10_000).map { (name: bytes("organisation/model-\($0)"), index: $0) }
    Benchmark("find one of 10 000 models", configuration: settings(.kilo)) { benchmark in
        guard let table = try? ModelTable(names: names) else {
            return benchmark.error("no table")
        }
        benchmark.startMeasurement()
        for iteration in benchmark.scaledIterations {
            // A prime step: neighbours in time are no neighbours in memory.
            let name = names[iteration &* 7_919 % names.count].name
            blackHole(table.lookup(name.span.bytes))
        }
        benchmark.stopMeasurement()
    }
    for count in [4, 64] {
        let endpoints = Endpoints(count)
        Benchmark("least loaded of \(count)", configuration: settings(.kilo)) { benchmark in
            var balancer = LeastLoaded(random: RandomSource(seed: 1))
            for _ in benchmark.scaledIterations { blackHole(balancer.pick(endpoints)) }
        }
        Benchmark("consistent hash of \(count)", configuration: settings(.kilo)) { benchmark in
            let balancer = ConsistentHash()
            for iteration in benchmark.scaledIterations {
                blackHole(balancer.pick(keyHash: ByteHash.mix(UInt64(iteration)), endpoints))
            }
        }
    }
    Benchmark("pick by weights 70/20/5/5", configuration: settings(.kilo)) { benchmark in
        var picker = WeightedPicker(weights: [70, 20, 5, 5])
        for _ in benchmark.scaledIterations { blackHole(picker.next()) }
    }
}

private func addMeasuring() {
    let prompt = chat(16 << 10)
    Benchmark("hash the first 16 KB of a prompt", configuration: settings(.one)) { benchmark in
        var hash = PromptHash()
        for _ in benchmark.scaledIterations {
            hash.removeAll()
            hash.update(prompt.span.bytes)
            blackHole(hash.last)
        }
    }
    Benchmark("record a latency", configuration: settings(.kilo)) { benchmark in
        var histogram = LatencyHistogram()
        var random = RandomSource(seed: 1)
        for _ in benchmark.scaledIterations {
            histogram.record(nanoseconds: random.next() & 0xFFF_FFFF)
        }
        blackHole(histogram)
    }
}

let benchmarks: @Sendable () -> Void = {
    addParsing()
    addChoosing()
    addMeasuring()
}
