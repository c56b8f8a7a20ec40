import Foundation
import GRDB
import Jobs
import Synchronization
import Testing

@testable import JobStore

/// What the monitor asks is found through an index, whatever the ledger holds. The SQL is what the reader runs; without statistics SQLite
/// plans the same for ten rows as for ten million.
struct QueryPlanTests {
    private final class Heard: Sendable {
        private let statements = Mutex<[String]>([])
        func add(_ sql: String) { statements.withLock { $0.append(sql) } }
        func take() -> Set<String> {
            statements.withLock { statements in
                defer { statements = [] }
                return Set(statements.filter { ["SELECT", "WITH R"].contains($0.prefix(6)) && !$0.contains("sqlite_") })
            }
        }
    }

    /// They grow with what is processed; the others with what there is to configure.
    private static let large: Set = [
        "event", "run", "run_modality", "job", "edge", "attempt", "decision", "fact", "failure", "snapshot",
        // As queries call them.
        "found", "other",
    ]

    /// Without a condition, in the order of a key and with a limit.
    private static let wholeLists = ["FROM run ORDER BY run.id", "FROM fact LIMIT 1"]

    /// A part of a text has no index. It is looked for in a table that has nothing but the reasons of what failed.
    private static let searched = ("SCAN failure", "failure WHERE words LIKE")

    private struct Question: Sendable, CustomStringConvertible {
        var description: String
        /// Indexes without which something would be read that is not asked for.
        var needs: [String] = []
        /// What SQLite likes to take instead, and what leads it through far more rows.
        var refuses: [String] = []
        var ask: @Sendable (LedgerReader) async throws -> Void

        init(
            _ description: String, needs: [String] = [], refuses: [String] = [],
            _ ask: @escaping @Sendable (LedgerReader) async throws -> Void
        ) {
            self.description = description
            self.needs = needs
            self.refuses = refuses
            self.ask = ask
        }

        static func runs(_ description: String, _ filter: LedgerRunFilter, needs: String...) -> Question {
            Question("runs by \(description)", needs: needs) { reader in
                for cursor in [nil, "01ZZZZZZZZZZZZZZZZZZZZZZZZ"] { _ = try await reader.runs(filter, limit: 5, cursor: cursor) }
                _ = try await reader.runCounts(filter)
                _ = try await reader.matches(filter, limit: 10)
                _ = try await reader.matches(filter, ids: [run], isOfResource: true, limit: 10)
            }
        }
    }

