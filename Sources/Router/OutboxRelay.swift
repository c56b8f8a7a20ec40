import AMQP
import JobStore
import Jobs
import Logging
import Pipeline

/// Sends what was committed until the broker has confirmed it. A second copy does no harm: a hint is only a hint.
struct OutboxRelay: Sendable {
    let broker: AMQPClient
    let rows: BatchQueue<OutboxRow>
    /// Where confirmed rows go, to be removed from the ledger.
    let inputs: BatchQueue<RouterInput>
    let logger: Logger

    /// Ends when `rows` is finished. Batches overlap: one slow confirmation holds nobody up.
    func run() async {
        await withDiscardingTaskGroup { group in
            while let batch = await rows.next(upTo: 256) {
                group.addTask { await send(batch) }
            }
            group.cancelAll()
        }
    }

    private func send(_ batch: [OutboxRow]) async {
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
        if !confirmed.isEmpty { inputs.append(.confirmed(confirmed)) }
        guard !failed.isEmpty else { return }
        // Whatever was wrong, hurrying does not mend it; what is not sent now is still in the ledger when the router starts again.
        do { try await Task.sleep(for: .seconds(1)) } catch { return }
        rows.append(contentsOf: failed)
    }

    static func publishing(_ message: OutboxMessage) -> AMQPPublishing {
        switch message.kind {
        case .hint:
            let hint = HintMessage(job: message.job, attempt: message.attempt, dispatch: message.dispatch)
            return .pipeline(
                exchange: message.delay == nil ? PipelineExchange.jobs : PipelineExchange.retry,
                routingKey: message.delay.map { PipelineKey.retry(channel: message.channel, delay: $0) } ?? message.channel,
                type: HintMessage.type,
                body: hint,
                messageID: "\(message.job):\(message.attempt):\(message.dispatch)",
                correlationID: message.job.run.rawValue,
                priority: message.priority.rawValue)
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
