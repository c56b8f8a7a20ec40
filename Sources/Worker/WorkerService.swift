import AMQP
import Bootstrap
import Foundation
import Jobs
import Logging
import Pipeline
import ServiceLifecycle
import Synchronization

/// Takes hints, claims them, runs what the router grants, and tells how it ended.
///
/// A hint is acknowledged last, after the broker has confirmed the result: a worker that dies on the way loses nothing.
final class WorkerService: Service {
    let configuration: WorkerConfiguration
    let source: any DeliverySource
    let router: any RouterLink
    let runner: any JobRunner
    let readiness: ReadinessFile?
    let logger: Logger
    let clock: WorkerClock
    let table = Mutex(AttemptTable())
    let slots: Slots
    /// What an operator wants last: whether this worker is drained.
    let drainings = AsyncStream.makeStream(of: Bool.self, bufferingPolicy: .bufferingNewest(1))
    private let startedAt = Date()

    init(
        configuration: WorkerConfiguration,
        source: any DeliverySource,
        router: any RouterLink,
        runner: any JobRunner,
        readiness: ReadinessFile?,
        logger: Logger,
        clock: WorkerClock = .machine
    ) {
        self.configuration = configuration
        self.source = source
        self.router = router
        self.runner = runner
        self.readiness = readiness
        self.logger = logger
        self.clock = clock
        self.slots = Slots(configuration.slots)
    }

    /// A message of a job queue.
    struct Hint: Sendable {
        var delivery: AMQPDelivery
        var queue: String
    }

    func run() async throws {
        await withTaskCancellationHandler {
            await withTaskGroup { group in
                group.addTask { await self.heartbeat() }
                group.addTask { await self.obey() }
                await work()
                group.cancelAll()
            }
        } onCancel: {
            endJobs()
            abandon()
        }
        await sayGoodbye()
        await runner.shutdown()
    }

    /// Works until the service should stop, then until its jobs have ended or have been handed back.
    private func work() async {
        let (hints, inbox) = AsyncStream.makeStream(of: Hint.self)
        var deadline: Task<Void, Never>?
        await withDiscardingTaskGroup { jobs in
            jobs.addTask {
                await cancelWhenGracefulShutdown { await self.listen(inbox) }
                inbox.finish()
            }
            for await hint in hints {
                jobs.addTask {
                    await self.carryOut(hint)
                    self.slots.release()
                }
            }
            deadline = Task { await self.drain() }
        }
        deadline?.cancel()
    }

    /// One hint, from its arrival to its acknowledgement. It holds a slot.
    ///
    /// With the result of a job the router may hand over the next one of the same run. The hint stays unacknowledged until the last of
    /// them has ended: the broker then sends no other one for the slot that they use.
    func carryOut(_ hint: Hint) async {
        guard let message = await decode(hint) else { return }
        FaultPoint.reach(.workerHintTaken)
        let key = AttemptTable.Key(job: message.job, attempt: message.attempt)
        guard table.withLock({ $0.begin(key) }) else { return hint.delivery.ack() }
        switch await claim(key, dispatch: message.dispatch) {
        case (.go(let order), let asked)?:
            FaultPoint.reach(.workerClaimGranted)
            var next = await carryOut(order, key, since: asked)
            while let (order, asked) = next {
                let key = AttemptTable.Key(job: order.job, attempt: order.attempt)
                // An old hint of the same job is being asked about, and will hear that the job is taken: by us, who cannot have it twice.
                guard table.withLock({ $0.begin(key) }) else {
                    await handBack(order)
                    break
                }
                next = await carryOut(order, key, since: asked)
            }
            hint.delivery.ack()
        case (.no(let reason), _)?:
            table.withLock { $0.end(key) }
            logger.debug("claim denied", metadata: ["job.id": "\(message.job)", "reason": "\(reason.code)"])
            hint.delivery.ack()
        case nil:
            table.withLock { $0.end(key) }
            // The router never answered and this worker ends: somebody else shall ask.
            hint.delivery.nack(requeue: true)
        }
    }

    /// Gives up an attempt that was not begun. When nobody hears it, the end of the lease says the same.
    private func handBack(_ order: JobOrder) async {
        let result = ResultMessage(
            job: order.job, attempt: order.attempt, token: order.token, worker: configuration.id, exit: .released(at: Date()))
        _ = try? await router.report(result)
    }

    /// One granted attempt, from its start until its result is told.
    /// - Returns: the job that the router wants done next, and when it was asked for.
    private func carryOut(
        _ order: JobOrder, _ key: AttemptTable.Key, since asked: ContinuousClock.Instant
    ) async -> (order: JobOrder, asked: ContinuousClock.Instant)? {
        defer { table.withLock { $0.end(key) } }
        let lease = Lease(
            seconds: order.leaseSeconds, since: asked, margin: configuration.killGrace + configuration.leaseMargin, clock: clock)
        guard let exit = await run(order, key, lease) else { return nil }
        let next = await report(exit, order, key)
        FaultPoint.reach(.workerResultConfirmed)
        return next
    }

    /// - Returns: what to report, nil when it is no longer ours to report.
    private func run(_ order: JobOrder, _ key: AttemptTable.Key, _ lease: Lease) async -> JobExit? {
        guard table.withLock({ $0.grant(key, token: order.token, lease: lease) }) else { return .released(at: Date()) }
        let endsWithLease = order.definition.endsWithLease
        if endsWithLease { await refresh(lease) }
        var logger = logger
        logger[metadataKey: "job.id"] = "\(order.job)"
        logger[metadataKey: "attempt"] = "\(order.attempt)"
        logger.info("job started", metadata: ["job.name": "\(order.definition.name)"])
        // Not a child: what ends a job is a decision of the table, never the end of a scope.
        let attempt = Task {
            await runner.run(order, isStillMine: { !lease.isOver }) { progress in self.table.withLock { $0.progress(key, progress) } }
        }
        table.withLock { $0.endable(key, by: { attempt.cancel() }) }
        let watch = endsWithLease ? Task { await self.watch(lease, key, token: order.token) } : nil
        defer { watch?.cancel() }
        let exit = await attempt.value
        FaultPoint.reach(.workerJobEnded)
        let stop = table.withLock { $0.report(key) }
        logger.info("job ended", metadata: ["job.outcome": "\(exit.outcome)", "job.exit": "\(exit.kind)"])
        return exit.reported(after: stop)
    }

    // MARK: State for the other files

    func info(_ state: WorkerInfo.State) -> WorkerInfo {
        let machine = Machine.now()
        return WorkerInfo(
            id: configuration.id,
            host: ProcessInfo.processInfo.hostName,
            pid: Int(ProcessInfo.processInfo.processIdentifier),
            version: ProductVersion.current,
            slots: configuration.slots,
            channels: configuration.channels,
            startedAt: startedAt,
            state: state,
            isDrained: table.withLock { $0.isDrained },
            load: machine.load,
            memory: machine.memory,
            freeMemory: machine.freeMemory,
            gpus: configuration.gpus?.count
        )
    }
}

extension JobDefinition {
    /// Whether an attempt must have ended before the router may give the job to somebody else.
    ///
    /// An export writes where later stages change files, and `kill` says so of a job whose effects outside, such as sending images, must not
    /// happen twice at a time. Other jobs go on while the router cannot be reached: a long computation is worth more than a heartbeat, and
    /// what it says in the end counts only if the lease is still its own.
    fileprivate var endsWithLease: Bool { kind == .export || onLeaseLoss == .kill }
}
