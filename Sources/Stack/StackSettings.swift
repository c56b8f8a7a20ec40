package import Foundation

/// The settings of a stack: the environment over DIR/.env over the checkout's .env over the built-in defaults.
///
/// Keys this type reads itself; all others are passed on to the services as they are:
/// - `WORKERS` (int, 2): worker processes at the first start; `--workers` wins and is remembered.
/// - `ORTHANC_STABLE_AGE` (int, 60): seconds without a new instance until Orthanc calls a resource stable.
/// - `MONITOR_HOST`, `INGEST_HOST` (address, 127.0.0.1): where the monitor and ingest's endpoint listen.
/// - `MONITOR_PORT`, `INGEST_PORT`, `ORTHANC_HTTP_PORT`, `ORTHANC_DICOM_PORT`, `RABBITMQ_PORT`, `RABBITMQ_MANAGEMENT_PORT` (int): a fixed port
///   in place of a free one.
/// - `PYTHON` (path, /usr/bin/python3): the interpreter for callbacks and jobs.
package struct StackSettings: Sendable {
    package let values: [String: String]

    /// - Throws: ``StackError`` for a `.env` file that cannot be read.
    package init(environment: [String: String], home: URL, checkout: URL?, defaults: [String: String] = [:]) throws {
        let ofCheckout = try checkout.map { try EnvironmentFile.read($0.appendingPathComponent(".env")) } ?? [:]
        let ofHome = try EnvironmentFile.read(home.appendingPathComponent(".env"))
        values = defaults.merging(ofCheckout) { $1 }.merging(ofHome) { $1 }.merging(environment) { $1 }
    }

    /// Nil when unset or empty.
    package subscript(name: String) -> String? {
        guard let value = values[name], !value.isEmpty else { return nil }
        return value
    }

    /// - Throws: ``StackError`` `.badSetting` for a value that is not an integer inside `range`.
    package func integer(_ name: String, in range: ClosedRange<Int>) throws -> Int? {
        guard let text = self[name] else { return nil }
        guard let value = Int(text), range.contains(value) else {
            throw StackError(
                .badSetting,
                "\(name) is '\(text)'; it has to be a whole number from \(range.lowerBound) to \(range.upperBound).",
            )
        }
        return value
    }

    /// What decides how a stack behaves, for a look at what has changed since its start: our own names out of all sources.
    package var comparable: [String: String] {
        values.filter { name, value in
            let isSecret = ["PASSWORD", "TOKEN", "COOKIE", "SECRET"].contains { name.contains($0) }
            return !isSecret && !value.isEmpty && Self.names.contains { name == $0 || ($0.hasSuffix("_") && name.hasPrefix($0)) }
        }
    }

    /// A name that ends with `_` stands for all that begin so.
    private static let names = [
        "EVENTS", "ORTHANC_", "MONITOR_", "RABBITMQ_PORT", "RABBITMQ_MANAGEMENT_PORT", "RABBITMQ_USER", "WORKER_", "INGEST_", "ROUTER_",
        "PYTHON", "PYTHONHOST_", "SETTINGS", "LOG_LEVEL", "SUPPORTED_MODALITY", "ACCEPTED_FILES", "JUNK_FILES",
        "INSTANCE_REQUIRED_TAGS", "DEFAULT_", "DEFUALT_",
    ]

    package func stableAge() throws -> Int { try integer("ORTHANC_STABLE_AGE", in: 1...86_400) ?? 60 }
    package func workers() throws -> Int? { try integer("WORKERS", in: 0...256) }
    package var monitorHost: String { self["MONITOR_HOST"] ?? "127.0.0.1" }
    package var ingestHost: String { self["INGEST_HOST"] ?? "127.0.0.1" }
    package var python: String { self["PYTHON"] ?? "/usr/bin/python3" }
}
