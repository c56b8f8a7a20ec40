import AMQP
import Foundation
import JobStore
import Jobs
import Logging
import Pipeline
import Registry

extension RouterService {
    /// How long after its confirmation a hint may wait unclaimed before it can count as lost.
    private static let hintPatience = 60.0
    private static let overdueLimit = 500
    private static let sweepInterval = Duration.seconds(5)

    /// Finds what no message tells: leases that ran out, hints that got lost, workers that are gone.
    func sweep(_ leases: LeaseBook) async {
        var round = 0
        var last = ContinuousClock.now
        while !Task.isCancelled {
            do { try await Task.sleep(for: Self.sweepInterval) } catch { return }
            round += 1
            // A machine that was suspended heard nothing meanwhile.
            if ContinuousClock.now - last > Self.sweepInterval + Self.deafAfter { leases.extendAll() }
            last = .now
            if broker.state == .open { inputs.append(contentsOf: leases.expired().map { .leaseExpired($0) }) }
            if round.isMultiple(of: 3) { await findLostHints() }
            if round.isMultiple(of: 60) { inputs.append(.forgetWorkers(seenBefore: Date().addingTimeInterval(-3600))) }
        }
    }

    /// Hints are lost when more jobs wait for a claim than messages wait in their queue: a broker that was wiped, a queue that was
    /// purged. One copy too many does no harm.
    private func findLostHints() async {
        do {
            let cutoff = Date().addingTimeInterval(-Self.hintPatience)
            for (channel, count) in try await ledger.write({ try $0.expectedHints(at: Date()) }) {
                guard try await broker.inspect(PipelineQueue.jobs(channel: channel)).messages < count else { continue }
                let hints = try await ledger.write { ledger in
                    try Priority.allCases.flatMap {
                        try ledger.overdueHints(of: channel, priority: $0, before: cutoff, limit: Self.overdueLimit)
                    }
                }
                guard !hints.isEmpty else { continue }
                logger.warning("hints were lost and are sent again", metadata: ["channel": "\(channel)", "count": "\(hints.count)"])
                inputs.append(contentsOf: hints.map { .hintLost($0) })
            }
        } catch {
            logger.warning("lost hints could not be looked for", metadata: ["error": "\(error)"])
        }
    }

    /// Tells the monitor what the registry holds, whenever that changes.
    func watchServices() async {
        var told: ServiceCatalog?
        while !Task.isCancelled {
            let catalog = planner.catalog.current()
            if catalog.services != told?.services {
                told = catalog
                let services = catalog.services
                let channels = Set(services.flatMap { $0.jobs.map(\.channel) } + ["default"]).sorted()
                await declareChannels(channels)
                inputs.append(.services(services.map(ServiceRecord.init), channels: channels))
                logger.info(
                    "services read",
                    metadata: [
                        "services": "\(services.count)", "errors": "\(catalog.problems.count { $0.severity == .error })",
                    ])
            }
            do { try await Task.sleep(for: .seconds(5)) } catch { return }
        }
    }

    /// A hint for a channel that no worker has ever served must wait somewhere.
    func declareChannels(_ names: [String]) async {
        for name in Set(names) {
            do {
                try await broker.declare(PipelineTopology.channel(name))
            } catch {
                logger.error("a channel's queues cannot be declared", metadata: ["channel": "\(name)", "error": "\(error)"])
            }
        }
    }
}

extension ServiceRecord {
    init(_ service: CatalogService) {
        self.init(
            name: service.name,
            jobs: service.jobs,
            problems: service.problems.map { problem in
                let hints = [problem.allowed.map { "Allowed: \($0)." }, problem.nearest.map { "Did you mean \"\($0)\"?" }].compactMap(
                    \.self)
                return Problem(
                    severity: problem.severity.rawValue, file: problem.file, entry: problem.entry, key: problem.key,
                    message: ([problem.message] + hints).joined(separator: " "))
            }
        )
    }
}
