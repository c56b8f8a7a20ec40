import Foundation
package import Jobs
import PythonHost
package import Registry

/// Asks a service's callbacks about a study and runs its jobs, here and now: no queue, no ledger, no folder of a stack.
package struct ServiceTrial: Sendable {
    /// What happens, as it happens.
    package enum Event: Sendable {
        case decided(Decision, added: JSONValue?)
        /// Jobs of `dependsOn` that are not run.
        case without(job: String, [String])
        case started(JobDefinition)
        case progress(Double, String?)
        case log(String)
        case ended(Outcome)
    }

    /// A job that ran.
    package struct Outcome: Sendable {
        package var job: JobDefinition
        package var exit: JobExit
        /// Files below DATA that it made, and that it changed; relative, sorted.
        package var made: [String]
        package var changed: [String]
        package var removed: [String]
    }

    package struct Result: Sendable {
        package var decisions: [Decision]
        package var addedParams: [String: JSONValue]
        package var outcomes: [Outcome]

        /// No callback failed, and every job that was wanted ended well.
        package var isGood: Bool {
            !decisions.contains { $0.verdict == .failed } && outcomes.allSatisfy { $0.exit.outcome == .succeeded }
        }
    }

    private let bench: Bench
    private let catalog: ServiceCatalog
    private let onEvent: @Sendable (Event) -> Void

    package init(bench: Bench, catalog: ServiceCatalog, onEvent: @escaping @Sendable (Event) -> Void) {
        self.bench = bench
        self.catalog = catalog
        self.onEvent = onEvent
    }

    /// The entries to try: those of a service or the job of that name, and with `dependencies` what they depend on, first things first.
    package static func entries(of name: String, in catalog: ServiceCatalog, dependencies: Bool) -> [CatalogEntry] {
        let running = catalog.entries.filter { !$0.isDisabled }
        var wanted = Set(running.filter { $0.service == name }.map(\.name))
        if wanted.isEmpty { wanted = Set(running.filter { $0.name == name }.map(\.name)) }
        if dependencies {
            var front = wanted
            while !front.isEmpty {
                let parents = Set(running.filter { front.contains($0.name) }.flatMap(\.dependsOn))
                front = parents.intersection(running.map(\.name)).subtracting(wanted)
                wanted.formUnion(front)
            }
        }
        return running.filter { wanted.contains($0.name) }
    }

    /// - Throws: `PythonHostError` when there is no Python, and what copying the images throws. Whatever goes wrong in a service is in the result.
    package func run(_ entries: [CatalogEntry], on study: TrialStudy) async throws -> Result {
        try bench.makeFolders()
        let run = RunID.make(at: Date())
        let dcmpath = "dicom/\(run)"
        try study.copy(to: bench.data, dcmpath)
        let plan = try await plan(entries, study, dcmpath)
        for decision in plan.decisions {
            onEvent(.decided(decision, added: decision.verdict == .accepted ? plan.addedParams[decision.job] ?? [:] : nil))
        }
        var result = Result(decisions: plan.decisions, addedParams: plan.addedParams, outcomes: [])
        let names = Set(entries.map(\.name))
        let hosts = WarmHosts(configuration: bench.jobHost, logger: bench.logger)
        let environments = bench.serviceEnvironments()
        var unfinished: Set<String> = []
        for (index, job) in plan.jobs.enumerated() where job.definition.kind != .export && job.skipped == nil {
            let entry = entries.first { $0.name == job.definition.name }
            let missing = (entry?.dependsOn ?? []).filter { !names.contains($0) && $0 != RunPlanner.exportName }
            if !missing.isEmpty { onEvent(.without(job: job.definition.name, missing)) }
            // As in a run: what a failed job was to prepare is not there.
            let failed = job.dependencies.contains { edge in
                edge.condition == .succeeded && unfinished.contains(plan.jobs[edge.parent].definition.name)
            }
            guard !failed, !Task.isCancelled else {
                unfinished.insert(job.definition.name)
                continue
            }
            onEvent(.started(job.definition))
            let outcome = await carryOut(
                job.definition, JobID(run: run, index: index), headers(study, dcmpath), plan.addedParams, hosts, environments)
            if outcome.exit.outcome != .succeeded { unfinished.insert(job.definition.name) }
            onEvent(.ended(outcome))
            result.outcomes.append(outcome)
        }
        await hosts.shutdown()
        await environments.shutdown()
        return result
    }

    private func headers(_ study: TrialStudy, _ dcmpath: String) -> JSONValue {
        var members = catalog.pipeline.filtered(study.headers, level: study.level).object ?? [:]
        members["dcmpath"] = .string(dcmpath)
        return .object(members)
    }

    // MARK: Planning

    /// As the router does it, with these entries alone. A service is always among them for the planner, who asks post-services for results only.
    private func plan(_ entries: [CatalogEntry], _ study: TrialStudy, _ dcmpath: String) async throws -> RunPlan {
        var own = catalog
        let names = Set(entries.map(\.name))
        own.brokenEntries = []
        own.failure = nil
        own.entries = entries.map { entry in
            var entry = entry
            // What is not tried cannot be waited for.
            entry.dependsOn = entry.dependsOn.filter { names.contains($0) || $0 == RunPlanner.exportName }
            return entry
        }
        let needsCompany = !entries.contains { $0.stage == .services }
        if needsCompany { own.entries.append(Self.company) }
        let callbacks = CallbackHost(configuration: bench.callbackHost, timeout: bench.callbackLimit, logger: bench.logger)
        let event = PlanInput(level: study.level, headers: headers(study, dcmpath), fullHeaders: study.headers, instances: study.instances)
        do {
            var plan = try await RunPlanner.plan(event: event, catalog: own) { questions, headers, added in
                let calls = questions.map { CallbackCall(jobName: $0.jobName, entry: $0.entry, params: $0.params) }
                return try await callbacks.evaluate(calls, headers: headers, addedParams: added).map { verdict in
                    switch verdict.outcome {
                    case .accepted(let added):
                        CallbackAnswer(.accepted(added: .object(added)), duration: verdict.duration, output: verdict.output)
                    case .declined: CallbackAnswer(.declined, duration: verdict.duration, output: verdict.output)
                    case .failed(let failure): CallbackAnswer(.failed(failure), duration: verdict.duration, output: verdict.output)
                    }
                }
            }
            await callbacks.shutdown()
            plan.decisions.removeAll { $0.job == Self.company.name }
            plan.addedParams[Self.company.name] = nil
            if needsCompany, let place = plan.jobs.firstIndex(where: { $0.definition.name == Self.company.name }) {
                // It stays in its place, so that edges keep pointing at what they do, and is not run.
                plan.jobs[place].skipped = Reason("trial", "It is there for the planner alone.")
            }
            return plan
        } catch {
            await callbacks.shutdown()
            throw error
        }
    }

    private static let company = CatalogEntry.accepting(
        JobDefinition(name: "dcm trial", service: "", stage: .services, kind: .command, entry: "", command: ["true"]))

    // MARK: Running

    private func carryOut(
        _ job: JobDefinition, _ id: JobID, _ headers: JSONValue, _ added: [String: JSONValue], _ hosts: WarmHosts,
        _ environments: ServiceEnvironments
    ) async -> Outcome {
        let startedAt = Date()
        let before = DataFiles(bench.data)
        let interpreter: String
        switch await environments.python(for: job.service, named: job.environment, onProgress: { onEvent(.progress(0, $0)) }) {
        case .success(let path): interpreter = path
        case .failure(let failure):
            let exit = JobExit(outcome: .failed, kind: .brokenService, failure: failure, startedAt: startedAt, finishedAt: Date())
            return Outcome(job: job, exit: exit, made: [], changed: [], removed: [])
        }
        let log = "runs/\(id.run)/\(id.index).log"
        let outputs = bench.data.appending(path: "outputs/\(id.run)", directoryHint: .isDirectory)
        var python = PythonJob(
            job: id, attempt: 1, token: 1, service: job.service, entry: job.entry, jobName: job.name, headers: headers, params: job.params,
            addedParams: .object(added), data: bench.data,
            workdir: bench.folder.appending(path: "work/\(id.index)", directoryHint: .isDirectory), logs: bench.logs, log: log,
            timeout: job.timeout, environment: ["DCM_RUN_OUTPUTS": outputs.path])
        python.python = interpreter
        python.preload = job.preload
        python.memory = job.resources.memory
        python.checkpoint = bench.folder.appending(path: "checkpoints/\(id.index)", directoryHint: .notDirectory)
        if job.kind == .command {
            python.command = [bench.program(job.command.first ?? "", of: job.service)] + job.command.dropFirst()
        }
        let tail = LogFollower(bench.logs.appending(path: log)) { onEvent(.log($0)) }
        let exit = await hosts.run(python) { onEvent(.progress($0, $1)) }
        await tail.finish()
        if job.kind == .command, exit.outcome == .succeeded { keepOutputs(of: python, in: outputs.appending(path: job.name)) }
        let after = DataFiles(bench.data)
        return Outcome(
            job: job, exit: exit, made: after.made(since: before), changed: after.changed(since: before), removed: before.made(since: after)
        )
    }

    /// Moves what a command left in its folder `outputs` to where a worker would have put it.
    private func keepOutputs(of job: PythonJob, in target: URL) {
        let source = job.workdir.appending(path: "outputs", directoryHint: .isDirectory)
        let names = (try? FileManager.default.contentsOfDirectory(atPath: source.path)) ?? []
        guard !names.isEmpty else { return }
        try? FileManager.default.createDirectory(at: target.deletingLastPathComponent(), withIntermediateDirectories: true)
        try? FileManager.default.moveItem(at: source, to: target)
    }
}

