import AMQP
import Foundation
import JobStore
import Jobs
import Pipeline

/// What the router's one writer works through, in batches.
enum RouterInput: Sendable {
    /// An event with its plan; without one when it was filtered or is a repeat.
    case event(EventMessage, PlannedRun?, AMQPDelivery)
    /// A run's event, planned again because someone asked.
    case reprocessed(CommandMessage, PlannedRun?, AMQPDelivery)
    case claim(ClaimMessage, AMQPDelivery)
    case renewal(RenewMessage, AMQPDelivery)
    case result(ResultMessage, AMQPDelivery)
    case command(CommandMessage, AMQPDelivery)
    /// A message on the dead-letter exchange.
    case dead(AMQPDelivery)
    case confirmed([OutboxRow])
    /// Only a suspicion: a renewal may be on its way through the same queue.
    case leaseExpired(LeaseTable.Lease)
    case hintLost(WaitingHint)
    case services([ServiceRecord], channels: [String])
    case forgetWorkers(seenBefore: Date)

    /// The message that has to be acknowledged once the input is committed.
    var delivery: AMQPDelivery? {
        switch self {
        case .event(_, _, let delivery), .reprocessed(_, _, let delivery), .claim(_, let delivery), .renewal(_, let delivery),
            .result(_, let delivery), .command(_, let delivery), .dead(let delivery):
            delivery
        case .confirmed, .leaseExpired, .hintLost, .services, .forgetWorkers: nil
        }
    }

    /// The queue that the message came from.
    var queue: String? {
        switch self {
        case .event: PipelineQueue.ingest
        case .claim, .renewal: PipelineQueue.claims
        case .result: PipelineQueue.results
        case .command, .reprocessed: PipelineQueue.commands
        case .dead: PipelineQueue.deadRecord
        case .confirmed, .leaseExpired, .hintLost, .services, .forgetWorkers: nil
        }
    }
}

/// A plan and what its jobs will work on.
struct PlannedRun: Sendable {
    var id: RunID
    var plan: RunPlan
    var context: RunContext
    /// The headers of `context` without `dcmpath`, when the pipeline's settings cut tags away.
    var filteredHeaders: JSONValue?
}

/// What happens once a batch is committed, and never before.
enum AfterCommit: Sendable {
    case acknowledge(AMQPDelivery)
    case answerClaim(AMQPDelivery, ClaimReply)
    case answerRenewal(AMQPDelivery, RenewReply)
    case send(OutboxRow)
    case publish(FactMessage)
    case stop(ControlMessage)
    case extendLease(JobID, token: Int)
    case releaseLease(JobID)
}
