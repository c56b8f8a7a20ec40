import JobStore
import Jobs

/// The jobs of all services as a run in which every callback says yes would have them.
enum ServiceGraph {
    /// - Returns: nil when no service has a job.
    static func svg(_ services: [LedgerService]) -> String? {
        let definitions = services.flatMap(\.jobs)
        guard (1...RunGraph.limit).contains(definitions.count) else { return nil }
        // Parents first, so that a job's depth is known when its children are placed.
        let needs = services.reduce(into: [String: [String]]()) { $0.merge($1.needs) { first, _ in first } }
        let ordered = Stage.allCases.flatMap { stage in sorted(definitions.filter { $0.stage == stage }, needs) }
        let positions = Dictionary(ordered.enumerated().map { ($1.name, $0) }) { first, _ in first }
        let edges = ordered.enumerated().flatMap { child, job in
            (needs[job.name] ?? []).compactMap { need in
                positions[need].flatMap { parent in
                    parent < child
                        ? LedgerEdge(child: child, parent: parent, condition: .succeeded, origin: .declared, satisfiedBy: nil) : nil
                }
            }
        }
        let layout = GraphLayout(jobs: ordered.enumerated().map { ($0, $1.stage) }, edges: edges, tallest: 5)
        return RunGraph.frame(
            layout, label: "Jobs of all services",
            layout.headings.map(RunGraph.heading) + layout.edges.map { RunGraph.edge($0, kind: "open", isCritical: false) }
                + layout.nodes.map { node(ordered[$0.job], $0.origin, layout.nodeWidth) })
    }

    private static func sorted(_ jobs: [JobDefinition], _ needs: [String: [String]]) -> [JobDefinition] {
        var rest = jobs
        var sorted: [JobDefinition] = []
        while !rest.isEmpty {
            let names = Set(rest.map(\.name))
            // Settings have no cycles that get this far; if one did, the rest would stand as it is.
            let free = rest.filter { job in !(needs[job.name] ?? []).contains { $0 != job.name && names.contains($0) } }
            guard !free.isEmpty else { return sorted + rest }
            let placed = Set(free.map(\.name))
            sorted += free
            rest.removeAll { placed.contains($0.name) }
        }
        return sorted
    }

    private static func node(_ job: JobDefinition, _ origin: GraphLayout.Point, _ width: Double) -> String {
        let fragment = HTMLText.escape("/services#service-\(job.service)")
        return """
            <a href="\(fragment)" class="node s-waiting solid"><g transform="translate(\(RunGraph.number(origin.x)) \(RunGraph.number(origin.y)))">\
            <title>\(HTMLText.escape("\(job.name) of service \(job.service), channel \(job.channel)"))</title>\
            <rect class="box" width="\(RunGraph.number(width))" height="\(RunGraph.number(GraphLayout.nodeHeight))" rx="5"/>\
            <text class="name" x="9" y="19">\(HTMLText.escape(RunGraph.shortened(job.name, width)))</text>\
            <text class="what" x="9" y="37.5">\(HTMLText.escape(RunGraph.shortened(job.service, width)))</text></g></a>
            """
    }
}
