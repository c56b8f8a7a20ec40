import Jobs

/// The rules that concern several entries at once: names and dependencies.
struct CatalogCheck {
    /// Those that can run and those that are disabled.
    private(set) var entries: [CatalogEntry]
    private(set) var broken: [BrokenEntry]
    private(set) var problems: [ServiceProblem] = []

    init(entries: [CatalogEntry], broken: [BrokenEntry]) {
        self.entries = entries
        self.broken = broken
    }

    /// The first of two entries with one name stays: pre-services, then the pipeline's post-services, then services by folder.
    mutating func rejectDuplicates() {
        var owners: [String: CatalogEntry] = [:]
        var rejected: Set<Int> = []
        let numbered = Array(entries.enumerated())
        let order = numbered.filter { $0.element.stage == .pre } + numbered.filter { $0.element.stage != .pre }
        for (position, entry) in order where !entry.isDisabled {
            guard let owner = owners[entry.name] else {
                owners[entry.name] = entry
                continue
            }
            rejected.insert(position)
            report(
                entry,
                key: "jobName",
                "\(owner.place) and \(entry.place) both name a job \"\(entry.name)\"; the first of them is used, this one is not.",
                value: entry.name,
                allowed: "a name that no other job has",
            )
        }
        reject(rejected)
    }

    /// What an entry requires, its whole service does not run without. Entries of the pipeline's own settings stand each for itself.
    /// - Parameter services: the folders that hold one.
    mutating func rejectMissingRequirements(services: [String]) {
        let installed = Set(services + entries.map(\.name) + broken.compactMap(\.name) + [RunPlanner.exportName])
        var rejected: Set<Int> = []
        var lacking: [String: String] = [:]
        for (position, entry) in entries.enumerated() where !entry.isDisabled {
            for name in entry.requires where !installed.contains(name) {
                rejected.insert(position)
                if entry.service != ServiceCatalog.pipelineService { lacking[entry.service] = lacking[entry.service] ?? name }
                report(
                    entry,
                    key: "requires",
                    "neither a service nor a job \"\(name)\" is installed.",
                    value: name,
                    allowed: "the name of an installed service or job; install it, or take the name out",
                    nearest: NearestName.of(name, among: installed.subtracting([entry.name, entry.service])),
                )
            }
        }
        for (position, entry) in entries.enumerated() where !entry.isDisabled && !rejected.contains(position) {
            guard let name = lacking[entry.service] else { continue }
            rejected.insert(position)
            report(entry, key: "requires", "another job of this service requires \"\(name)\", which is not installed.", value: name)
        }
        reject(rejected)
    }

    mutating func rejectImpossibleDependencies() {
        let active = entries.filter { !$0.isDisabled }
        let byName = Dictionary(active.map { ($0.name, $0) }) { first, _ in first }
        let unavailable = Set(entries.filter(\.isDisabled).map(\.name) + broken.compactMap(\.name))
        let known = unavailable.union(byName.keys).union([RunPlanner.exportName])
        var rejected: Set<Int> = []
        for (position, entry) in entries.enumerated() where !entry.isDisabled {
            for name in entry.dependsOn {
                if !known.contains(name) {
                    rejected.insert(position)
                    report(
                        entry,
                        key: "dependsOn",
                        "no service has a job \"\(name)\".",
                        value: name,
                        allowed: "the jobName of another job",
                        nearest: NearestName.of(name, among: known.subtracting([entry.name])),
                    )
                } else if let parent = byName[name], parent.stage.order > entry.stage.order {
                    rejected.insert(position)
                    report(
                        entry,
                        key: "dependsOn",
                        "\"\(name)\" is one of the \(parent.stage.title), which run after all \(entry.stage.title).",
                        value: name,
                        allowed: "a job of the same or an earlier stage",
                    )
                }
            }
            if let cycle = Self.cycle(from: entry, in: byName) {
                rejected.insert(position)
                report(
                    entry,
                    key: "dependsOn",
                    cycle.count == 2
                        ? "the job waits for itself: \(cycle.joined(separator: " -> "))."
                        : "the jobs wait for one another in a circle: \(Self.described(cycle, byName)).",
                    value: cycle.joined(separator: " -> "),
                    allowed: "dependencies that end somewhere: take one of these arrows out",
                )
            }
        }
        reject(rejected)
    }

