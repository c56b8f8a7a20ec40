import AMQP
import Bootstrap
import Foundation
import JobStore
import Jobs
import Pipeline

/// Carries out inputs inside one transaction of the ledger and collects what to do after its commit.
struct RouterTransaction {
    /// How long a worker may keep a job without renewing.
    static let leaseSeconds = max(1, Int(Pace.scaled(30).rounded(.up)))

    let ledger: any LedgerTransaction
    let now: Date
    /// Runs as they were committed last.
    private let known: RunCache
    /// What is paused, once it was asked for: nobody else writes the ledger.
    private var pausedWork: PausedWork?
    /// The runs that the batch works on, as this transaction has left them.
    private(set) var runs: [RunID: StoredRun] = [:]
    private(set) var after: [AfterCommit] = []

    init(ledger: any LedgerTransaction, now: Date, known: RunCache = RunCache()) {
        self.ledger = ledger
        self.now = now
        self.known = known
    }

    mutating func handle(_ input: RouterInput) throws {
        switch input {
        case .event(let event, let planned, _): try handle(event, planned)
        case .unplanned(let event, let reason, _): try handle(unplanned: event, reason)
        case .reprocessed(let command, let replanned, _): try handle(command, replanned)
        case .claim(let claim, let delivery): after.append(.answerClaim(delivery, try answer(claim)))
        case .renewal(let renewal, let delivery): after.append(.answerRenewal(delivery, try answer(renewal)))
        case .result(let result, let delivery):
            let next = try handle(result)
            if result.next != nil { after.append(.answerClaim(delivery, next.map { .go($0) } ?? .no(.nothingFollows))) }
        case .command(let command, _): try handle(command)
        case .echo(let sent, _): after.append(.heard(until: sent))
        case .dead(let delivery): try recordDead(delivery)
        case .confirmed(let rows): try handle(confirmed: rows)
        case .leaseExpired(let lease):
            // A renewal of the same batch came first.
            guard !after.contains(where: { $0.extends(lease) }) else { break }
            after.append(.releaseLease(lease))
            _ = try apply(.leaseExpired(job: lease.job.index, token: lease.token), to: lease.job.run)
        case .hintLost(let hint):
            _ = try apply(.hintLost(job: hint.job.index, attempt: hint.attempt, dispatch: hint.dispatch), to: hint.job.run)
        case .aged(let hint):
            _ = try apply(.aged(job: hint.job.index, attempt: hint.attempt, dispatch: hint.dispatch), to: hint.job.run)
        case .services(let services, let channels):
            try ledger.replaceServices(services, at: now)
            try ledger.noteChannels(channels)
        case .forgetWorkers(let cutoff): try ledger.forgetWorkers(seenBefore: cutoff)
        case .broker(let state): try note(state)
        case .channel(let name, let isServed):
            try publish(isServed ? "channel.served" : "channel.unserved", data: ["channel": .string(name)])
        case .resumed(let target, let last): try sendHeldBack(target, after: last)
        }
        if let delivery = input.delivery { after.append(.acknowledge(delivery)) }
    }
}

// MARK: - Events

extension RouterTransaction {
    private mutating func handle(_ event: EventMessage, _ planned: PlannedRun?) throws {
        let (sequence, isNew) = try ledger.recordEvent(event, at: now)
        if isNew { try publish(arrivalOf: event) }
        guard let planned, let sequence, event.filtered == nil else { return }
        guard try !ledger.hasRun(dedupeKey: event.snapshot) else { return }
        try create(planned, event: sequence, dedupeKey: event.snapshot, origin: "event")
    }

    private mutating func publish(arrivalOf event: EventMessage) throws {
        let data: JSONValue = [
            "level": .string(event.level.rawValue), "resourceId": .string(event.resourceID),
            "reason": event.filtered.map { .string($0.code) } ?? .null,
        ]
        try publish(event.filtered == nil ? "event.received" : "event.filtered", data: data)
    }

    /// From here on the event is in the ledger, whatever becomes of planning.
    private mutating func handle(unplanned event: EventMessage, _ reason: Reason) throws {
        let (sequence, isNew) = try ledger.recordEvent(event, at: now)
        guard sequence != nil, try !ledger.hasRun(dedupeKey: event.snapshot) else { return }
        let attempts = try ledger.recordPlanningFailure(of: event, reason: reason, counts: true, at: now)
        if isNew { try publish(arrivalOf: event) }
        try publish(
            "event.unplanned",
            data: ["resourceId": .string(event.resourceID), "reason": .string(reason.code), "attempts": .integer(Int64(attempts))])
        after.append(.planLater)
    }

