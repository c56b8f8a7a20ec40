import AMQP
import Bootstrap
import Foundation
import JobStore
import Jobs
import Pipeline

/// What the router's one writer works through, in batches.
enum RouterInput: Sendable {
    /// An event with its plan; without one when it was filtered or is a repeat. Without a delivery when it was planned out of line.
    case event(EventMessage, PlannedRun?, AMQPDelivery?)
    /// An event that could not be planned now. It is recorded, and planned again out of line.
    case unplanned(EventMessage, Reason, AMQPDelivery)
    /// A run's event, planned again because someone asked.
    case reprocessed(CommandMessage, Replanned, AMQPDelivery)
    case claim(ClaimMessage, AMQPDelivery)
    case renewal(RenewMessage, AMQPDelivery)
    case result(ResultMessage, AMQPDelivery)
    case command(CommandMessage, AMQPDelivery)
    /// Everything that was sent to this router before the instant has been heard.
    case echo(sent: ContinuousClock.Instant, AMQPDelivery)
    /// A message on the dead-letter exchange.
    case dead(AMQPDelivery)
    case confirmed([OutboxRow])
    /// Only a suspicion: a renewal may be on its way through the same queue.
    case leaseExpired(LeaseTable.Lease)
    case hintLost(WaitingHint)
    case aged(WaitingHint)
    case services([ServiceRecord], channels: [String])
    case forgetWorkers(seenBefore: Date)
    case broker(BrokerState)
    /// Jobs wait in a channel that no worker serves, or no longer do.
    case channel(String, isServed: Bool)
    /// A portion of the jobs that a pause has held back, from the runs behind `after`.
    case resumed(PauseTarget, after: RunID?)

    enum Replanned: Sendable {
        case run(PlannedRun)
        case refused(String)
    }

    /// A batch in the order in which it is worked through: as it came, and the broker's confirmations at the end. A hint that is claimed in
    /// the same batch is then used up already, and nobody writes down first that it waits.
    static func confirmationsLast(_ inputs: [RouterInput]) -> [RouterInput] {
        inputs.filter { !$0.isConfirmation } + inputs.filter(\.isConfirmation)
    }

    private var isConfirmation: Bool {
        if case .confirmed = self { true } else { false }
    }

    var isEcho: Bool {
        if case .echo = self { true } else { false }
    }

    /// The message that has to be acknowledged once the input is committed.
    var delivery: AMQPDelivery? {
        switch self {
        case .event(_, _, let delivery): delivery
        case .unplanned(_, _, let delivery), .reprocessed(_, _, let delivery), .claim(_, let delivery), .renewal(_, let delivery),
            .result(_, let delivery), .command(_, let delivery), .echo(_, let delivery), .dead(let delivery):
            delivery
        case .confirmed, .leaseExpired, .hintLost, .aged, .services, .forgetWorkers, .broker, .channel, .resumed: nil
        }
    }

    /// The queue that the message came from.
    var queue: String? {
        switch self {
        case .event, .unplanned: PipelineQueue.ingest
        case .claim, .renewal, .echo: PipelineQueue.claims
        case .result: PipelineQueue.results
        case .command, .reprocessed: PipelineQueue.commands
        case .dead: PipelineQueue.deadRecord
        case .confirmed, .leaseExpired, .hintLost, .aged, .services, .forgetWorkers, .broker, .channel, .resumed: nil
        }
    }

    /// Where a test can end the process: after the changes and before COMMIT, and after COMMIT before anything follows from it.
    var faultPoints: (applied: FaultPoint?, committed: FaultPoint?) {
        switch self {
        case .event: (.routerEventApplied, .routerEventCommitted)
        case .unplanned: (nil, .routerPlanningFailed)
        case .claim: (.routerClaimApplied, .routerClaimCommitted)
        case .renewal: (nil, .routerRenewalCommitted)
        case .result: (.routerResultApplied, .routerResultCommitted)
        case .command, .reprocessed: (.routerCommandApplied, .routerCommandCommitted)
        case .confirmed: (nil, .routerOutboxRemoved)
        case .leaseExpired, .hintLost, .aged: (.routerSweepApplied, .routerSweepCommitted)
        case .echo, .dead, .services, .forgetWorkers, .broker, .channel, .resumed: (nil, nil)
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
    case releaseLease(LeaseTable.Lease)
    /// Leases are due to be looked at.
    case heard(until: ContinuousClock.Instant)
    /// An event waits to be planned out of line.
    case planLater
    /// What a pause has held back behind this run is still to be sent.
    case resume(PauseTarget, after: RunID)
    /// Messages wait to be sent to their queues again.
    case requeue
}

extension AfterCommit {
    func extends(_ lease: LeaseTable.Lease) -> Bool {
        if case .extendLease(lease.job, lease.token) = self { true } else { false }
    }
}
