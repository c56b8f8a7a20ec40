import AMQP
import Bootstrap
import Foundation
import JobStore
import Logging
import Pipeline
import ServiceLifecycle

/// Routes as soon as no other router does: waits for the ledger's lock, which the kernel gives back however the other one ended.
///
/// While it waits it is connected to the broker, and its readiness says `standby`; it consumes and writes nothing.
struct RouterStandby: Service {
    let folder: URL
    let broker: AMQPClient
    let planner: EventPlanner
    let configuration: RouterConfiguration
    let readiness: ReadinessFile
    let logger: Logger

    private static let interval = Duration.seconds(1)

    func run() async throws {
        // Nil when it is told to stop before its turn has come.
        guard let ledger = try await cancelWhenGracefulShutdown({ try await openLedger() }) else { return }
        let channels = try await ledger.write { try $0.channels() }
        let router = RouterService(
            broker: broker, ledger: ledger, planner: planner, configuration: configuration, readiness: readiness, logger: logger)
        await cancelWhenGracefulShutdown { await router.declareChannels(channels) }
        try await router.run()
    }

    private func openLedger() async throws -> Ledger? {
        var isTold = false
        while !Task.isCancelled {
            do {
                let ledger = try Ledger(folder: folder)
                if isTold { logger.notice("takes over") }
                return ledger
            } catch let error as LedgerError where error.code == .locked {
                if !isTold { logger.notice("stands by: \(error)") }
                isTold = true
                readiness.markStandby()
                try? await Task.sleep(for: Self.interval)
            }
        }
        return nil
    }
}
