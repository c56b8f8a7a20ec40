import AMQP
import Dashboard
import Foundation
import JobStore
import Logging

/// Says once why webhooks are told nothing, in the log and at the head of the monitor's pages.
struct WebhookTrouble: Sendable {
    let part: WebhookVitals.Part
    let vitals: WebhookVitals
    let logger: Logger
    let queue: WebhookQueue

    func isOver() { vitals.noteSuccess(part) }

    func note(_ error: any Error) {
        // At the end of the monitor everything fails, whatever it says.
        guard !Task.isCancelled else { return }
        // A broker that is away has an alarm of its own.
        let isAway = (error as? AMQPError)?.code == .timeout && !queue.isConnected
        guard !isAway, let reason = Self.words(error) else {
            return logger.debug("Webhooks are told later", metadata: ["error": "\(error)"])
        }
        note(reason, "\(error)")
    }

    func note(_ reason: String, _ error: String = "") {
        if vitals.note(part, reason, at: Date()) {
            logger.warning(
                "Webhooks are told nothing, and told it later",
                metadata: ["reason": "\(reason)", "error": "\(error)", "part": "\(part)"])
        }
    }

    /// - Returns: nil for what has an alarm of its own, a broker that is away, or is no trouble.
    static func words(_ error: any Error) -> String? {
        switch error {
        case is CancellationError: nil
        case let error as AMQPError:
            switch error.code {
            case .connectionFailed, .connectionLost, .cancelled, .shutdown: nil
            case .timeout: "RabbitMQ does not take messages in time."
            case .accessRefused: "the monitor's user may not use RabbitMQ's exchange and queues dcm.webhooks*. Give it the rights."
            case .topologyMismatch: "a queue dcm.webhooks* exists with other properties. Delete it; what was in it is sent all the same."
            case .returned, .notFound: "one of RabbitMQ's queues dcm.webhooks* was deleted. Restart the monitor, which declares it."
            default: "RabbitMQ refuses the messages (\(error.code)). The monitor's log says more."
            }
        case let error as MonitorStoreError: error.message
        case is LedgerReaderError: "the ledger cannot be read. The monitor's log says more."
        default: "something is wrong. The monitor's log says more."
        }
    }
}
