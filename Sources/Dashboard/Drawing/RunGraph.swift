import Foundation
import JobStore
import Jobs

/// A run's jobs and what they wait for, as SVG that links to each job.
enum RunGraph {
    /// More jobs than anyone can read in a drawing.
    static let limit = 200

    static func svg(_ detail: LedgerRunDetail, at now: Date) -> String {
        guard (1...limit).contains(detail.jobs.count) else { return "" }
        let layout = GraphLayout(jobs: detail.jobs.map { ($0.position, $0.stage) }, edges: detail.edges)
        let jobs = Dictionary(detail.jobs.map { ($0.position, $0) }) { first, _ in first }
        let path = CriticalPath.of(detail)
        let steps = Set(zip(path, path.dropFirst()).map { [$0, $1] })
        let parts =
            layout.headings.map(heading) + layout.edges.map { edge($0, jobs, isCritical: steps.contains([$0.parent, $0.child])) }
            + layout.nodes.compactMap { node in
                jobs[node.job].map { self.node($0, node.origin, layout.nodeWidth, now, isCritical: path.contains(node.job)) }
            }
        return frame(layout, label: "Dependency graph", parts)
    }

    static func frame(_ layout: GraphLayout, label: String, _ parts: [String]) -> String {
        """
        <svg class="graph" width="\(number(layout.width))" height="\(number(layout.height))" \
        viewBox="0 0 \(number(layout.width)) \(number(layout.height))" role="group" aria-label="\(label)">\
        <defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerUnits="userSpaceOnUse" markerWidth="11" markerHeight="11" orient="auto">\
        <path class="arrow" d="M0 0.5 7.5 4 0 7.5z"/></marker></defs>\(parts.joined())</svg>
        """
    }

    static func heading(_ heading: GraphLayout.Heading) -> String {
        """
        <text class="stage" x="\(number(heading.x))" y="11">\(heading.stage.rawValue)</text>\
        <path class="stage" d="M\(number(heading.x)) 18H\(number(heading.x + heading.width))"/>
        """
    }

    private static func edge(_ edge: GraphLayout.Edge, _ jobs: [Int: LedgerJob], isCritical: Bool) -> String {
        let kind: String
        switch jobs[edge.parent]?.state {
        case .succeeded: kind = "done"
        case .failed, .dead, .cancelled, .skipped: kind = "broken"
        default: kind = "open"
        }
        return self.edge(edge, kind: kind, isCritical: isCritical)
    }

    /// - Parameter kind: `done`, `broken` or `open`.
    static func edge(_ edge: GraphLayout.Edge, kind: String, isCritical: Bool) -> String {
        var path = ""
        for (index, point) in edge.points.enumerated() {
            if index == 0 {
                path = "M\(number(point.x)) \(number(point.y))"
            } else if index % 2 == 1 {
                // Through the gap between two columns.
                let from = edge.points[index - 1]
                let middle = (from.x + point.x) / 2
                path += "C\(number(middle)) \(number(from.y)) \(number(middle)) \(number(point.y)) \(number(point.x)) \(number(point.y))"
            } else {
                path += "H\(number(point.x))"
            }
        }
        let critical = isCritical ? " critical" : ""
        return "<path class=\"edge e-\(kind) o-\(edge.origin.rawValue)\(critical)\" marker-end=\"url(#arrow)\" d=\"\(path)\"/>"
    }

    private static func node(_ job: LedgerJob, _ origin: GraphLayout.Point, _ width: Double, _ now: Date, isCritical: Bool) -> String {
        let state = job.state.rawValue
        let height = GraphLayout.nodeHeight
        // What matters more comes first; what there is no room for is in the title.
        let took = job.startedAt.map { Display.duration((job.finishedAt ?? now).timeIntervalSince($0)) }
        let attempt = job.attempt > 1 ? "attempt \(job.attempt)" : nil
        let line = Self.line(
            [state, took, attempt].compactMap(\.self), orElse: [took ?? state, attempt].compactMap(\.self), in: width - 30)
        let reason = job.state == .succeeded ? "" : " " + job.reason.text
        let progress = job.progress.map { progress in
            "<rect class=\"progress\" x=\"1\" y=\"\(number(height - 4))\" width=\"\(number((width - 2) * progress.fraction))\" height=\"3\"/>"
        }
        return """
            <a href="/jobs/\(HTMLText.escape(job.id))" class="node s-\(state)\(isCritical ? " critical" : "")"><g transform="translate(\(number(origin.x)) \(number(origin.y)))">\
            <title>\(HTMLText.escape("\(job.name): \(state).\(reason)\(isCritical ? " On the critical path." : "")"))</title>\
            <rect class="box" width="\(number(width))" height="\(number(height))" rx="5"/>\(progress ?? "")\
            <svg class="mark" x="9" y="27.5" width="12" height="12" viewBox="0 0 12 12">\(StateMark.shape(state))</svg>\
            <text class="name" x="9" y="19">\(HTMLText.escape(shortened(job.name, width)))</text>\
            <text class="what" x="26" y="37.5">\(HTMLText.escape(line))</text></g></a>
            """
    }

    /// As many of the parts as fit into so many pixels; `short` where not even the first two do.
    private static func line(_ parts: [String], orElse short: [String], in width: Double) -> String {
        let whole = parts.joined(separator: " · ")
        if Double(whole.count) * smallCharacter <= width { return whole }
        let two = parts.prefix(2).joined(separator: " · ")
        if parts.count > 2, Double(two.count) * smallCharacter <= width { return two }
        let less = short.joined(separator: " · ")
        return Double(less.count) * smallCharacter <= width ? less : short[0]
    }

    /// The mean width of a character, in pixels.
    private static let character = 7.6
    private static let smallCharacter = 6.4

    /// The name as it fits into a node.
    static func shortened(_ name: String, _ width: Double) -> String {
        let room = Int((width - 16) / character)
        return name.count > room ? String(name.prefix(room - 1)) + "…" : name
    }

    static func number(_ value: Double) -> String {
        let rounded = (value * 10).rounded() / 10
        return rounded == rounded.rounded() ? String(Int(rounded)) : String(rounded)
    }
}
