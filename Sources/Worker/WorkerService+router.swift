import AMQP
import Bootstrap
import Foundation
import Jobs
import Logging
import Pipeline
import Synchronization

extension WorkerService {
    // MARK: Hints

    /// Takes hints while no operator has drained this worker, for as long as the task is not cancelled.
    func listen(_ inbox: AsyncStream<Hint>.Continuation) async {
        var reading: Task<Void, Never>? = Task { await self.read(inbox) }
        for await isDrained in drainings.stream {
            if isDrained {
                reading?.cancel()
                // Hints that nobody has claimed go back to their queues.
                await reading?.value
                reading = nil
            } else if reading == nil {
                reading = Task { await self.read(inbox) }
            }
        }
        reading?.cancel()
        await reading?.value
    }

    /// Takes hints from every channel for as long as the task is not cancelled.
    private func read(_ inbox: AsyncStream<Hint>.Continuation) async {
        await withDiscardingTaskGroup { group in
            for channel in configuration.channels {
                group.addTask { await self.take(from: PipelineQueue.jobs(channel: channel), inbox) }
            }
        }
    }

    private func take(from queue: String, _ inbox: AsyncStream<Hint>.Continuation) async {
        do {
            try await source.consume(queue, prefetch: configuration.slots) { delivery in
                // After a reconnect, or with several channels, hints arrive that no slot is free for: an idle worker shall have them.
                if await slots.take(within: configuration.patience) {
                    inbox.yield(Hint(delivery: delivery, queue: queue))
                } else {
                    delivery.nack(requeue: true)
                }
            }
        } catch {
            if Task.isCancelled { return }
            logger.critical("a queue is no longer read", metadata: ["queue": "\(queue)", "error": "\(error)"])
        }
    }

    /// - Returns: nil when nobody can read it; it is then on the dead-letter exchange, with the reason.
    func decode(_ hint: Hint) async -> HintMessage? {
        do {
            return try hint.delivery.decode(HintMessage.self, type: HintMessage.type)
        } catch {
            await putAside(hint.delivery, queue: hint.queue, reason: error.reason)
            return nil
        }
    }

    private func putAside(_ delivery: AMQPDelivery, queue: String, reason: String) async {
        logger.error("a message goes to the dead letters", metadata: ["queue": "\(queue)", "reason": "\(reason)"])
        do {
            try await router.putAside(delivery, queue: queue, reason: reason)
            delivery.ack()
        } catch {
            // Its queue keeps it: it comes again with the next connection.
            logger.error("a dead letter was not confirmed", metadata: ["queue": "\(queue)", "error": "\(error)"])
            delivery.nack(requeue: true)
        }
    }

    // MARK: Claims and results

    /// Asks until the router answers. The hint stays unacknowledged meanwhile.
    /// - Returns: nil when this worker ends before an answer came; otherwise the answer and when it was first asked for: a repeated claim
    ///   gets the answer, and the lease, of the first one that arrived.
    func claim(_ key: AttemptTable.Key, dispatch: Int) async -> (reply: ClaimReply, asked: ContinuousClock.Instant)? {
        let asked = clock.now()
        let claim = ClaimMessage(
            job: key.job, attempt: key.attempt, dispatch: dispatch, worker: configuration.id,
            id: String(UInt64.random(in: 0 ... .max), radix: 36))
        var pause = Duration.milliseconds(250)
        while !table.withLock({ $0.isDraining }) {
            let asking = Task { try await router.claim(claim) }
            table.withLock { $0.endable(key, by: { asking.cancel() }) }
            do {
                return (try await asking.value, asked)
            } catch {
                logger.warning("claim not answered, asking again", metadata: ["job.id": "\(key.job)", "error": "\(error)"])
                try? await Task.sleep(for: pause)
                pause = min(pause * 2, .seconds(5))
            }
        }
        return nil
    }

    /// Tells how an attempt ended, until the broker or the router has it. Without a broker the lease stays wanted and the result is kept.
    ///
    /// Where other jobs of the run wait for this one, it asks for the next of them with the same message, again and again for some time: a slot
    /// that waits for the answer could begin nothing else without the router either. Whoever stops waiting for it takes the question back:
    /// a copy of it may have been answered, or will be, and nobody would run the job.
    /// - Returns: what this worker goes on with, and when it was first asked for.
    func report(
        _ exit: JobExit, _ order: JobOrder, _ key: AttemptTable.Key
    ) async -> (order: JobOrder, asked: ContinuousClock.Instant)? {
        let asked = clock.now()
        var result = ResultMessage(
            job: order.job, attempt: order.attempt, token: order.token, worker: configuration.id, exit: exit,
            progress: table.withLock { $0.progress(of: key) })
        if order.leadsOn == true, exit.outcome != .released {
            result.next = .init(id: String(UInt64.random(in: 0 ... .max), radix: 36), channels: configuration.channels)
        }
        var hasAsked = false
        var pause = Duration.milliseconds(250)
        while !table.withLock({ $0.isAbandoned }) {
            // Whoever ends, or shall take no more jobs, only tells. So does who has waited for long: a router that knows no such questions
            // never answers, and each copy of the result stays in the broker's queue while there is no router.
            if table.withLock({ $0.isDraining || $0.isDrained }) || asked.duration(to: clock.now()) >= configuration.questionLimit {
                result.next = hasAsked ? result.next.map { .init(id: $0.id, channels: [], isWithdrawn: true) } : nil
            }
            hasAsked = result.next != nil
            let telling = Task { [result] in try await router.report(result) }
            table.withLock { $0.endable(key, by: { telling.cancel() }) }
            do {
                guard case .go(let next) = try await telling.value else { return nil }
                return (next, asked)
            } catch {
                logger.warning("result not confirmed, sending it again", metadata: ["job.id": "\(key.job)", "error": "\(error)"])
                try? await Task.sleep(for: pause)
                pause = min(pause * 2, .seconds(5))
            }
        }
        logger.error("a result could not be reported before the end", metadata: ["job.id": "\(key.job)"])
        return nil
    }