    /// How the router stands with the broker, for those who see only the ledger.
    private mutating func note(_ state: BrokerState) throws {
        try ledger.setBrokerState(state, at: now)
        try publish("broker.\(state.condition.rawValue)")
    }

    private mutating func create(_ planned: PlannedRun, event: Int64, dedupeKey: String, origin: String) throws {
        var stored = StoredRun(run: Run(id: planned.id, plan: planned.plan), context: planned.context)
        let effects = stored.run.apply(.start, at: now)
        try ledger.insertRun(
            stored, event: event, dedupeKey: dedupeKey, origin: origin, filteredHeaders: planned.filteredHeaders,
            decisions: planned.plan.decisions, at: now)
        runs[planned.id] = stored
        try publish("run.created", run: planned.id, data: ["origin": .string(origin)])
        try carryOut(effects, stored)
    }
}

// MARK: - Work

extension RouterTransaction {
    private mutating func answer(_ claim: ClaimMessage) throws -> ClaimReply {
        guard let stored = try stored(claim.job.run) else { return .no(.unknownRun(claim.job.run)) }
        let input = RunInput.claim(
            job: claim.job.index, attempt: claim.attempt, dispatch: claim.dispatch, worker: claim.worker, id: claim.id,
            paused: try paused())
        for effect in try apply(input, to: claim.job.run) {
            switch effect {
            case .grant(let job, let attempt, let token): return .go(order(job, attempt, token, in: runs[claim.job.run] ?? stored))
            case .deny(let reason): return .no(reason)
            default: continue
            }
        }
        preconditionFailure("A claim is either granted or denied.")
    }

    private mutating func order(_ index: Int, _ attempt: Int, _ token: Int, in stored: StoredRun) -> JobOrder {
        let job = stored.run.jobID(index)
        let planned = stored.run.jobs[index]
        after.append(.extendLease(job, token: token))
        return JobOrder(
            job: job, attempt: attempt, token: token, definition: planned.order, headers: stored.context.headers,
            addedParams: .object(stored.context.addedParams), source: stored.context.source, leaseSeconds: Self.leaseSeconds,
            inputs: planned.dependencies.reduce(0) { $0 + ($1.satisfiedBy ?? 0) }, leadsOn: stored.run.leadsOn(index))
    }

    /// - Returns: what the worker goes on with, when it asked and something has become ready that it may take.
    private mutating func handle(_ result: ResultMessage) throws -> JobOrder? {
        let change = RunInput.result(
            job: result.job.index, attempt: result.attempt, token: result.token, exit: result.exit,
            next: try result.next.map { try nextClaim($0, after: result) })
        if let progress = result.progress {
            try ledger.recordProgress(progress, of: result.job, attempt: result.attempt, token: result.token)
        }
        var next: JobOrder?
        for effect in try apply(change, to: result.job.run) {
            switch effect {
            case .refused(let reason):
                try publish("result.refused", run: result.job.run, job: result.job, data: ["reason": .string(reason.code)])
            case .grant(let job, let attempt, let token):
                next = try stored(result.job.run).map { order(job, attempt, token, in: $0) }
            default: continue
            }
        }
        return next
    }

    /// Nobody goes on with a run while more urgent jobs wait in the channel. Those that wait as urgently as the run's have waited behind
    /// the beginning of a run anyway, and a run that is done frees what it holds. Only the channels of jobs that could follow are looked at.
    private mutating func nextClaim(_ question: ResultMessage.Next, after result: ResultMessage) throws -> NextClaim {
        let isWithdrawn = question.isWithdrawn ?? false
        let paused = try paused()
        var floors: [String: Priority] = [:]
        if !isWithdrawn, let run = try stored(result.job.run)?.run {
            let wanted = run.channelsWaiting(behind: result.job.index).intersection(question.channels).subtracting(paused.channels)
            for channel in wanted { floors[channel] = try ledger.mostUrgentWaiting(channel: channel) ?? .low }
        }
        return NextClaim(worker: result.worker, id: question.id, floors: floors, paused: paused, isWithdrawn: isWithdrawn)
    }

    private mutating func paused() throws -> PausedWork {
        if let pausedWork { return pausedWork }
        let paused = try ledger.pausedWork()
        pausedWork = paused
        return paused
    }

