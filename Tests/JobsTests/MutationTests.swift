import Foundation
import Testing

@testable import Jobs

/// A checker that never fails checks nothing: each of these mistakes, most of them made by others before us, is found within some seeds
/// and comes down to a handful of steps.
@Suite struct MutationTests {
    struct Mutant: Sendable, CustomTestStringConvertible {
        var testDescription: String
        var rules: Set<String>
        var find: @Sendable () async -> SimulationCampaign.Failure?

        init(_ name: String, _ reducer: any RunReducer.Type, _ rules: Set<String>) {
            testDescription = name
            self.rules = rules
            find = { await SimulationCampaign.firstFailure(in: 0..<3000, with: reducer) }
        }
    }

    static let mutants = [
        Mutant("a result counts whatever its token", IgnoresTokens.self, ["I12"]),
        Mutant("a join counts results instead of marking edges", CountsParents.self, ["I4"]),
        Mutant("a hint is lost between the commit and the outbox", LosesHints.self, ["I7"]),
        Mutant("a running job is granted again", GrantsTwice.self, ["I5"]),
        Mutant("lost workers are not counted", ForgetsCrashes.self, ["I11"]),
        Mutant("a retried job keeps its satisfied edges", KeepsEdges.self, ["I4", "I10", "machine"]),
        Mutant("a late confirmation takes a running job back", ConfirmsRunning.self, ["machine"]),
        Mutant("cleaning up ignores what was not stored", CleansAnyway.self, ["finalizer"]),
        Mutant("a resumed channel forgets who waits", ForgetsPaused.self, ["I10"]),
        Mutant("a paused service is looked for in its own channel alone", PausesChannelsOnly.self, ["pause"]),
        Mutant("a discarded job that is retried stays discarded", KeepsDiscarded.self, ["discard"]),
        Mutant("a retry changes what was planned", ChangesThePlan.self, ["params"]),
        Mutant("the sweep overwrites a finished job", OverwritesEnded.self, ["I9"]),
        Mutant("a failed parent leaves its child waiting", LeavesChildWaiting.self, ["I10"]),
        Mutant("a change is not told", TellsNothing.self, ["I13"]),
        Mutant("waiting raises nobody", NeverAges.self, ["I14"]),
        Mutant("a cancelled job is tried again", RetriesCancelled.self, ["cancel"]),
        Mutant("a restarted router does not send what was not confirmed", ForgetsOutbox.self, ["I8"]),
        Mutant("a restarted router knows no leases", ForgetsLeases.self, ["I10"]),
        Mutant("a retry after cleaning up uses the deleted files", ForgetsCleaning.self, ["files"]),
    ]

    @Test(arguments: mutants)
    func isCaughtAndShrunk(_ mutant: Mutant) async throws {
        let failure = try #require(await mutant.find(), "no seed found it")
        #expect(mutant.rules.contains(failure.violation.rule), "\(failure)")
        #expect(failure.shrunk.script.count <= 20, "\(failure)")
        #expect(failure.shrunk.plan.entries.count <= 4, "\(failure)")
    }
}

// MARK: - The mistakes

private struct IgnoresTokens: RunReducer {
    mutating func apply(_ input: RunInput, to run: inout Run, at now: Date) -> [RunEffect] {
        guard case .result(let job, _, _, let exit, let next) = input, run.jobs[job].state == .running else {
            return run.apply(input, at: now)
        }
        return run.apply(.result(job: job, attempt: run.jobs[job].attempt, token: run.jobs[job].token, exit: exit, next: next), at: now)
    }
}

/// Celery's chord: a part that is delivered twice counts twice.
private struct CountsParents: RunReducer {
    private var left: [Int: Int] = [:]

    mutating func apply(_ input: RunInput, to run: inout Run, at now: Date) -> [RunEffect] {
        var effects = run.apply(input, at: now)
        guard case .result(let parent, _, _, let exit, _) = input, exit.outcome == .succeeded else { return effects }
        for child in run.jobs.indices where run.jobs[child].dependencies.contains(where: { $0.parent == parent }) {
            left[child, default: run.jobs[child].dependencies.count] -= 1
            guard left[child] == 0, run.jobs[child].state == .waiting else { continue }
            for edge in run.jobs[child].dependencies.indices { run.jobs[child].dependencies[edge].satisfiedBy = 1 }
            run.makeReady(child, .ready, now, &effects)
            effects.append(.jobChanged(job: child))
        }
        return effects
    }
}

/// RQ's dependents that were never enqueued.
private struct LosesHints: RunReducer {
    mutating func apply(_ input: RunInput, to run: inout Run, at now: Date) -> [RunEffect] {
        run.apply(input, at: now).filter { [run] effect in
            guard case .hint(let job, _, _, _, _) = effect else { return true }
            return run.jobs[job].dependencies.count < 2
        }
    }
}

private struct GrantsTwice: RunReducer {
    mutating func apply(_ input: RunInput, to run: inout Run, at now: Date) -> [RunEffect] {
        if case .claim(let job, let attempt, _, _, _, _) = input, run.jobs[job].state == .running, run.jobs[job].attempt == attempt {
            return [.grant(job: job, attempt: attempt, token: run.jobs[job].token)]
        }
        return run.apply(input, at: now)
    }
}

private struct ForgetsCrashes: RunReducer {
    mutating func apply(_ input: RunInput, to run: inout Run, at now: Date) -> [RunEffect] {
        let effects = run.apply(input, at: now)
        for index in run.jobs.indices where !run.jobs[index].state.isTerminal { run.jobs[index].crashes = 0 }
        return effects
    }
}

