import Foundation

@testable import Jobs

/// Watches every transaction, with books of its own: what the run says of itself is not believed.
struct RunAudit {
    private struct Key: Hashable {
        var job: Int
        var attempt: Int
        var number: Int
    }

    private var hints: Set<Key> = []
    /// Who was given which token.
    private var grants: [Key: String] = [:]
    private var ended: Set<Key> = []
    private var crashes: [Int]
    private var failures: [Int]
    /// A finalizer was started, and the export has not been made again.
    private var isCleaned = false
    private let afterCleaning: Set<Int>
    private let neverPlanned: Set<Int>
    /// What was seen, for the test that says that the scripts reach everything.
    private(set) var seen: Set<Standing> = []
    private(set) var refusals: Set<String> = []

    struct Standing: Hashable, CustomStringConvertible {
        var state: JobState
        var reason: JobReason

        var description: String { "\(state.rawValue)/\(reason.rawValue)" }
    }

    init(_ run: Run) {
        crashes = Array(repeating: 0, count: run.jobs.count)
        failures = crashes
        var afterCleaning: Set<Int> = []
        for (index, job) in run.jobs.enumerated()
        where job.definition.isFinalizer || job.dependencies.contains(where: { afterCleaning.contains($0.parent) }) {
            afterCleaning.insert(index)
        }
        self.afterCleaning = afterCleaning
        neverPlanned = Set(run.jobs.indices.filter { run.jobs[$0].state == .skipped })
    }

    mutating func check(
        _ input: RunInput, before: Run, after: Run, _ effects: [RunEffect], paused: PausedWork, now: Double
    ) throws(Violation) {
        try noteRestarts(input, before, after)
        // Of its own knowledge, not what the run was told.
        for case .grant(let index, _, let token) in effects where !grants.keys.contains(Key(job: index, attempt: 0, number: token)) {
            let job = after.jobs[index].definition
            if paused.channels.contains(job.channel) || paused.services.contains(job.service) {
                throw Violation(rule: "pause", text: "job \(index) starts although it is paused")
            }
        }
        for effect in effects { try check(effect, input, before, after, now) }
        for index in after.jobs.indices {
            try checkStep(input, index, before.jobs[index], after.jobs[index])
            try checkStanding(index, after)
        }
        try checkRun(before, after)
        try checkFacts(input, before, after, effects)
    }

    /// I14: waiting ends at the top.
    func checkAged(_ job: Job, _ index: Int) throws(Violation) {
        guard job.state == .ready || job.priority == .urgent else {
            throw Violation(rule: "I14", text: "job \(index) has waited long and stays \(job.priority.name)")
        }
    }
}

// MARK: - Effects

extension RunAudit {
    private mutating func check(
        _ effect: RunEffect, _ input: RunInput, _ before: Run, _ after: Run, _ now: Double
    ) throws(Violation) {
        switch effect {
        case .hint(let index, let attempt, let dispatch, let delay, let pause):
            let job = after.jobs[index]
            guard hints.insert(Key(job: index, attempt: attempt, number: dispatch)).inserted else {
                throw Violation(rule: "I7", text: "job \(index): hint \(attempt).\(dispatch) is written twice")
            }
            guard job.attempt == attempt, job.dispatch == dispatch, job.state == .ready || job.state == .retrying else {
                throw Violation(rule: "I7", text: "job \(index) is \(job.state.rawValue) and gets a hint for \(attempt).\(dispatch)")
            }
            // A retry is held back until it is due, and a job that its worker has not the means for is not offered again at once.
            let isHeldBack = (job.state == .retrying && pause > 0) || (job.state == .ready && job.cause == .notHere)
            guard (delay != nil) == isHeldBack, pause <= Double(delay?.seconds ?? 0) else {
                throw Violation(rule: "backoff", text: "job \(index) is \(job.state.rawValue), its hint waits for \(pause) s")
            }
        case .grant(let index, let attempt, let token): try checkGrant(index, attempt, token, input, before, after, now)
        case .attemptEnded(let index, let attempt, let token, let ending):
            let old = before.jobs[index]
            guard old.state == .running, old.token == token, old.attempt == attempt else {
                throw Violation(rule: "I6", text: "job \(index): an end of token \(token) is applied while \(old.token) is the current one")
            }
            guard ended.insert(Key(job: index, attempt: 0, number: token)).inserted else {
                throw Violation(rule: "I6", text: "job \(index): token \(token) ended twice")
            }
            try checkEnding(index, ending, old, after.jobs[index], effects: after)
        case .refused(let reason), .deny(let reason): refusals.insert(reason.code)
        case .renewed, .leaseLost, .stop, .attemptStarted, .deadLetter, .jobChanged, .runChanged, .discarded: break
        }
    }

