import Jobs

/// Puts accepted entries into an order in which every parent stands before its children, and draws the edges.
enum JobOrder {
    /// The plan's jobs: the export, then stage by stage.
    static func jobs(_ accepted: [AcceptedEntry], defaults: CatalogDefaults) -> [RunPlan.Entry] {
        let stages = [Stage.pre, .services, .post].map { ordered(accepted, in: $0) }
        let order = stages.flatMap(\.self)
        // The export stands at 0.
        let places = Dictionary(uniqueKeysWithValues: order.enumerated().map { ($0.element, $0.offset + 1) })
        let byName = Dictionary(order.map { (accepted[$0].entry.name, $0) }) { first, _ in first }
        let running = order.filter { accepted[$0].skipped == nil }
        let waitedFor = finalizerParents(accepted)

        // A download that stands behind less urgent work would make the urgent job wait with it.
        let priority = running.map { accepted[$0].entry.definition.priority }.max() ?? defaults.priority
        let jobs = order.map { position in
            let child = accepted[position].entry
            var edges: [Int: Dependency] = [:]
            let earlier = running.filter { accepted[$0].entry.stage.order < child.stage.order }
            let barrier = earlier + (child.definition.isFinalizer ? waitedFor[child.stage] ?? [] : [])
            for parent in barrier {
                edges[parent] = Dependency(
                    parent: places[parent] ?? 0,
                    condition: child.definition.isFinalizer ? .finished : .succeeded,
                    origin: .stage,
                )
            }
            var waitsForExport = !earlier.contains { !accepted[$0].entry.definition.isFinalizer }
            var exportOrigin = Dependency.Origin.stage
            for name in child.dependsOn {
                if name == RunPlanner.exportName {
                    waitsForExport = true
                    exportOrigin = .declared
                } else if let parent = byName[name], accepted[parent].skipped == nil {
                    edges[parent] = Dependency(
                        parent: places[parent] ?? 0,
                        condition: condition(of: child, on: accepted[parent].entry),
                        origin: .declared,
                    )
                }
            }
            var dependencies = edges.values.sorted { $0.parent < $1.parent }
            if waitsForExport {
                dependencies.insert(
                    Dependency(parent: 0, condition: child.definition.isFinalizer ? .finished : .succeeded, origin: exportOrigin),
                    at: 0,
                )
            }
            return RunPlan.Entry(definition: child.definition, dependencies: dependencies, skipped: accepted[position].skipped)
        }
        return [export(priority: priority, channel: defaults.channel)] + jobs
    }

    private static func condition(of child: CatalogEntry, on parent: CatalogEntry) -> Dependency.Condition {
        if child.definition.isFinalizer { return .finished }
        // No setting of a service opens the door that a failed pre-service keeps shut.
        if parent.stage == .pre, child.stage != .pre { return .succeeded }
        return child.onFailure == .run ? .finished : .succeeded
    }

    private static func export(priority: Priority, channel: String) -> RunPlan.Entry {
        RunPlan.Entry(
            definition: JobDefinition(
                name: RunPlanner.exportName,
                service: "",
                stage: .export,
                kind: .export,
                entry: "",
                channel: channel,
                priority: priority,
                timeout: .standard,
                retry: RetryPolicy(max: 5, delay: 5),
            ),
            dependencies: [],
        )
    }
}

// MARK: - Order

extension JobOrder {
    /// A finalizer deletes what others work on, so it waits for all jobs of its own stage, apart from other finalizers and from
    /// what depends on one.
    private static func finalizerParents(_ accepted: [AcceptedEntry]) -> [Stage: [Int]] {
        var parents: [Stage: [Int]] = [:]
        for stage in [Stage.pre, .services, .post] {
            var followsFinalizer: Set<String> = []
            for position in byDeclaredDependencies(accepted, in: stage) {
                let entry = accepted[position].entry
                if entry.definition.isFinalizer || entry.dependsOn.contains(where: followsFinalizer.contains) {
                    followsFinalizer.insert(entry.name)
                } else if accepted[position].skipped == nil {
                    parents[stage, default: []].append(position)
                }
            }
        }
        return parents
    }

    /// - Returns: positions in `accepted` of the entries of `stage`.
    static func ordered(_ accepted: [AcceptedEntry], in stage: Stage) -> [Int] {
        let members = accepted.indices.filter { accepted[$0].entry.stage == stage }
        let byName = Dictionary(members.map { (accepted[$0].entry.name, $0) }) { first, _ in first }
        let waitedFor = finalizerParents(accepted)[stage] ?? []
        var parents: [Int: [Int]] = [:]
        for position in members {
            let entry = accepted[position].entry
            parents[position] = entry.dependsOn.compactMap { byName[$0] } + (entry.definition.isFinalizer ? waitedFor : [])
        }
        return sorted(members, parents: parents)
    }

    private static func byDeclaredDependencies(_ accepted: [AcceptedEntry], in stage: Stage) -> [Int] {
        let members = accepted.indices.filter { accepted[$0].entry.stage == stage }
        let byName = Dictionary(members.map { (accepted[$0].entry.name, $0) }) { first, _ in first }
        let parents = members.map { accepted[$0].entry.dependsOn.compactMap { byName[$0] } }
        return sorted(members, parents: Dictionary(uniqueKeysWithValues: zip(members, parents)))
    }

    /// Keeps the order of `members` as far as their parents allow. Settings with a circle never come here.
    private static func sorted(_ members: [Int], parents: [Int: [Int]]) -> [Int] {
        var left = members
        var placed: Set<Int> = []
        var result: [Int] = []
        while !left.isEmpty {
            guard let next = left.firstIndex(where: { (parents[$0] ?? []).allSatisfy(placed.contains) }) else {
                preconditionFailure("the catalog let a circle of dependencies through")
            }
            placed.insert(left[next])
            result.append(left.remove(at: next))
        }
        return result
    }
}
