import JobStore
import Jobs

/// Where each job of a run stands in the drawing of its dependencies: columns by stage and, inside a stage, by depth.
struct GraphLayout: Sendable, Hashable {
    struct Point: Sendable, Hashable {
        var x: Double
        var y: Double
    }

    struct Node: Sendable, Hashable {
        /// The job's position in its run.
        var job: Int
        /// The left upper corner.
        var origin: Point
    }

    struct Edge: Sendable, Hashable {
        var parent: Int
        var child: Int
        var origin: Dependency.Origin
        /// From the parent's right side through the gaps between other nodes to the child's left side.
        var points: [Point]
    }

    struct Heading: Sendable, Hashable {
        var stage: Stage
        var x: Double
        var width: Double
    }

    static let nodeHeight = 48.0
    /// What the pages have room for: many columns stand closer and are narrower, until names would no longer be read.
    private static let room = 1200.0
    private static let widths = 128.0...198.0
    private static let gaps = 24.0...48.0
    private static let rowGap = 14.0
    private static let laneHeight = 8.0
    private static let top = 30.0
    private static let margin = 2.0

    var nodes: [Node] = []
    var edges: [Edge] = []
    var headings: [Heading] = []
    var width = 0.0
    var height = 0.0
    private(set) var nodeWidth = Self.widths.upperBound
    private var columnGap = Self.gaps.upperBound

    /// What stands in a column: a job, or the lane of an edge that passes by.
    private enum Item: Hashable {
        case job(Int)
        case lane(edge: Int, column: Int)
    }

    /// - Parameter tallest: jobs that nothing in their stage hangs on stand beside each other where more than so many would stand
    ///   below each other.
    init(jobs: [(position: Int, stage: Stage)], edges all: [LedgerEdge], tallest: Int = .max) {
        guard !jobs.isEmpty else { return }
        let reduced = Self.reduce(all)
        let columns = Self.columns(jobs, all, tallest)
        let count = (columns.values.max() ?? 0) + 1
        var items = [[Item]](repeating: [], count: count)
        for job in jobs.sorted(by: { $0.position < $1.position }) { items[columns[job.position] ?? 0].append(.job(job.position)) }
        var neighbours: [Item: [Item]] = [:]
        var chains: [[Item]] = []
        for (index, edge) in reduced.enumerated() {
            guard let from = columns[edge.parent], let to = columns[edge.child], from < to else {
                chains.append([])
                continue
            }
            let lanes = (from + 1..<to).map { Item.lane(edge: index, column: $0) }
            for (lane, column) in zip(lanes, from + 1..<to) { items[column].append(lane) }
            let chain = [.job(edge.parent)] + lanes + [.job(edge.child)]
            for (left, right) in zip(chain, chain.dropFirst()) { neighbours[right, default: []].append(left) }
            chains.append(chain)
        }
        Self.untangle(&items, neighbours)
        narrow(to: count)
        place(items, jobs, columns)
        let corners = centres(items)
        self.edges = zip(reduced, chains).compactMap { edge, chain in
            chain.isEmpty ? nil : Edge(parent: edge.parent, child: edge.child, origin: edge.origin, points: route(chain, corners))
        }
    }

    /// Only edges that no longer way implies: a stage waits for every job before it, which nobody wants to see drawn.
    private static func reduce(_ edges: [LedgerEdge]) -> [LedgerEdge] {
        let parents = Dictionary(grouping: edges, by: \.child).mapValues { $0.map(\.parent) }
        var ancestors: [Int: Set<Int>] = [:]
        // Parents stand before their children, so one pass in order knows all ancestors.
        for child in parents.keys.sorted() {
            ancestors[child] = (parents[child] ?? []).reduce(into: []) { $0.formUnion((ancestors[$1] ?? []).union([$1])) }
        }
        return edges.filter { edge in
            !(parents[edge.child] ?? []).contains { $0 != edge.parent && ancestors[$0]?.contains(edge.parent) == true }
        }.sorted { ($0.child, $0.parent) < ($1.child, $1.parent) }
    }

