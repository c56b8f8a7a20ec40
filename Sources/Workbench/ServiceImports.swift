import Foundation
package import Jobs
import PythonHost
package import Registry

/// What became of importing one function of an entry.
package struct ImportFinding: Sendable, Hashable {
    package enum Outcome: Sendable, Hashable {
        case imported
        /// - Parameter place: the file of the service in which it went wrong, with the line.
        case failed(JobExit.Failure, place: String?)
        /// Why nobody tried.
        case untried(String)
    }

    package var entry: CatalogEntry
    /// `callback`, `worker` or `command`.
    package var key: String
    /// What was to be imported.
    package var name: String
    package var outcome: Outcome

    /// nil unless it failed.
    package var problem: ServiceProblem? {
        guard case .failed(let failure, let place) = outcome else { return nil }
        // The last line of a traceback, which may be followed by more than a line of message.
        let words = failure.message.split(separator: "\n", omittingEmptySubsequences: true).first.map(String.init) ?? ""
        let what = key == "command" ? "cannot be started" : "cannot be used"
        return ServiceProblem(
            severity: .error,
            service: entry.service,
            file: entry.file,
            entry: entry.name,
            key: key,
            message: "\(name) \(what): \(failure.type): \(words)\(place.map { " (\($0))" } ?? "")",
            value: JSONValue.string(name).text
        )
    }

    /// `{"job", "service", "key", "name", "outcome": "imported" | "failed" | "untried", "error", "message", "place"}`
    package var json: JSONValue {
        var members: [String: JSONValue] = [
            "job": .string(entry.name), "service": .string(entry.service), "key": .string(key), "name": .string(name), "error": .null,
            "message": .null, "place": .null,
        ]
        switch outcome {
        case .imported: members["outcome"] = "imported"
        case .untried(let reason):
            members["outcome"] = "untried"
            members["message"] = .string(reason)
        case .failed(let failure, let place):
            members["outcome"] = "failed"
            members["error"] = .string(failure.type)
            members["message"] = .string(failure.message)
            members["place"] = place.map(JSONValue.string) ?? .null
        }
        return .object(members)
    }
}

