import Foundation
import JobStore
import Jobs
import Pipeline
import Testing

/// What every engine of the ledger has to do, told through the router's seam alone.
@Suite(.serialized, .timeLimit(.minutes(5))) struct LedgerConformance {
    let now = Date(timeIntervalSince1970: 1_700_000_000)

    struct Stop: Error {}

    func event(_ snapshot: String = "snapshot", filtered: Reason? = nil) -> EventMessage {
        EventMessage(
            server: "orthanc", level: .study, resourceID: "abc", snapshot: snapshot, observedAt: now, follows: "before",
            filtered: filtered, series: [.init(id: "s1", instances: 3)], refusedSeries: ["s2": Reason("modality", "not CT")],
            headers: ["id": "abc", "tags": ["PatientName": "Test^<script>\u{0}"]])
    }

    func id(_ number: UInt64) -> RunID { RunID(milliseconds: number, random: (number, number)) }

    /// A run of an export and a job after it, as it is planned.
    func stored(_ number: UInt64 = 1, channel: String = "gpu", priority: Priority = .default) -> StoredRun {
        let plan = RunPlan(jobs: [
            .init(
                definition: JobDefinition(
                    name: "export", service: "", stage: .export, kind: .export, entry: "", channel: channel, priority: priority,
                    timeout: .never),
                dependencies: []),
            .init(
                definition: JobDefinition(name: "work", service: "s", stage: .services, entry: "s.work", channel: channel),
                dependencies: [Dependency(parent: 0, origin: .stage)]),
        ])
        let source = JobSource(
            server: "orthanc", level: .study, resourceID: "abc", series: event().series, dcmpath: "dicom/\(id(number))")
        var headers = event().headers.object ?? [:]
        headers["dcmpath"] = .string(source.dcmpath)
        return StoredRun(
            run: Run(id: id(number), plan: plan),
            context: RunContext(source: source, headers: .object(headers), addedParams: ["work": ["x": 1]]))
    }

    /// The run with its first hint confirmed at `time`.
    func dispatched(_ number: UInt64, channel: String = "gpu", priority: Priority = .default, at time: Date) -> StoredRun {
        var stored = stored(number, channel: channel, priority: priority)
        _ = stored.run.apply(.start, at: time)
        _ = stored.run.apply(.hintConfirmed(job: 0, attempt: 1, dispatch: 1), at: time)
        return stored
    }

    func insert(
        _ stored: StoredRun, key: String? = nil, origin: String = "event", at time: Date? = nil, _ ledger: any LedgerTransaction
    ) throws {
        let key = key ?? "\(stored.run.id)"
        let sequence = try #require(try ledger.recordEvent(event(key), at: time ?? now).sequence)
        try ledger.insertRun(
            stored, event: sequence, dedupeKey: key, origin: origin, filteredHeaders: nil,
            decisions: [Decision(job: "work", service: "s", stage: .services, verdict: .accepted, reason: Reason("accepted", "yes"))],
            at: time ?? now)
    }

    func fact(_ ledger: any LedgerTransaction, _ kind: String = "run.created", run: RunID? = nil, at time: Date? = nil) throws -> Int64 {
        try ledger.appendFact(kind: kind, run: run, job: nil, data: ["a": 1], at: time ?? now).sequence
    }

    func message(_ kind: OutboxMessage.Kind = .hint, dispatch: Int = 1) -> OutboxMessage {
        OutboxMessage(
            kind: kind, job: JobID(run: id(1), index: 1), attempt: 1, dispatch: dispatch, channel: "gpu", priority: .high,
            delay: .twoMinutes, pause: 101.5, reason: Reason("r", "text"))
    }

    func loaded(_ id: RunID, _ ledger: any LedgerEngine) async throws -> StoredRun? {
        try await ledger.write { try $0.loadRun(id) }
    }
}

// MARK: - Transactions

