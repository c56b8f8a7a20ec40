import Foundation
import JobStore
import Jobs

/// What the jobs' own functions wrote down: each start and each end, in a file that no crash takes back.
struct History {
    struct Entry: Hashable {
        enum Kind: String {
            case start
            case end
        }

        var kind: Kind
        /// Nanoseconds of the machine's monotonic clock, which all processes share.
        var time: UInt64
        var run: String
        var job: String
        var attempt: Int
        var token: Int
    }

    let entries: [Entry]

    /// No file is no entries.
    init(file: URL) throws {
        guard let text = try? String(contentsOf: file, encoding: .utf8) else {
            entries = []
            return
        }
        entries = try text.split(separator: "\n").map { line in
            let words = line.split(separator: " ").map(String.init)
            guard words.count == 6, let kind = Entry.Kind(rawValue: words[0]), let time = UInt64(words[1]), let attempt = Int(words[4]),
                let token = Int(words[5])
            else { throw TestFailure("'\(line)' is no line of a history.") }
            return Entry(kind: kind, time: time, run: words[2], job: words[3], attempt: attempt, token: token)
        }
    }
}

/// How a run of a plan ends, whatever happens on the way.
struct GoldenRun {
    var state: RunState
    var jobs: [String: JobState]
    /// Jobs that a worker's function runs more than once when nothing happens: how often.
    var attempts: [String: Int] = [:]

    static let short = GoldenRun(
        state: .succeeded, jobs: ["export": .succeeded, "first": .succeeded, "second": .succeeded, "third": .succeeded])

    static let full: GoldenRun = {
        let succeeding =
            ["export", "prepare", "prepare-more", "total", "twice", "after-twice", "rescue", "urgent", "low", "report", "store", "clean"]
            + (1...8).map { "slice-\($0)" } + (1...4).flatMap { ["merge-\($0)", "chain-\($0)"] }
        var jobs = Dictionary(uniqueKeysWithValues: succeeding.map { ($0, JobState.succeeded) })
        jobs["fails"] = .failed
        jobs["after-fails"] = .skipped
        return GoldenRun(state: .failed, jobs: jobs, attempts: ["twice": 2])
    }()
}

/// Compares a run in the ledger with the jobs' own history, like Jepsen's checker of queues: nothing lost, nothing unexpected, nothing
/// twice that is not allowed to be, and everything after what it depends on.
struct HistoryCheck {
    let golden: GoldenRun
    /// Whether workers were killed or cut off: then an attempt may have been lost, and its job was started again under a new token.
    var mayLoseAttempts = false

    /// - Parameter facts: all facts of the run.
    /// - Returns: what is wrong, in sentences.
    func violations(of run: LedgerRunDetail, in history: History, facts: [LedgerFact]) -> [String] {
        let entries = history.entries.filter { $0.run == run.run.id }
        return states(run) + attempts(run) + work(run, entries) + order(run, entries) + ends(run, facts)
    }

    private func states(_ run: LedgerRunDetail) -> [String] {
        let states = Dictionary(uniqueKeysWithValues: run.jobs.map { ($0.name, $0.state) })
        let names = Set(states.keys).union(golden.jobs.keys).sorted()
        return names.filter { states[$0] != golden.jobs[$0] }.map { name in
            "\(name) is \(states[name]?.rawValue ?? "not there") instead of \(golden.jobs[name]?.rawValue ?? "not there")"
        } + (run.run.state == golden.state ? [] : ["the run is \(run.run.state.rawValue) instead of \(golden.state.rawValue)"])
    }

    /// One result of a job counts, that of its last token.
    private func attempts(_ run: LedgerRunDetail) -> [String] {
        run.jobs.flatMap { job -> [String] in
            let attempts = run.attempts.filter { $0.jobID == job.id }.sorted { $0.token < $1.token }
            let reported = attempts.filter { Self.isReported($0) }
            let others = attempts.filter { !Self.isReported($0) }
            var wrong: [String] = []
            if Set(attempts.map(\.token)).count != attempts.count { wrong.append("\(job.name) gave a token twice") }
            let expected = job.state == .skipped ? 0 : golden.attempts[job.name] ?? 1
            // A lost attempt uses up its number: what fails at the first attempt only may then never fail.
            if mayLoseAttempts, !others.isEmpty, reported.count <= expected { return wrong }
            if reported.count != expected { wrong.append("\(job.name) has \(reported.count) results instead of \(expected)") }
            if !mayLoseAttempts { wrong += others.map { "\(job.name) lost attempt \($0.attempt): \($0.outcome ?? "no end")" } }
            if let last = attempts.last, !Self.isReported(last) { wrong.append("\(job.name)'s last attempt has no result") }
            return wrong
        }
    }

