import ServiceLifecycle

/// Turns what becomes stable in the Orthanc servers into events for the router, and never gives up.
/// Each server has its own task: one that hangs or refuses holds up no other.
struct IngestService: Service {
    let servers: [FollowedServer]
    /// Called after each round that found a server in order.
    var onFollowing: @Sendable () -> Void = {}

    func run() async throws {
        await cancelWhenGracefulShutdown {
            await withTaskGroup(of: Void.self) { group in
                for server in servers {
                    group.addTask { await server.run(onFollowing: onFollowing) }
                }
            }
        }
    }
}
