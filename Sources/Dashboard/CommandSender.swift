package import Pipeline

/// The way to the router. The monitor never writes the ledger: it asks.
package protocol CommandSender: Sendable {
    /// Whether the broker can be reached now.
    var isConnected: Bool { get async }

    /// Hands `command` to the broker and returns when the broker has confirmed it.
    func send(_ command: CommandMessage) async throws
}
