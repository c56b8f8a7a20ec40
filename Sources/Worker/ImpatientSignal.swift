import ServiceLifecycle
import UnixSignals

/// Hears the second SIGTERM or SIGINT. The first one is the service group's.
struct ImpatientSignal: Service {
    let act: @Sendable () -> Void

    init(_ act: @escaping @Sendable () -> Void) { self.act = act }

    func run() async throws {
        await cancelWhenGracefulShutdown {
            var count = 0
            for await _ in await UnixSignalsSequence(trapping: .sigterm, .sigint) {
                count += 1
                if count == 2 { act() }
            }
        }
    }
}
