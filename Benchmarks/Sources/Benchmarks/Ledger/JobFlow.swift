import Foundation
import JobStore
import Jobs
import Pipeline

/// What the router's transaction does with one input, without the broker: the run's change, its attempts, hints and facts.
struct JobFlow {
    let ledger: any LedgerTransaction
    let now: Date
    /// As the router's cache holds them between commits.
    private(set) var runs: [RunID: StoredRun]
    private(set) var hints: [OutboxRow] = []
    /// What is to be published after the commit.
    private(set) var facts: [FactMessage] = []

    init(ledger: any LedgerTransaction, now: Date, runs: [RunID: StoredRun]) {
        self.ledger = ledger
        self.now = now
        self.runs = runs
    }

    mutating func apply(_ input: RunInput, to id: RunID) throws {
        guard var stored = try runs[id] ?? ledger.loadRun(id) else { throw BenchmarkError("The ledger has no run \(id).") }
        let old = stored.run
        let effects = stored.run.apply(input, at: now)
        if stored.run != old { try ledger.update(stored.run, from: old) }
        runs[id] = stored
        try carryOut(effects, stored.run)
    }

    mutating func create(_ stored: StoredRun, event: EventMessage, decisions: [Decision]) throws {
        guard let sequence = try ledger.recordEvent(event, at: now).sequence else {
            throw BenchmarkError("The event \(event.snapshot) is not new.")
        }
        var stored = stored
        let effects = stored.run.apply(.start, at: now)
        try ledger.insertRun(
            stored, event: sequence, dedupeKey: event.snapshot, origin: "event", filteredHeaders: nil, decisions: decisions, at: now)
        runs[stored.run.id] = stored
        facts.append(try ledger.appendFact(kind: "run.created", run: stored.run.id, job: nil, data: ["origin": "event"], at: now))
        try carryOut(effects, stored.run)
    }

    mutating func confirm(_ row: OutboxRow) throws {
        try ledger.removeOutbox(row.id)
        let job = row.message.job
        try apply(.hintConfirmed(job: job.index, attempt: row.message.attempt, dispatch: row.message.dispatch), to: job.run)
    }

    private mutating func carryOut(_ effects: [RunEffect], _ run: Jobs.Run) throws {
        for effect in effects {
            switch effect {
            case .hint(let job, let attempt, let dispatch, let delay, let pause):
                let message = OutboxMessage(
                    kind: .hint, job: run.jobID(job), attempt: attempt, dispatch: dispatch, channel: run.jobs[job].definition.channel,
                    priority: run.jobs[job].priority, delay: delay, pause: pause)
                hints.append(try ledger.appendOutbox(message))
            case .attemptStarted(let job, let attempt, let token, let worker):
                try ledger.startAttempt(run.jobID(job), attempt: attempt, token: token, worker: worker, params: nil, at: now)
            case .attemptEnded(let job, let attempt, let token, let ending):
                try ledger.endAttempt(run.jobID(job), attempt: attempt, token: token, ending: ending, at: now)
            case .jobChanged(let job):
                let data: JSONValue = [
                    "attempt": .integer(Int64(run.jobs[job].attempt)), "reason": .string(run.jobs[job].reason.code),
                ]
                facts.append(
                    try ledger.appendFact(
                        kind: "job.\(run.jobs[job].state.rawValue)", run: run.id, job: run.jobID(job), data: data, at: now))
            case .runChanged:
                facts.append(try ledger.appendFact(kind: "run.\(run.state.rawValue)", run: run.id, job: nil, data: [:], at: now))
            default: continue
            }
        }
    }
}