    private mutating func answer(_ renewal: RenewMessage) throws -> RenewReply {
        var reply = RenewReply()
        for lease in renewal.leases {
            let held = RenewReply.Lease(job: lease.job, token: lease.token)
            let input = RunInput.renewal(job: lease.job.index, attempt: lease.attempt, token: lease.token)
            guard let effects = try applyIfKnown(input, to: lease.job.run) else {
                reply.lost.append(held)
                continue
            }
            for effect in effects {
                switch effect {
                case .renewed: after.append(.extendLease(lease.job, token: lease.token))
                case .leaseLost: reply.lost.append(held)
                case .stop: reply.cancel.append(held)
                default: continue
                }
            }
            if let progress = lease.progress, !reply.lost.contains(held) {
                try ledger.recordProgress(progress, of: lease.job, attempt: lease.attempt, token: lease.token)
            }
        }
        try ledger.saveWorker(renewal.worker, busy: renewal.leases.count, at: now)
        try ledger.noteChannels(renewal.worker.channels.filter(ChannelName.isValid))
        return reply
    }

    private mutating func handle(confirmed rows: [OutboxRow]) throws {
        for row in rows {
            try ledger.removeOutbox(row.id)
            guard row.message.kind == .hint else { continue }
            let job = row.message.job
            let input = RunInput.hintConfirmed(job: job.index, attempt: row.message.attempt, dispatch: row.message.dispatch)
            _ = try applyIfKnown(input, to: job.run)
        }
    }

    private mutating func recordDead(_ delivery: AMQPDelivery) throws {
        guard delivery.properties.type != DeadJobMessage.type else { return }
        try ledger.park(ParkedMessage(delivery), at: now)
        try publish("message.parked")
    }
}

// MARK: - Commands

extension RouterTransaction {
    private mutating func handle(_ command: CommandMessage) throws {
        guard try ledger.claimMessage(id: command.id, kind: "command", at: now) else { return }
        let outcome: String
        switch command.action {
        case .retryJob: outcome = try retry(command)
        case .discardJob: outcome = try applyToJob(command) { .discard(job: $0, actor: command.actor, attempt: command.attempt) }
        case .cancelJob: outcome = try applyToJob(command) { .cancel(job: $0, actor: command.actor) }
        case .rerunJob: outcome = try applyToJob(command) { .rerun(job: $0, actor: command.actor) }
        case .setPriority: outcome = try setPriority(command)
        case .retryRun: outcome = try applyToRun(command, .retryAll(actor: command.actor))
        case .cancelRun: outcome = try applyToRun(command, .cancelAll(actor: command.actor))
        case .pauseChannel: outcome = try pause(.channel(command.target), command)
        case .resumeChannel: outcome = try resume(.channel(command.target), command)
        case .pauseService: outcome = try pause(.service(command.target), command)
        case .resumeService: outcome = try resume(.service(command.target), command)
        case .requeueMessage: outcome = try requeueMessages(command)
        case .discardMessage: outcome = try discardMessages(command)
        case .drainWorker: outcome = try tellWorker(command, .drain)
        case .resumeWorker: outcome = try tellWorker(command, .undrain)
        case .reprocessRun: outcome = "refused: the run is not known"
        }
        try record(command, outcome)
    }

    private mutating func handle(_ command: CommandMessage, _ replanned: RouterInput.Replanned) throws {
        guard try ledger.claimMessage(id: command.id, kind: "command", at: now) else { return }
        switch replanned {
        case .refused(let reason): try record(command, "refused: \(reason)")
        case .run(let planned):
            guard let run = RunID(rawValue: command.target), let event = try ledger.event(of: run) else {
                try record(command, "refused: the run is not known")
                return
            }
            try create(planned, event: event.sequence, dedupeKey: "command:\(command.id)", origin: "reprocess:\(run)")
            try record(command, "done: run \(planned.id)")
        }
    }

    private mutating func retry(_ command: CommandMessage) throws -> String {
        let job = JobID(rawValue: command.target)
        let before = try job.flatMap { try stored($0.run)?.run.params(ofJob: $0.index) }
        let outcome = try applyToJob(command) {
            .retry(job: $0, actor: command.actor, attempt: command.attempt, params: command.params)
        }
        guard outcome == "done", let params = command.params, let before else { return outcome }
        // Keys and no values: those may be patient data.
        return "done: other params (\(ParamsChange(from: before, to: params).words))"
    }

