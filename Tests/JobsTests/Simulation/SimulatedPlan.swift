import Jobs
import TestSupport

/// A plan as small data: what a shrunk failure prints, and what a run is made from.
struct SimulatedPlan: Sendable, Hashable, CustomStringConvertible {
    struct Edge: Sendable, Hashable {
        var parent: Int
        var isLenient: Bool
    }

    struct Entry: Sendable, Hashable {
        var stage = Stage.services
        var edges: [Edge] = []
        var retries = 0
        var priority = Priority.default
        var usesSecondChannel = false
        var isFinalizer = false
        var isStoring = false
        var isSkipped = false
        var onLeaseLoss = OnLeaseLoss.keep
    }

    static let channels = ["default", "gpu"]
    static let services = ["s0", "s1"]
    /// What a person can pause.
    static let pausable = channels.map(PauseTarget.channel) + services.map(PauseTarget.service)

    var entries: [Entry]

    var plan: RunPlan {
        RunPlan(
            jobs: entries.enumerated().map { index, entry in
                RunPlan.Entry(
                    definition: JobDefinition(
                        name: "job\(index)", service: Self.services[index % 2], stage: entry.stage, entry: "m.f",
                        channel: Self.channels[entry.usesSecondChannel ? 1 : 0], priority: entry.priority,
                        retry: RetryPolicy(max: entry.retries, delay: 5), isFinalizer: entry.isFinalizer, isStoring: entry.isStoring,
                        onLeaseLoss: entry.onLeaseLoss),
                    dependencies: entry.edges.map {
                        Dependency(parent: $0.parent, condition: $0.isLenient ? .finished : .succeeded, origin: .declared)
                    },
                    skipped: entry.isSkipped ? Reason(Reason.notAcceptedCode, "not accepted", subject: "x") : nil
                )
            }
        )
    }

    var description: String {
        entries.enumerated().map { index, entry in
            var words = ["job\(index) \(entry.stage.rawValue)"]
            if !entry.edges.isEmpty {
                words.append("after " + entry.edges.map { "\($0.parent)\($0.isLenient ? "?" : "")" }.joined(separator: ","))
            }
            if entry.retries > 0 { words.append("retries \(entry.retries)") }
            if entry.priority != .default { words.append(entry.priority.name) }
            if entry.usesSecondChannel { words.append("gpu") }
            if entry.isFinalizer { words.append("finalizer") }
            if entry.isStoring { words.append("storing") }
            if entry.isSkipped { words.append("skipped by planning") }
            if entry.onLeaseLoss == .kill { words.append("kill") }
            return words.joined(separator: " ")
        }.joined(separator: "\n")
    }
}

// MARK: - Random graphs

extension SimulatedPlan {
    /// 1-60 jobs, most plans small, with the edges that the planner draws: an export first, stages behind barriers, finalizers after all.
    static func random(_ random: inout SeededGenerator) -> SimulatedPlan {
        let count =
            switch random.below(100) {
            case 0..<70: 1 + random.below(6)
            case 70..<97: 4 + random.below(12)
            default: 16 + random.below(45)
            }
        // Half of the graphs have the planner's shape; the others are any acyclic graph.
        let hasStages = random.chance(1, in: 2)
        let density = 1 + random.below(4)
        var stages = (1..<max(1, count)).map { _ in [Stage.pre, .services, .services, .post][random.below(4)] }
        if hasStages { stages.sort { order($0) < order($1) } }
        var entries = ([.export] + stages).map { stage in
            Entry(
                stage: stage,
                retries: random.chance(1, in: 2) ? 0 : 1 + random.below(2),
                priority: Priority(rawValue: random.below(5)) ?? .default,
                usesSecondChannel: random.chance(1, in: 4),
                isFinalizer: stage == .post && random.chance(1, in: 3),
                isStoring: stage == .post && random.chance(1, in: 3),
                isSkipped: stage != .export && random.chance(1, in: 14),
                onLeaseLoss: random.chance(1, in: 3) ? .kill : .keep
            )
        }
        for index in entries.indices.dropFirst() {
            for parent in 0..<index where !entries[parent].isSkipped {
                let isBarrier = hasStages && entries[parent].stage != entries[index].stage
                // Cleaning up comes after all there is.
                let isCleaning = entries[index].isFinalizer && !entries[parent].isFinalizer
                guard isBarrier || isCleaning || random.chance(density, in: 8) else { continue }
                let isLenient = entries[index].isFinalizer || (!isBarrier && random.chance(1, in: 5))
                entries[index].edges.append(Edge(parent: parent, isLenient: isLenient))
            }
        }
        return SimulatedPlan(entries: entries).withCleaningLast
    }