/// The files of a folder by size and time.
private struct DataFiles {
    private var stamps: [String: String] = [:]

    init(_ folder: URL) {
        guard let all = FileManager.default.enumerator(atPath: folder.path) else { return }
        while let name = all.nextObject() as? String {
            guard let attributes = all.fileAttributes, attributes[.type] as? FileAttributeType != .typeDirectory else { continue }
            let modified = (attributes[.modificationDate] as? Date)?.timeIntervalSince1970 ?? 0
            stamps[name] = "\(attributes[.size] ?? 0) \(modified) \(attributes[.systemFileNumber] ?? 0)"
        }
    }

    func made(since earlier: DataFiles) -> [String] { stamps.keys.filter { earlier.stamps[$0] == nil }.sorted() }

    func changed(since earlier: DataFiles) -> [String] {
        stamps.keys.filter { name in earlier.stamps[name].map { $0 != stamps[name] } ?? false }.sorted()
    }
}

/// Hands on what is appended to a file, whole lines while it grows.
private struct LogFollower {
    private let task: Task<Void, Never>
    private let stop: AsyncStream<Void>.Continuation

    init(_ file: URL, onText: @escaping @Sendable (String) -> Void) {
        let (stream, continuation) = AsyncStream.makeStream(of: Void.self)
        stop = continuation
        task = Task {
            let ticker = Task {
                while !Task.isCancelled {
                    continuation.yield()
                    do { try await Task.sleep(for: .milliseconds(100)) } catch { return }
                }
            }
            var offset: UInt64 = 0
            for await _ in stream { offset = Self.read(file, from: offset, isEnd: false, onText) }
            ticker.cancel()
            _ = Self.read(file, from: offset, isEnd: true, onText)
        }
    }

    /// Returns once all of the file has been handed on.
    func finish() async {
        stop.finish()
        await task.value
    }

    private static func read(_ file: URL, from offset: UInt64, isEnd: Bool, _ onText: (String) -> Void) -> UInt64 {
        guard let handle = try? FileHandle(forReadingFrom: file) else { return offset }
        defer { try? handle.close() }
        guard (try? handle.seek(toOffset: offset)) != nil, let data = try? handle.readToEnd(), !data.isEmpty else { return offset }
        let end = isEnd ? data.endIndex : data.lastIndex(of: 0x0a).map { $0 + 1 } ?? data.startIndex
        let whole = data[..<end]
        if !whole.isEmpty { onText(String(decoding: whole, as: UTF8.self)) }
        return offset + UInt64(whole.count)
    }
}
