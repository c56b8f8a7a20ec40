import Foundation
import Hummingbird
import JobStore
import Jobs
import Logging
import Pipeline

extension CommandMessage.Action {
    /// What the audit says that it was done to.
    func target(_ id: String) -> AuditEntry.Target {
        switch self {
        case .retryJob, .cancelJob, .rerunJob, .setPriority, .discardJob: .init("job", id)
        case .retryRun, .cancelRun, .reprocessRun: .init("run", id)
        case .drainWorker, .resumeWorker: .init("worker", id)
        case .pauseChannel, .resumeChannel: .init("channel", id)
        case .pauseService, .resumeService: .init("service", id)
        case .requeueMessage, .discardMessage: .init("message", id)
        }
    }
}

/// Takes what people ask for to the router, and says at once what cannot be.
struct Commands: Sendable {
    let ledger: LedgerReader
    let sender: any CommandSender
    let store: MonitorStore
    let logger: Logger

    /// - Parameters:
    ///   - params: what a job is to be retried with, checked by ``JobOrder``.
    ///   - attempt: the one that whoever asks has seen; nil when that does not matter.
    /// - Returns: the command's id. The broker has it; the router carries it out.
    func send(
        _ action: CommandMessage.Action, target: String, priority: String? = nil, params: JSONValue? = nil, attempt: Int? = nil,
        by identity: Identity
    ) async throws -> String {
        let priority = action == .setPriority ? try Self.level(priority) : nil
        let change = try await check(action, target, priority, params, attempt)
        let command = CommandMessage(
            id: UUID().uuidString.lowercased(), action: action, target: target, actor: identity.actor, at: Date(),
            priority: priority?.name, params: params, attempt: attempt)
        var detail: [String: JSONValue] = ["command": .string(command.id)]
        detail["priority"] = priority.map { .string($0.name) }
        // Keys and no values: those may be patient data.
        detail["params"] = change.map { .string($0.words) }
        // On record before it is sent: what was done is never missing there.
        let record = try await store.record(
            identity.entry(action.rawValue, action.target(target), .failed, detail: .object(detail)))
        do {
            try await sender.send(command)
        } catch {
            logger.warning(
                "A command could not be handed to the broker",
                metadata: ["command": "\(action.rawValue)", "target": "\(target)", "error": "\(error)"])
            throw Problem.unavailable(
                "The broker has not confirmed it in time, so it is not known whether the router will do it. Look whether it was done before you try again."
            )
        }
        do {
            try await store.settle(record, .sent)
        } catch {
            // It is on its way: who is told of a failure would ask for it again.
            logger.error(
                "The audit could not be brought up to date", metadata: ["command": "\(command.id)", "error": "\(error)"])
        }
        logger.info(
            "Command sent",
            metadata: ["command": "\(action.rawValue)", "target": "\(target)", "actor": "\(identity.actor)", "command.id": "\(command.id)"])
        return command.id
    }

    /// The ledger may be a moment behind: the router decides. What it would refuse anyway is refused here with a reason.
    ///
    /// - Returns: what becomes of the job's params, when they are to be others.
    private func check(
        _ action: CommandMessage.Action, _ target: String, _ priority: Priority?, _ params: JSONValue?, _ attempt: Int?
    ) async throws -> ParamsChange? {
        switch action {
        case .retryJob:
            let before = try await check(job: target) { .retry(job: $0, actor: "", attempt: attempt, params: params) }.params
            return params.map { ParamsChange(from: before, to: $0) }
        case .discardJob: try await check(job: target) { .discard(job: $0, actor: "", attempt: attempt) }
        case .cancelJob: try await check(job: target) { .cancel(job: $0, actor: "") }
        case .rerunJob: try await check(job: target) { .rerun(job: $0, actor: "") }
        case .setPriority: try await check(job: target) { job in priority.map { .setPriority(job: job, priority: $0, actor: "") } }
        case .retryRun:
            guard let id = RunID(rawValue: target), let run = try await ledger.run(id) else {
                throw Problem.notFound("There is no run '\(target)'.")
            }
            if let refusal = CommandPreview(.retryAll(actor: ""), on: run).refusal { throw Problem.conflict(refusal.text) }
        case .cancelRun, .reprocessRun:
            guard let state = try await ledger.runState(target) else { throw Problem.notFound("There is no run '\(target)'.") }
            if action == .cancelRun, state.isTerminal { throw Problem.conflict("The run has ended already: it is \(state.rawValue).") }
        case .drainWorker, .resumeWorker:
            guard let worker = try await ledger.workers().first(where: { $0.id == target }) else {
                throw Problem.notFound("There is no worker '\(target)'.")
            }
            let presence = worker.presence(at: Date())
            if presence == .stopped || presence == .lost {
                throw Problem.conflict("The worker is \(presence.rawValue): nobody would hear it.")
            }
        case .pauseChannel, .resumeChannel:
            guard ChannelName.isValid(target) else {
                throw Problem.badRequest("A channel's name is 1 to 64 characters of a-z, 0-9, dash and underscore.")
            }
        case .pauseService, .resumeService:
            guard let service = try await ledger.services().first(where: { $0.name == target }) else {
                throw Problem.notFound("There is no service '\(target)'.")
            }
            if action == .resumeService, service.pause == nil { throw Problem.conflict("The service is not paused.") }
        case .requeueMessage, .discardMessage: try await check(messages: target, isRequeue: action == .requeueMessage)
        }
        return nil
    }

    private func check(messages target: String, isRequeue: Bool) async throws {
        switch ParkedSelection(target) {
        case nil: throw Problem.notFound("There is no message '\(target)'.")
        case .upTo(let last):
            let count = try await ledger.deadMessagesToDecide(upTo: last)
            if count.all == 0 { throw Problem.conflict("No message waits for a decision.") }
            if isRequeue, count.requeueable == 0 { throw Problem.conflict("None of the messages can be requeued: each says why.") }
        case .one(let number):
            guard let message = try await ledger.deadMessage(number) else { throw Problem.notFound("There is no message '\(target)'.") }
            guard message.state == .parked else {
                throw Problem.conflict("The message is \(message.state.rawValue) already\(message.decidedBy.map { ", by \($0)" } ?? "").")
            }
            if isRequeue, !message.hasBody {
                throw Problem.conflict("It cannot be requeued. \(message.problem ?? "Its body is not kept.")")
            }
        }
    }

    /// - Returns: the job as it is now.
    @discardableResult
    private func check(job target: String, _ input: (Int) -> RunInput?) async throws -> Job {
        guard let id = JobID(rawValue: target), let run = try await ledger.run(id.run), run.jobs.indices.contains(id.index) else {
            throw Problem.notFound("There is no job '\(target)'.")
        }
        if let refusal = input(id.index).flatMap({ CommandPreview($0, on: run).refusal }) { throw Problem.conflict(refusal.text) }
        return run.jobs[id.index]
    }

    private static func level(_ text: String?) throws -> Priority {
        let names = Priority.allCases.reversed().map(\.name).joined(separator: ", ")
        guard let text else { throw Problem.badRequest("Say which priority: ?priority= with \(names), or 4 to 0.") }
        guard let priority = Priority(text) else {
            throw Problem.badRequest("'\(text.prefix(40))' is not a priority: \(names), or 4 to 0.")
        }
        return priority
    }
}
