import Foundation
import Hummingbird
import HummingbirdCore
import Logging
import NIOCore
import ServiceLifecycle
import Synchronization

/// Ingest's HTTP endpoint: the doorbell for Orthanc's hooks, and the door for commands.
///
/// Ingest does its work without it, so an address that cannot be bound is told and tried again, and ends nothing.
final class EndpointServer: Service {
    private let configuration: EndpointConfiguration
    private let servers: [any FollowedResources]
    private let logger: Logger
    private let boundPort = Mutex<Int?>(nil)

    init(configuration: EndpointConfiguration, servers: [any FollowedResources], logger: Logger) {
        self.configuration = configuration
        self.servers = servers
        self.logger = logger
    }

    /// The port while it can be reached.
    var port: Int? { boundPort.withLock { $0 } }

    func run() async throws {
        var told: String?
        while !Task.isCancelled, !Task.isShuttingDownGracefully {
            do {
                return try await serve()
            } catch {
                boundPort.withLock { $0 = nil }
                let problem = problem(error)
                if told != problem { logger.error("\(problem)") }
                told = problem
            }
            let pause = configuration.bindPause
            await cancelWhenGracefulShutdown { try? await Task.sleep(for: pause) }
        }
    }

    private func serve() async throws {
        var quiet = logger
        // The server's own lines about each connection are for those who look for them.
        if quiet.logLevel == .info { quiet.logLevel = .notice }
        let application = Application(
            router: router(),
            server: .http1(configuration: .init(idleTimeout: .seconds(15))),
            configuration: ApplicationConfiguration(
                address: .hostname(configuration.host, port: configuration.port), serverName: nil,
                availableConnectionsDelegate: MaximumAvailableConnections(configuration.connectionLimit, logger: quiet)),
            onServerRunning: { [self] channel in
                let port = channel.localAddress?.port ?? configuration.port
                boundPort.withLock { $0 = port }
                logger.info("the endpoint is listening", metadata: ["host": "\(configuration.host)", "port": "\(port)"])
            },
            logger: quiet
        )
        try await application.run()
    }

    private func router() -> Router<EndpointContext> {
        let router = Router(context: EndpointContext.self)
        router.addMiddleware {
            EndpointErrors(logger: logger, reminder: Reminder())
            EndpointAccess(token: configuration.token)
        }
        EndpointRoutes(configuration: configuration, servers: servers).add(to: router)
        return router
    }

    private func problem(_ error: any Error) -> String {
        let place = "\(configuration.host):\(configuration.port)"
        if let error = error as? IOError, error.errnoCode == EADDRINUSE {
            return "The endpoint waits: port \(configuration.port) on \(configuration.host) is in use by another program. "
                + "Stop that one, or set INGEST_PORT to a free port."
        }
        return "The endpoint waits: it cannot listen on \(place): \(error). "
            + "Set INGEST_HOST and INGEST_PORT to an address of this machine."
    }
}