    private mutating func setPriority(_ command: CommandMessage) throws -> String {
        guard let text = command.priority, let priority = Priority(text) else {
            let given = command.priority.map { "'\($0.prefix(32))'" } ?? "none"
            return "refused: priority is \(given), allowed are urgent, high, default, medium, low, or 4 to 0"
        }
        return try applyToJob(command) { .setPriority(job: $0, priority: priority, actor: command.actor) }
    }

    private mutating func record(_ command: CommandMessage, _ outcome: String) throws {
        try ledger.recordAction(
            actor: command.actor, action: command.action.rawValue, target: command.target, outcome: outcome, at: now)
        try publish(
            "command.done", data: ["id": .string(command.id), "action": .string(command.action.rawValue), "outcome": .string(outcome)])
    }

    private mutating func applyToJob(_ command: CommandMessage, _ input: (Int) -> RunInput) throws -> String {
        guard let job = JobID(rawValue: command.target) else { return "refused: '\(command.target)' is not a job's id" }
        return Self.outcome(try applyIfKnown(input(job.index), to: job.run))
    }

    private mutating func applyToRun(_ command: CommandMessage, _ input: RunInput) throws -> String {
        guard let run = RunID(rawValue: command.target) else { return "refused: '\(command.target)' is not a run's id" }
        return Self.outcome(try applyIfKnown(input, to: run))
    }

    private static func outcome(_ effects: [RunEffect]?) -> String {
        guard let effects else { return "refused: the run is not known" }
        for case .refused(let reason) in effects { return "refused: \(reason.text)" }
        return "done"
    }

    /// Whether it is heard, the worker's heartbeats say.
    private mutating func tellWorker(_ command: CommandMessage, _ action: ControlMessage.Action) throws -> String {
        guard try ledger.isWorkerKnown(command.target) else { return "refused: '\(command.target.prefix(128))' is not a worker's id" }
        after.append(.stop(ControlMessage(action: action, worker: command.target)))
        return "done: the worker has been told"
    }

    private mutating func pause(_ target: PauseTarget, _ command: CommandMessage) throws -> String {
        if let refusal = Self.refusal(of: target) { return refusal }
        if case .service(let name) = target, try !ledger.isServiceKnown(name) {
            return "refused: the registry has no service '\(name.prefix(64))'"
        }
        try ledger.setPaused(target, by: command.actor, at: now)
        pausedWork = nil
        try publish("\(target.kind).paused", data: [target.kind: .string(target.name)])
        return "done"
    }

    private mutating func resume(_ target: PauseTarget, _ command: CommandMessage) throws -> String {
        if let refusal = Self.refusal(of: target) { return refusal }
        if case .service(let name) = target, try !paused().contains(target) {
            return "refused: service '\(name.prefix(64))' is not paused"
        }
        try ledger.setPaused(target, by: nil, at: now)
        pausedWork = nil
        try sendHeldBack(target, after: nil)
        try publish("\(target.kind).resumed", data: [target.kind: .string(target.name)])
        return "done"
    }

    private static func refusal(of target: PauseTarget) -> String? {
        guard case .channel(let name) = target, !ChannelName.isValid(name) else { return nil }
        return "refused: '\(name.prefix(64))' is not a channel's name"
    }

    private mutating func requeueMessages(_ command: CommandMessage) throws -> String {
        guard let selection = ParkedSelection(command.target) else { return Self.noMessage(command) }
        let count = try ledger.requeueParked(selection, by: command.actor, at: now)
        guard count > 0 else { return "refused: no such message waits for a decision, or it cannot be sent again" }
        after.append(.requeue)
        return "done: \(count) on the way"
    }

    private mutating func discardMessages(_ command: CommandMessage) throws -> String {
        guard let selection = ParkedSelection(command.target) else { return Self.noMessage(command) }
        let count = try ledger.discardParked(selection, by: command.actor, at: now)
        guard count > 0 else { return "refused: no such message waits for a decision" }
        return "done: \(count) discarded"
    }

    private static func noMessage(_ command: CommandMessage) -> String {
        "refused: '\(command.target.prefix(64))' is not a message's number"
    }
}

// MARK: - The end of a pause

extension RouterTransaction {
    /// How many runs one step takes: a pause can have held back a hundred thousand jobs, and nobody's lease may wait for all of them.
    static let resumptionLimit = 100

