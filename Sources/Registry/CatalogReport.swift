package import Jobs

/// What a catalog says of its registry, for terminals and programs.
package struct CatalogReport: Sendable {
    private let catalog: ServiceCatalog
    private let services: [CatalogService]
    private var problems: [ServiceProblem] { services.flatMap(\.problems) }

    /// - Parameter service: the one to report on, by its name or that of one of its jobs; nil for all.
    package init(_ catalog: ServiceCatalog, of service: String? = nil) {
        self.catalog = catalog
        services = catalog.services.filter { one in
            service == nil || one.name == service || (one.entries + one.disabled).contains { $0.name == service }
        }
    }

    package var isEmpty: Bool { services.isEmpty }
    package var errors: Int { problems.count { $0.severity == .error } }
    package var warnings: Int { problems.count - errors }

    /// Service by service, what is wrong in full; how it ends in the last line.
    package var text: String {
        var lines: [String] = []
        for service in services {
            lines.append(service.name)
            lines += service.entries.map { "  \(Self.line($0))" }
            lines += service.disabled.map { "  \($0.name): disabled" }
            lines += service.problems.flatMap(Self.lines)
            lines.append("")
        }
        if let failure = catalog.failure { lines += ["No run may start any job: \(failure.text)", ""] }
        return (lines + [summary]).joined(separator: "\n")
    }

    /// `{"ok", "errors", "warnings", "failure", "services": [{"name", "state", "jobs": [...], "disabled": [...], "problems": [...]}]}`
    package var json: JSONValue {
        [
            "ok": .bool(errors == 0),
            "errors": .integer(Int64(errors)),
            "warnings": .integer(Int64(warnings)),
            "failure": catalog.failure.map { .string($0.text) } ?? .null,
            "services": .array(services.map(Self.json)),
        ]
    }

    private var summary: String {
        func count(_ number: Int, _ word: String) -> String { "\(number) \(word)\(number == 1 ? "" : "s")" }
        let jobs = count(services.reduce(0) { $0 + $1.entries.count }, "job")
        guard !problems.isEmpty else { return "\(jobs), nothing wrong." }
        return "\(jobs) can run, \(count(errors, "error")), \(count(warnings, "warning"))."
    }

    private static func line(_ entry: CatalogEntry) -> String {
        let job = entry.definition
        var parts = ["\(entry.name): \(job.stage.rawValue)", Self.work(of: job), "channel \(job.channel)", "priority \(job.priority.name)"]
        if !entry.dependsOn.isEmpty { parts.insert("after \(entry.dependsOn.joined(separator: ", "))", at: 1) }
        parts.append("timeout \(job.timeout.seconds.map { "\($0) s" } ?? "none")")
        if job.retry.max > 0 { parts.append("retries \(job.retry.max)") }
        if job.isStoring { parts.append("storing") }
        if job.isFinalizer { parts.append("finalizer") }
        if let memory = job.resources.memory { parts.append("memory \(ByteCount.text(memory))") }
        if job.resources.gpus > 0 { parts.append("GPUs \(job.resources.gpus)") }
        if let environment = job.environment { parts.append("environment \(environment)") }
        if !job.preload { parts.append("imported anew for each job") }
        if let condition = entry.when { parts.append("when \(condition)") }
        if !entry.requires.isEmpty { parts.append("requires \(entry.requires.joined(separator: ", "))") }
        if entry.callback.isEmpty, entry.when == nil { parts.append("accepts everything") }
        if job.onLeaseLoss == .kill { parts.append("killed when its lease is lost") }
        return parts.joined(separator: ", ")
    }

    private static func work(of job: JobDefinition) -> String {
        job.kind == .command ? "command \(EntryReader.shown(.array(job.command.map(JSONValue.string))))" : job.entry
    }

    private static func lines(_ problem: ServiceProblem) -> [String] {
        var lines = ["  \(problem.severity.rawValue): \(problem.place)", "    \(problem.message)"]
        if let allowed = problem.allowed { lines.append("    Allowed: \(allowed).") }
        if let nearest = problem.nearest { lines.append("    Did you mean \"\(nearest)\"?") }
        return lines
    }

    private static func json(_ service: CatalogService) -> JSONValue {
        let jobs: [JSONValue] = service.entries.map { entry in
            let job = entry.definition
            return [
                "name": .string(job.name),
                "stage": .string(job.stage.rawValue),
                "entry": .string(job.entry),
                "command": .array(job.command.map(JSONValue.string)),
                "callback": entry.callback.isEmpty ? .null : .string(entry.callback),
                "when": entry.when.map { .string("\($0)") } ?? .null,
                "requires": .array(entry.requires.map(JSONValue.string)),
                "dependsOn": .array(entry.dependsOn.map(JSONValue.string)),
                "channel": .string(job.channel),
                "priority": .string(job.priority.name),
                "timeout": job.timeout.seconds.map { .integer(Int64($0)) } ?? .null,
                "storing": .bool(job.isStoring),
                "finalizer": .bool(job.isFinalizer),
                "onLeaseLoss": .string(job.onLeaseLoss.rawValue),
                "resources": [
                    "memory": job.resources.memory.map(JSONValue.integer) ?? .null, "gpus": .integer(Int64(job.resources.gpus)),
                ],
                "environment": job.environment.map(JSONValue.string) ?? .null,
                "preload": .bool(job.preload),
                "file": .string(entry.file),
            ]
        }
        return [
            "name": .string(service.name),
            "state": .string(service.hasErrors ? "error" : service.problems.isEmpty ? "ok" : "warning"),
            "jobs": .array(jobs),
            "disabled": .array(service.disabled.map { .string($0.name) }),
            "problems": .array(service.problems.map(\.json)),
        ]
    }
}

extension ServiceProblem {
    /// File, entry and key, as far as they are known.
    package var place: String {
        [file, entry.map { "entry \($0)" }, key.map { "key \($0)" }].compactMap(\.self).joined(separator: ", ")
    }

    fileprivate var json: JSONValue {
        func text(_ value: String?) -> JSONValue { value.map(JSONValue.string) ?? .null }
        return [
            "severity": .string(severity.rawValue), "file": .string(file), "entry": text(entry), "key": text(key),
            "message": .string(message), "value": text(value), "allowed": text(allowed), "nearest": text(nearest),
        ]
    }
}