    private mutating func checkGrant(
        _ index: Int, _ attempt: Int, _ token: Int, _ input: RunInput, _ before: Run, _ after: Run, _ now: Double
    ) throws(Violation) {
        let id: String
        switch input {
        case .claim(_, _, _, _, let claim, _): id = claim
        case .result(_, _, _, _, let next?): id = next.id
        default: throw Violation(rule: "I5", text: "job \(index) is granted without a claim")
        }
        let job = after.jobs[index]
        let old = before.jobs[index]
        guard job.state == .running, job.token == token, job.attempt == attempt else {
            throw Violation(rule: "I5", text: "job \(index): token \(token) is granted, and is not the current one")
        }
        let key = Key(job: index, attempt: 0, number: token)
        if let owner = grants[key] {
            guard owner == id else { throw Violation(rule: "I5", text: "job \(index): token \(token) is granted to two claims") }
            return
        }
        grants[key] = id
        if crashes[index] >= Run.crashLimit { throw Violation(rule: "I11", text: "job \(index) starts after \(crashes[index]) crashes") }
        if let due = old.notBefore?.timeIntervalSince1970, due > now + 1 {
            throw Violation(rule: "backoff", text: "job \(index) starts \(due - now) s early")
        }
        if old.cancelRequested { throw Violation(rule: "cancel", text: "job \(index) starts after it was cancelled") }
        if afterCleaning.contains(index) {
            if job.definition.isFinalizer {
                isCleaned = true
                try checkCleaning(index, after)
            }
        } else if isCleaned {
            throw Violation(rule: "files", text: "job \(index) starts although a finalizer has been started")
        }
    }

    /// A finalizer never starts before the others have ended, nor while results are not stored.
    private func checkCleaning(_ index: Int, _ run: Run) throws(Violation) {
        let parents = Set(run.jobs[index].dependencies.map(\.parent))
        let hasResults = run.jobs.contains { $0.definition.stage == .services && $0.state == .succeeded }
        for (other, job) in run.jobs.enumerated() where parents.contains(other) && job.definition.isStoring && !neverPlanned.contains(other)
        {
            let isLost = job.state == .failed || job.state == .dead || (hasResults && (job.state == .skipped || job.state == .cancelled))
            if isLost { throw Violation(rule: "finalizer", text: "job \(index) cleans up while job \(other) has not stored its results") }
        }
    }

    private mutating func checkEnding(
        _ index: Int, _ ending: AttemptEnding, _ old: Job, _ new: Job, effects run: Run
    ) throws(Violation) {
        if case .exit(let exit) = ending, exit.outcome == .succeeded {
            // The simulated workers hand over the token as their result.
            guard new.state == .succeeded, new.result == .integer(Int64(new.token)) else {
                throw Violation(rule: "I12", text: "job \(index) has the result \(String(describing: new.result)) of token \(new.token)")
            }
            return
        }
        if old.cancelRequested {
            guard new.state == .cancelled else {
                throw Violation(rule: "cancel", text: "job \(index) was to be cancelled and is \(new.state.rawValue)")
            }
            return
        }
        switch ending {
        case .lost:
            crashes[index] += 1
            let wanted: JobState = crashes[index] >= Run.crashLimit ? .dead : .ready
            guard new.state == wanted else {
                throw Violation(rule: "I11", text: "job \(index) lost \(crashes[index]) workers and is \(new.state.rawValue)")
            }
        case .exit(let exit) where exit.outcome == .failed:
            failures[index] += 1
            let mayRetry = failures[index] <= old.definition.retry.max
            let wanted: JobState = exit.isRetriable ? (mayRetry ? .retrying : .failed) : .dead
            guard new.state == wanted else {
                throw Violation(rule: "retry", text: "job \(index) failed \(failures[index]) times and is \(new.state.rawValue)")
            }
        case .exit:
            guard new.state == .ready, new.attempt == old.attempt else {
                throw Violation(rule: "release", text: "job \(index) was handed back and is \(new.state.rawValue)")
            }
        }
    }
}

// MARK: - Changes