    mutating func warnAboutUnavailableDependencies() {
        let running = Set(entries.filter { !$0.isDisabled }.map(\.name) + [RunPlanner.exportName])
        let disabled = Set(entries.filter(\.isDisabled).map(\.name))
        for entry in entries where !entry.isDisabled {
            for name in entry.dependsOn where !running.contains(name) {
                let state = disabled.contains(name) ? "is disabled" : "has errors in its settings"
                // RunPlanner fails closed when a pre-service is skipped.
                let loss =
                    entry.stage == .pre && !entry.definition.isFinalizer
                    ? "cannot run, and every run that it accepts fails" : "is skipped in every run"
                report(
                    entry,
                    severity: .warning,
                    key: "dependsOn",
                    "\"\(name)\" \(state), so this job \(entry.onFailure == .run ? "runs without it" : loss).",
                    value: name,
                )
            }
        }
    }

    /// The shortest way along dependencies from `start` back to itself, both ends included.
    private static func cycle(from start: CatalogEntry, in byName: [String: CatalogEntry]) -> [String]? {
        var cameFrom: [String: String] = [:]
        var front = [start.name]
        while !front.isEmpty {
            var next: [String] = []
            for name in front {
                for parent in byName[name]?.dependsOn ?? [] where cameFrom[parent] == nil && byName[parent] != nil {
                    cameFrom[parent] = name
                    if parent == start.name { return path(to: parent, cameFrom) }
                    next.append(parent)
                }
            }
            front = next
        }
        return nil
    }

    /// `a (x/settings.json) -> b (y/settings.json) -> a`; without the files when there is only one.
    private static func described(_ cycle: [String], _ byName: [String: CatalogEntry]) -> String {
        let isInOneFile = Set(cycle.compactMap { byName[$0]?.file }).count == 1
        return cycle.enumerated().map { position, name in
            guard !isInOneFile, position < cycle.count - 1, let file = byName[name]?.file else { return name }
            return "\(name) (\(file))"
        }.joined(separator: " -> ")
    }

    private static func path(to end: String, _ cameFrom: [String: String]) -> [String] {
        var path = [end]
        var name = cameFrom[end]
        while let current = name, current != end {
            path.insert(current, at: 0)
            name = cameFrom[current]
        }
        return [end] + path
    }

    private mutating func reject(_ positions: Set<Int>) {
        for position in positions.sorted() {
            let entry = entries[position]
            broken.append(
                BrokenEntry(
                    name: entry.name,
                    stage: entry.stage,
                    service: entry.service,
                    file: entry.file,
                    index: entry.index,
                    isStoring: entry.definition.isStoring,
                )
            )
        }
        entries = entries.enumerated().filter { !positions.contains($0.offset) }.map(\.element)
    }

    private mutating func report(
        _ entry: CatalogEntry,
        severity: ServiceProblem.Severity = .error,
        key: String,
        _ message: String,
        value: String,
        allowed: String? = nil,
        nearest: String? = nil,
    ) {
        problems.append(
            ServiceProblem(
                severity: severity,
                service: entry.service,
                file: entry.file,
                entry: entry.name,
                key: key,
                message: message,
                value: value,
                allowed: allowed,
                nearest: nearest,
            )
        )
    }
}

extension Stage {
    /// Stages run in this order.
    var order: Int {
        switch self {
        case .export: 0
        case .pre: 1
        case .services: 2
        case .post: 3
        }
    }

    /// As it stands in sentences.
    var title: String {
        switch self {
        case .export: "export"
        case .pre: "pre-services"
        case .services: "services"
        case .post: "post-services"
        }
    }
}