    private static let run = RunID(milliseconds: 3000, random: (0, 0)).rawValue
    private static let questions: [Question] = [
        .runs("nothing", LedgerRunFilter()),
        .runs("state", LedgerRunFilter(states: [.failed]), needs: "run_state"),
        .runs("states", LedgerRunFilter(states: [.failed, .cancelled]), needs: "run_state"),
        .runs("level", LedgerRunFilter(level: "study"), needs: "run_level"),
        .runs("service", LedgerRunFilter(service: "s"), needs: "job_service", "run_brief"),
        .runs("modality", LedgerRunFilter(modality: "CT"), needs: "found USING PRIMARY KEY", "run_brief"),
        .runs("error", LedgerRunFilter(error: "cuda"), needs: "failure"),
        .runs("text", LedgerRunFilter(text: "job-1"), needs: "job_name"),
        .runs("text of an id", LedgerRunFilter(text: "res-1"), needs: "run_resource"),
        .runs("event", LedgerRunFilter(event: "1"), needs: "run_event"),
        .runs("snapshot", LedgerRunFilter(event: "snap-1"), needs: "run_resource", "run_event"),
        .runs("time", LedgerRunFilter(from: Date(timeIntervalSince1970: 1), to: Date(timeIntervalSince1970: 9))),
        .runs(
            "everything",
            LedgerRunFilter(
                states: [.active], text: "job-1", level: "study", service: "s", modality: "CT", error: "cuda",
                from: Date(timeIntervalSince1970: 1), to: Date(timeIntervalSince1970: 9))),
        Question("a run", needs: ["run_resource"]) { reader in
            _ = try #require(try await reader.run(run))
            _ = try #require(try await reader.aftermath(ofRun: run))
            _ = try await reader.runState(run)
            _ = try await reader.run(try #require(RunID(rawValue: run)))
        },
        Question("a job") { reader in
            _ = try #require(try await reader.job("\(run).0"))
            _ = try await reader.jobState("\(run).0")
            _ = try await reader.attempts(ofJob: "\(run).0")
        },
        Question("dead jobs", needs: ["job_dead"]) { reader in
            let (dead, discarded) = (LedgerJobFilter(states: [.dead]), LedgerJobFilter(states: [.dead], discarded: true))
            _ = try await reader.brokenJobs(dead, limit: 5)
            _ = try await reader.brokenJobs(dead, limit: 5, cursor: run)
            _ = try await reader.brokenJobs(discarded, limit: 5)
            _ = try await reader.deadMessages(limit: 5, cursor: "9")
            try await reader.checkReadable()
        },
        Question("jobs to retry", needs: ["job_broken"]) { reader in
            _ = try await reader.matches(LedgerJobFilter(), limit: 5)
            let all = LedgerJobFilter(
                states: [.dead], service: "s", name: "job-1", channel: "default", reason: "timeout", from: Date(), to: Date())
            _ = try await reader.matches(all, limit: 5)
            _ = try await reader.matches(all, ids: ["\(run).0"], limit: 5)
            for filter in [LedgerJobFilter(), all] {
                for cursor in [nil, run] { _ = try await reader.brokenJobs(filter, limit: 5, cursor: cursor) }
                _ = try await reader.brokenGroups(filter)
            }
            _ = try await reader.jobs(["\(run).0"])
            _ = try await reader.jobs(asked: ["\(run).0"])
            _ = try await reader.runs([run])
            _ = try await reader.marks(of: [run], areRuns: true, isOfResource: true)
            _ = try await reader.marks(of: ["\(run).0"], areRuns: false)
            _ = try await reader.marks(of: [run], areRuns: true)
        },
        Question("runs to retry", needs: ["job USING INDEX job_unmended (run_id=?)"]) {
            for filter in [LedgerRunFilter(), LedgerRunFilter(states: [.failed])] { _ = try await $0.matches(filter, limit: 5) }
        },
        // A million runs are of one level: those of one resource are few.
        Question("the newest run of each resource", needs: ["other USING INDEX run_resource (resource_id=?)"], refuses: ["run_level"]) {
            for filter in [LedgerRunFilter(), LedgerRunFilter(states: [.failed]), LedgerRunFilter(states: [.failed, .cancelled])] {
                for ids in [nil, [run]] { _ = try await $0.matches(filter, ids: ids, isOfResource: true, limit: 5) }
            }
        },
        Question("whether a newer one came", needs: ["other USING INDEX run_resource (resource_id=?)"], refuses: ["run_level"]) {
            _ = try await $0.marks(of: [run], areRuns: true, isOfResource: true)
        },
        // What failed is a small part of what a service, or what has a name, ever did.
        Question("broken jobs of a service", needs: ["job_broken"], refuses: ["job_service", "job_name"]) { reader in
            for filter in [
                LedgerJobFilter(service: "s"), LedgerJobFilter(name: "job-1"), LedgerJobFilter(service: "s", name: "job-1", type: ""),
                LedgerJobFilter(states: [.failed], service: "s"), LedgerJobFilter(states: [.failed, .dead], name: "job-1", error: "e"),
            ] {
                _ = try await reader.matches(filter, limit: 5)
                for cursor in [nil, run] { _ = try await reader.brokenJobs(filter, limit: 5, cursor: cursor) }
                _ = try await reader.brokenGroups(filter)
            }
        },
        Question("dead jobs of a service", needs: ["job_dead"], refuses: ["job_service", "job_name"]) { reader in
            for filter in [
                LedgerJobFilter(states: [.dead], service: "s"), LedgerJobFilter(states: [.dead], name: "job-1", discarded: true),
            ] {
                _ = try await reader.matches(filter, limit: 5)
                for cursor in [nil, run] { _ = try await reader.brokenJobs(filter, limit: 5, cursor: cursor) }
                _ = try await reader.brokenGroups(filter)
            }
        },
        Question("broken jobs of a run or a channel", refuses: ["job_queued", "job_ready"]) { reader in
            for filter in [LedgerJobFilter(run: run), LedgerJobFilter(states: [.dead], run: run), LedgerJobFilter(channel: "default")] {
                _ = try await reader.matches(filter, limit: 5)
                _ = try await reader.brokenJobs(filter, limit: 5)
                _ = try await reader.brokenGroups(filter)
            }
        },
        Question("all events") { reader in _ = try await reader.events(.all, limit: 5) },
        Question("accepted events", needs: ["event_filter (filter_code=? AND seq<?)"]) { _ = try await $0.events(.accepted, limit: 5) },
        Question("filtered events", needs: ["event_filtered"]) { _ = try await $0.events(.filtered, limit: 5) },
        Question("events by reason", needs: ["event_filter (filter_code=? AND seq<?)"]) { _ = try await $0.events(.reason("x"), limit: 5) },
        Question("facts", needs: ["fact_run"]) { reader in
            _ = try await reader.facts(after: 0, limit: 5)
            _ = try await reader.facts(after: 0, run: run, limit: 5)
            _ = try await reader.latestFact()
            _ = try await reader.oldestFact()
            _ = try await reader.outcomes(after: 0)
            _ = try await reader.moments(after: 0)
        },
        Question("how runs and jobs have ended", needs: ["job USING INDEX sqlite_autoindex_job"]) { reader in
            let (endings, last) = try await reader.endings(after: .start)
            _ = try #require(endings.first?.jobs.first)
            let newest = try await reader.newestPlace(at: Date())
            let other = try await reader.replacement(of: last)
            #expect(newest == last && other == nil)
        },
        Question("what all pages show", needs: ["job_queued", "job_running"]) { reader in
            let now = Date()
            _ = try await reader.totals()
            _ = try await reader.channels(at: now)
            _ = try await reader.workers()
            _ = try await reader.services()
            _ = try await reader.pipelineState()
            _ = try await reader.modalities()
            for kind in [EndedKind.job, .run] { _ = try await reader.ended(kind, since: now, spans: 300) }
        },
    ]

    @Test("No question reads a whole table")
    func plans() async throws {
        let ledger = try SmallLedger()
        try ledger.addRuns(4)
        try await ledger.database.write { db in
            try db.execute(sql: "INSERT INTO fact (at, kind, run_id, data) VALUES (9, 'run.failed', ?, '{}')", arguments: [Self.run])
        }
        let heard = Heard()
        let reader = LedgerReader(path: ledger.path) { heard.add($0) }
        for question in Self.questions {
            try await question.ask(reader)
            let statements = heard.take()
            #expect(!statements.isEmpty)
            var plans = ""
            for sql in statements {
                let plan = try await Self.plan(sql, ledger.database)
                plans += plan.joined(separator: "\n") + "\n"
                Self.check(plan, of: sql, for: question.description)
            }
            for index in question.needs { #expect(plans.contains(index), "\(question): \(index) is not used:\n\(plans)") }
            for index in question.refuses { #expect(!plans.contains(index), "\(question): \(index) is used:\n\(plans)") }
        }
    }

    @Test("What is too common to be looked up whole is asked of each run, newest first")
    func common() async throws {
        let ledger = try SmallLedger()
        try ledger.addRuns(4)
        let (sql, found) = try await ledger.database.read { db in
            var search = try LedgerRunSearch(LedgerRunFilter(states: [.failed, .active], text: "res-"), db, probe: 1)
            search.add("run.id < ?", ["Z"])
            let sql = search.sql("run.resource_id") + " ORDER BY \(search.id) DESC LIMIT 3"
            return (sql, try String.fetchAll(db, sql: sql, arguments: search.arguments))
        }
        #expect(found == ["res-4", "res-3", "res-2"])
        let plan = try await Self.plan(sql, ledger.database)
        #expect(plan.contains { $0.hasPrefix("SEARCH run USING INDEX sqlite_autoindex_run_1 (id<?)") })
        #expect(!plan.contains { $0.contains("TEMP B-TREE") || $0.contains("MULTI-INDEX") })
    }

    @Test("What waits at ingest and what became of everything cost what there is of them")
    func journal() async throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "dcm-plans-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: folder) }
        let journal = try IngestJournal(folder: folder)
        let heard = Heard()
        let reader = IngestJournalReader(path: IngestJournal.file(in: folder).path) { heard.add($0) }
        _ = try await reader.accounts()
        _ = try await reader.sources()
        _ = try await reader.pending(limit: 5)
        let statements = heard.take()
        #expect(statements.count >= 4)
        for sql in statements { Self.check(try await Self.plan(sql, journal.database), of: sql, for: "ingest's journal") }
    }

    private static func plan(_ sql: String, _ database: DatabasePool) async throws -> [String] {
        try await database.read { db in
            let statement = try db.makeStatement(sql: "EXPLAIN QUERY PLAN " + sql)
            statement.setUncheckedArguments(StatementArguments())
            return try Row.fetchAll(statement).map { $0["detail"] }
        }
    }

    private static func check(_ plan: [String], of sql: String, for question: String) {
        // A list of everything ends as soon as its page is full, if nothing is left out and nothing sorted.
        let isPage = wholeLists.contains { sql.contains($0) } && !plan.contains { $0.contains("TEMP B-TREE FOR ORDER BY") }
        for line in plan where line.hasPrefix("SCAN ") && !isPage {
            let table = line.split(separator: " ")[1]
            // What runs or waits now has indexes of its own, which hold nothing else; a query's own table is no table of the ledger.
            let isOfNow = ["job_ready", "job_dispatched", "job_retrying", "job_running", "job_queued"].contains {
                line.hasSuffix("INDEX \($0)")
            }
            let isSearch = line == searched.0 && sql.contains(searched.1)
            guard !isOfNow, !isSearch, !sql.contains("WITH RECURSIVE \(table)(") else { continue }
            #expect(!large.contains(String(table)), "\(question): \(line)\n\(sql)")
        }
        // Made for one query, it is a scan and more.
        #expect(!plan.contains { $0.contains("AUTOMATIC") }, "\(question): \(plan)\n\(sql)")
    }
}
