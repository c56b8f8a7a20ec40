import TestSupport

@testable import Jobs

/// A plan and what happens to it, as data: the same always ends the same.
struct Simulation: Sendable, CustomStringConvertible {
    var plan: SimulatedPlan
    var script: [SimulationStep]

    struct Outcome {
        var violation: Violation?
        var seen: Set<RunAudit.Standing> = []
        var refusals: Set<String> = []
        var run: Run?
        var steps = 0
    }

    var description: String {
        "plan:\n\(plan)\nscript (\(script.count) steps, then nobody interferes any more):\n"
            + script.map { "\($0)" }.joined(separator: "\n")
    }

    /// A random plan, and a script that is made while it is played: what finds nothing to act on is left out.
    static func random(seed: UInt64, with reducer: any RunReducer.Type) -> (Simulation, Outcome) {
        var random = SeededGenerator(seed: seed)
        let plan = SimulatedPlan.random(&random)
        let mood = SimulationMood(&random)
        let length = 20 + random.below(30) + plan.entries.count * (2 + random.below(10))
        var simulation = Simulation(plan: plan, script: [])
        var outcome = Outcome()
        do throws(Violation) {
            var world = try SimulatedWorld(plan: plan, reducer: reducer)
            defer { outcome.note(world.audit, world.run) }
            for _ in 0..<length {
                let step = mood.step(&random).naming(jobs: plan.entries.count)
                simulation.script.append(step)
                if try !world.perform(step) { simulation.script.removeLast() }
            }
            try world.settleDown()
        } catch {
            outcome.violation = error
        }
        outcome.steps = simulation.script.count
        return (simulation, outcome)
    }

    func replay(with reducer: any RunReducer.Type) -> Outcome {
        var outcome = Outcome()
        do throws(Violation) {
            var world = try SimulatedWorld(plan: plan, reducer: reducer)
            defer { outcome.note(world.audit, world.run) }
            for step in script { _ = try world.perform(step) }
            try world.settleDown()
        } catch {
            outcome.violation = error
        }
        return outcome
    }
}

extension Simulation.Outcome {
    fileprivate mutating func note(_ audit: RunAudit, _ run: Run) {
        seen = audit.seen
        refusals = audit.refusals
        self.run = run
    }
}

// MARK: - Shrinking

extension Simulation {
    /// The smallest simulation that this can be reduced to and that still breaks the same rule: fewer steps, fewer jobs, fewer edges.
    func shrunk(with reducer: any RunReducer.Type) -> Simulation {
        guard let rule = replay(with: reducer).violation?.rule else { return self }
        func fails(_ candidate: Simulation) -> Bool { candidate.replay(with: reducer).violation?.rule == rule }
        var best = self
        var isSmaller = true
        while isSmaller {
            isSmaller = false
            for candidates in [Simulation.withoutSteps, Simulation.withoutJobs, Simulation.withSimplerPlan, Simulation.withSmallerPicks] {
                if let smaller = candidates(best)(fails) {
                    best = smaller
                    isSmaller = true
                }
            }
        }
        return best
    }

    private func withoutJobs(_ fails: (Simulation) -> Bool) -> Simulation? {
        var best = self
        for job in plan.entries.indices.reversed() where best.plan.entries.count > 1 {
            let candidate = Simulation(
                plan: best.plan.removing(job).withCleaningLast, script: best.script.compactMap { $0.withoutJob(job) })
            if fails(candidate) { best = candidate }
        }
        return best.plan.entries.count < plan.entries.count ? best : nil
    }

    private func withSimplerPlan(_ fails: (Simulation) -> Bool) -> Simulation? {
        var best = self
        while let simpler = best.plan.simpler.lazy.map({ Simulation(plan: $0, script: best.script) }).first(where: fails) {
            best = simpler
        }
        return best.plan != plan ? best : nil
    }

    private func withSmallerPicks(_ fails: (Simulation) -> Bool) -> Simulation? {
        var best = self
        for place in script.indices {
            var quiet = best
            quiet.script[place] = best.script[place].withoutQuestion
            if quiet.script != best.script, fails(quiet) { best = quiet }
            for pick in 0..<3 {
                var candidate = best
                candidate.script[place] = best.script[place].picking(pick)
                guard candidate.script[place] != best.script[place] else { break }
                if fails(candidate) {
                    best = candidate
                    break
                }
            }
        }
        return best.script != script ? best : nil
    }

    private func withoutSteps(_ fails: (Simulation) -> Bool) -> Simulation? {
        var best = self
        var size = max(1, script.count / 2)
        while true {
            var start = 0
            while start < best.script.count {
                var candidate = best
                candidate.script.removeSubrange(start..<min(start + size, candidate.script.count))
                if fails(candidate) { best = candidate } else { start += size }
            }
            if size == 1 { break }
            size = max(1, size / 2)
        }
        return best.script.count < script.count ? best : nil
    }
}
