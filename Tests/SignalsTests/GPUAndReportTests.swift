import Core
import Testing

@testable import Signals

@Suite struct GPUReadingTests {
    private func read(_ text: String) -> [GPUReading] {
        let bytes = Array(text.utf8)
        return GPUReading.read(bytes.span.bytes)
    }

    @Test func readsPerGPUAndPod() throws {
        let readings = self.read(
            """
            # TYPE DCGM_FI_DEV_GPU_UTIL gauge
            DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-a",Hostname="n",namespace="x",pod="p-0"} 97
            DCGM_FI_DEV_GPU_UTIL{gpu="1",UUID="GPU-b",Hostname="n",container="",pod=""} 0
            DCGM_FI_DEV_FB_USED{gpu="0",UUID="GPU-a",Hostname="n",namespace="x",pod="p-0"} 2
            DCGM_FI_DEV_FB_FREE{gpu="0",UUID="GPU-a",Hostname="n",namespace="x",pod="p-0"} 6
            DCGM_FI_DEV_SM_CLOCK{gpu="0",UUID="GPU-a"} 139

            """
        )
        #expect(readings.count == 2)
        let first = try #require(readings.first)
        #expect(first.uuid == "GPU-a")
        #expect(first.index == "0")
        #expect(first.host == "n")
        #expect(first.namespace == "x")
        #expect(first.pod == "p-0")
        #expect(first.use == 0.97)
        #expect(first.memoryUsedBytes == 2_097_152)
        #expect(first.memoryFreeBytes == 6_291_456)
        #expect(readings[1].use == 0)
        #expect(readings[1].pod == nil)
    }

    /// What is not supported or not measured yet is given as a huge number.
    @Test(
        arguments: [
            "9223372036854775794", "9223372036854775792", "2147483632", "140737488355328", "NaN",
            "-1", "101",
        ]
    )
    func blankValuesAreUnknown(value: String) throws {
        let readings = self.read("DCGM_FI_DEV_GPU_UTIL{UUID=\"GPU-a\"} \(value)\n")
        #expect(readings.count == 1)
        #expect(readings.first?.use == nil)
    }

    @Test func slicesSayItOtherwise() {
        let readings = self.read(
            """
            DCGM_FI_PROF_GR_ENGINE_ACTIVE{UUID="G",GPU_I_ID="1",exported_pod="p",pod="dcgm"} 0.5
            DCGM_FI_PROF_GR_ENGINE_ACTIVE{UUID="G",GPU_I_ID="2",pod_name="q"} 0.25
            DCGM_FI_PROF_GR_ENGINE_ACTIVE{gpu="0"} 0.75

            """
        )
        #expect(readings.map(\.instance) == ["1", "2"])
        #expect(readings.map(\.pod) == ["p", "q"])
        #expect(readings.map(\.use) == [0.5, 0.25])
        let both = """
            DCGM_FI_PROF_GR_ENGINE_ACTIVE{UUID="G"} 0.5
            DCGM_FI_DEV_GPU_UTIL{UUID="G"} 80
            DCGM_FI_PROF_GR_ENGINE_ACTIVE{UUID="G"} 0.5

            """
        #expect(self.read(both).map(\.use) == [0.8])
    }

    @Test func theirNumberIsBounded() {
        let lines = (0..<(GPUReading.countMax + 5)).map {
            "DCGM_FI_DEV_GPU_UTIL{UUID=\"\($0)\"} 1\n"
        }
        #expect(self.read(lines.joined()).count == GPUReading.countMax)
    }
}

@Suite struct LoadReportTests {
    static let good: [(String, [String: Double])] = [
        (
            "TEXT named_metrics.kv_cache_usage_perc=0.4, named_metrics.num_requests_waiting=3.0",
            ["named_metrics.kv_cache_usage_perc": 0.4, "named_metrics.num_requests_waiting": 3]
        ),
        (
            "text cpu_utilization=0.3,mem_utilization=1e-1",
            ["cpu_utilization": 0.3, "mem_utilization": 0.1]
        ),
        (
            #"JSON {"named_metrics": {"kv_cache_usage_perc": 0.4, "num_requests_waiting": 3.0}}"#,
            ["named_metrics.kv_cache_usage_perc": 0.4, "named_metrics.num_requests_waiting": 3]
        ),
        (#"JSON {"cpu_utilization":0.3,"named_metrics":{}}"#, ["cpu_utilization": 0.3]),
        (
            #"JSON "named_metrics": {"kv_cache_utilization": 0.4}"#,
            ["named_metrics.kv_cache_utilization": 0.4]
        ),
        ("JSON: {\"rps_fractional\": 2}", ["rps_fractional": 2]),
    ]

    @Test(arguments: good.indices)
    func readsReports(index: Int) throws {
        let (text, expected) = Self.good[index]
        #expect(LoadReport(text)?.values == expected)
    }

    static let bad = [
        "", "TEXT", "TEXT ", "JSON ", "BIN CgkJ", "cpu_utilization=0.3", "TEXT a", "TEXT a=",
        "TEXT =1", "TEXT a=x", "TEXT a=1=2", "TEXT a=NaN", "TEXT a=Inf", "JSON {", "JSON {}",
        "JSON []", #"JSON {"a"}"#, #"JSON {"a":}"#, #"JSON {"a":"b"}"#, #"JSON {"a":1"#,
        #"JSON {"a":1}x"#, #"JSON {"a":{"b":{"c":1}}}"#, #"JSON {"a":1,}"#, #"JSON {"a\n":1}"#,
        #"JSON {"a":{"b":1}"#, #"JSON "a":1}"#,
        "TEXT a=" + String(repeating: "0", count: LoadReport.bytesMax),
        "TEXT " + (0...LoadReport.valuesMax).map { "a\($0)=1" }.joined(separator: ","),
    ]

    @Test(arguments: bad)
    func refusesWhatIsNoReport(text: String) {
        #expect(LoadReport(text) == nil)
    }

    @Test func givesWhatIsKnownByName() throws {
        let report = try #require(
            LoadReport(
                "TEXT named_metrics.kv_cache_utilization=0.4,named_metrics.num_requests_running=2,"
                    + "named_metrics.num_requests_waiting=1,cpu_utilization=1.5"
            )
        )
        #expect(report.kvCacheUse == 0.4)
        #expect(report.running == 2)
        #expect(report.waiting == 1)
        #expect(report.cpuUse == 1.5)
        #expect(report.applicationUse == nil)
        let odd = try #require(LoadReport("TEXT named_metrics.kv_cache_utilization=40"))
        #expect(odd.kvCacheUse == nil, "a percentage is no share")
    }
}
