import Bootstrap
import Foundation
import PythonHost

extension EnvironmentsConfiguration {
    /// - `ENVIRONMENTS` (folder, `/environments`): where services' environments are built and kept.
    /// - `ENVIRONMENTS_SYSTEM_PACKAGES` (flag, false): whether they see the packages of `PYTHON`.
    /// - `ENVIRONMENTS_LIMIT` (seconds, 1800): how long a build may take.
    /// - `ENVIRONMENTS_RETRY` (seconds, 300): how long a failed build is not tried again.
    /// - `ENVIRONMENT_<NAME>` (path): a prepared interpreter.
    init(_ settings: Settings, _ folders: ServiceFolders, _ hosts: PythonHostConfiguration) throws {
        self.init(
            folder: settings.folder("ENVIRONMENTS", default: "/environments"),
            modules: folders.modules,
            logs: folders.logs,
            python: hosts.python,
            variables: hosts.environment,
            prepared: Self.prepared(in: ProcessInfo.processInfo.environment),
            seesSystemPackages: try settings.flag("ENVIRONMENTS_SYSTEM_PACKAGES", default: false),
            limit: .seconds(try settings.seconds("ENVIRONMENTS_LIMIT", default: 1800, in: 1...86_400)),
            pause: .seconds(try settings.seconds("ENVIRONMENTS_RETRY", default: 300, in: 0...86_400))
        )
    }
}