/// Imports callbacks and worker functions in the hosts that production uses, and calls none of them.
package struct ServiceImports: Sendable {
    private let bench: Bench
    private let buildsEnvironments: Bool
    private let onProgress: @Sendable (String) -> Void

    /// - Parameters:
    ///   - buildsEnvironments: whether a service's environment is built when it is not there; else its workers are not tried.
    ///   - onProgress: called with what takes its time.
    package init(bench: Bench, buildsEnvironments: Bool = true, onProgress: @escaping @Sendable (String) -> Void = { _ in }) {
        self.bench = bench
        self.buildsEnvironments = buildsEnvironments
        self.onProgress = onProgress
    }

    /// Two findings at most for each entry, in the entries' order. Disabled entries are left out.
    /// - Throws: `PythonHostError` when there is no Python to try it with, and what making the private folders throws.
    package func run(_ entries: [CatalogEntry]) async throws -> [ImportFinding] {
        try bench.makeFolders()
        let entries = entries.filter { !$0.isDisabled }
        let callbacks = CallbackHost(configuration: bench.callbackHost, timeout: bench.importLimit, logger: bench.logger)
        let hosts = WarmHosts(configuration: bench.jobHost, logger: bench.logger)
        let environments = bench.serviceEnvironments()
        do {
            let asked = entries.filter { !$0.callback.isEmpty }
            let calls = asked.map { CallbackCall(jobName: $0.name, entry: $0.callback, params: $0.definition.params, isCheck: true) }
            let verdicts = try await callbacks.evaluate(calls, headers: [:], addedParams: [:])
            var findings: [ImportFinding] = []
            for entry in entries {
                if let position = asked.firstIndex(of: entry) {
                    findings.append(
                        ImportFinding(entry: entry, key: "callback", name: entry.callback, outcome: outcome(of: verdicts[position])))
                }
                findings.append(await worker(of: entry, hosts, environments))
            }
            await callbacks.shutdown()
            await hosts.shutdown()
            await environments.shutdown()
            return findings
        } catch {
            await callbacks.shutdown()
            await hosts.shutdown()
            await environments.shutdown()
            throw error
        }
    }

    private func outcome(of verdict: CallbackVerdict) -> ImportFinding.Outcome {
        guard case .failed(let failure) = verdict.outcome else { return .imported }
        return .failed(failure, place: place(in: failure.traceback, below: bench.registry))
    }

    private func worker(of entry: CatalogEntry, _ hosts: WarmHosts, _ environments: ServiceEnvironments) async -> ImportFinding {
        let job = entry.definition
        if job.kind == .command { return command(of: entry) }
        func finding(_ outcome: ImportFinding.Outcome) -> ImportFinding {
            ImportFinding(entry: entry, key: "worker", name: job.entry, outcome: outcome)
        }
        if !buildsEnvironments, job.environment == nil, await environments.needsBuild(for: job.service) {
            return finding(.untried("its environment is not built"))
        }
        let interpreter: String
        switch await environments.python(for: job.service, named: job.environment, onProgress: { onProgress("\(job.service): \($0)") }) {
        case .success(let path): interpreter = path
        case .failure(let failure):
            // A prepared interpreter is the workers' to know.
            return finding(job.environment == nil ? .failed(failure, place: nil) : .untried(failure.message))
        }
        let run = RunID.make(at: Date())
        var python = PythonJob(
            job: JobID(run: run, index: 1), attempt: 1, token: 1, service: job.service, entry: job.entry, jobName: job.name, headers: [:],
            params: job.params, addedParams: [:], data: bench.data, workdir: bench.folder.appending(path: "work/\(run)"), logs: bench.logs,
            log: "imports/\(run).log", timeout: JobTimeout(seconds: Int(max(1, bench.importLimit / .seconds(1)))) ?? .standard
        )
        python.python = interpreter
        python.preload = job.preload
        python.isCheck = true
        let exit = await hosts.run(python) { _, _ in }
        guard exit.outcome != .succeeded else { return finding(.imported) }
        let failure = exit.failure ?? JobExit.Failure(type: exit.kind.rawValue, message: "The import ended its process.")
        return finding(.failed(failure, place: place(in: failure.traceback, below: bench.modules)))
    }

    private func command(of entry: CatalogEntry) -> ImportFinding {
        let words = entry.definition.command
        let name = bench.program(words.first ?? "", of: entry.definition.service)
        let outcome: ImportFinding.Outcome =
            bench.executable(name) != nil
            ? .imported
            : .failed(
                JobExit.Failure(
                    type: "NotExecutable",
                    message: name.contains("/")
                        ? "there is no file that may be executed; chmod +x makes a script one" : "there is no such program in PATH"),
                place: nil)
        return ImportFinding(entry: entry, key: "command", name: words.first ?? "", outcome: outcome)
    }

    /// The last place of a traceback that is the service's own: `count/main.py, line 3`.
    private func place(in traceback: String?, below root: URL) -> String? {
        // As Python has it, or as it is: a service may be a link.
        let roots = [root.path, root.resolvingSymlinksInPath().path].map { $0.hasSuffix("/") ? $0 : $0 + "/" }
        let frames = (traceback ?? "").split(separator: "\n").compactMap { line -> String? in
            let parts = line.split(separator: "\"", maxSplits: 2, omittingEmptySubsequences: false)
            guard parts.count == 3, parts[0].trimmingCharacters(in: .whitespaces) == "File" else { return nil }
            guard let root = roots.first(where: { parts[1].hasPrefix($0) }) else { return nil }
            let number = parts[2].drop { !$0.isNumber }.prefix { $0.isNumber }
            return "\(parts[1].dropFirst(root.count))\(number.isEmpty ? "" : ", line \(number)")"
        }
        return frames.last
    }
}
