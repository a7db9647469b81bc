// swift-tools-version: 6.2
import PackageDescription

// Micro-benchmarks of what happens for every request. A package of its own, so that whoever builds
// Weir does not fetch what only benchmarks need.
//
// The modules are compiled here from the same sources, through links in `Sources`: what they offer
// each other has `package` access, which ends at the border of a package, and a library product for
// benchmarks alone would make it public. The settings are those of the main package's `pure` modules.
let pure: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    .treatAllWarnings(as: .error),
    .unsafeFlags(["-enforce-exclusivity=unchecked"], .when(configuration: .release)),
    .strictMemorySafety(),
    .enableExperimentalFeature("Lifetimes"),
    .treatWarning("StrictMemorySafety", as: .error),
]

let package = Package(
    name: "weir-benchmarks",
    dependencies: [
        // Without its traits it needs no further allocator: it counts no allocations then.
        .package(
            url: "https://github.com/ordo-one/benchmark",
            "1.38.1"..<"2.0.0",
            traits: []
        )
    ],
    targets: [
        .target(name: "Core", swiftSettings: pure),
        .target(name: "HTTP", dependencies: ["Core"], swiftSettings: pure),
        .target(name: "Traffic", dependencies: ["Core", "HTTP"], swiftSettings: pure),
        .executableTarget(
            name: "Decisions",
            dependencies: [
                "Core", "HTTP", "Traffic", .product(name: "Benchmark", package: "benchmark"),
            ],
            path: "Benchmarks/Decisions",
            swiftSettings: [.swiftLanguageMode(.v6), .enableExperimentalFeature("Lifetimes")],
            plugins: [.plugin(name: "BenchmarkPlugin", package: "benchmark")]
        ),
    ]
)
