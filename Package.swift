// swift-tools-version: 6.2
import PackageDescription

/// With WEIR_FUZZ in the environment the package has libFuzzer targets, and every module is
/// instrumented for them; see `Fuzz/run`.
let isFuzzing = Context.environment["WEIR_FUZZ"] != nil

/// Settings of every target: the language mode of the day, and warnings as errors.
let base: [SwiftSetting] =
    [
        .swiftLanguageMode(.v6),
        .enableUpcomingFeature("ExistentialAny"),
        .enableUpcomingFeature("MemberImportVisibility"),
        .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
        .treatAllWarnings(as: .error),
    ] + (isFuzzing ? [.unsafeFlags(["-sanitize=fuzzer"])] : [])

/// With WEIR_PROFILE in the environment release builds count what they execute; see `scripts/profile`.
let isProfiling = Context.environment["WEIR_PROFILE"] != nil

/// Release builds are laid out by what was counted. Another compiler lays out by itself: it may not
/// be able to read the counts.
let layout: [String] = {
    let names = ["-Xllvm", "-static-func-full-module-prefix=false"]
    if isProfiling { return ["-Xfrontend", "-ir-profile-generate"] + names }
    #if compiler(>=6.3) && compiler(<6.4)
        let profile = "\(Context.packageDirectory)/Sources/weir/weir.profdata"
        return [
            "-Xfrontend", "-ir-profile-use=\(profile)", "-Xfrontend", "-function-sections",
        ] + names
    #else
        return []
    #endif
}()

/// Shell modules sit on the request path or beside it; exclusivity is checked in debug and test builds.
let shell: [SwiftSetting] =
    base + [
        .unsafeFlags(["-enforce-exclusivity=unchecked"] + layout, .when(configuration: .release))
    ]

/// Modules that decide: no C, no Foundation, no event loop, and memory-safe throughout.
let pure: [SwiftSetting] =
    shell + [
        .strictMemorySafety(), .enableExperimentalFeature("Lifetimes"),
        .treatWarning("StrictMemorySafety", as: .error),
    ]

func test(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .testTarget(name: name, dependencies: dependencies, swiftSettings: base)
}

/// An executable that hands itself over to libFuzzer, or prepares that.
func fuzzer(_ name: String, path: String, _ dependencies: [Target.Dependency]) -> Target {
    .executableTarget(
        name: name,
        dependencies: dependencies,
        path: path,
        swiftSettings: base + [.unsafeFlags(["-parse-as-library"])],
        linkerSettings: [.unsafeFlags(["-sanitize=fuzzer", "-use-ld=lld"])]
    )
}

