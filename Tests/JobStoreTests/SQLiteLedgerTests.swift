import Foundation
import GRDB
import Jobs
import Pipeline
import Synchronization
import Testing

@testable import JobStore

/// What SQLite has to do for the ledger, beyond what the seam tells.
@Suite(.timeLimit(.minutes(5))) struct SQLiteLedgerTests {
    private let suite = LedgerConformance()
    private var now: Date { suite.now }

    private func withLedger(logLimit: Int = 64 << 20, _ body: (Ledger, URL) async throws -> Void) async throws {
        try await LedgerEngineKind.sqlite.withFolder { folder in try await body(Ledger(folder: folder, logLimit: logLimit), folder) }
    }

    private func pragma<Value: DatabaseValueConvertible & Sendable>(
        _ name: String, _ type: Value.Type, _ ledger: Ledger
    ) async throws -> Value? {
        try await ledger.write { try ($0 as? SQLiteTransaction)?.row("PRAGMA \(name)")?[0] }
    }

    @Test func commitsReachTheDisk() async throws {
        try await withLedger { ledger, _ in
            let (synchronous, journal) = (
                try await pragma("synchronous", Int.self, ledger), try await pragma("journal_mode", String.self, ledger)
            )
            #expect(synchronous == 2)
            #expect(journal == "wal")
        }
    }

    @Test("The log stays small while readers take turns", arguments: [true, false])
    func boundedLog(readersLeave: Bool) async throws {
        let limit = 1 << 20
        try await withLedger(logLimit: limit) { ledger, folder in
            let path = Ledger.file(in: folder).path
            let text = JSONValue.string(String(repeating: "x", count: 40_000))
            var sizes: [Int] = []
            var emptied: Int { zip(sizes, sizes.dropFirst()).count { $1 < $0 } }
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<3 {
                    group.addTask {
                        var configuration = Configuration()
                        configuration.readonly = true
                        let reader = try DatabasePool(path: path, configuration: configuration)
                        while !Task.isCancelled {
                            try await reader.read { db in
                                _ = try Int.fetchOne(db, sql: "SELECT count(*) FROM fact")
                                // Overlapping reads: somebody always has the log open.
                                if readersLeave { usleep(20_000) } else { while !Task.isCancelled { usleep(10_000) } }
                            }
                        }
                    }
                }
                // 600 facts are 24 MB. The writer gives up after a second, so on a busy machine it takes more tries.
                while sizes.count < 600 || (readersLeave && emptied < 3 && sizes.count < 6000) {
                    _ = try await ledger.write { try $0.appendFact(kind: "k", run: nil, job: nil, data: text, at: now) }
                    sizes.append(try FileManager.default.attributesOfItem(atPath: path + "-wal")[.size] as? Int ?? 0)
                }
                group.cancelAll()
                // Ended in the middle of a read.
                do { try await group.waitForAll() } catch {}
            }
            if readersLeave { #expect(emptied >= 3, "\(sizes.count) facts") } else { #expect(emptied == 0) }
            for _ in 0..<64 { _ = try await ledger.write { try $0.appendFact(kind: "k", run: nil, job: nil, data: text, at: now) } }
            let size = try FileManager.default.attributesOfItem(atPath: path + "-wal")[.size] as? Int
            #expect((size ?? 0) < limit + 33 * 60_000, "the log is emptied when nobody keeps it")
        }
    }

    @Test func theFileShrinksInSmallStepsWhenRunsAreForgotten() async throws {
        try await withLedger { ledger, folder in
            for start in stride(from: 1 as UInt64, to: 400, by: 50) {
                try await ledger.write { transaction in
                    for number in start..<(start + 50) {
                        let start = suite.dispatched(number, at: now - 100)
                        try suite.insert(start, at: now - 100, transaction)
                        var run = start.run
                        _ = run.apply(.cancelAll(actor: "op"), at: now - 100)
                        try transaction.update(run, from: start.run)
                        _ = try transaction.appendFact(
                            kind: "k", run: run.id, job: nil, data: .string(String(repeating: "x", count: 20_000)), at: now - 100)
                    }
                }
            }
            let cutoff = now - 50
            let cutoffs = RetentionCutoffs(runs: cutoff, messages: cutoff, audit: cutoff, deadMessages: cutoff)
            var pages: [Int] = []
            var steps = 0
            while try await !ledger.write({ try $0.purge(cutoffs, rows: 500) }).isDone {
                pages.append(try await pragma("page_count", Int.self, ledger) ?? 0)
                steps += 1
                try #require(steps < 1000)
            }
            let (first, last) = (try #require(pages.first), try #require(pages.last))
            #expect(last < first / 4, "\(first) pages, then \(last)")
            #expect(zip(pages, pages.dropFirst()).allSatisfy { $0 - $1 <= 256 }, "a step gives back no more than it may")
        }
    }

    @Test func aFeedLearnsThatFactsAreGone() async throws {
        try await withLedger { ledger, folder in
            let reader = LedgerReader(path: Ledger.file(in: folder).path)
            let fresh = try await reader.oldestFact()
            #expect(fresh == 1)
            try await ledger.write { transaction in
                for age in [100.0, 100, 0, 0] { _ = try suite.fact(transaction, at: now - age) }
            }
            let cutoff = now - 50
            let cutoffs = RetentionCutoffs(runs: cutoff, messages: cutoff, audit: cutoff, deadMessages: cutoff)
            while try await !ledger.write({ try $0.purge(cutoffs, rows: 500) }).isDone {}
            let (oldest, latest) = (try await reader.oldestFact(), try await reader.latestFact())
            let left = try await reader.facts(after: 0, limit: 9).map(\.sequence)
            #expect(oldest == 3 && latest == 4 && left == [3, 4])
            let later = RetentionCutoffs(runs: now + 1, messages: cutoff, audit: cutoff, deadMessages: cutoff)
            while try await !ledger.write({ try $0.purge(later, rows: 500) }).isDone {}
            let (none, stays) = (try await reader.oldestFact(), try await reader.latestFact())
            #expect(none == 5 && stays == 4, "a number is never used twice")
        }
    }

    @Test func countsAgreeWithTheTables() async throws {
        try await withLedger { ledger, folder in
            for seed in 0..<12 as Range<UInt64> {
                var random = RandomRuns(seed: seed)
                let event = suite.event("s\(seed)", filtered: seed.isMultiple(of: 3) ? Reason("f", "F.") : nil)
                let stored = random.stored(suite.id(seed), event: event)
                let moved = random.moved(stored.run)
                try await ledger.write { transaction in
                    let sequence = try #require(try transaction.recordEvent(event, at: now).sequence)
                    try transaction.insertRun(
                        stored, event: sequence, dedupeKey: event.snapshot, origin: "event", filteredHeaders: nil, decisions: [], at: now)
                    try transaction.update(moved, from: stored.run)
                }
            }
            let cutoff = Date.distantFuture
            let cutoffs = RetentionCutoffs(runs: cutoff, messages: cutoff, audit: cutoff, deadMessages: cutoff)
            for _ in 0..<2 {
                try await ledger.write { transaction in
                    let db = try #require(transaction as? SQLiteTransaction).db
                    for (tally, table, key, count) in [
                        ("job_tally", "job", "service, channel, priority, state", "jobs"), ("run_tally", "run", "state", "runs"),
                        ("event_tally", "event", "coalesce(filter_code, '')", "events"),
                    ] {
                        let columns = table == "event" ? "code" : key
                        let kept = try Row.fetchAll(
                            db, sql: "SELECT \(columns), \(count) FROM \(tally) WHERE \(count) <> 0 ORDER BY \(columns)")
                        let counted = try Row.fetchAll(db, sql: "SELECT \(key), COUNT(*) FROM \(table) GROUP BY \(key) ORDER BY \(key)")
                        #expect(kept.map { Array($0.databaseValues) } == counted.map { Array($0.databaseValues) }, "\(tally)")
                        #expect(!kept.isEmpty)
                    }
                }
                // Some of the runs go, and the counts with them.
                _ = try await ledger.write { try $0.purge(cutoffs, rows: 100) }
            }
            let reader = LedgerReader(path: Ledger.file(in: folder).path)
            let totals = try await reader.totals()
            let jobs = try await reader.read { db in try Int.fetchOne(db, sql: "SELECT COUNT(*) FROM job") }
            #expect(totals.jobs.reduce(0) { $0 + $1.count } == jobs)
        }
    }

    /// Every statement of the router's way and of its sweep, taken down while they run.
    @Test func noStatementOfTheRouterScansATable() async throws {
        try await withLedger { ledger, _ in
            let statements = StatementLog()
            try await ledger.write { transaction in
                let db = try #require(transaction as? SQLiteTransaction).db
                db.trace { statements.append($0) }
                defer { db.trace(nil) }
                let stored = suite.dispatched(1, at: now)
                try suite.insert(stored, transaction)
                _ = try transaction.loadRun(stored.run.id)
                var run = stored.run
                _ = run.apply(.claim(job: 0, attempt: 1, worker: "w", id: "c"), at: now)
                let exit = JobExit(outcome: .succeeded, kind: .completed, startedAt: now, finishedAt: now)
                _ = run.apply(.result(job: 0, attempt: 1, token: 1, exit: exit), at: now)
                try transaction.update(run, from: stored.run)
                try transaction.startAttempt(run.jobID(0), attempt: 1, token: 1, worker: "w", params: nil, at: now)
                try transaction.recordProgress(.init(fraction: 1), of: run.jobID(0), attempt: 1, token: 1)
                try transaction.endAttempt(run.jobID(0), attempt: 1, token: 1, ending: .exit(exit), at: now)
                _ = try transaction.claimMessage(id: "m", kind: "command", at: now)
                _ = try transaction.hasRun(dedupeKey: "k")
                _ = try transaction.event(of: run.id)
                _ = try transaction.recordPlanningFailure(of: suite.event("x"), reason: Reason("r", "R."), counts: true, at: now)
                _ = try transaction.unplannedEvents(limit: 9)
                try transaction.removeOutbox(try transaction.appendOutbox(suite.message()).id)
                _ = try transaction.runningAttempts()
                _ = try transaction.runsWithReadyJobs(of: .channel("gpu"), after: run.id, limit: 9)
                _ = try transaction.runsWithReadyJobs(of: .service("s"), after: run.id, limit: 9)
                _ = try transaction.pausedWork()
                _ = try transaction.requeueParked(.upTo(9), by: "op", at: now)
                _ = try transaction.discardParked(.one(9), by: "op", at: now)
                _ = try transaction.messagesToRequeue(after: 0, limit: 9)
                _ = try transaction.waitingLanes(at: now)
                _ = try transaction.overdueHints(of: "gpu", priority: .default, before: now, limit: 9)
                _ = try transaction.agedHints(before: now, limit: 9)
                for rows in [1, 500] {
                    _ = try transaction.purge(.init(runs: now + 9, messages: now, audit: now, deadMessages: now), rows: rows)
                }
                _ = try transaction.expiredRuns(limit: 9)
                try transaction.forgetExpiredRuns([run.id])
            }
            let traced = statements.taken
            #expect(traced.count > 30)
            try await ledger.write { transaction in
                let db = try #require(transaction as? SQLiteTransaction).db
                for sql in traced where !sql.hasPrefix("PRAGMA") {
                    let statement = try db.makeStatement(sql: "EXPLAIN QUERY PLAN " + sql)
                    statement.setUncheckedArguments([])
                    let plan = try Row.fetchAll(statement).map { $0["detail"] as String }
                    for step in plan where step.hasPrefix("SCAN") {
                        // A few rows by nature, a subquery's few rows, or the beginning of a table up to a limit.
                        let isSmall = ["job_tally", "channel", "pause", "retention", "expired_run", "json_each", "(", "CONSTANT"].contains {
                            step.dropFirst(5).hasPrefix($0)
                        }
                        let limited = ["audit", "dead_message", "inbox", "fact", "event USING INDEX event_unplanned"]
                        // An index that holds nothing else is read whole.
                        let isWanted = step == "SCAN job USING INDEX job_running"
                        let isLimited = sql.contains("LIMIT") && limited.contains { step.dropFirst(5).hasPrefix($0) }
                        #expect(isSmall || isLimited || isWanted, "\(step) in \(sql)")
                    }
                    for step in plan where step.contains("USE TEMP B-TREE") {
                        let sorted = ["job_tally", "since LIMIT", "DISTINCT run_id", "LIMIT ?) AS fact"]
                        #expect(sorted.contains { sql.contains($0) }, "\(step) in \(sql)")
                    }
                }
            }
        }
    }

    /// A deleted parent finds its children through an index, or each deletion would read a whole table.
    @Test func foreignKeysAreIndexed() async throws {
        try await withLedger { ledger, _ in
            try await ledger.write { transaction in
                let db = try #require(transaction as? SQLiteTransaction).db
                var keys = 0
                for table in try String.fetchAll(db, sql: "SELECT name FROM sqlite_master WHERE type = 'table'") {
                    for key in try db.foreignKeys(on: table) {
                        keys += 1
                        let column = key.originColumns[0]
                        let plan = try Row.fetchAll(db, sql: "EXPLAIN QUERY PLAN SELECT 1 FROM \(table) WHERE \(column) = 'x'")
                        #expect(plan.allSatisfy { ($0["detail"] as String).hasPrefix("SEARCH") }, "\(table).\(column)")
                    }
                }
                #expect(keys >= 5)
            }
        }
    }
}

private final class StatementLog: Sendable {
    private let statements = Mutex<Set<String>>([])

    func append(_ event: Database.TraceEvent) {
        guard case .statement(let statement) = event else { return }
        let sql = statement.sql
        statements.withLock { _ = $0.insert(sql) }
    }

    var taken: [String] { statements.withLock { $0.sorted() }.filter { !$0.hasPrefix("--") } }
}