    private static func columns(_ jobs: [(position: Int, stage: Stage)], _ edges: [LedgerEdge], _ tallest: Int) -> [Int: Int] {
        let stages = Dictionary(jobs.map { ($0.position, $0.stage) }) { first, _ in first }
        let parents = Dictionary(grouping: edges, by: \.child)
        var columns: [Int: Int] = [:]
        var start = 0
        for stage in Stage.allCases {
            let members = jobs.map(\.position).filter { stages[$0] == stage }.sorted()
            for job in members {
                let before = (parents[job] ?? []).compactMap { stages[$0.parent] == stage ? columns[$0.parent] : nil }
                columns[job] = max(start, (before.max() ?? start - 1) + 1)
            }
            let bound = Set(edges.filter { stages[$0.parent] == stage && stages[$0.child] == stage }.flatMap { [$0.parent, $0.child] })
            var filled = Dictionary(grouping: members.filter(bound.contains)) { columns[$0] ?? start }.mapValues(\.count)
            for job in members where !bound.contains(job) {
                var column = start
                while filled[column, default: 0] >= tallest { column += 1 }
                filled[column, default: 0] += 1
                columns[job] = column
            }
            start = (members.compactMap { columns[$0] }.max() ?? start - 1) + 1
        }
        return columns
    }

    /// Each column in the order of what its items hang on, from left to right.
    private static func untangle(_ items: inout [[Item]], _ neighbours: [Item: [Item]]) {
        var rank: [Item: Double] = [:]
        for column in items.indices {
            let weights = items[column].enumerated().map { index, item in
                let known = (neighbours[item] ?? []).compactMap { rank[$0] }
                let weight = known.isEmpty ? Double(index) / Double(max(1, items[column].count)) : known.reduce(0, +) / Double(known.count)
                return (weight, index, item)
            }
            items[column] = weights.sorted { ($0.0, $0.1) < ($1.0, $1.1) }.map(\.2)
            for (index, item) in items[column].enumerated() { rank[item] = (Double(index) + 0.5) / Double(items[column].count) }
        }
    }

    private static func height(_ item: Item) -> Double {
        if case .job = item { nodeHeight } else { laneHeight }
    }

    private static func height(_ column: [Item]) -> Double {
        column.reduce(-rowGap) { $0 + height($1) + rowGap }
    }

    private mutating func narrow(to columns: Int) {
        guard columns > 1 else { return }
        let room = Self.room - 2 * Self.margin
        let gaps = Double(columns - 1)
        nodeWidth = min(max((room - gaps * Self.gaps.lowerBound) / Double(columns), Self.widths.lowerBound), Self.widths.upperBound)
        columnGap = min(max((room - Double(columns) * nodeWidth) / gaps, Self.gaps.lowerBound), Self.gaps.upperBound)
        nodeWidth = nodeWidth.rounded(.down)
    }

    private mutating func place(_ items: [[Item]], _ jobs: [(position: Int, stage: Stage)], _ columns: [Int: Int]) {
        let tallest = items.map(Self.height).max() ?? 0
        width = Double(items.count) * (nodeWidth + columnGap) - columnGap + 2 * Self.margin
        height = Self.top + tallest + 2 * Self.margin
        for (column, members) in items.enumerated() {
            var y = Self.top + (tallest - Self.height(members)) / 2
            for item in members {
                if case .job(let job) = item { nodes.append(Node(job: job, origin: Point(x: x(column), y: y))) }
                y += Self.height(item) + Self.rowGap
            }
        }
        for stage in Stage.allCases {
            let used = jobs.filter { $0.stage == stage }.compactMap { columns[$0.position] }
            guard let first = used.min(), let last = used.max() else { continue }
            headings.append(Heading(stage: stage, x: x(first), width: x(last) - x(first) + nodeWidth))
        }
    }

    /// The middle of each item's left side.
    private func centres(_ items: [[Item]]) -> [Item: Point] {
        let tallest = items.map(Self.height).max() ?? 0
        var centres: [Item: Point] = [:]
        for (column, members) in items.enumerated() {
            var y = Self.top + (tallest - Self.height(members)) / 2
            for item in members {
                centres[item] = Point(x: x(column), y: y + Self.height(item) / 2)
                y += Self.height(item) + Self.rowGap
            }
        }
        return centres
    }

    private func x(_ column: Int) -> Double { Self.margin + Double(column) * (nodeWidth + columnGap) }

    private func route(_ chain: [Item], _ centres: [Item: Point]) -> [Point] {
        var points: [Point] = []
        for (index, item) in chain.enumerated() {
            guard let left = centres[item] else { continue }
            if index > 0 { points.append(left) }
            if index < chain.count - 1 { points.append(Point(x: left.x + nodeWidth, y: left.y)) }
        }
        return points
    }
}