    private static func isReported(_ attempt: LedgerAttempt) -> Bool {
        ["succeeded", "failed", "cancelled"].contains(attempt.outcome ?? "")
    }

    /// Every start is one that the router granted, and every result has work behind it.
    private func work(_ run: LedgerRunDetail, _ entries: [History.Entry]) -> [String] {
        var wrong: [String] = []
        let ids = Dictionary(uniqueKeysWithValues: run.jobs.map { ($0.name, $0.id) })
        let starts = entries.filter { $0.kind == .start }
        for start in starts {
            let what = "\(start.job), attempt \(start.attempt), token \(start.token)"
            guard let attempt = run.attempts.first(where: { $0.jobID == ids[start.job] && $0.token == start.token }) else {
                wrong.append("\(what) ran and was never granted")
                continue
            }
            if attempt.attempt != start.attempt { wrong.append("\(what) ran, and the ledger knows it as attempt \(attempt.attempt)") }
        }
        for (_, same) in Dictionary(grouping: starts, by: { "\($0.job) \($0.token)" }) where same.count > 1 {
            wrong.append("\(same[0].job) ran \(same.count) times with token \(same[0].token)")
        }
        for job in run.jobs where job.name != "export" {
            for attempt in run.attempts where attempt.jobID == job.id && Self.isReported(attempt) {
                let kinds = entries.filter { $0.job == job.name && $0.token == attempt.token }.map(\.kind)
                guard kinds != [.start, .end] else { continue }
                wrong.append("\(job.name), token \(attempt.token): a result (\(attempt.kind ?? "no kind")), and its work is \(kinds)")
            }
        }
        return wrong
    }

    /// Nothing starts before the result of what it depends on.
    private func order(_ run: LedgerRunDetail, _ entries: [History.Entry]) -> [String] {
        let jobs = Dictionary(uniqueKeysWithValues: run.jobs.map { ($0.position, $0) })
        return run.edges.flatMap { edge -> [String] in
            guard let child = jobs[edge.child], let parent = jobs[edge.parent] else { return ["an edge leads nowhere"] }
            var wrong: [String] = []
            let begun = entries.filter { $0.job == child.name && $0.kind == .start }.map(\.time).min()
            let ended = entries.filter { $0.job == parent.name && $0.kind == .end && $0.token == parent.token }.map(\.time).max()
            if let begun, let ended, begun < ended { wrong.append("\(child.name) started before \(parent.name) had ended") }
            let claimed = run.attempts.filter { $0.jobID == child.id }.map(\.claimedAt).min()
            if let claimed, let finished = parent.finishedAt, claimed < finished {
                wrong.append("\(child.name) was granted before the result of \(parent.name)")
            }
            if let claimed, parent.finishedAt == nil { wrong.append("\(child.name) ran at \(claimed), \(parent.name) never ended") }
            return wrong
        }
    }

    /// A job ends once.
    private func ends(_ run: LedgerRunDetail, _ facts: [LedgerFact]) -> [String] {
        run.jobs.compactMap { job in
            let ends = facts.filter { fact in
                fact.jobID == job.id && JobState.allCases.contains { $0.isTerminal && fact.kind == "job.\($0.rawValue)" }
            }
            // What planning skipped never changed.
            let expected = job.finishedAt == nil || job.state == .skipped ? 0...1 : 1...1
            return expected.contains(ends.count) ? nil : "\(job.name) ended \(ends.count) times: \(ends.map(\.kind))"
        }
    }
}

extension PipelineProcesses {
    /// Fails, and so keeps the files, when something is wrong with a run that has ended or with the ledger as a whole.
    func check(_ run: LedgerRunDetail, _ check: HistoryCheck) async throws {
        // What is older may be partly deleted.
        let facts = try await ledger.facts(after: try await ledger.oldestFact() - 1, limit: 1_000_000)
        let gaps = zip(facts, facts.dropFirst()).filter { $1.sequence != $0.sequence + 1 }
        let violations =
            check.violations(of: run, in: try history, facts: facts.filter { $0.runID == run.run.id })
            + gaps.map { "facts \($0.sequence) to \($1.sequence) are not there" }
        guard violations.isEmpty else { throw TestFailure("Run \(run.run.id): " + violations.joined(separator: "; ")) }
    }
}
