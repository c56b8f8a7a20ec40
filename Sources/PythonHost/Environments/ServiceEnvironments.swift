import Foundation
import Glibc
package import Jobs
package import Logging

/// An environment that cannot be had is the failure of the job that asked.
extension JobExit.Failure: Error {}

/// Which interpreter runs a service's jobs.
///
/// A service whose folder in MODULES holds a requirements.txt or a script.sh has a virtual environment of its own, named by their content and
/// built at most once on a host, however many workers run there. All others share the configured interpreter.
package actor ServiceEnvironments {
    /// What was found out about a service, as long as the files it was read from are the same.
    private struct Known: Sendable {
        var files: [String]
        var stamps: [FileStamp?]
        /// nil: the configured one.
        var python: String?

        /// Blocking; only asks for the state of files.
        var holds: Bool {
            files.map { FileStamp($0) } == stamps && (python.map { access($0, X_OK) == 0 } ?? true)
        }
    }

    private enum Finding: Sendable {
        case known(Known)
        case failed(JobExit.Failure)
        case missing(EnvironmentRecipe, Known)
    }

    private let configuration: EnvironmentsConfiguration
    private let logger: Logger
    private var known: [String: Known] = [:]
    private var builds: [String: SharedBuild] = [:]
    private var isShutDown = false

    package init(configuration: EnvironmentsConfiguration, logger: Logger) {
        self.configuration = configuration
        self.logger = logger
    }

    /// The path of the interpreter for a job. Builds the service's environment when it has to, which may take minutes.
    ///
    /// Never throws: whatever is wrong is a failure with a cure. A cancelled task gets a failure at once; a build for which nobody waits any
    /// more is ended with all it has started.
    /// - Parameters:
    ///   - service: the folder's name in MODULES; empty when there is none.
    ///   - named: a prepared interpreter (`ENVIRONMENT_<NAME>`), which is taken as it is: nothing is installed for it.
    ///   - onProgress: called with what is being done while the job waits for a build, from any thread.
    package func python(
        for service: String, named: String?, onProgress: @escaping @Sendable (String) -> Void = { _ in }
    ) async -> Result<String, JobExit.Failure> {
        if let named { return await prepared(named) }
        // One component of a path, and none that leads elsewhere.
        guard !service.isEmpty, !service.hasPrefix("."), !service.contains("/") else { return .success(configuration.python) }
        if let known = known[service], await FileWork.run({ known.holds }) { return .success(known.python ?? configuration.python) }

        while !Task.isCancelled, !isShutDown {
            switch await FileWork.run({ [configuration] in Self.find(service, configuration) }) {
            case .known(let found):
                known[service] = found
                return .success(found.python ?? configuration.python)
            case .failed(let failure):
                return .failure(failure)
            case .missing(let recipe, var found):
                let build = build(recipe)
                guard let waiter = build.join(onProgress: onProgress) else {
                    // Ended a moment ago, or is being ended.
                    await build.end()
                    if builds[service] === build { builds[service] = nil }
                    continue
                }
                guard let outcome = await build.outcome(for: waiter) else { continue }
                if builds[service] === build { builds[service] = nil }
                if case .success(let python) = outcome {
                    found.python = python
                    known[service] = found
                }
                return outcome
            }
        }
        return .failure(
            JobExit.Failure(type: "Cancelled", message: "The job was ended before the environment of service \(service) was ready.")
        )
    }

    /// Whether a service has an environment of its own that would have to be built first.
    package func needsBuild(for service: String) async -> Bool {
        guard !service.isEmpty, !service.hasPrefix("."), !service.contains("/") else { return false }
        let finding = await FileWork.run { [configuration] in Self.find(service, configuration) }
        if case .known = finding { return false } else { return true }
    }

    /// Ends all builds. Returns once nothing of them runs.
    package func shutdown() async {
        isShutDown = true
        let running = builds.values
        builds = [:]
        for build in running { build.abandon() }
        for build in running { await build.end() }
    }

    private func build(_ recipe: EnvironmentRecipe) -> SharedBuild {
        if let build = builds[recipe.service], build.key == recipe.key { return build }
        // One of a content that is no longer asked for goes on for those who wait for it; the lock orders the two.
        let build = SharedBuild(EnvironmentBuild(recipe: recipe, configuration: configuration, logger: logger))
        builds[recipe.service] = build
        return build
    }

    /// Blocking.
    private static func find(_ service: String, _ configuration: EnvironmentsConfiguration) -> Finding {
        // Stamps taken between two readings that agree are those of what was read.
        var (recipe, files) = EnvironmentRecipe.read(service, configuration)
        var stamps = files.map { FileStamp($0) }
        var again = EnvironmentRecipe.read(service, configuration)
        for _ in 0..<3 where again.files != files || again.recipe?.key != recipe?.key {
            (recipe, files) = again
            stamps = files.map { FileStamp($0) }
            again = EnvironmentRecipe.read(service, configuration)
        }
        var found = Known(files: files, stamps: stamps, python: nil)
        guard let recipe else { return .known(found) }
        let shelf = EnvironmentShelf(configuration, service: service)
        if let python = shelf.interpreter(of: recipe.key) {
            shelf.touch(recipe.key)
            found.python = python
            return .known(found)
        }
        if let failure = shelf.failure(of: recipe.key, within: configuration.pause) { return .failed(failure) }
        return .missing(recipe, found)
    }

    private func prepared(_ name: String) async -> Result<String, JobExit.Failure> {
        let variable = "ENVIRONMENT_\(EnvironmentsConfiguration.preparedName(name))"
        guard let python = configuration.prepared[EnvironmentsConfiguration.preparedName(name)] else {
            let known = configuration.prepared.keys.sorted().map { "ENVIRONMENT_\($0)" }.joined(separator: ", ")
            return .failure(
                JobExit.Failure(
                    type: "UnknownEnvironment",
                    message: "This worker knows no environment \"\(name)\": it knows \(known.isEmpty ? "none" : known). "
                        + "Set \(variable)=/path/to/python for this worker, or give the job a channel whose workers have it."
                )
            )
        }
        guard await FileWork.run({ access(python, X_OK) == 0 && FileStamp(python) != nil }) else {
            return .failure(
                JobExit.Failure(
                    type: "UnknownEnvironment",
                    message: "The interpreter of the environment \"\(name)\", \(variable)=\(python), is not there or may not be executed."
                )
            )
        }
        return .success(python)
    }
}