extension LedgerConformance {
    @Test("A transaction that throws leaves nothing of anything", arguments: LedgerEngineKind.allCases)
    func atomic(engine: LedgerEngineKind) async throws {
        try await engine.withLedger { ledger, _ in
            let stored = stored()
            await #expect(throws: Stop.self) {
                try await ledger.write { transaction in
                    try insert(stored, transaction)
                    _ = try transaction.appendOutbox(message())
                    _ = try transaction.claimMessage(id: "c", kind: "command", at: now)
                    _ = try fact(transaction)
                    try transaction.setPaused(.channel("gpu"), by: "op", at: now)
                    try transaction.startAttempt(stored.run.jobID(0), attempt: 1, token: 1, worker: "w", params: nil, at: now)
                    throw Stop()
                }
            }
            let run = try await loaded(stored.run.id, ledger)
            #expect(run == nil)
            let after = try await ledger.write { transaction in
                (
                    event: try transaction.recordEvent(event("\(stored.run.id)"), at: now).isNew,
                    hasRun: try transaction.hasRun(dedupeKey: "\(stored.run.id)"),
                    outbox: try transaction.pendingOutbox(), message: try transaction.claimMessage(id: "c", kind: "command", at: now),
                    paused: try transaction.pausedWork(), channels: try transaction.channels(), fact: try fact(transaction)
                )
            }
            #expect(after.event && after.message && !after.hasRun)
            #expect(after.outbox.isEmpty && after.paused == .none && after.channels.isEmpty)
            #expect(after.fact == 1, "a number was used up by what never happened")
        }
    }

    @Test("A refused statement undoes what came before it in its transaction", arguments: LedgerEngineKind.allCases)
    func refused(engine: LedgerEngineKind) async throws {
        try await engine.withLedger { ledger, _ in
            let (first, second) = (stored(1), stored(2))
            try await ledger.write { try insert(first, key: "k", $0) }
            await #expect(throws: (any Error).self) {
                try await ledger.write { transaction in
                    _ = try transaction.appendOutbox(message())
                    try insert(second, key: "k", transaction)
                }
            }
            let run = try await loaded(second.run.id, ledger)
            #expect(run == nil)
            let outbox = try await ledger.write { try $0.pendingOutbox() }
            #expect(outbox.isEmpty)
            let kept = try await loaded(first.run.id, ledger)
            #expect(kept == first)
        }
    }

    @Test("What was committed is there for the next writer", arguments: LedgerEngineKind.allCases)
    func reopened(engine: LedgerEngineKind) async throws {
        try await engine.withFolder { folder in
            let stored = dispatched(1, at: now)
            let row: OutboxRow
            do {
                let ledger = try engine.open(folder)
                row = try await ledger.write { transaction in
                    try insert(stored, transaction)
                    _ = try fact(transaction)
                    return try transaction.appendOutbox(message())
                }
            }
            let ledger = try engine.open(folder)
            let run = try await loaded(stored.run.id, ledger)
            #expect(run == stored)
            let (outbox, next) = try await ledger.write { (try $0.pendingOutbox(), try fact($0)) }
            #expect(outbox == [row])
            #expect(next == 2)
        }
    }

    @Test("Concurrent writers take turns and see each other's work", arguments: LedgerEngineKind.allCases)
    func serial(engine: LedgerEngineKind) async throws {
        try await engine.withLedger { ledger, _ in
            let numbers = try await withThrowingTaskGroup(of: [Int64].self) { group in
                for _ in 0..<8 {
                    group.addTask {
                        var numbers: [Int64] = []
                        for _ in 0..<20 { numbers.append(contentsOf: try await ledger.write { [try fact($0), try fact($0)] }) }
                        return numbers
                    }
                }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            #expect(numbers.flatMap(\.self).sorted() == Array(1...320))
            for own in numbers {
                #expect(own == own.sorted())
                for pair in stride(from: 0, to: own.count, by: 2) { #expect(own[pair + 1] == own[pair] + 1) }
            }
        }
    }

    @Test("A second writer is refused, and gets in when the first one ends", arguments: LedgerEngineKind.allCases)
    func oneWriter(engine: LedgerEngineKind) async throws {
        try await engine.withFolder { folder in
            var first: (any LedgerEngine)? = try engine.open(folder)
            let error = #expect(throws: LedgerError.self) { _ = try engine.open(folder) }
            #expect(error?.code == .locked)
            #expect(first != nil)
            first = nil
            _ = try engine.open(folder)
        }
    }
}

// MARK: - Once only

extension LedgerConformance {
    @Test("A message counts once", arguments: LedgerEngineKind.allCases)
    func inbox(engine: LedgerEngineKind) async throws {
        try await engine.withLedger { ledger, _ in
            let first = try await ledger.write {
                [try $0.claimMessage(id: "c", kind: "command", at: now), try $0.claimMessage(id: "c", kind: "command", at: now)]
            }
            #expect(first == [true, false])
            let again = try await ledger.write {
                [try $0.claimMessage(id: "c", kind: "command", at: now + 9), try $0.claimMessage(id: "d", kind: "command", at: now)]
            }
            #expect(again == [false, true])
        }
    }

    @Test("A snapshot is one event", arguments: LedgerEngineKind.allCases)
    func events(engine: LedgerEngineKind) async throws {
        try await engine.withLedger { ledger, _ in
            let (first, second, other) = try await ledger.write { transaction in
                (
                    try transaction.recordEvent(event(), at: now), try transaction.recordEvent(event(), at: now + 1),
                    try transaction.recordEvent(event("other", filtered: Reason("modality", "Not CT.")), at: now)
                )
            }
            #expect(first.isNew && !second.isNew && other.isNew)
            #expect(first.sequence == second.sequence && first.sequence != other.sequence && first.sequence != nil)
        }
    }

    @Test("A key has one run", arguments: LedgerEngineKind.allCases)
    func dedupeKey(engine: LedgerEngineKind) async throws {
        try await engine.withLedger { ledger, _ in
            let (first, second) = (stored(1), stored(2))
            let before = try await ledger.write { try $0.hasRun(dedupeKey: "k") }
            try await ledger.write { try insert(first, key: "k", $0) }
            let after = try await ledger.write { try $0.hasRun(dedupeKey: "k") }
            #expect(!before && after)
            await #expect(throws: (any Error).self) { try await ledger.write { try insert(second, key: "k", $0) } }
        }
    }

    @Test("A hint is in the outbox once, until it is confirmed", arguments: LedgerEngineKind.allCases)
    func outbox(engine: LedgerEngineKind) async throws {
        try await engine.withLedger { ledger, _ in
            let rows = try await ledger.write {
                [try $0.appendOutbox(message()), try $0.appendOutbox(message(dispatch: 2)), try $0.appendOutbox(message(.dead))]
            }
            #expect(rows.map(\.message) == [message(), message(dispatch: 2), message(.dead)])
            await #expect(throws: (any Error).self) { try await ledger.write { try $0.appendOutbox(message()) } }
            let pending = try await ledger.write { try $0.pendingOutbox() }
            #expect(pending == rows)
            try await ledger.write { try $0.removeOutbox(rows[1].id) }
            try await ledger.write { try $0.removeOutbox(rows[1].id) }
            let left = try await ledger.write { try $0.pendingOutbox() }
            #expect(left == [rows[0], rows[2]])
        }
    }

    @Test("An attempt starts once", arguments: LedgerEngineKind.allCases)
    func attempts(engine: LedgerEngineKind) async throws {
        try await engine.withLedger { ledger, _ in
            var stored = dispatched(1, at: now)
            let old = stored.run
            _ = stored.run.apply(.claim(job: 0, attempt: 1, worker: "w", id: "c"), at: now)
            let (before, running) = (StoredRun(run: old, context: stored.context), stored.run)
            try await ledger.write { transaction in
                try insert(before, transaction)
                try transaction.update(running, from: old)
                try transaction.startAttempt(running.jobID(0), attempt: 1, token: 1, worker: "w", params: nil, at: now)
            }
            let attempts = try await ledger.write { try $0.runningAttempts() }
            #expect(attempts == [RunningAttempt(job: running.jobID(0), token: 1)])
            await #expect(throws: (any Error).self) {
                try await ledger.write {
                    try $0.startAttempt(running.jobID(0), attempt: 1, token: 1, worker: "other", params: nil, at: now)
                }
            }
            var ended = running
            let exit = JobExit(outcome: .succeeded, kind: .completed, startedAt: now, finishedAt: now)
            _ = ended.apply(.result(job: 0, attempt: 1, token: 1, exit: exit), at: now)
            let last = ended
            try await ledger.write { transaction in
                try transaction.recordProgress(.init(fraction: 0.5, text: "half"), of: running.jobID(0), attempt: 1, token: 1)
                try transaction.endAttempt(running.jobID(0), attempt: 1, token: 1, ending: .exit(exit), at: now)
                try transaction.update(last, from: running)
            }
            let left = try await ledger.write { try $0.runningAttempts() }
            #expect(left.isEmpty)
        }
    }
}

