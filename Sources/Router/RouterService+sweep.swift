import AMQP
import Bootstrap
import Foundation
import JobStore
import Jobs
import Logging
import Pipeline
import Registry

extension RouterService {
    private static let overdueLimit = 500
    /// How many waiting jobs one sweep raises: ageing costs a message each, and must never be all that the router does.
    private static let ageingLimit = 200
    /// With more than that on the writer's table it is far behind, or the disk is full: what a sweep adds then would pile up unseen, and
    /// what looks lost may lie on the table.
    private static let backlogLimit = 1000
    /// A worker that was silent for longer serves nothing.
    private static let workerPatience = Pace.scaled(60.0)

    /// Finds what no message tells: hints that got lost or wait too long, channels without workers, workers that are gone.
    func sweep() async {
        var round = 0
        var unserved: Set<String> = []
        while !Task.isCancelled {
            do { try await Task.sleep(for: configuration.rhythm.sweep) } catch { return }
            guard inputs.count < Self.backlogLimit else { continue }
            round += 1
            if round.isMultiple(of: 20) { inputs.append(.forgetWorkers(seenBefore: Date().addingTimeInterval(-3600))) }
            do {
                let lanes = try await ledger.write { try $0.waitingLanes(at: Date()) }
                try await findLostHints(lanes)
                try await age()
                unserved = try await watchChannels(lanes, known: unserved)
            } catch {
                logger.warning("a sweep did not end", metadata: ["error": "\(error)"])
            }
        }
    }

    /// ``HintProbe`` has the argument.
    private func findLostHints(_ lanes: [WaitingLane]) async throws {
        for (lane, confirmedBefore) in hints.with({ $0.verdicts(at: Date()) }) {
            let lost = try await ledger.write {
                try $0.overdueHints(of: lane.channel, priority: lane.priority, before: confirmedBefore, limit: Self.overdueLimit)
            }
            inputs.append(contentsOf: lost.map { .hintLost($0) })
            // A full portion: the rest has the same verdict, at the next sweep.
            if lost.count < Self.overdueLimit { hints.with { $0.settle(lane) } }
            if lost.isEmpty { continue }
            logger.warning("hints were lost and are sent again", metadata: ["channel": "\(lane.channel)", "count": "\(lost.count)"])
        }
        let waiting = Dictionary(lanes.map { (HintLane(channel: $0.channel, priority: $0.priority), $0.oldest) }, uniquingKeysWith: min)
        for lane in hints.with({ $0.overdue(waiting, at: Date()) }) {
            do {
                try await probe(lane)
            } catch {
                // A queue with troubles of its own must not cost the others their care.
                logger.warning("a queue cannot be searched for lost hints", metadata: ["channel": "\(lane.channel)", "error": "\(error)"])
            }
        }
    }

    private func probe(_ lane: HintLane) async throws {
        let waiting = try await messages(of: lane.channel)
        let now = Date()
        guard waiting > 0 else {
            hints.with { $0.isEmpty(lane, at: now) }
            return
        }
        guard let number = hints.with({ $0.marker(for: lane, at: now) }) else { return }
        let marker = AMQPPublishing.pipeline(
            exchange: PipelineExchange.jobs, routingKey: lane.channel, type: HintMessage.type, body: HintMessage.marker(number),
            messageID: "marker:\(number)", priority: lane.priority.rawValue)
        do {
            try await broker.publish(marker)
        } catch {
            hints.with { $0.notSent(number) }
            throw error
        }
    }

    /// How many messages wait in a channel's queue.
    private func messages(of channel: String) async throws -> Int {
        do {
            return try await broker.inspect(PipelineQueue.jobs(channel: channel)).messages
        } catch  where error.code == .notFound {
            // Somebody deleted it, with all that was in it.
            await declareChannels([channel])
            return 0
        }
    }

    /// A job that waited too long moves up a level, so that a stream of urgent ones holds nobody up for ever.
    private func age() async throws {
        guard let ageing = configuration.ageing else { return }
        let cutoff = Date().addingTimeInterval(-ageing)
        let old = try await ledger.write { try $0.agedHints(before: cutoff, limit: Self.ageingLimit) }
        inputs.append(contentsOf: old.map { .aged($0) })
    }

    /// Tells when jobs begin to wait in a channel that no worker serves, and when that is over.
    private func watchChannels(_ lanes: [WaitingLane], known: Set<String>) async throws -> Set<String> {
        let now = Date()
        let served = try await ledger.write { try $0.channelsServed(seenAfter: now.addingTimeInterval(-Self.workerPatience)) }
        let waiting = lanes.filter { now.timeIntervalSince($0.oldest) > Self.workerPatience }.map(\.channel)
        let unserved = Set(waiting).subtracting(served)
        inputs.append(contentsOf: unserved.subtracting(known).map { .channel($0, isServed: false) })
        inputs.append(contentsOf: known.subtracting(unserved).map { .channel($0, isServed: true) })
        return unserved
    }

    /// Tells the monitor what the registry holds, whenever that changes.
    func watchServices() async {
        var told: [ServiceRecord]?
        while !Task.isCancelled {
            let catalog = planner.catalog.current()
            let services = catalog.services
            let records = services.map { ServiceRecord($0, entries: catalog.entries) }
            if records != told {
                told = records
                let channels = Set(services.flatMap { $0.jobs.map(\.channel) } + ["default"]).sorted()
                await declareChannels(channels)
                inputs.append(.services(records, channels: channels))
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
    init(_ service: CatalogService, entries: [CatalogEntry]) {
        let jobs = Set(service.jobs.map(\.name))
        self.init(
            name: service.name,
            jobs: service.jobs,
            problems: service.problems.map { problem in
                Problem(
                    severity: problem.severity.rawValue, file: problem.file, entry: problem.entry, key: problem.key,
                    value: problem.value, allowed: problem.allowed, nearest: problem.nearest, message: problem.message)
            },
            needs: Dictionary(
                entries.filter { jobs.contains($0.name) && !$0.dependsOn.isEmpty }.map { ($0.name, $0.dependsOn) }
            ) { first, _ in first }
        )
    }
}
