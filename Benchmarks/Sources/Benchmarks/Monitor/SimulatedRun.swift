import Foundation
import JobStore
import Jobs
import Pipeline

/// Takes one run through all that the router does with it, with made-up times.
struct SimulatedRun {
    let id: RunID
    let practice: Hospital.Practice
    let course: Hospital.Course
    private var now: Date
    private var runs: [RunID: StoredRun] = [:]

    init(_ practice: Hospital.Practice, _ course: Hospital.Course, at now: Date) {
        id = RunID.make(at: now)
        self.practice = practice
        self.course = course
        self.now = now
    }

    var event: EventMessage { Hospital.event(practice, resource: "resource-of-\(id)", at: now) }

    mutating func carryOut(in ledger: any LedgerTransaction) throws {
        let plan = Hospital.plan(practice, course)
        let event = event
        let context = RunContext(
            source: JobSource(
                server: event.server, level: event.level, resourceID: event.resourceID, series: event.series, dcmpath: "dicom/\(id)"),
            headers: event.headers, addedParams: [:])
        var pending = try step(ledger) { [id] flow in
            try flow.create(
                StoredRun(run: Jobs.Run(id: id, plan: plan), context: context), event: event, decisions: plan.decisions)
        }
        if course == .cancelled {
            // What cleans up is not cancelled.
            pending = try step(ledger) { [id] flow in try flow.apply(.cancelAll(actor: "operator"), to: id) }
        }
        var ended = 0
        while !pending.isEmpty {
            let hint = pending.removeFirst()
            pending += try step(ledger, after: 0.05) { flow in try flow.confirm(hint) }
            if case .stops(let limit) = course, ended >= limit {
                // Those after the limit stay in their queue; the first of them is taken and goes on.
                if ended == limit { _ = try claim(hint.message, ledger, after: 0.4) }
                ended += 1
                continue
            }
            ended += 1
            let (token, began) = try claim(hint.message, ledger, after: hint.message.delay.map { Double($0.seconds) } ?? 0.4)
            let (job, attempt) = (hint.message.job.index, hint.message.attempt)
            let took = [0.8, 6, 14, 5, 32, 4, 0.6][job]
            now += took
            let exit = Hospital.exit(course, job, attempt, of: id, from: began, to: now)
            pending += try step(ledger) { [id] flow in
                if let exit {
                    try flow.apply(.result(job: job, attempt: attempt, token: token, exit: exit), to: id)
                } else {
                    try flow.apply(.leaseExpired(job: job, token: token), to: id)
                }
            }
        }
    }

    private mutating func claim(
        _ hint: OutboxMessage, _ ledger: any LedgerTransaction, after seconds: Double
    ) throws -> (token: Int, began: Date) {
        _ = try step(ledger, after: seconds) { [id] flow in
            let worker = Hospital.workers[hint.job.index % Hospital.workers.count]
            try flow.apply(
                .claim(job: hint.job.index, attempt: hint.attempt, worker: worker, id: "claim-\(id)-\(hint.job.index)"),
                to: id)
        }
        return (runs[id]?.run.jobs[hint.job.index].token ?? 0, now)
    }

    private mutating func step(
        _ ledger: any LedgerTransaction, after seconds: Double = 0.02, _ body: (inout JobFlow) throws -> Void
    ) throws -> [OutboxRow] {
        now += seconds
        var flow = JobFlow(ledger: ledger, now: now, runs: runs)
        try body(&flow)
        runs = flow.runs
        return flow.hints
    }
}
