// swift-tools-version: 6.2
import PackageDescription

// One owner for each outside package: librabbitmq in AMQP, libcurl in Curl, GRDB in JobStore, Hummingbird in Dashboard
// and in Ingest's small endpoint, Mustache in Dashboard, ArgumentParser in DCM. Imports go one way: executables -> libraries -> Jobs.

let settings: [SwiftSetting] =
    [
        .enableUpcomingFeature("ExistentialAny"),
        .enableUpcomingFeature("InternalImportsByDefault"),
        .enableUpcomingFeature("MemberImportVisibility"),
        .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    ] + (Context.environment["CI"] == nil ? [] : [.treatAllWarnings(as: .error)])

let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let metrics = Target.Dependency.product(name: "Metrics", package: "swift-metrics")
let lifecycle = Target.Dependency.product(name: "ServiceLifecycle", package: "swift-service-lifecycle")
let signals = Target.Dependency.product(name: "UnixSignals", package: "swift-service-lifecycle")
let grdb = Target.Dependency.product(name: "GRDB", package: "GRDB.swift")
let configuration = Target.Dependency.product(name: "Configuration", package: "swift-configuration")

// The state machine and its simulation: 100,000 runs in a debug build would take far longer than anybody waits for a test.
let optimized = settings + [.unsafeFlags(["-O"], .when(configuration: .debug))]

func library(
    _ name: String, _ dependencies: [Target.Dependency] = [], resources: [Resource] = [], settings: [SwiftSetting] = settings
) -> Target {
    .target(name: name, dependencies: dependencies, resources: resources, swiftSettings: settings)
}

func executable(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .executableTarget(name: name, dependencies: dependencies, swiftSettings: settings)
}

func tests(
    _ name: String, _ dependencies: [Target.Dependency], resources: [Resource] = [], settings: [SwiftSetting] = settings
) -> Target {
    .testTarget(name: name, dependencies: dependencies, resources: resources, swiftSettings: settings)
}

