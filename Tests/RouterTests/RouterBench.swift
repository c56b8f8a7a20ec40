import AMQP
import Foundation
import JobStore
import Jobs
import Pipeline

@testable import Router

/// A ledger of its own, and inputs that are committed as a router that has just started would: with nothing in memory.
final class RouterBench: Sendable {
    let ledger: Ledger
    let folder: URL

    static let now = Date(timeIntervalSince1970: 1_700_000_000)
    static let runID = RunID(milliseconds: 7, random: (1, 1))

    init() throws {
        folder = FileManager.default.temporaryDirectory.appending(path: "router-\(UUID().uuidString)")
        ledger = try Ledger(folder: folder)
    }

    deinit { try? FileManager.default.removeItem(at: folder) }

    @discardableResult
    func commit(_ inputs: RouterInput..., at now: Date = now) async throws -> [AfterCommit] {
        try await ledger.write { ledger in
            var transaction = RouterTransaction(ledger: ledger, now: now)
            for input in inputs { try transaction.handle(input) }
            return transaction.after
        }
    }

    func job(_ index: Int) async throws -> Job? {
        try await ledger.write { try $0.loadRun(Self.runID) }?.run.jobs[index]
    }

    static func delivery() -> AMQPDelivery { AMQPDelivery(body: []) }

    static func event(_ snapshot: String = "s1") -> EventMessage {
        EventMessage(
            server: "orthanc", level: .study, resourceID: "abc", snapshot: snapshot, observedAt: now,
            series: [.init(id: "x", instances: 2)], headers: ["id": "abc"])
    }

    /// Two jobs, one after the other.
    static func planned(_ id: RunID = runID, retry: RetryPolicy = .never) -> PlannedRun {
        func entry(_ name: String, after parents: [Int]) -> RunPlan.Entry {
            .init(
                definition: JobDefinition(name: name, service: "s", stage: .services, entry: "s.\(name)", retry: retry),
                dependencies: parents.map { Dependency(parent: $0, origin: .declared) })
        }
        return PlannedRun(
            id: id,
            plan: RunPlan(jobs: [entry("a", after: []), entry("b", after: [0])]),
            context: RunContext(
                source: JobSource(server: "orthanc", level: .study, resourceID: "abc", series: [], dcmpath: "dicom/\(id)"),
                headers: ["id": "abc"], addedParams: [:]))
    }

    static func claim(_ job: Int, attempt: Int = 1, dispatch: Int? = nil) -> RouterInput {
        .claim(
            ClaimMessage(
                job: JobID(run: runID, index: job), attempt: attempt, dispatch: dispatch, worker: "w1", id: UUID().uuidString), delivery())
    }

    static func result(_ order: JobOrder, _ outcome: JobExit.Outcome = .succeeded) -> RouterInput {
        let exit = JobExit(outcome: outcome, kind: outcome == .failed ? .exception : .completed, startedAt: now, finishedAt: now)
        return .result(ResultMessage(job: order.job, attempt: order.attempt, token: order.token, worker: "w1", exit: exit), delivery())
    }

    static func command(
        _ action: CommandMessage.Action, _ target: String, priority: String? = nil, params: JSONValue? = nil, attempt: Int? = nil,
        id: String = UUID().uuidString
    ) -> RouterInput {
        .command(
            CommandMessage(
                id: id, action: action, target: target, actor: "anna", at: now, priority: priority, params: params, attempt: attempt),
            delivery())
    }
}

extension [AfterCommit] {
    var hints: [OutboxMessage] { compactMap { if case .send(let row) = $0, row.message.kind == .hint { row.message } else { nil } } }
    var rows: [OutboxRow] { compactMap { if case .send(let row) = $0 { row } else { nil } } }
    var facts: [FactMessage] { compactMap { if case .publish(let fact) = $0 { fact } else { nil } } }

    var granted: JobOrder? {
        for case .answerClaim(_, .go(let order)) in self { return order }
        return nil
    }

    var refusal: Reason? {
        for case .answerClaim(_, .no(let reason)) in self { return reason }
        return nil
    }

    /// What a command came to.
    var outcome: String? { facts.last { $0.kind == "command.done" }?.data["outcome"]?.string }
}
