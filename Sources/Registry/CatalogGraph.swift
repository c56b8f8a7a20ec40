package import Jobs

/// How the jobs of a catalog follow one another, as if each accepted an event: for people who want to see what their settings say.
package struct CatalogGraph: Sendable {
    private let catalog: ServiceCatalog
    private let jobs: [RunPlan.Entry]

    package init(_ catalog: ServiceCatalog) {
        self.catalog = catalog
        let accepted = catalog.entries.filter { !$0.isDisabled }.map { AcceptedEntry(entry: $0, added: [:]) }
        // A dependency that is not there would be skipped with its reason; the lines say so too.
        jobs = JobOrder.jobs(accepted, defaults: catalog.defaults)
    }

    private static let stages: [(Stage, title: String, barrier: String)] = [
        (.pre, "pre", "when the export has ended well"),
        (.services, "service", "when all pre-services that accept the event have succeeded"),
        (.post, "post", "when all jobs before have succeeded; finalizers when they have ended in whatever way"),
    ]

    /// Stage by stage, each job with what it waits for beside its stage's barrier, and who decides whether it is part of a run.
    package var text: String {
        var lines = ["How a run goes", "  export      downloads the images"]
        for (stage, title, barrier) in Self.stages {
            let members = jobs.filter { $0.definition.stage == stage }
            guard !members.isEmpty else { continue }
            lines.append("  \(title): \(barrier)")
            lines += members.map { "    \(line($0.definition.name))" }
        }
        if jobs.count == 1 { lines.append("  no service has a job") }
        return lines.joined(separator: "\n")
    }

    /// `[{"job", "stage", "service", "after": [...], "when", "callback", "finalizer", "storing"}]`, in planning order. `after` names each job that it
    /// waits for, those of the stages before included.
    package var json: JSONValue {
        .array(
            jobs.map { job in
                let entry = entry(job.definition.name)
                return [
                    "job": .string(job.definition.name),
                    "stage": .string(job.definition.stage.rawValue),
                    "service": .string(entry?.service ?? ""),
                    "after": .array(job.dependencies.map { .string(jobs[$0.parent].definition.name) }),
                    "when": entry?.when.map { .string("\($0)") } ?? .null,
                    "callback": entry.flatMap { $0.callback.isEmpty ? nil : .string($0.callback) } ?? .null,
                    "finalizer": .bool(job.definition.isFinalizer),
                    "storing": .bool(job.definition.isStoring),
                ]
            })
    }

    private func entry(_ name: String) -> CatalogEntry? { catalog.entries.first { $0.name == name && !$0.isDisabled } }

    private func line(_ name: String) -> String {
        guard let entry = entry(name) else { return name }
        var parts: [String] = []
        if !entry.dependsOn.isEmpty {
            let names = entry.dependsOn.joined(separator: ", ")
            let loss = entry.definition.isFinalizer || entry.onFailure == .run ? "" : ", skipped without"
            parts.append("after \(names)\(loss)")
        }
        if let condition = entry.when { parts.append("when \(condition)") }
        if !entry.callback.isEmpty { parts.append("asks \(entry.callback)") }
        if entry.callback.isEmpty, entry.when == nil { parts.append("accepts everything") }
        if entry.events.count < ResourceLevel.allCases.count {
            parts.append("events of a " + ResourceLevel.allCases.filter(entry.events.contains).map(\.rawValue).joined(separator: " or "))
        }
        if entry.definition.isStoring { parts.append("storing") }
        if entry.definition.isFinalizer { parts.append("finalizer: held back when storing has failed") }
        return "\(name): \(parts.joined(separator: "; "))"
    }
}