let package = Package(
    name: "weir",
    products: [.executable(name: "weir", targets: ["weir"])],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", "1.8.2"..<"2.0.0"),
        .package(url: "https://github.com/apple/swift-log", "1.16.2"..<"2.0.0"),
        .package(url: "https://github.com/jpsim/Yams", "6.2.2"..<"7.0.0"),
        .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift", "0.2.0"..<"0.3.0"),
    ],
    targets: [
        .systemLibrary(
            name: "CEvent",
            pkgConfig: "libevent_core",
            providers: [.apt(["libevent-dev"])]
        ),
        .target(name: "CPlatform"),
        .systemLibrary(
            name: "CCurl",
            pkgConfig: "libcurl",
            providers: [.apt(["libcurl4-openssl-dev"])]
        ),
        .systemLibrary(
            name: "CZstd",
            pkgConfig: "libzstd",
            providers: [.apt(["libzstd-dev"])]
        ),
        .systemLibrary(
            name: "CZlib",
            pkgConfig: "zlib",
            providers: [.apt(["zlib1g-dev"])]
        ),
        .systemLibrary(
            name: "CNghttp2",
            pkgConfig: "libnghttp2",
            providers: [.apt(["libnghttp2-dev"])]
        ),
        .systemLibrary(
            name: "COpenSSL",
            pkgConfig: "openssl",
            providers: [.apt(["libssl-dev"])]
        ),
        .target(name: "Core", swiftSettings: pure),
        .target(name: "HTTP", dependencies: ["Core"], swiftSettings: pure),
        .target(name: "GRPC", dependencies: ["Core", "HTTP"], swiftSettings: pure),
        .target(name: "Traffic", dependencies: ["Core", "HTTP"], swiftSettings: pure),
        .target(name: "Autoscaling", dependencies: ["Core"], swiftSettings: pure),
        .target(
            name: "Orchestration",
            dependencies: ["Core", "Autoscaling"],
            swiftSettings: pure
        ),
        .target(name: "Rollouts", dependencies: ["Core"], swiftSettings: pure),
        .target(name: "Signals", dependencies: ["Core"], swiftSettings: pure),
        .target(name: "Workload", dependencies: ["Core"], swiftSettings: pure),
        .target(
            name: "Recordings",
            dependencies: ["Core", "Traffic", "Workload"],
            swiftSettings: pure
        ),
        .target(
            name: "Simulation",
            dependencies: ["Core", "Traffic", "Autoscaling", "Rollouts", "Workload"],
            swiftSettings: pure
        ),
        .target(
            name: "Configuration",
            dependencies: [
                "Core", "Traffic", "Rollouts", .product(name: "Yams", package: "Yams"),
            ],
            swiftSettings: base
        ),
        .target(
            name: "EventLoop",
            dependencies: ["Core", "CEvent", "CPlatform"],
            swiftSettings: shell
        ),
        .target(
            name: "TLS",
            dependencies: ["Core", "EventLoop", "COpenSSL"],
            swiftSettings: shell
        ),
        .target(name: "HTTP2", dependencies: ["Core", "HTTP", "CNghttp2"], swiftSettings: shell),
        .target(
            name: "Telemetry",
            dependencies: [
                "Core", "EventLoop", .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: shell
        ),
        .target(
            name: "HTTPService",
            dependencies: ["Core", "HTTP", "EventLoop", "CPlatform"],
            swiftSettings: shell
        ),
        .target(name: "Curl", dependencies: ["Core", "EventLoop", "CCurl"], swiftSettings: shell),
        .target(name: "Digests", dependencies: ["COpenSSL"], swiftSettings: shell),
        .target(
            name: "Compression",
            dependencies: ["Core", "HTTP", "CZlib", "CZstd"],
            swiftSettings: shell
        ),
        .target(
            name: "Recorder",
            dependencies: ["Core", "Recordings", "EventLoop", "Compression"],
            swiftSettings: shell
        ),
        .target(
            name: "Kubernetes",
            dependencies: [
                "Core", "EventLoop", "HTTPService", "Curl", "CPlatform",
                .product(name: "Yams", package: "Yams"),
            ],
            swiftSettings: base
        ),
        .target(
            name: "Scraping",
            dependencies: ["Core", "Signals", "EventLoop", "HTTPService", "Curl"],
            swiftSettings: base
        ),
        .target(
            name: "Reports",
            dependencies: ["Core", "Workload", "Autoscaling", "Simulation", "HTTPService"],
            swiftSettings: base
        ),
        .target(
            name: "Proxy",
            dependencies: [
                "Core", "HTTP", "GRPC", "Traffic", "Rollouts", "Recordings", "EventLoop", "TLS",
                "HTTP2", "Telemetry",
                "HTTPService", "Digests", "Compression", "Recorder", "CPlatform",
            ],
            swiftSettings: shell
        ),
        .target(
            name: "Clusters",
            dependencies: [
                "Core", "HTTP", "GRPC", "Autoscaling", "Orchestration", "Configuration",
                "EventLoop", "HTTP2", "HTTPService", "Kubernetes", "CPlatform", "TLS",
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: base
        ),
        .target(
            name: "Control",
            dependencies: [
                "Core", "HTTP", "Autoscaling", "Orchestration", "Rollouts", "Signals",
                "Configuration", "Traffic", "EventLoop", "HTTPService", "Curl", "Kubernetes",
                "Scraping", "Proxy", "Clusters", "Telemetry", "Recorder", "TLS", "Digests",
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: base
        ),
        .target(
            name: "Admin",
            dependencies: [
                "Core", "HTTP", "GRPC", "Autoscaling", "Orchestration", "Rollouts", "EventLoop",
                "HTTPService", "Telemetry", "Control", "Configuration", "Clusters", "Proxy",
                "Recorder", "TLS", "Traffic",
            ],
            swiftSettings: base
        ),
        .target(
            name: "LoadTest",
            dependencies: [
                "Core", "HTTP", "Workload", "EventLoop", "TLS", "HTTPService", "Reports",
                "CPlatform", .product(name: "Histogram", package: "hdrhistogram-swift"),
            ],
            swiftSettings: shell
        ),
        .target(
            name: "ModelSimulator",
            dependencies: ["Core", "HTTP", "EventLoop", "HTTPService", "Telemetry"],
            swiftSettings: shell
        ),
        .executableTarget(
            name: "weir",
            dependencies: [
                "Core", "Traffic", "Autoscaling", "Workload", "Simulation", "Configuration",
                "EventLoop", "Reports", "Proxy", "Clusters", "Control", "Admin", "Telemetry",
                "TLS", "LoadTest", "ModelSimulator", "HTTPService", "Kubernetes", "Rollouts",
                "Recordings", "Recorder", "Digests",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
            ],
            exclude: ["weir.profdata"],
            swiftSettings: base,
            linkerSettings: [
                .unsafeFlags(
                    ["-use-ld=lld"]
                        + (isProfiling ? ["-Xclang-linker", "-fprofile-generate"] : []),
                    .when(configuration: .release)
                )
            ]
        ),
        .target(
            name: "LoopTestSupport",
            dependencies: ["Core", "EventLoop"],
            path: "Tests/LoopTestSupport",
            swiftSettings: base
        ),
        test("CoreTests", ["Core"]),
        .target(
            name: "TestSupport",
            dependencies: ["HTTP", "Core"],
            path: "Tests/TestSupport",
            swiftSettings: base
        ),
        .target(
            name: "FuzzInvariants",
            dependencies: [
                "Core", "HTTP", "GRPC", "HTTP2", "Traffic", "Signals", "Recordings",
                "Configuration",
                "EventLoop", "HTTPService", "Compression", "Kubernetes", "TestSupport",
            ],
            path: "Tests/FuzzInvariants",
            swiftSettings: base
        ),
        test("FuzzTests", ["FuzzInvariants", "TestSupport"]),
        test("HTTPTests", ["HTTP", "Core", "TestSupport"]),
        test("GRPCTests", ["GRPC", "HTTP", "Core"]),
        test("TrafficTests", ["Traffic", "HTTP", "Core"]),
        test("AutoscalingTests", ["Autoscaling", "Core"]),
        test("OrchestrationTests", ["Orchestration", "Autoscaling", "Core"]),
        .target(
            name: "RolloutTrials",
            dependencies: ["Rollouts", "Core"],
            path: "Tests/RolloutTrials",
            swiftSettings: base
        ),
        .executableTarget(
            name: "RolloutBench",
            dependencies: ["RolloutTrials", "Rollouts"],
            path: "Tests/RolloutBench",
            swiftSettings: base
        ),
        test("RolloutsTests", ["Rollouts", "RolloutTrials", "Core"]),
        test("SignalsTests", ["Signals", "Core"]),
        test("ConfigurationTests", ["Configuration", "Rollouts", "Core"]),
        test(
            "SimulationTests",
            [
                "Simulation", "Autoscaling", "Rollouts", "Workload", "Traffic", "ModelSimulator",
                "Core",
            ]
        ),
        test("WorkloadTests", ["Workload", "Core"]),
        test("RecordingsTests", ["Recordings", "Workload", "Core"]),
        test("DigestsTests", ["Digests"]),
        test("CompressionTests", ["Compression", "HTTP", "Core"]),
        test("HTTP2Tests", ["HTTP2", "HTTP", "Core"]),
        test("TLSTests", ["TLS", "EventLoop", "Core"]),
        test("RecorderTests", ["Recorder", "Recordings", "EventLoop", "Core"]),
        test("ReportsTests", ["Reports", "Core"]),
        test("TidyTests", []),
        test("EventLoopTests", ["EventLoop", "Core", "CPlatform", "LoopTestSupport"]),
        test(
            "TelemetryTests",
            ["Telemetry", "EventLoop", "Core", .product(name: "Logging", package: "swift-log")]
        ),
        test(
            "HTTPServiceTests",
            ["HTTPService", "EventLoop", "HTTP", "Core", "LoopTestSupport"]
        ),
        test(
            "CurlTests",
            ["Curl", "HTTPService", "EventLoop", "HTTP", "Core", "LoopTestSupport"]
        ),
        test(
            "KubernetesTests",
            ["Kubernetes", "Curl", "HTTPService", "EventLoop", "HTTP", "Core", "LoopTestSupport"]
        ),
        test(
            "ScrapingTests",
            [
                "Scraping", "Curl", "Signals", "ModelSimulator", "HTTPService", "EventLoop", "HTTP",
                "Core", "LoopTestSupport",
            ]
        ),
        test("ProxyTests", ["Proxy", "Rollouts", "Traffic", "EventLoop", "Core"]),
        test(
            "WireTests",
            [
                "Proxy", "Compression", "Rollouts", "EventLoop", "HTTP", "HTTP2", "Traffic", "Core",
                "TestSupport",
            ]
        ),
        test(
            "ClustersTests",
            [
                "Clusters", "Configuration", "EventLoop", "HTTP", "HTTPService", "Curl",
                "Kubernetes",
                "Orchestration", "Autoscaling", "Core", "LoopTestSupport",
            ]
        ),
        test(
            "AdminTests",
            [
                "Admin", "Control", "Configuration", "Clusters", "Orchestration", "Proxy",
                "HTTPService", "HTTP", "EventLoop", "Telemetry", "Core", "LoopTestSupport",
                .product(name: "Logging", package: "swift-log"),
            ]
        ),
        test(
            "ControlTests",
            [
                "Control", "Autoscaling", "Rollouts", "Configuration", "Clusters", "Proxy",
                "HTTPService", "HTTP", "Traffic", "EventLoop", "Kubernetes", "Orchestration",
                "Scraping", "Signals", "Core", "LoopTestSupport",
                .product(name: "Logging", package: "swift-log"),
            ]
        ),
        test(
            "LoadTestTests",
            ["LoadTest", "Workload", "ModelSimulator", "HTTP", "EventLoop", "HTTPService", "Core"]
        ),
        test(
            "ModelSimulatorTests",
            ["ModelSimulator", "HTTP", "EventLoop", "HTTPService", "Core", "LoopTestSupport"]
        ),
    ]
)

// Measures what is too large for a micro-benchmark: `make bench-control`, `make bench-pods`.
if Context.environment["WEIR_BENCHMARKS"] != nil {
    package.targets += [
        .executableTarget(
            name: "control-tick",
            dependencies: [
                "Control", "Autoscaling", "Clusters", "Proxy", "EventLoop", "Core",
                .product(name: "Logging", package: "swift-log"),
            ],
            path: "loadtests/control-tick",
            swiftSettings: base
        ),
        .executableTarget(
            name: "pod-memory",
            dependencies: ["Kubernetes", "Curl", "HTTPService", "HTTP", "EventLoop", "Core"],
            path: "loadtests/pod-memory",
            swiftSettings: base
        ),
    ]
}

if isFuzzing {
    package.targets += [
        .systemLibrary(name: "CFuzzer", path: "Fuzz/CFuzzer"),
        fuzzer("Fuzzer", path: "Fuzz/Fuzzer", ["CFuzzer", "FuzzInvariants"]),
        fuzzer("FuzzSeeds", path: "Fuzz/Seeds", ["FuzzInvariants"]),
    ]
}
