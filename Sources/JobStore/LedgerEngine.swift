package import Foundation
package import Jobs
package import Pipeline

/// What keeps the ledger: one writer, whose transactions last.
///
/// ``Ledger``, on SQLite, is the engine that there is. Another one has to pass the suite `LedgerConformance` as it is.
///
/// Existentials instead of type parameters: a call costs a statement of a database, and the router stays free of an `Engine` in every
/// signature. Transactions are synchronous: they run on the engine's own thread, and nothing else of this program can come between two
/// of their statements.
package protocol LedgerEngine: Sendable {
    /// Runs `body` as one transaction. When this returns, what it wrote is on disk; when it throws, nothing was written.
    ///
    /// Transactions run one after another, each sees all that the ones before it wrote.
    func write<Value: Sendable>(_ body: @Sendable @escaping (any LedgerTransaction) throws -> Value) async throws -> Value
}

/// One transaction of the ledger's writer: all that the router asks and tells. Only valid inside ``LedgerEngine/write(_:)``.
package protocol LedgerTransaction {
    // MARK: Messages and events

    /// Notes that a message was carried out.
    /// - Returns: false when it was already.
    func claimMessage(id: String, kind: String, at now: Date) throws -> Bool

    /// Records what ingest saw.
    /// - Returns: the event's number, nil when retention has deleted it; and whether it is new: a repeat of a snapshot is not.
    func recordEvent(_ event: EventMessage, at now: Date) throws -> (sequence: Int64?, isNew: Bool)

    /// Notes that an event could not be planned, and records it when it is new. A run of the event makes the reason go away.
    /// - Parameter counts: false to give another reason for an attempt that was counted when it began.
    /// - Returns: how many attempts were counted, this one included.
    func recordPlanningFailure(of event: EventMessage, reason: Reason, counts: Bool, at now: Date) throws -> Int

    /// Nobody tries any more to plan the event, and why.
    func abandonPlanning(of event: EventMessage, reason: Reason, at now: Date) throws

    /// Events with a planning failure, no run, and another try to come; the one that was tried longest ago first.
    func unplannedEvents(limit: Int) throws -> [UnplannedEvent]

    /// The event that `run` was made from, for planning it again.
    func event(of run: RunID) throws -> (sequence: Int64, event: EventMessage)?

    // MARK: Runs

    /// Whether there is a run of this key, or was one that retention has deleted.
    func hasRun(dedupeKey: String) throws -> Bool

    /// - Parameters:
    ///   - dedupeKey: one run for each; the event's snapshot, or the command that asked for another one.
    ///   - origin: `event`, or `reprocess:<run>`.
    ///   - filteredHeaders: what the jobs see, when that is less than the event's headers.
    func insertRun(
        _ stored: StoredRun, event: Int64, dedupeKey: String, origin: String, filteredHeaders: JSONValue?, decisions: [Decision],
        at now: Date
    ) throws

    func loadRun(_ id: RunID) throws -> StoredRun?

    /// Writes what changed from `old`, the state that the ledger holds, and nothing else.
    func update(_ run: Run, from old: Run) throws

    /// Runs behind `last` with a job of `target` that is ready and not on its way, in the order of their ids.
    func runsWithReadyJobs(of target: PauseTarget, after last: RunID?, limit: Int) throws -> [RunID]

    // MARK: Attempts

    /// - Parameter params: what it runs with, when that is not what was planned.
    func startAttempt(_ job: JobID, attempt: Int, token: Int, worker: String, params: JSONValue?, at now: Date) throws
    func endAttempt(_ job: JobID, attempt: Int, token: Int, ending: AttemptEnding, at now: Date) throws
    func recordProgress(_ progress: RenewMessage.Progress, of job: JobID, attempt: Int, token: Int) throws
    func runningAttempts() throws -> [RunningAttempt]

    // MARK: Hints and other messages to the broker

    /// - Throws: when the same message of the same attempt and dispatch is there already.
    func appendOutbox(_ message: OutboxMessage) throws -> OutboxRow

    /// The broker has confirmed it.
    func removeOutbox(_ id: Int64) throws

    /// Everything that was committed and not yet confirmed: what a router that starts has to send.
    func pendingOutbox() throws -> [OutboxRow]

    /// Where hints wait for a claim: channels and priorities with a confirmed hint, or with one whose delay has ended before `now`.
    func waitingLanes(at now: Date) throws -> [WaitingLane]

    /// Hints of a lane that were confirmed, or had their delay ended, before `cutoff`, and no claim followed; the oldest first.
    func overdueHints(of channel: String, priority: Priority, before cutoff: Date, limit: Int) throws -> [WaitingHint]

    /// Hints that were confirmed, or had their delay ended, before `cutoff` and wait below the highest priority; the oldest first.
    func agedHints(before cutoff: Date, limit: Int) throws -> [WaitingHint]

    // MARK: Channels, workers, services

    /// Channels that a worker serves or a job wants, so that they show before their first job.
    func noteChannels(_ names: [String]) throws
    func channels() throws -> [String]
    /// Everything that people have paused.
    func pausedWork() throws -> PausedWork
    /// The priority of the most urgent job whose hint waits in a channel's queue; nil when none does.
    func mostUrgentWaiting(channel: String) throws -> Priority?

    /// - Parameter actor: who pauses it; nil resumes it.
    func setPaused(_ target: PauseTarget, by actor: String?, at now: Date) throws

    func saveWorker(_ worker: WorkerInfo, busy: Int, at now: Date) throws
    /// Whether there is such a worker, or was one lately.
    func isWorkerKnown(_ id: String) throws -> Bool
    func forgetWorkers(seenBefore cutoff: Date) throws

    /// The channels of the workers that were heard of after `cutoff` and take jobs.
    func channelsServed(seenAfter cutoff: Date) throws -> Set<String>

    /// Whether the registry has such a service.
    func isServiceKnown(_ name: String) throws -> Bool
    /// Replaces what is known of the services by what the registry holds now.
    func replaceServices(_ services: [ServiceRecord], at now: Date) throws

    func setBrokerState(_ state: BrokerState, at now: Date) throws

    // MARK: For people to read

    /// Numbers and keeps a fact. Publish it after the commit.
    func appendFact(kind: String, run: RunID?, job: JobID?, data: JSONValue, at now: Date) throws -> FactMessage

    func recordAction(actor: String, action: String, target: String, outcome: String, at now: Date) throws

    // MARK: Messages that nobody could read

    /// Keeps it until a person decides.
    func park(_ message: ParkedMessage, at now: Date) throws

    /// A person wants messages sent to their queues once more: those that nobody has decided about, and whose bodies are here.
    /// - Returns: how many.
    func requeueParked(_ selection: ParkedSelection, by actor: String, at now: Date) throws -> Int

    /// A person wants to be rid of messages that nobody has decided about. That they were there stays on record.
    /// - Returns: how many.
    func discardParked(_ selection: ParkedSelection, by actor: String, at now: Date) throws -> Int

    /// What is to be requeued and was not confirmed yet, by number.
    func messagesToRequeue(after sequence: Int64, limit: Int) throws -> [(sequence: Int64, message: ParkedMessage)]

    /// The broker has confirmed the message, and only then is it taken from here; or `problem` says why it never will, and it stays.
    func settleRequeued(_ sequence: Int64, problem: String?) throws

    // MARK: Retention

    /// One small step of forgetting what is older than `cutoffs`: repeat it until it is done, with the router's other work in between.
    ///
    /// A run goes whole, with its jobs, decisions, attempts and facts, unless it is active; its event goes with the last run of it. That
    /// an event was dealt with stays known, so that a repeat of it starts nothing.
    ///
    /// - Parameter rows: about how many rows the step may touch; one run is never divided.
    func purge(_ cutoffs: RetentionCutoffs, rows: Int) throws -> PurgeStep

    /// Runs that ``purge(_:rows:)`` has deleted and whose files may still be there, the oldest first.
    func expiredRuns(limit: Int) throws -> [ExpiredRun]

    /// Their files are gone.
    func forgetExpiredRuns(_ runs: [RunID]) throws
}