extension RunAudit {
    /// People may begin a job anew: its counts begin anew with it.
    private mutating func noteRestarts(_ input: RunInput, _ before: Run, _ after: Run) throws(Violation) {
        guard input.beginsAnew else { return }
        var count = 0
        for index in after.jobs.indices where after.jobs[index] != before.jobs[index] {
            let (old, new) = (before.jobs[index], after.jobs[index])
            if old.state == .running {
                throw Violation(rule: "retry", text: "job \(index) is taken back while it runs")
            }
            if neverPlanned.contains(index) {
                throw Violation(rule: "retry", text: "job \(index) is begun, which planning refused")
            }
            guard new.cause == .retried || new.cause == .rerun || new.state == .skipped else {
                throw Violation(rule: "retry", text: "job \(index) became \(new.state.rawValue) (\(new.reason.code))")
            }
            crashes[index] = 0
            failures[index] = 0
            count += 1
        }
        // The whole run: what is skipped for the same reason once more, at the same moment, looks as if nothing had happened to it.
        let isWhole = after.jobs.indices.allSatisfy { index in
            let job = after.jobs[index]
            if job != before.jobs[index] || neverPlanned.contains(index) || job.state == .skipped { return true }
            // What was discarded may stay away, unless it is what deletes the files.
            return job.discarded != nil && !job.definition.isFinalizer
        }
        if count > 0, isWhole { isCleaned = false }
    }

    private mutating func checkStep(_ input: RunInput, _ index: Int, _ old: Job, _ new: Job) throws(Violation) {
        if old == new { return }
        if let cause = new.cause { seen.insert(Standing(state: new.state, reason: cause)) }
        if new.token < old.token || new.attempt < old.attempt || (new.attempt == old.attempt && new.dispatch < old.dispatch) {
            throw Violation(rule: "I5", text: "job \(index): a number went backwards")
        }
        try checkWishes(input, index, old, new)
        if case .discard = input { return }
        if old.state.isTerminal, !input.beginsAnew {
            throw Violation(rule: "I9", text: "\(input.name) changed job \(index), which had ended \(old.state.rawValue)")
        }
        guard input.allows(old.state, new.state, isSubject: input.job == index) else {
            throw Violation(rule: "machine", text: "\(input.name) took job \(index) from \(old.state.rawValue) to \(new.state.rawValue)")
        }
        if case .claim = input, input.job == index, new.state == .skipped, new.cause != .heldBack {
            throw Violation(rule: "machine", text: "a claim skipped job \(index) because of \(new.reason.code)")
        }
        guard let cause = new.cause, new.state.reasons.contains(cause) else {
            throw Violation(rule: "I13", text: "job \(index) is \(new.state.rawValue) because of \(new.reason.code)")
        }
        if new.priority != old.priority {
            let isRight: Bool =
                switch input {
                case .aged: new.priority == old.priority.raised
                case .setPriority(_, let priority, _): new.priority == priority
                default: false
                }
            guard isRight else { throw Violation(rule: "I14", text: "\(input.name) made job \(index) \(new.priority.name)") }
        }
    }

    /// What only people set: that a dead job is off the list, and what a job is given instead of what was planned.
    private func checkWishes(_ input: RunInput, _ index: Int, _ old: Job, _ new: Job) throws(Violation) {
        if case .discard = input {
            var same = new
            same.discarded = nil
            guard input.job == index, old.state == .dead, old.discarded == nil, new.discarded != nil, same == old else {
                throw Violation(rule: "discard", text: "job \(index), \(old.state.rawValue), is another one after it was discarded")
            }
        } else if new.discarded != old.discarded, !input.bringsBack(index, old.definition) || new.discarded != nil {
            throw Violation(rule: "discard", text: "\(input.name) changed who discarded job \(index)")
        }
        if new.discarded != nil, new.state != .dead {
            throw Violation(rule: "discard", text: "job \(index) is \(new.state.rawValue) and discarded")
        }
        if new.definition != old.definition { throw Violation(rule: "params", text: "the plan of job \(index) changed") }
        var wanted = old.params
        if case .retry(index, _, _, let params?) = input { wanted = params }
        guard new.params == wanted else { throw Violation(rule: "params", text: "\(input.name) gave job \(index) other params") }
    }

    private func checkStanding(_ index: Int, _ run: Run) throws(Violation) {
        switch run.jobs[index].state {
        case .ready, .dispatched, .running, .retrying:
            for edge in run.jobs[index].dependencies {
                let state = run.jobs[edge.parent].state
                guard edge.satisfiedBy != nil, state.isTerminal, edge.condition == .finished || state == .succeeded else {
                    throw Violation(
                        rule: "I4", text: "job \(index) is \(run.jobs[index].state.rawValue), and job \(edge.parent) is \(state.rawValue)")
                }
            }
        case .waiting:
            guard run.jobs[index].dependencies.contains(where: { $0.satisfiedBy == nil && !run.jobs[$0.parent].state.isTerminal }) else {
                throw Violation(rule: "I10", text: "job \(index) waits for nothing")
            }
        case .succeeded, .failed, .cancelled, .skipped, .dead:
            guard run.jobs[index].finishedAt != nil || neverPlanned.contains(index) else {
                throw Violation(rule: "I13", text: "job \(index) has ended at no time")
            }
        }
    }