    /// As the planner has it: a finalizer comes after all that stands before it, and everything behind it comes after the finalizer.
    var withCleaningLast: SimulatedPlan {
        var plan = self
        var after: Set<Int> = []
        for index in plan.entries.indices {
            var parents = Set(plan.entries[index].edges.map(\.parent))
            if !after.isEmpty, !plan.entries[index].isFinalizer, after.isDisjoint(with: parents), let finalizer = after.min() {
                plan.entries[index].edges.append(Edge(parent: finalizer, isLenient: false))
                parents.insert(finalizer)
            }
            if plan.entries[index].isFinalizer {
                for parent in 0..<index where !after.contains(parent) && !plan.entries[parent].isSkipped && !parents.contains(parent) {
                    plan.entries[index].edges.append(Edge(parent: parent, isLenient: true))
                }
                for edge in plan.entries[index].edges.indices { plan.entries[index].edges[edge].isLenient = true }
            }
            if plan.entries[index].isFinalizer || !after.isDisjoint(with: parents) { after.insert(index) }
            plan.entries[index].edges.sort { $0.parent < $1.parent }
        }
        return plan
    }

    private static func order(_ stage: Stage) -> Int { Stage.allCases.firstIndex(of: stage) ?? 0 }
}

// MARK: - Smaller plans

extension SimulatedPlan {
    /// Every plan that is one step simpler.
    var simpler: [SimulatedPlan] { candidates.map(\.withCleaningLast).filter { $0 != self && $0.size < size } }

    private var size: Int {
        entries.reduce(0) { sum, entry in
            let marks = [entry.usesSecondChannel, entry.isFinalizer, entry.isStoring, entry.isSkipped, entry.onLeaseLoss == .kill]
            return sum + 100 + 2 * entry.edges.count + entry.retries + (entry.priority == .default ? 0 : 1) + marks.count { $0 }
        }
    }

    private var candidates: [SimulatedPlan] {
        var plans: [SimulatedPlan] = []
        for index in entries.indices.reversed() {
            for edge in entries[index].edges.indices.reversed() {
                var plan = self
                plan.entries[index].edges.remove(at: edge)
                plans.append(plan)
            }
            var plain = self
            plain.entries[index] = Entry(stage: entries[index].stage, edges: entries[index].edges)
            if plain != self { plans.append(plain) }
            for simplify in Self.simplifications {
                var plan = self
                simplify(&plan.entries[index])
                if plan != self { plans.append(plan) }
            }
        }
        return plans
    }

    private static let simplifications: [@Sendable (inout Entry) -> Void] = [
        { $0.retries = 0 }, { $0.priority = .default }, { $0.usesSecondChannel = false }, { $0.isFinalizer = false },
        { $0.isStoring = false }, { $0.isSkipped = false }, { $0.onLeaseLoss = .keep },
    ]

    func removing(_ removed: Int) -> SimulatedPlan {
        var plan = self
        plan.entries.remove(at: removed)
        for index in plan.entries.indices {
            plan.entries[index].edges = plan.entries[index].edges.compactMap { edge in
                guard edge.parent != removed else { return nil }
                return Edge(parent: edge.parent > removed ? edge.parent - 1 : edge.parent, isLenient: edge.isLenient)
            }
        }
        return plan
    }
}
