/// What a queue holds at a moment.
package struct AMQPQueueStatus: Sendable, Hashable {
    /// Messages that wait for delivery; those delivered and not yet settled are not among them.
    package var messages: Int
    /// Consumers of all connections.
    package var consumers: Int

    package init(messages: Int, consumers: Int) {
        self.messages = messages
        self.consumers = consumers
    }
}