    // MARK: Leases

    /// Renews all leases in one message; without leases it still says that this worker lives.
    func heartbeat() async {
        do { try await source.waitUntilReady() } catch { return }
        readiness?.markReady()
        while !Task.isCancelled {
            let isAnswered = await renew(table.withLock { $0.state }, limit: configuration.renewalLimit)
            try? await Task.sleep(for: isAnswered ? configuration.heartbeat : min(configuration.heartbeat, Pace.scaled(.seconds(2))))
        }
    }

    /// The last heartbeat, so that nobody waits for this worker.
    func sayGoodbye() async {
        _ = await renew(.stopped, limit: .seconds(2))
    }

    private func renew(_ state: WorkerInfo.State, limit: Duration) async -> Bool {
        let asked = clock.now()
        let leases = table.withLock { $0.leases }
        do {
            let reply = try await router.renew(RenewMessage(worker: info(state), leases: leases), limit: limit)
            table.withLock { table in
                table.renewed(leases, reply, since: asked)
                return table.stop(reply)
            }.forEach { $0() }
            return true
        } catch {
            // Jobs go on, those that end with their lease until it is over by our own clock.
            logger.debug("heartbeat not answered", metadata: ["error": "\(error)"])
            return false
        }
    }

    /// Before a job starts that must not outlive its lease: the claim may have waited long for its answer.
    func refresh(_ lease: Lease) async {
        if lease.isOver { _ = await renew(table.withLock { $0.state }, limit: configuration.renewalLimit) }
    }

    /// Ends an attempt when its lease is over by our own clock. Returns when that has happened or the task is cancelled.
    func watch(_ lease: Lease, _ key: AttemptTable.Key, token: Int) async {
        while !Task.isCancelled {
            if lease.isOver {
                guard let stop = table.withLock({ $0.stop(key, token: token, because: .lost) }) else { return }
                logger.warning("job ended: its lease was not renewed in time", metadata: ["job.id": "\(key.job)"])
                return stop()
            }
            // At most a second: a timer may stand still while the machine is suspended.
            await clock.sleep(min(.seconds(1), max(lease.remaining, .milliseconds(1))))
        }
    }

    // MARK: Control

    /// Carries out what the router tells all workers at once.
    func obey() async {
        let queue = PipelineQueue.control(worker: configuration.id)
        do {
            try await source.consume(queue, prefetch: 16) { await obey($0, queue) }
        } catch {
            if Task.isCancelled { return }
            // The answers to renewals say the same, a little later.
            logger.error("control messages are no longer read", metadata: ["error": "\(error)"])
        }
    }

    func obey(_ delivery: AMQPDelivery, _ queue: String) async {
        do {
            let message = try delivery.decode(ControlMessage.self, type: ControlMessage.type)
            switch message.action {
            case .cancel: if let job = message.job, let token = message.token { cancel(job, token) }
            case .drain where message.worker == configuration.id: await setDrained(true)
            case .undrain where message.worker == configuration.id: await setDrained(false)
            // To another worker, or from a router that knows more than we do.
            case .drain, .undrain, nil: break
            }
            delivery.ack()
        } catch {
            await putAside(delivery, queue: queue, reason: error.reason)
        }
    }

    private func cancel(_ job: JobID, _ token: Int) {
        let stops = table.withLock { $0.stop(job, token: token, because: .cancelled) }
        if !stops.isEmpty { logger.info("job is cancelled", metadata: ["job.id": "\(job)"]) }
        stops.forEach { $0() }
    }

    /// An operator wants this worker to take no more jobs, or to take some again. What runs goes on.
    private func setDrained(_ isDrained: Bool) async {
        guard table.withLock({ $0.setDrained(isDrained) }) else { return }
        logger.info(isDrained ? "drained by an operator: no more jobs are taken" : "resumed by an operator")
        drainings.continuation.yield(isDrained)
        // Whoever asked shall not wait for the next heartbeat to see it.
        _ = await renew(table.withLock { $0.state }, limit: configuration.renewalLimit)
    }

    // MARK: The end

    /// Ends everything now: the jobs' processes are killed, and what can be handed back within moments is.
    func stopNow() {
        logger.warning("told to stop twice: jobs are killed now")
        endJobs()
        Task {
            await runner.shutdown()
            try? await Task.sleep(for: configuration.hastyFarewell)
            abandon()
        }
    }

    /// Running jobs may end by themselves until the grace is over; then they are ended and handed back.
    func drain() async {
        table.withLock { $0.drain() }
        logger.info("stopping, running jobs have time to end", metadata: ["grace": "\(configuration.grace)"])
        do {
            try await Task.sleep(for: configuration.grace)
            endJobs()
            try await Task.sleep(for: configuration.killGrace + configuration.farewell)
            abandon()
        } catch {}  // all jobs are done
    }

    func endJobs() {
        table.withLock { table in
            table.drain()
            return table.stopAll()
        }.forEach { $0() }
    }

    func abandon() {
        table.withLock { $0.abandon() }.forEach { $0() }
    }
}
