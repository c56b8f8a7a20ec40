package import Foundation

/// Where environments of services are kept and how they are built.
package struct EnvironmentsConfiguration: Sendable {
    /// ENVIRONMENTS: one folder a host, shared by its workers. Not below DATA, which several hosts may share.
    package var folder: URL
    package var modules: URL
    package var logs: URL
    /// The interpreter of services that ask for nothing, and the one that environments are made with.
    package var python: String
    /// The whole environment of what builds; PATH and VIRTUAL_ENV are changed, PYTHONHOME and PYTHONPATH taken out.
    package var variables: [String: String]
    /// Interpreters that somebody has prepared, by name as ``preparedName(_:)`` spells it.
    package var prepared: [String: String]
    /// Whether the packages of ``python`` are seen in environments that do not ask for it.
    package var seesSystemPackages: Bool
    /// How long one build may take.
    package var limit: Duration
    /// How long a failed build is remembered.
    package var pause: Duration

    package init(
        folder: URL,
        modules: URL,
        logs: URL,
        python: String,
        variables: [String: String],
        prepared: [String: String] = [:],
        seesSystemPackages: Bool = false,
        limit: Duration = .seconds(1800),
        pause: Duration = .seconds(300)
    ) {
        self.folder = folder
        self.modules = modules
        self.logs = logs
        self.python = python
        self.variables = variables
        self.prepared = prepared
        self.seesSystemPackages = seesSystemPackages
        self.limit = limit
        self.pause = pause
    }

    /// The prepared interpreters of `variables`: `ENVIRONMENT_TORCH_2=/path/to/python` is `TORCH_2`.
    package static func prepared(in variables: [String: String]) -> [String: String] {
        let prefix = "ENVIRONMENT_"
        return variables.reduce(into: [:]) { prepared, variable in
            guard variable.key.hasPrefix(prefix), variable.key.count > prefix.count, !variable.value.isEmpty else { return }
            prepared[String(variable.key.dropFirst(prefix.count))] = variable.value
        }
    }

    /// The name of an environment as it stands in the name of a variable: `torch-2.1` is `TORCH_2_1`.
    package static func preparedName(_ name: String) -> String {
        String(name.uppercased().map { $0.isASCII && ($0.isLetter || $0.isNumber) ? $0 : "_" })
    }
}
