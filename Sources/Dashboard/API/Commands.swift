import Foundation
import Hummingbird
import JobStore
import Jobs
import Logging
import Pipeline

/// Takes what people ask for to the router, and says at once what cannot be.
struct Commands: Sendable {
    let ledger: LedgerReader
    let sender: any CommandSender
    let logger: Logger

    /// - Returns: the command's id. The broker has it; the router carries it out.
    func send(_ action: CommandMessage.Action, target: String, by identity: Identity) async throws -> String {
        try await check(action, target)
        let command = CommandMessage(
            id: UUID().uuidString.lowercased(), action: action, target: target, actor: identity.actor, at: Date())
        do {
            try await sender.send(command)
        } catch {
            logger.warning(
                "A command could not be handed to the broker",
                metadata: ["command": "\(action.rawValue)", "target": "\(target)", "error": "\(error)"])
            throw Problem.unavailable("The broker cannot be reached, so nothing was asked of the router. Try again when it is back.")
        }
        logger.info(
            "Command sent",
            metadata: ["command": "\(action.rawValue)", "target": "\(target)", "actor": "\(identity.actor)", "command.id": "\(command.id)"])
        return command.id
    }

    /// The ledger may be a moment behind: the router decides. What it would refuse anyway is refused here with a reason.
    private func check(_ action: CommandMessage.Action, _ target: String) async throws {
        switch action {
        case .retryJob, .cancelJob:
            guard let state = try await ledger.jobState(target) else { throw Problem.notFound("There is no job '\(target)'.") }
            if action == .cancelJob, state.isTerminal { throw Problem.conflict("The job has ended already: it is \(state.rawValue).") }
            if action == .retryJob, !state.isTerminal {
                throw Problem.conflict("The job has not ended: it is \(state.rawValue). Cancel it first, or wait.")
            }
            if action == .retryJob, state == .succeeded {
                throw Problem.conflict("The job succeeded. Reprocess its run to do everything again.")
            }
        case .retryRun, .cancelRun, .reprocessRun:
            guard let state = try await ledger.runState(target) else { throw Problem.notFound("There is no run '\(target)'.") }
            if action == .cancelRun, state.isTerminal { throw Problem.conflict("The run has ended already: it is \(state.rawValue).") }
        case .pauseChannel, .resumeChannel:
            guard ChannelName.isValid(target) else {
                throw Problem.badRequest("A channel's name is 1 to 64 characters of a-z, 0-9, dash and underscore.")
            }
        }
    }
}