let package = Package(
    name: "dcm-processor",
    products: [
        .executable(name: "dcm-ingest", targets: ["Ingest"]),
        .executable(name: "dcm-router", targets: ["Router"]),
        .executable(name: "dcm-worker", targets: ["Worker"]),
        .executable(name: "dcm-monitor", targets: ["Monitor"]),
        .executable(name: "dcm-tool", targets: ["DCM"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-configuration", from: "1.4.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-metrics", from: "2.13.0"),
        .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
        .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1"),
        .package(url: "https://github.com/hummingbird-project/swift-mustache", from: "2.1.1"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
    ],
    targets: [
        // MARK: C libraries
        .systemLibrary(name: "CRabbitMQ", pkgConfig: "librabbitmq", providers: [.apt(["librabbitmq-dev"])]),
        .systemLibrary(name: "COpenSSL", pkgConfig: "libcrypto", providers: [.apt(["libssl-dev"])]),
        .systemLibrary(name: "CCurl", pkgConfig: "libcurl", providers: [.apt(["libcurl4-openssl-dev"])]),
        .systemLibrary(name: "CLinux"),
        // Optimized in debug builds too, as what it is for is speed.
        .target(name: "CMD5", cSettings: [.unsafeFlags(["-O2"], .when(configuration: .debug))]),

        // MARK: Libraries
        library("Jobs", settings: optimized),
        library("AMQP", ["CRabbitMQ", logging, metrics, lifecycle]),
        library("Curl", ["CCurl"]),
        library("Orthanc", ["CLinux", "CMD5", "COpenSSL", "Curl", "Jobs", logging]),
        library("Accounts", ["COpenSSL"]),
        library("Registry", ["Jobs"]),
        library("PythonHost", ["Jobs", logging]),
        library("JobStore", ["Jobs", "Pipeline", grdb]),
        library("Pipeline", ["AMQP", "Jobs"]),
        library("Bootstrap", ["AMQP", configuration, logging, lifecycle, signals]),
        library(
            "Dashboard",
            [
                "Accounts", "JobStore", "Jobs", "Pipeline", logging, lifecycle,
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "Mustache", package: "swift-mustache"),
            ],
            resources: [.copy("Resources")]
        ),
        library("Stack", ["CLinux", "COpenSSL", "Jobs", "Registry", logging]),
        library("Workbench", ["Jobs", "PythonHost", "Registry", "Stack", logging]),

        // MARK: Executables
        executable(
            "Ingest",
            [
                "AMQP", "Bootstrap", "JobStore", "Jobs", "Orthanc", "Pipeline", configuration, logging, lifecycle,
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "HummingbirdCore", package: "hummingbird"),
            ]
        ),
        executable(
            "Router",
            ["AMQP", "Bootstrap", "JobStore", "Jobs", "Pipeline", "PythonHost", "Registry", configuration, logging, lifecycle]
        ),
        executable(
            "Worker",
            ["AMQP", "Bootstrap", "Jobs", "Orthanc", "Pipeline", "PythonHost", configuration, logging, lifecycle, signals]
        ),
        executable(
            "Monitor",
            [
                "AMQP", "Accounts", "Bootstrap", "Curl", "Dashboard", "JobStore", "Jobs", "Pipeline", configuration, logging, lifecycle,
            ]
        ),
        executable(
            "DCM",
            [
                "Accounts", "JobStore", "Jobs", "Orthanc", "PythonHost", "Registry", "Stack", "Workbench", logging,
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ]
        ),

        // MARK: Tests
        .target(name: "TestSupport", path: "Tests/TestSupport", swiftSettings: optimized),
        tests("AMQPIntegrationTests", ["AMQP", "Stack", "TestSupport", logging, lifecycle]),
        tests("AMQPTests", ["AMQP", "TestSupport", logging, metrics]),
        tests("BootstrapTests", ["Bootstrap", configuration, logging]),
        tests("DashboardTests", ["Accounts", "Dashboard", "JobStore", "Jobs", "Pipeline", logging, lifecycle, grdb]),
        tests(
            "IngestTests",
            [
                "AMQP", "Bootstrap", "DCM", "Ingest", "JobStore", "Jobs", "Orthanc", "Pipeline", "Stack", "Workbench", configuration,
                lifecycle, logging,
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            resources: [.copy("Fixtures")]
        ),
        tests(
            "IntegrationTests",
            [
                "AMQP", "Bootstrap", "DCM", "Ingest", "JobStore", "Jobs", "Monitor", "Pipeline", "Router", "Stack", "Worker", logging,
                lifecycle,
            ],
            resources: [.copy("Fixtures")]
        ),
        tests("JobStoreTests", ["JobStore", "Jobs", "Pipeline", "TestSupport", grdb]),
        tests("JobsTests", ["Jobs", "TestSupport"], settings: optimized),
        tests(
            "MonitorTests",
            [
                "AMQP", "Accounts", "Bootstrap", "Curl", "Dashboard", "JobStore", "Jobs", "Monitor", "Pipeline", "Stack", configuration,
                grdb, logging, lifecycle,
            ]
        ),
        tests("OrthancTests", ["Jobs", "Orthanc", logging]),
        tests("PipelineTests", ["AMQP", "Jobs", "Pipeline"]),
        tests("PythonHostTests", ["Jobs", "PythonHost", "TestSupport", logging]),
        tests("RegistryTests", ["Jobs", "Registry", "TestSupport"]),
        tests(
            "RouterTests",
            [
                "AMQP", "Bootstrap", "JobStore", "Jobs", "Pipeline", "PythonHost", "Registry", "Router", "Stack", "TestSupport", logging,
                lifecycle,
            ]
        ),
        tests("StackTests", ["Jobs", "Registry", "Stack", logging]),
        tests(
            "WorkerTests",
            ["AMQP", "Bootstrap", "Jobs", "Orthanc", "Pipeline", "PythonHost", "Worker", configuration, logging, lifecycle]
        ),
        tests("WorkbenchTests", ["Jobs", "Registry", "Stack", "TestSupport", "Workbench", logging]),
    ],
    swiftLanguageModes: [.v6]
)
