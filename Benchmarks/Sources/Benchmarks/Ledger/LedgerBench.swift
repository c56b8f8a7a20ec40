import ArgumentParser
import Foundation
import JobStore
import Jobs

/// What one transition of a job costs in small and in large ledgers.
struct LedgerBench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ledger",
        abstract: "The cost of one job's transition with few and with many jobs in the ledger, beside a bare SQLite table.",
    )

    @Option(help: ArgumentHelp("How many jobs the ledger holds, ascending.", valueName: "jobs"))
    var size = [1_000, 100_000, 1_000_000]

    @Option(help: "How many transitions are measured one by one, and how many groups of 64.")
    var count = 240

    @Option(help: "Where the ledgers are made; the system's temporary folder unless given.")
    var folder: String?

    /// As many inputs as the router puts into one commit.
    private static let group = 64

    func validate() throws {
        guard !size.isEmpty, size == size.sorted(), size.allSatisfy({ $0 >= 1000 }), count >= 8 else {
            throw ValidationError("Sizes ascend and are at least 1000, the count is at least 8.")
        }
    }

    func run() async throws {
        let parent = folder.map { URL(filePath: $0) } ?? FileManager.default.temporaryDirectory
        let folder = parent.appending(path: "bench-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: folder) }
        print("## Ledger\n\n\(Host.description)\n")
        var transitions = MarkdownTable(
            "jobs in the ledger", "file", "claim", "result", "hint confirmed", "transition (sum of the three)", "99 %",
            "bare UPDATE", "ratio a commit", "transition, 64 in a commit", "transitions/s", "bare UPDATE, 64 in a commit", "memory")
        var reads = MarkdownTable(
            "jobs in the ledger", "load a run of 4", "load a run of 60", "change 1 job of 60", "sweep: lanes", "sweep: aged",
            "sweep: overdue", "monitor: totals", "monitor: channels", "retention: a step of 500 rows", "longest step")
        var filler: (filler: LedgerFiller, ledger: Ledger, template: RunID)?
        var filled = 1
        for size in size {
            if filler == nil {
                let made = LedgerFiller(folder: folder, now: Date())
                let ledger = try Ledger(folder: folder)
                let template = try await made.activeRuns(1, in: ledger)[0]
                try await finish([template], ledger)
                filler = (made, ledger, template)
            }
            guard let (filler, ledger, template) = filler else { continue }
            // The runs that are worked on lie in the middle of the others.
            let copies = (size / LedgerFiller.jobsPerRun - filled) / 2
            try await filler.copy(template, numbers: filled..<(filled + copies))
            let single = try await filler.activeRuns(count / LedgerFiller.jobsPerRun, in: ledger)
            let grouped = try await filler.activeRuns(Self.group * max(1, count / LedgerFiller.jobsPerRun / 8), in: ledger)
            let wide = try await filler.activeRuns(1, jobs: 60, in: ledger)[0]
            try await filler.copy(template, numbers: (filled + copies)..<(filled + 2 * copies))
            filled += 2 * copies
            try await measure(size, single, grouped, ledger, folder, &transitions)
            try await measure(size, single[0], wide, ledger, folder, &reads)
        }
        print("\(transitions)\n\n\(reads)\n")
    }

    /// Carries runs to their end.
    private func finish(_ runs: [RunID], _ ledger: Ledger) async throws {
        for job in 0..<LedgerFiller.jobsPerRun { _ = try await transition(job, of: runs, ledger) }
    }

    /// One job of each run is claimed, ends well, and the hint of the next one is confirmed: three commits.
    private func transition(_ job: Int, of runs: [RunID], _ ledger: Ledger) async throws -> [Double] {
        let now = Date()
        var seconds: [Double] = []
        var cache: [RunID: StoredRun] = [:]
        var hints: [OutboxRow] = []
        let exit = JobExit(
            outcome: .succeeded, kind: .completed, exitCode: 0, result: ["volume": 12.5, "files": 3],
            usage: .init(wall: 12, user: 10, system: 1, peakMemory: 1 << 28), startedAt: now, finishedAt: now, log: "runs/x/1.log")
        for step in 0..<3 {
            let began = ContinuousClock.now
            (cache, hints) = try await ledger.write { [cache, hints] transaction in
                var flow = JobFlow(ledger: transaction, now: now, runs: cache)
                switch step {
                case 0:
                    for run in runs {
                        _ = try transaction.pausedWork()
                        try flow.apply(
                            .claim(job: job, attempt: 1, worker: "worker-1", id: "claim-\(run)-\(job)"), to: run)
                    }
                case 1: for run in runs { try flow.apply(.result(job: job, attempt: 1, token: 1, exit: exit), to: run) }
                default: for hint in hints { try flow.confirm(hint) }
                }
                return (flow.runs, flow.hints)
            }
            seconds.append((ContinuousClock.now - began).inSeconds)
        }
        return seconds
    }

    private func measure(
        _ size: Int, _ single: [RunID], _ grouped: [RunID], _ ledger: Ledger, _ folder: URL, _ table: inout MarkdownTable
    ) async throws {
        let bare = try BareTable(folder: folder)
        var steps: [[Double]] = []
        var bareSingle: [Double] = []
        for job in 0..<LedgerFiller.jobsPerRun {
            for run in single {
                steps.append(try await transition(job, of: [run], ledger))
                // In turns: what else the disk has to do hits both.
                bareSingle += try await bare.commits(3, group: 1)
            }
        }
        var groups: [Double] = []
        var bareGroups: [Double] = []
        for job in 0..<LedgerFiller.jobsPerRun {
            for start in stride(from: 0, to: grouped.count, by: Self.group) {
                let runs = Array(grouped[start..<(start + Self.group)])
                groups.append(try await transition(job, of: runs, ledger).reduce(0, +) / Double(Self.group))
                bareGroups += try await bare.commits(3, group: Self.group).map { $0 / Double(Self.group) }
            }
        }
        let sums = steps.map { $0.reduce(0, +) }.sorted()
        let file = (try? FileManager.default.attributesOfItem(atPath: Ledger.file(in: folder).path)[.size] as? Int) ?? 0
        table.append(
            "\(size)", "\(file >> 20) MiB", ms(steps.map { $0[0] }.median), ms(steps.map { $0[1] }.median), ms(steps.map { $0[2] }.median),
            ms(sums.median), ms(sums[sums.count * 99 / 100]), ms(bareSingle.median),
            (sums.median / 3 / bareSingle.median).fraction(2), ms(groups.median), (1 / groups.median).fraction(0), ms(bareGroups.median),
            "\(ProcessUsage.residentMebibytes.fraction(0)) MiB")
    }

    private func measure(
        _ size: Int, _ small: RunID, _ wide: RunID, _ ledger: Ledger, _ folder: URL, _ table: inout MarkdownTable
    ) async throws {
        let now = Date()
        let reader = LedgerReader(path: Ledger.file(in: folder).path)
        let change = try await timed { _ in
            try await ledger.write { transaction in
                guard let stored = try transaction.loadRun(wide) else { throw BenchmarkError("The ledger has no run \(wide).") }
                var run = stored.run
                let began = ContinuousClock.now
                _ = run.apply(
                    .setPriority(job: 59, priority: Priority.allCases.filter { $0 != run.jobs[59].priority }[0], actor: "bench"), at: now)
                try transaction.update(run, from: stored.run)
                return (ContinuousClock.now - began).inSeconds
            }
        }
        let cutoff = now.addingTimeInterval(-Double(LedgerFiller.age) / 2)
        let retention = RetentionCutoffs(runs: cutoff, messages: cutoff, audit: cutoff, deadMessages: cutoff)
        var stalls: [Double] = []
        for _ in 0..<20 {
            let began = ContinuousClock.now
            _ = try await ledger.write { try $0.purge(retention, rows: 500) }
            stalls.append((ContinuousClock.now - began).inSeconds)
        }
        table.append(
            "\(size)",
            ms(try await inside(ledger) { _ = try $0.loadRun(small) }),
            ms(try await inside(ledger) { _ = try $0.loadRun(wide) }),
            ms(change.median),
            ms(try await inside(ledger) { _ = try $0.waitingLanes(at: now) }),
            ms(try await inside(ledger) { _ = try $0.agedHints(before: now, limit: 200) }),
            ms(try await inside(ledger) { _ = try $0.overdueHints(of: "default", priority: .default, before: now, limit: 200) }),
            ms(try await timed { _ in try await elapsed { _ = try await reader.totals() } }.median),
            ms(try await timed { _ in try await elapsed { _ = try await reader.channels(at: now) } }.median),
            ms(stalls.median), ms(stalls.max() ?? .nan))
    }

    /// Seconds of something inside a transaction, its commit left out.
    private func inside(_ ledger: Ledger, _ body: @escaping @Sendable (any LedgerTransaction) throws -> Void) async throws -> Double {
        try await timed { _ in
            try await ledger.write { transaction in
                let began = ContinuousClock.now
                try body(transaction)
                return (ContinuousClock.now - began).inSeconds
            }
        }.median
    }

    private func timed(_ body: (Int) async throws -> Double) async throws -> [Double] {
        var seconds: [Double] = []
        for round in 0..<21 { seconds.append(try await body(round)) }
        return seconds
    }

    private func elapsed(_ body: () async throws -> Void) async throws -> Double {
        let began = ContinuousClock.now
        try await body()
        return (ContinuousClock.now - began).inSeconds
    }

    private func ms(_ seconds: Double) -> String { "\((seconds * 1000).fraction(3)) ms" }
}
