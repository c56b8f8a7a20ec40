import AMQP
import Bootstrap
import JobStore
import Jobs
import Logging
import Pipeline
import Synchronization

/// Sends what was committed until the broker has confirmed it. A second copy does no harm: a hint is only a hint.
final class OutboxRelay: Sendable {
    let broker: AMQPClient
    let rows: BatchQueue<OutboxRow>
    /// Where confirmed rows go, to be removed from the ledger.
    let inputs: BatchQueue<RouterInput>
    let logger: Logger

    init(broker: AMQPClient, rows: BatchQueue<OutboxRow>, inputs: BatchQueue<RouterInput>, logger: Logger) {
        self.broker = broker
        self.rows = rows
        self.inputs = inputs
        self.logger = logger
    }

    /// How long the ledger may go on believing that a message is still to be sent.
    ///
    /// A confirmation is worth no commit of its own, behind which the claim for the very same job would have to wait: it goes with
    /// whatever is committed next. A router that dies before that sends the message again, which does no harm.
    private static let patience = Duration.milliseconds(100)

    private let isTiming = Atomic(false)

    /// Ends when `rows` is finished. Batches overlap: one slow confirmation holds nobody up.
    func run() async {
        await withDiscardingTaskGroup { group in
            while let batch = await rows.next(upTo: 256) {
                group.addTask { await self.send(batch) }
            }
            group.cancelAll()
        }
    }

    private func send(_ batch: [OutboxRow]) async {
        FaultPoint.reach(.routerOutboxTaken)
        let outcomes = await broker.publish(batch.map { Self.publishing($0.message) })
        var confirmed: [OutboxRow] = []
        var failed: [OutboxRow] = []
        for (row, outcome) in zip(batch, outcomes) {
            switch outcome {
            case .success: confirmed.append(row)
            case .failure(let error):
                failed.append(row)
                logger.warning(
                    "a message was not confirmed and is sent again",
                    metadata: ["job.id": "\(row.message.job)", "channel": "\(row.message.channel)", "error": "\(error)"])
            }
        }
        FaultPoint.reach(.routerOutboxPublished)
        if !confirmed.isEmpty {
            inputs.appendPatiently(.confirmed(confirmed))
            await hurryLater()
        }
        guard !failed.isEmpty else { return }
        // Whatever was wrong, hurrying does not mend it; what is not sent now is still in the ledger when the router starts again.
        do { try await Task.sleep(for: .seconds(1)) } catch { return }
        rows.append(contentsOf: failed)
    }

    /// One timer at a time: it looks after all that came while it ran.
    private func hurryLater() async {
        guard isTiming.compareExchange(expected: false, desired: true, ordering: .acquiringAndReleasing).exchanged else { return }
        try? await Task.sleep(for: Self.patience)
        isTiming.store(false, ordering: .releasing)
        inputs.hurry()
    }

    static func publishing(_ message: OutboxMessage) -> AMQPPublishing {
        switch message.kind {
        case .hint:
            let hint = HintMessage(job: message.job, attempt: message.attempt, dispatch: message.dispatch)
            var publishing = AMQPPublishing.pipeline(
                exchange: message.delay == nil ? PipelineExchange.jobs : PipelineExchange.retry,
                routingKey: message.delay.map { PipelineKey.retry(channel: message.channel, delay: $0) } ?? message.channel,
                type: HintMessage.type,
                body: hint,
                messageID: "\(message.job):\(message.attempt):\(message.dispatch)",
                correlationID: message.job.run.rawValue,
                priority: message.priority.rawValue)
            // A delay queue has its own, longer time to live, and RabbitMQ takes the lower of the two. It looks at the head of the queue
            // only, so a message waits for those before it; for no longer than the queue's own delay.
            if message.delay != nil, let pause = message.pause {
                publishing.properties.expiration = String(Int((pause * 1000).rounded(.up)))
            }
            return publishing
        case .dead:
            let reason = message.reason ?? Reason("dead", "Dead.")
            return .pipeline(
                exchange: PipelineExchange.deadLetter,
                routingKey: message.channel,
                type: DeadJobMessage.type,
                body: DeadJobMessage(job: message.job, attempt: message.attempt, reason: reason),
                messageID: "\(message.job):\(message.attempt):dead",
                correlationID: message.job.run.rawValue,
                headers: [PipelineHeader.deadReason: .string(reason.text)])
        }
    }
}