// MARK: - Runs

extension LedgerConformance {
    @Test("A run comes back as it was written, whatever it holds", arguments: LedgerEngineKind.allCases)
    func roundTrip(engine: LedgerEngineKind) async throws {
        try await engine.withLedger { ledger, _ in
            for seed in 0..<10 as Range<UInt64> {
                var random = RandomRuns(seed: seed)
                let event = event("snapshot-\(seed)")
                let stored = random.stored(id(seed), event: event)
                let moved = random.moved(stored.run)
                try await ledger.write { transaction in
                    let sequence = try #require(try transaction.recordEvent(event, at: now).sequence)
                    try transaction.insertRun(
                        stored, event: sequence, dedupeKey: event.snapshot, origin: "event", filteredHeaders: nil, decisions: [], at: now)
                }
                let inserted = try await loaded(stored.run.id, ledger)
                #expect(inserted == stored, "seed \(seed)")
                try await ledger.write { try $0.update(moved, from: stored.run) }
                let updated = try await loaded(stored.run.id, ledger)
                #expect(updated?.run == moved, "seed \(seed)")
                #expect(updated?.context == stored.context, "seed \(seed)")
            }
        }
    }

    @Test("Filtered headers are what the jobs see, the event keeps all", arguments: LedgerEngineKind.allCases)
    func filteredHeaders(engine: LedgerEngineKind) async throws {
        try await engine.withLedger { ledger, _ in
            let stored = stored()
            try await ledger.write { transaction in
                let sequence = try #require(try transaction.recordEvent(event(), at: now).sequence)
                try transaction.insertRun(
                    stored, event: sequence, dedupeKey: "k", origin: "event", filteredHeaders: ["id": "abc"], decisions: [], at: now)
            }
            let headers = try await loaded(stored.run.id, ledger)?.context.headers
            #expect(headers == ["id": "abc", "dcmpath": .string(stored.context.source.dcmpath)])
            let kept = try await ledger.write { try $0.event(of: stored.run.id)?.event }
            #expect(kept == event())
            let none = try await ledger.write { try $0.event(of: id(99)) == nil }
            #expect(none)
        }
    }