private struct KeepsEdges: RunReducer {
    mutating func apply(_ input: RunInput, to run: inout Run, at now: Date) -> [RunEffect] {
        let before = run
        let effects = run.apply(input, at: now)
        guard input.beginsAnew else { return effects }
        for index in run.jobs.indices where run.jobs[index].state == .waiting {
            run.jobs[index].dependencies = before.jobs[index].dependencies
        }
        return effects
    }
}

/// W9 of docs/failure-windows.md.
private struct ConfirmsRunning: RunReducer {
    mutating func apply(_ input: RunInput, to run: inout Run, at now: Date) -> [RunEffect] {
        if case .hintConfirmed(let job, let attempt, _) = input, run.jobs[job].state == .running, run.jobs[job].attempt == attempt {
            run.jobs[job].state = .dispatched
            run.jobs[job].dispatchedAt = now
            run.jobs[job].reason = .queued(channel: "default")
            return [.jobChanged(job: job)]
        }
        return run.apply(input, at: now)
    }
}

private struct CleansAnyway: RunReducer {
    mutating func apply(_ input: RunInput, to run: inout Run, at now: Date) -> [RunEffect] {
        let storing = run.jobs.map(\.definition.isStoring)
        for index in run.jobs.indices { run.jobs[index].definition.isStoring = false }
        let effects = run.apply(input, at: now)
        for index in run.jobs.indices { run.jobs[index].definition.isStoring = storing[index] }
        return effects
    }
}

private struct ForgetsPaused: RunReducer {
    mutating func apply(_ input: RunInput, to run: inout Run, at now: Date) -> [RunEffect] {
        if case .resumed = input { return [] }
        return run.apply(input, at: now)
    }
}

private struct PausesChannelsOnly: RunReducer {
    mutating func apply(_ input: RunInput, to run: inout Run, at now: Date) -> [RunEffect] {
        guard case .claim(let job, let attempt, let dispatch, let worker, let id, let paused) = input else {
            return run.apply(input, at: now)
        }
        let channels = PausedWork(channels: paused.channels)
        return run.apply(.claim(job: job, attempt: attempt, dispatch: dispatch, worker: worker, id: id, paused: channels), at: now)
    }
}

private struct KeepsDiscarded: RunReducer {
    mutating func apply(_ input: RunInput, to run: inout Run, at now: Date) -> [RunEffect] {
        let discarded = run.jobs.map(\.discarded)
        let effects = run.apply(input, at: now)
        if input.beginsAnew { for index in run.jobs.indices { run.jobs[index].discarded = discarded[index] } }
        return effects
    }
}

private struct ChangesThePlan: RunReducer {
    mutating func apply(_ input: RunInput, to run: inout Run, at now: Date) -> [RunEffect] {
        let effects = run.apply(input, at: now)
        for index in run.jobs.indices {
            if let params = run.jobs[index].changedParams { run.jobs[index].definition.params = params }
        }
        return effects
    }
}

/// River #1302: an UPDATE by id alone.
private struct OverwritesEnded: RunReducer {
    mutating func apply(_ input: RunInput, to run: inout Run, at now: Date) -> [RunEffect] {
        guard case .hintLost(let job, _, _) = input else {
            if case .claim(let job, let attempt, _, _, _, _) = input, run.jobs[job].attempt == attempt, run.jobs[job].state == .succeeded {
                run.jobs[job].state = .running
                run.jobs[job].reason = Reason(.running, "again")
            }
            return run.apply(input, at: now)
        }
        run.jobs[job].state = .dispatched
        return run.apply(input, at: now)
    }
}

/// BullMQ's parents in waiting-children.
private struct LeavesChildWaiting: RunReducer {
    mutating func apply(_ input: RunInput, to run: inout Run, at now: Date) -> [RunEffect] {
        let before = run
        let effects = run.apply(input, at: now)
        for index in run.jobs.indices where before.jobs[index].state == .waiting && run.jobs[index].cause == .dependencyFailed {
            run.jobs[index] = before.jobs[index]
        }
        return effects
    }
}

private struct TellsNothing: RunReducer {
    mutating func apply(_ input: RunInput, to run: inout Run, at now: Date) -> [RunEffect] {
        run.apply(input, at: now).filter { if case .jobChanged = $0 { false } else { true } }
    }
}

private struct NeverAges: RunReducer {
    mutating func apply(_ input: RunInput, to run: inout Run, at now: Date) -> [RunEffect] {
        if case .aged = input { return [] }
        return run.apply(input, at: now)
    }
}

private struct RetriesCancelled: RunReducer {
    mutating func apply(_ input: RunInput, to run: inout Run, at now: Date) -> [RunEffect] {
        guard case .result(let job, _, _, let exit, _) = input, exit.outcome == .failed, run.jobs[job].cancelRequested else {
            return run.apply(input, at: now)
        }
        run.jobs[job].cancelRequested = false
        return run.apply(input, at: now)
    }
}

private struct ForgetsOutbox: RunReducer {
    var rereadsOutbox: Bool { false }
    mutating func apply(_ input: RunInput, to run: inout Run, at now: Date) -> [RunEffect] { run.apply(input, at: now) }
}

private struct ForgetsLeases: RunReducer {
    var rereadsLeases: Bool { false }
    mutating func apply(_ input: RunInput, to run: inout Run, at now: Date) -> [RunEffect] { run.apply(input, at: now) }
}

/// What a ledger without the column would do.
private struct ForgetsCleaning: RunReducer {
    mutating func apply(_ input: RunInput, to run: inout Run, at now: Date) -> [RunEffect] {
        run.hasBegunCleaning = false
        return run.apply(input, at: now)
    }
}
