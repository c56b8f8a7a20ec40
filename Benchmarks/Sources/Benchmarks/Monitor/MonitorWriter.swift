import AMQP
import Foundation
import JobStore
import Jobs
import Pipeline
import Synchronization

/// Commits as the router does: runs come, their jobs are confirmed, claimed and end, in groups; facts go out after each commit.
final class MonitorWriter: Sendable {
    private let ledger: Ledger
    private let client: AMQPClient
    private let jobsPerSecond: Int
    private let committed = Mutex<[Int64: ContinuousClock.Instant]>([:])
    private let ended = Atomic(0)

    static let tick = Duration.milliseconds(50)
    /// Facts, at least: those of more than a minute.
    private static let remembered = 50_000

    init(ledger: Ledger, client: AMQPClient, jobsPerSecond: Int) {
        self.ledger = ledger
        self.client = client
        self.jobsPerSecond = jobsPerSecond
    }

    /// Jobs that have ended.
    var jobs: Int { ended.load(ordering: .relaxed) }

    /// The facts whose commits returned between two moments, by number, as far as they are remembered.
    func commits(from first: ContinuousClock.Instant, to last: ContinuousClock.Instant) -> [Int64: ContinuousClock.Instant] {
        committed.withLock { $0.filter { $0.value > first && $0.value < last } }
    }

    /// Until it is cancelled.
    @concurrent
    func run() async throws {
        var random = SplitMix(state: UInt64(Date().timeIntervalSince1970 * 1000))
        var runs: [RunID: StoredRun] = [:]
        var pending: [OutboxRow] = []
        var due = 0.0
        var beat = ContinuousClock.now
        var next = ContinuousClock.now
        while !Task.isCancelled {
            if beat <= .now {
                try await MonitorLedger.beat(ledger, at: Date())
                beat = .now + .seconds(10)
            }
            due += Double(jobsPerSecond) * (Self.tick / .seconds(1))
            let count = Int(due)
            due -= Double(count)
            // As many runs come as jobs end, so that some hundred are always under way.
            for _ in 0..<max(0, min(8, (2 * jobsPerSecond - pending.count) / 2)) {
                let practice = Hospital.practices[random.below(Hospital.practices.count - 1)]
                (runs, pending) = try await commit(runs, pending) { flow in
                    let id = RunID.make(at: flow.now)
                    let event = Hospital.event(practice, resource: "written-\(id)", at: flow.now)
                    let plan = Hospital.plan(practice, .succeeds)
                    let source = JobSource(
                        server: event.server, level: event.level, resourceID: event.resourceID, series: event.series, dcmpath: "dicom/\(id)"
                    )
                    try flow.create(
                        StoredRun(
                            run: Jobs.Run(id: id, plan: plan),
                            context: RunContext(source: source, headers: event.headers, addedParams: [:])),
                        event: event, decisions: plan.decisions)
                }
                if pending.count > jobsPerSecond { break }
            }
            let group = Array(pending.prefix(count))
            pending.removeFirst(group.count)
            (runs, _) = try await commit(runs, []) { flow in for hint in group { try flow.confirm(hint) } }
            (runs, _) = try await commit(runs, []) { flow in
                for hint in group {
                    let job = hint.message.job
                    try flow.apply(
                        .claim(
                            job: job.index, attempt: hint.message.attempt, worker: Hospital.workers[job.index],
                            id: "claim-\(job)-\(hint.message.attempt)"), to: job.run)
                }
            }
            let number = random.below(300)
            (runs, pending) = try await commit(runs, pending) { flow in
                for hint in group {
                    let job = hint.message.job
                    guard let token = flow.runs[job.run]?.run.jobs[job.index].token else { continue }
                    // Some fail, as they do.
                    let course: Hospital.Course = number == 0 ? .fails(0) : .succeeds
                    if let exit = Hospital.exit(
                        course, job.index, hint.message.attempt, of: job.run, from: flow.now.addingTimeInterval(-3), to: flow.now)
                    {
                        try flow.apply(.result(job: job.index, attempt: hint.message.attempt, token: token, exit: exit), to: job.run)
                    }
                }
            }
            ended.add(group.count, ordering: .relaxed)
            runs = runs.filter { $0.value.run.state == .active }
            next = max(next + Self.tick, .now)
            try? await Task.sleep(until: next)
        }
    }

    private func commit(
        _ runs: [RunID: StoredRun], _ pending: [OutboxRow], _ body: @escaping @Sendable (inout JobFlow) throws -> Void
    ) async throws -> ([RunID: StoredRun], [OutboxRow]) {
        let (known, hints, facts) = try await ledger.write { transaction in
            var flow = JobFlow(ledger: transaction, now: Date(), runs: runs)
            try body(&flow)
            return (flow.runs, flow.hints, flow.facts)
        }
        let now = ContinuousClock.now
        committed.withLock { committed in
            for fact in facts { committed[fact.sequence] = now }
            if committed.count > Self.remembered * 2, let newest = facts.last?.sequence {
                committed = committed.filter { $0.key > newest - Int64(Self.remembered) }
            }
        }
        for fact in facts {
            client.publishTransient(
                .pipeline(
                    exchange: PipelineExchange.events, routingKey: fact.kind, type: FactMessage.type, body: fact,
                    correlationID: fact.run?.rawValue, persistent: false, mandatory: false))
        }
        return (known, pending + hints)
    }
}
