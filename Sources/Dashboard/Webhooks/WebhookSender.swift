package import Pipeline

/// The way to the queue of what other programs are to be told.
package protocol WebhookSender: Sendable {
    /// Hands `message` to the broker and returns when the broker has confirmed it.
    func send(_ message: WebhookMessage) async throws
}