    @Test("A change writes what changed and nothing else", arguments: LedgerEngineKind.allCases)
    func narrowUpdate(engine: LedgerEngineKind) async throws {
        try await engine.withLedger { ledger, _ in
            let start = dispatched(1, at: now)
            var (first, second) = (start.run, start.run)
            _ = first.apply(.claim(job: 0, attempt: 1, worker: "w", id: "c"), at: now)
            _ = second.apply(.setPriority(job: 1, priority: .urgent, actor: "op"), at: now)
            #expect(first.jobs[0] != start.run.jobs[0] && second.jobs[1] != start.run.jobs[1] && second.jobs[0] == start.run.jobs[0])
            let (one, other) = (first, second)
            try await ledger.write { transaction in
                try insert(start, transaction)
                try transaction.update(one, from: start.run)
                try transaction.update(other, from: start.run)
            }
            let jobs = try await loaded(start.run.id, ledger)?.run.jobs
            #expect(jobs == [first.jobs[0], second.jobs[1]])
        }
    }
}

// MARK: - Facts, hints, channels

extension LedgerConformance {
    @Test("Facts are numbered without gaps in the order of commits", arguments: LedgerEngineKind.allCases)
    func facts(engine: LedgerEngineKind) async throws {
        try await engine.withLedger { ledger, _ in
            let first = try await ledger.write { [try fact($0), try fact($0), try fact($0)] }
            await #expect(throws: Stop.self) {
                try await ledger.write { transaction in
                    _ = try fact(transaction)
                    throw Stop()
                }
            }
            let second = try await ledger.write { [try fact($0), try fact($0)] }
            #expect(first + second == [1, 2, 3, 4, 5])
        }
    }

    @Test("Hints that wait are found by lane and age", arguments: LedgerEngineKind.allCases)
    func hints(engine: LedgerEngineKind) async throws {
        try await engine.withLedger { ledger, _ in
            let runs = [
                dispatched(1, at: now), dispatched(2, at: now - 60), dispatched(3, priority: .urgent, at: now - 120),
                dispatched(4, channel: "cpu", priority: .low, at: now - 30),
            ]
            var retrying = dispatched(5, at: now - 300)
            _ = retrying.run.apply(.claim(job: 0, attempt: 1, worker: "w", id: "c"), at: now - 300)
            let (waiting, before) = (stored(6), retrying)
            var job = retrying.run.jobs[0]
            job.state = .retrying
            job.notBefore = now - 90
            let due = Run(
                id: id(5), state: .active, reason: nil, finishedAt: nil, concern: nil, jobs: [job, retrying.run.jobs[1]])
            try await ledger.write { transaction in
                for run in runs + [before, waiting] { try insert(run, transaction) }
                try transaction.update(due, from: before.run)
            }
            let lanes = try await ledger.write { try $0.waitingLanes(at: now) }
            #expect(
                Set(lanes) == [
                    WaitingLane(channel: "gpu", priority: .default, oldest: now - 90),
                    WaitingLane(channel: "gpu", priority: .urgent, oldest: now - 120),
                    WaitingLane(channel: "cpu", priority: .low, oldest: now - 30),
                ])
            #expect(lanes.count == 3)
            let early = try await ledger.write { try $0.waitingLanes(at: now - 91) }
            #expect(early.first { $0.channel == "gpu" && $0.priority == .default }?.oldest == now - 60, "its delay has not ended yet")

            func overdue(_ cutoff: Date, limit: Int = 9) async throws -> [RunID] {
                try await ledger.write { try $0.overdueHints(of: "gpu", priority: .default, before: cutoff, limit: limit) }.map(\.job.run)
            }
            let (all, two, one, none) = (
                try await overdue(now + 1), try await overdue(now), try await overdue(now + 1, limit: 1), try await overdue(now - 90)
            )
            #expect(all == [id(5), id(2), id(1)])
            #expect(two == [id(5), id(2)])
            #expect(one == [id(5)])
            #expect(none.isEmpty)

            let aged = try await ledger.write { try $0.agedHints(before: now - 10, limit: 9) }
            #expect(aged.map(\.job.run) == [id(5), id(2), id(4)], "the most urgent one cannot rise")
            #expect(aged.map(\.channel) == ["gpu", "gpu", "cpu"])
            #expect(aged.allSatisfy { $0.attempt == 1 && $0.dispatch == 1 && $0.job.index == 0 })
            let oldest = try await ledger.write { try $0.agedHints(before: now - 10, limit: 1) }
            #expect(oldest.map(\.job.run) == [id(5)])
        }
    }

    @Test("Channels are noted, paused and resumed", arguments: LedgerEngineKind.allCases)
    func channels(engine: LedgerEngineKind) async throws {
        try await engine.withLedger { ledger, _ in
            var paused = dispatched(1, at: now)
            _ = paused.run.apply(.claim(job: 0, attempt: 1, worker: "w", id: "c", paused: PausedWork(channels: ["gpu"])), at: now)
            let held = paused
            try await ledger.write { transaction in
                try transaction.noteChannels(["gpu", "cpu", "gpu"])
                try transaction.setPaused(.channel("gpu"), by: "op", at: now)
                try insert(held, transaction)
                try insert(dispatched(2, at: now), transaction)
            }
            let (names, stopped, ready, others) = try await ledger.write {
                (
                    try $0.channels(), try $0.pausedWork(), try $0.runsWithReadyJobs(of: .channel("gpu"), after: nil, limit: 9),
                    try $0.runsWithReadyJobs(of: .channel("cpu"), after: nil, limit: 9)
                )
            }
            #expect(names == ["cpu", "gpu"] && stopped == PausedWork(channels: ["gpu"]) && ready == [id(1)] && others.isEmpty)
            let (urgent, idle) = try await ledger.write {
                (try $0.mostUrgentWaiting(channel: "gpu"), try $0.mostUrgentWaiting(channel: "elsewhere"))
            }
            #expect(urgent == .default && idle == nil, "only what stands in the queue waits")
            let behind = try await ledger.write { try $0.runsWithReadyJobs(of: .channel("gpu"), after: id(1), limit: 9) }
            let none = try await ledger.write { try $0.runsWithReadyJobs(of: .channel("gpu"), after: nil, limit: 0) }
            #expect(behind.isEmpty && none.isEmpty)
            try await ledger.write { try $0.setPaused(.channel("gpu"), by: nil, at: now) }
            try await ledger.write { try $0.noteChannels(["gpu"]) }
            let left = try await ledger.write { try $0.pausedWork() }
            #expect(left == .none)
        }
    }

    @Test("Workers that were heard of serve their channels", arguments: LedgerEngineKind.allCases)
    func workers(engine: LedgerEngineKind) async throws {
        try await engine.withLedger { ledger, _ in
            @Sendable func worker(_ id: String, _ channels: [String], _ state: WorkerInfo.State = .running) -> WorkerInfo {
                WorkerInfo(id: id, host: "h", pid: 1, version: "1", slots: 2, channels: channels, startedAt: now, state: state)
            }
            try await ledger.write { transaction in
                try transaction.saveWorker(worker("a", ["gpu"]), busy: 0, at: now - 60)
                try transaction.saveWorker(worker("a", ["gpu", "default"]), busy: 1, at: now)
                try transaction.saveWorker(worker("b", ["cpu"], .draining), busy: 0, at: now)
                try transaction.saveWorker(worker("c", ["old"]), busy: 0, at: now - 60)
            }
            let served = try await ledger.write { try $0.channelsServed(seenAfter: now - 30) }
            #expect(served == ["gpu", "default"])
            try await ledger.write { try $0.forgetWorkers(seenBefore: now - 30) }
            let known = try await ledger.write { transaction in try ["a", "c", "d"].map(transaction.isWorkerKnown) }
            #expect(known == [true, false, false])
            let left = try await ledger.write { try $0.channelsServed(seenAfter: now - 90) }
            #expect(left == ["gpu", "default"])
        }
    }

    @Test("Events that cannot be planned are counted until they can", arguments: LedgerEngineKind.allCases)
    func planningFailures(engine: LedgerEngineKind) async throws {
        try await engine.withLedger { ledger, _ in
            let reason = Reason("no-python", "No Python.")
            let counts = try await ledger.write { transaction in
                [
                    try transaction.recordPlanningFailure(of: event("a"), reason: reason, counts: true, at: now),
                    try transaction.recordPlanningFailure(of: event("a"), reason: Reason("x", "X."), counts: true, at: now + 1),
                    try transaction.recordPlanningFailure(of: event("a"), reason: reason, counts: false, at: now + 1),
                    try transaction.recordPlanningFailure(of: event("b"), reason: reason, counts: true, at: now - 1),
                ]
            }
            #expect(counts == [1, 2, 2, 1])
            let unplanned = try await ledger.write { try $0.unplannedEvents(limit: 9) }
            #expect(
                unplanned == [
                    UnplannedEvent(event: event("b"), attempts: 1, reason: reason, triedAt: now - 1),
                    UnplannedEvent(event: event("a"), attempts: 2, reason: reason, triedAt: now + 1),
                ])
            let one = try await ledger.write { try $0.unplannedEvents(limit: 1) }
            #expect(one == [unplanned[0]])
            try await ledger.write { transaction in
                try transaction.abandonPlanning(of: event("b"), reason: reason, at: now)
                try insert(stored(), key: "a", transaction)
            }
            let left = try await ledger.write { try $0.unplannedEvents(limit: 9) }
            #expect(left.isEmpty)
            let repeated = try await ledger.write { try $0.recordEvent(event("b"), at: now).isNew }
            #expect(!repeated)
        }
    }
}
