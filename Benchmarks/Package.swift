// swift-tools-version: 6.2
import PackageDescription

// A package of its own, so that the product builds neither the measurements nor the C programs they compare with.
//
// What is measured has `package` access, which ends at the package's border. So the targets are not a dependency: Sources/ holds
// relative links to the product's folders, which makes them targets of this package too. Whoever measures another one adds its link
// here, its target below with the dependencies of ../Package.swift, and a file with its subcommand.

let settings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
]

let grdb = Target.Dependency.product(name: "GRDB", package: "GRDB.swift")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let metrics = Target.Dependency.product(name: "Metrics", package: "swift-metrics")
let lifecycle = Target.Dependency.product(name: "ServiceLifecycle", package: "swift-service-lifecycle")

let package = Package(
    name: "benchmarks",
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-metrics", from: "2.13.0"),
        .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
    ],
    targets: [
        // MARK: Linked from the product
        .systemLibrary(name: "CRabbitMQ", pkgConfig: "librabbitmq", providers: [.apt(["librabbitmq-dev"])]),
        .systemLibrary(name: "CCurl", pkgConfig: "libcurl", providers: [.apt(["libcurl4-openssl-dev"])]),
        .systemLibrary(name: "CLinux"),
        .target(name: "CMD5"),
        .systemLibrary(name: "COpenSSL", pkgConfig: "libcrypto", providers: [.apt(["libssl-dev"])]),
        .target(name: "AMQP", dependencies: ["CRabbitMQ", logging, metrics, lifecycle], swiftSettings: settings),
        .target(name: "JobStore", dependencies: ["Jobs", "Pipeline", grdb], swiftSettings: settings),
        .target(name: "Jobs", swiftSettings: settings),
        .target(name: "Curl", dependencies: ["CCurl"], swiftSettings: settings),
        .target(name: "Orthanc", dependencies: ["CLinux", "CMD5", "COpenSSL", "Curl", "Jobs", logging], swiftSettings: settings),
        .target(name: "Pipeline", dependencies: ["AMQP", "Jobs"], swiftSettings: settings),
        .target(name: "Registry", dependencies: ["Jobs"], swiftSettings: settings),
        .target(name: "Stack", dependencies: ["CLinux", "COpenSSL", "Jobs", "Registry", logging], swiftSettings: settings),

        // MARK: Measuring
        .executableTarget(
            name: "Benchmarks",
            dependencies: [
                "AMQP", "JobStore", "Jobs", "Orthanc", "Pipeline", "Stack", grdb, logging,
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: settings
        ),
        // What our AMQP client is compared with: the C library, used directly.
        .executableTarget(name: "RawRabbitMQ", dependencies: ["CRabbitMQ"]),
    ],
    swiftLanguageModes: [.v6]
)
