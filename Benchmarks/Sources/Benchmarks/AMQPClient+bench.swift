import AMQP
import Logging

extension AMQPClient {
    /// A client of its own that is ready before `body` begins.
    static func with<R>(
        _ url: String, topology: AMQPTopology = AMQPTopology(), confirmWindow: Int = 512, _ body: (AMQPClient) async throws -> R
    ) async throws -> R {
        var logger = Logger(label: "bench")
        logger.logLevel = .error
        let client = AMQPClient(
            configuration: AMQPConfiguration(
                endpoints: [try AMQPEndpoint(uri: url)], connectionName: "bench", confirmWindow: confirmWindow),
            topology: topology, logger: logger)
        let running = Task { try await client.run() }
        let result: Result<R, any Error>
        do {
            try await client.waitUntilReady()
            result = .success(try await body(client))
        } catch {
            result = .failure(error)
        }
        running.cancel()
        _ = await running.result
        return try result.get()
    }
}