    /// Sends the jobs that a pause has held back and that no other one holds, in steps. After a crash in between the next router begins
    /// anew.
    private mutating func sendHeldBack(_ target: PauseTarget, after last: RunID?) throws {
        let paused = try paused()
        guard !paused.contains(target) else { return }
        let found = try ledger.runsWithReadyJobs(of: target, after: last, limit: Self.resumptionLimit)
        for run in found {
            do {
                _ = try apply(.resumed(paused: paused), to: run)
            } catch let error as LedgerError where error.code == .corrupt {
                // A run that cannot be read holds nobody else up.
                continue
            }
        }
        if let last = found.last, found.count == Self.resumptionLimit { after.append(.resume(target, after: last)) }
    }
}

// MARK: - One change of a run

extension RouterTransaction {
    private mutating func stored(_ id: RunID) throws -> StoredRun? {
        if let known = runs[id] { return known }
        let loaded = try known[id] ?? ledger.loadRun(id)
        runs[id] = loaded
        return loaded
    }

    private mutating func apply(_ input: RunInput, to id: RunID) throws -> [RunEffect] {
        try applyIfKnown(input, to: id) ?? [.refused(.unknownRun(id))]
    }

    /// - Returns: nil when the ledger has no such run, for example because it was restored from a backup.
    private mutating func applyIfKnown(_ input: RunInput, to id: RunID) throws -> [RunEffect]? {
        guard var stored = try stored(id) else { return nil }
        let old = stored.run
        let effects = stored.run.apply(input, at: now)
        if stored.run != old { try ledger.update(stored.run, from: old) }
        runs[id] = stored
        try carryOut(effects, stored)
        return effects
    }

    private mutating func carryOut(_ effects: [RunEffect], _ stored: StoredRun) throws {
        let run = stored.run
        for effect in effects {
            switch effect {
            case .hint(let job, let attempt, let dispatch, let delay, let pause):
                try send(.hint, run, job, attempt, dispatch, delay: delay, pause: pause)
            case .deadLetter(let job, let attempt):
                try send(.dead, run, job, attempt, run.jobs[job].dispatch, reason: run.jobs[job].reason)
            case .attemptStarted(let job, let attempt, let token, let worker):
                try ledger.startAttempt(
                    run.jobID(job), attempt: attempt, token: token, worker: worker, params: run.jobs[job].changedParams, at: now)
            case .attemptEnded(let job, let attempt, let token, let ending):
                try ledger.endAttempt(run.jobID(job), attempt: attempt, token: token, ending: ending, at: now)
                after.append(.releaseLease(.init(job: run.jobID(job), token: token)))
            case .stop(let job, let token):
                after.append(.stop(ControlMessage(action: .cancel, job: run.jobID(job), token: token)))
            case .jobChanged(let job):
                let state = run.jobs[job].state
                let data: JSONValue = ["attempt": .integer(Int64(run.jobs[job].attempt)), "reason": .string(run.jobs[job].reason.code)]
                try publish("job.\(state.rawValue)", run: run.id, job: run.jobID(job), data: data)
            case .discarded(let job):
                let data: JSONValue = ["actor": JSONValue.string(run.jobs[job].discarded?.actor ?? "")]
                try publish("job.discarded", run: run.id, job: run.jobID(job), data: data)
            case .runChanged: try publish("run.\(run.state.rawValue)", run: run.id)
            case .grant, .deny, .renewed, .leaseLost, .refused: continue
            }
        }
    }

    private mutating func send(
        _ kind: OutboxMessage.Kind, _ run: Run, _ job: Int, _ attempt: Int, _ dispatch: Int, delay: RetryDelay? = nil, pause: Double? = nil,
        reason: Reason? = nil
    ) throws {
        let definition = run.jobs[job].definition
        let message = OutboxMessage(
            kind: kind, job: run.jobID(job), attempt: attempt, dispatch: dispatch, channel: definition.channel,
            priority: run.jobs[job].priority, delay: delay, pause: pause, reason: reason)
        after.append(.send(try ledger.appendOutbox(message)))
    }

    private mutating func publish(_ kind: String, run: RunID? = nil, job: JobID? = nil, data: JSONValue = [:]) throws {
        after.append(.publish(try ledger.appendFact(kind: kind, run: run, job: job, data: data, at: now)))
    }
}

extension Reason {
    fileprivate static let nothingFollows = Reason("nothing-follows", "No job that this worker may take has become ready by this result.")

    fileprivate static func unknownRun(_ id: RunID) -> Reason {
        Reason("unknown", "The ledger has no run \(id).", subject: id.rawValue)
    }
}