    private func checkRun(_ before: Run, _ after: Run) throws(Violation) {
        let isOver = after.jobs.allSatisfy(\.state.isTerminal)
        guard isOver == after.state.isTerminal, isOver == (after.finishedAt != nil) else {
            throw Violation(rule: "run", text: "the run is \(after.state.rawValue) with jobs \(after.jobs.map(\.state.rawValue))")
        }
        guard isOver else { return }
        let states = Set(after.jobs.map(\.state))
        let wanted: RunState =
            if states.contains(.failed) || states.contains(.dead) || after.concern != nil {
                .failed
            } else if states.contains(.cancelled) {
                .cancelled
            } else {
                after.jobs.isEmpty ? .declined : .succeeded
            }
        guard after.state == wanted else {
            throw Violation(rule: "run", text: "the run is \(after.state.rawValue) with jobs \(after.jobs.map(\.state.rawValue))")
        }
    }

    /// I13: whoever watches hears of every change of a state.
    private func checkFacts(_ input: RunInput, _ before: Run, _ after: Run, _ effects: [RunEffect]) throws(Violation) {
        for index in after.jobs.indices where after.jobs[index].state != before.jobs[index].state {
            guard effects.contains(.jobChanged(job: index)) else {
                throw Violation(rule: "I13", text: "nobody is told that job \(index) became \(after.jobs[index].state.rawValue)")
            }
        }
        if after.state != before.state, !effects.contains(.runChanged) {
            throw Violation(rule: "I13", text: "nobody is told that the run became \(after.state.rawValue)")
        }
    }
}

// MARK: - The machine

extension RunInput {
    var beginsAnew: Bool {
        switch self {
        case .retry, .retryAll, .rerun: true
        default: false
        }
    }

    /// Whether a discarded job may come to life again: by a retry of its own, done once more with what came before it, or because it
    /// deletes what the whole run makes again.
    fileprivate func bringsBack(_ index: Int, _ definition: JobDefinition) -> Bool {
        switch self {
        case .retry(let job, _, _, _): job == index || definition.isFinalizer
        case .retryAll: definition.isFinalizer
        case .rerun: true
        default: false
        }
    }

    /// The job that the input is about.
    fileprivate var job: Int? {
        switch self {
        case .hintConfirmed(let job, _, _), .hintLost(let job, _, _), .aged(let job, _, _), .claim(let job, _, _, _, _, _),
            .renewal(let job, _, _), .result(let job, _, _, _, _), .leaseExpired(let job, _), .cancel(let job, _), .retry(let job, _, _, _),
            .rerun(let job, _), .setPriority(let job, _, _), .discard(let job, _, _):
            job
        case .start, .resumed, .cancelAll, .retryAll: nil
        }
    }

    fileprivate var name: String { String("\(self)".prefix { $0 != "(" }) }

    /// Which steps the input may make a job take. docs/job-lifecycle.md has the picture.
    ///
    /// - Parameter isSubject: whether the job is the one that the input is about; others may only follow.
    fileprivate func allows(_ old: JobState, _ new: JobState, isSubject: Bool) -> Bool {
        let follows = old == .waiting && (new == .ready || new == .skipped || new == .waiting)
        switch self {
        case .start: return follows
        case .hintConfirmed: return isSubject && old == .ready && new == .dispatched
        case .hintLost: return isSubject && new == .ready && [.ready, .dispatched, .retrying].contains(old)
        case .aged: return isSubject && new == .ready && [.dispatched, .retrying].contains(old)
        case .claim:
            // A finalizer may be held back at the last moment; what waits for it follows.
            guard isSubject else { return follows }
            return [.ready, .dispatched, .retrying].contains(old) && [.running, .ready, .skipped].contains(new)
        case .renewal: return false
        case .result(_, _, _, _, let next):
            guard isSubject, old == .running else { return follows || (next != nil && old == .waiting && new == .running) }
            return [.succeeded, .failed, .dead, .retrying, .cancelled, .ready].contains(new)
        case .leaseExpired:
            guard isSubject, old == .running else { return follows }
            return [.ready, .dead, .cancelled].contains(new)
        case .resumed: return old == .ready && new == .ready
        case .discard: return isSubject && old == .dead && new == .dead
        case .cancel, .cancelAll:
            if follows { return true }
            return old == .running ? new == .running : !old.isTerminal && new == .cancelled
        case .retry, .retryAll, .rerun: return old != .running && [.waiting, .ready, .skipped].contains(new)
        case .setPriority:
            return isSubject && (old == new ? [.waiting, .ready, .retrying].contains(old) : old == .dispatched && new == .ready)
        }
    }
}
