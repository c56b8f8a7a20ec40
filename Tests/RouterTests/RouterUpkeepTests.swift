import AMQP
import Foundation
import JobStore
import Jobs
import Logging
import Pipeline
import PythonHost
import Registry
import Testing

@testable import Bootstrap
@testable import Router

/// What the router does without being asked, and what it does with what it cannot read: a real ledger and real files, no broker.
@Suite(.timeLimit(.minutes(1))) struct RouterUpkeepTests {
    static let other = RunID(milliseconds: 8, random: (2, 2))

    /// A service whose broker is not there; what needs none works.
    func service(_ bench: RouterBench, _ configuration: RouterConfiguration = RouterConfiguration()) throws -> RouterService {
        var logger = Logger(label: "router-test")
        logger.logLevel = .critical
        // Nobody listens on port 1.
        let broker = AMQPClient(
            configuration: AMQPConfiguration(endpoints: [try AMQPEndpoint(uri: "amqp://127.0.0.1:1/")], connectionName: "router-test"),
            topology: PipelineTopology.router(channels: []), logger: logger)
        let registry = bench.folder.appending(path: "registry")
        let host = PythonHostConfiguration(
            python: RouterStage.python, hostPath: RouterStage.pythonPackage, root: registry, environment: ["PATH": "/usr/bin:/bin"])
        let planner = EventPlanner(
            catalog: ServiceCatalogSource(registry: registry, settings: registry.appending(path: "settings.json")),
            callbacks: CallbackHost(configuration: host, logger: logger), logger: logger)
        let context = ServiceContext(name: "router", settings: .environment(), logger: logger)
        return RouterService(
            broker: broker, ledger: bench.ledger, planner: planner, configuration: configuration, readiness: context.readiness,
            logger: logger)
    }

    // MARK: Retention

    @Test func whatEndedLongAgoGoesWithItsFiles() async throws {
        let bench = try RouterBench()
        let old = Date(timeIntervalSinceNow: -100 * RouterConfiguration.day)
        try await finish(RouterBench.runID, "old", at: old, bench)
        try await finish(Self.other, "young", at: Date(timeIntervalSinceNow: -80 * RouterConfiguration.day), bench)
        // As old, but it goes on.
        let active = RunID(milliseconds: 9, random: (3, 3))
        try await bench.commit(
            .event(RouterBench.event("active"), RouterBench.planned(active), RouterBench.delivery()), at: old)

        var configuration = RouterConfiguration()
        configuration.data = bench.folder.appending(path: "data")
        configuration.logs = bench.folder.appending(path: "logs")
        let runs = [RouterBench.runID, Self.other, active]
        for run in runs {
            try write(configuration.data, "dicom/\(run)/series/1.dcm")
            try write(configuration.data, "outputs/\(run)/segment/mask.nii.gz")
            try write(configuration.data, ".work/\(run).1-1-1/half")
            try write(configuration.data, ".checkpoints/\(run).1/1")
            try write(configuration.data, "results/\(run).png", changed: old)
            // A later run has written its own result under this name.
            try write(configuration.data, "results/\(run).again.png")
            try write(configuration.logs, "runs/\(run)/0/1.log")
        }
        let service = try service(bench, configuration)
        let forgetting = Task { await service.forgetTheOld() }
        defer { forgetting.cancel() }
        let ledger = bench.ledger
        _ = try await RouterStage.until("the old run is forgotten") {
            let isGone = try await ledger.write { try $0.loadRun(RouterBench.runID) == nil }
            let left = try await ledger.write { try $0.expiredRuns(limit: 1).count }
            return isGone && left == 0 ? true : nil
        }
        let kept = try await ledger.write { ledger in try [Self.other, active].filter { try ledger.loadRun($0) != nil } }
        #expect(kept == [Self.other, active])
        for run in runs {
            let isKept = run != RouterBench.runID
            #expect(exists(configuration.data, "dicom/\(run)") == isKept)
            #expect(exists(configuration.data, "outputs/\(run)") == isKept)
            #expect(exists(configuration.data, ".work/\(run).1-1-1") == isKept)
            #expect(exists(configuration.data, ".checkpoints/\(run).1") == isKept)
            #expect(exists(configuration.data, "results/\(run).png") == isKept)
            #expect(exists(configuration.data, "results/\(run).again.png"))
            #expect(exists(configuration.logs, "runs/\(run)") == isKept)
        }
        // Its event is not taken for a new one.
        let again = try await bench.commit(
            .event(RouterBench.event("old"), RouterBench.planned(RunID(milliseconds: 10, random: (4, 4))), RouterBench.delivery()))
        #expect(again.hints.isEmpty)
    }

    @Test func withoutRetentionNothingGoes() async throws {
        let bench = try RouterBench()
        try await finish(RouterBench.runID, "old", at: Date(timeIntervalSince1970: 0), bench)
        var configuration = RouterConfiguration()
        configuration.retention = nil
        // A run that an earlier router deleted, and whose files were still to go: the sign that this round is through.
        let past = Date(timeIntervalSince1970: 1)
        try await finish(Self.other, "deleted", at: past, bench)
        configuration.data = bench.folder.appending(path: "data")
        configuration.logs = bench.folder.appending(path: "logs")
        try write(configuration.data, "dicom/\(RouterBench.runID)/1.dcm")
        let cutoffs = RetentionCutoffs(
            runs: Date(timeIntervalSince1970: 0.5), messages: past, audit: past, deadMessages: past)
        try await bench.ledger.write { ledger in while try !ledger.purge(cutoffs, rows: 500).isDone {} }
        let expired = try await bench.ledger.write { try $0.expiredRuns(limit: 5).map(\.id) }
        #expect(expired == [RouterBench.runID])

        let service = try service(bench, configuration)
        let forgetting = Task { await service.forgetTheOld() }
        defer { forgetting.cancel() }
        let ledger = bench.ledger
        _ = try await RouterStage.until("the files are gone") {
            try await ledger.write { try $0.expiredRuns(limit: 1).isEmpty } ? true : nil
        }
        #expect(!exists(configuration.data, "dicom/\(RouterBench.runID)"))
        let kept = try await ledger.write { try $0.loadRun(Self.other) != nil }
        #expect(kept)
    }

    /// Carries a run of two jobs to its end; each hands over two files.
    private func finish(_ run: RunID, _ snapshot: String, at date: Date, _ bench: RouterBench) async throws {
        try await bench.commit(.event(RouterBench.event(snapshot), RouterBench.planned(run), RouterBench.delivery()), at: date)
        for index in 0...1 {
            let claim = ClaimMessage(job: JobID(run: run, index: index), attempt: 1, worker: "w1", id: UUID().uuidString)
            let order = try #require(try await bench.commit(.claim(claim, RouterBench.delivery()), at: date).granted)
            let exit = JobExit(
                outcome: .succeeded, kind: .completed,
                artifacts: ["\(run)", "\(run).again"].map { .init(name: "picture", path: "results/\($0).png", kind: "image") },
                startedAt: date, finishedAt: date)
            let result = ResultMessage(job: order.job, attempt: order.attempt, token: order.token, worker: "w1", exit: exit)
            try await bench.commit(.result(result, RouterBench.delivery()), at: date)
        }
    }

    private func write(_ folder: URL, _ path: String, changed: Date = Date()) throws {
        let file = folder.appending(path: path)
        try FileManager.default.createDirectory(at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
        try Data("x".utf8).write(to: file)
        try FileManager.default.setAttributes([.modificationDate: changed], ofItemAtPath: file.path)
    }

    private func exists(_ folder: URL, _ path: String) -> Bool {
        FileManager.default.fileExists(atPath: folder.appending(path: path).path)
    }

    // MARK: Rows that cannot be read

    /// Two runs whose first jobs run; the first run cannot be read any more.
    private func damaged() async throws -> (bench: RouterBench, broken: JobOrder, sound: JobOrder) {
        let bench = try RouterBench()
        var orders: [JobOrder] = []
        for run in [RouterBench.runID, Self.other] {
            try await bench.commit(.event(RouterBench.event("\(run)"), RouterBench.planned(run), RouterBench.delivery()))
            let claim = ClaimMessage(job: JobID(run: run, index: 0), attempt: 1, worker: "w1", id: UUID().uuidString)
            orders.append(try #require(try await bench.commit(.claim(claim, RouterBench.delivery())).granted))
        }
        let process = Process()
        process.executableURL = URL(filePath: RouterStage.python)
        process.arguments = [
            "-c",
            """
            import sqlite3, sys
            with sqlite3.connect(sys.argv[1], timeout=30) as ledger:
                ledger.execute("UPDATE run SET added_params = 'not JSON' WHERE id = ?", (sys.argv[2],))
            """,
            Ledger.file(in: bench.folder).path, RouterBench.runID.rawValue,
        ]
        try process.run()
        process.waitUntilExit()
        try #require(process.terminationStatus == 0)
        await #expect(throws: LedgerError.self) { try await bench.ledger.write { try $0.loadRun(RouterBench.runID) != nil } }
        return (bench, orders[0], orders[1])
    }

    private func renewal(_ orders: JobOrder...) -> RouterInput {
        let worker = WorkerInfo(
            id: "w1", host: "h", pid: 1, version: "0", slots: 2, channels: ["default"], startedAt: RouterBench.now)
        let leases = orders.map { RenewMessage.Lease(job: $0.job, attempt: $0.attempt, token: $0.token) }
        return .renewal(RenewMessage(worker: worker, leases: leases), RouterBench.delivery())
    }

    @Test func aLeaseThatCannotBeReadCostsTheWorkerNoOther() async throws {
        let (bench, broken, sound) = try await damaged()
        let after = try await service(bench).commit([renewal(broken, sound)], RunCache()).flatMap(\.after)
        let replies = after.compactMap { if case .answerRenewal(_, let reply) = $0 { reply } else { nil } }
        #expect(replies == [RenewReply(lost: [.init(job: broken.job, token: broken.token)])])
        let extended = after.compactMap { if case .extendLease(let job, _) = $0 { job } else { nil } }
        #expect(extended == [sound.job])
        #expect(after.acknowledgements == 1)
    }

    @Test func whatComesWithARowThatCannotBeReadIsCommitted() async throws {
        let (bench, broken, sound) = try await damaged()
        let claim = ClaimMessage(job: broken.job, attempt: 1, worker: "w2", id: "second")
        let lease = LeaseTable.Lease(job: broken.job, token: broken.token)
        let committed = try await service(bench).commit(
            [.claim(claim, RouterBench.delivery()), .leaseExpired(lease), RouterBench.result(sound)], RunCache())
        let after = committed.flatMap(\.after)
        // Without an answer the worker would ask for ever, and without a release the lease would run out at each echo.
        #expect(after.refusal?.code == "unreadable")
        let released = after.contains { if case .releaseLease(lease) = $0 { true } else { false } }
        #expect(released)
        #expect(after.acknowledgements == 2)
        let state = try await bench.ledger.write { try $0.loadRun(Self.other)?.run.jobs[0].state }
        #expect(state == .succeeded)
    }

    // MARK: Channels without workers

    @Test func aChannelThatNobodyServesIsToldOnceAndWhenThatIsOver() async throws {
        let bench = try RouterBench()
        let past = Date(timeIntervalSinceNow: -120)
        let started = try await bench.commit(
            .event(RouterBench.event(), RouterBench.planned(), RouterBench.delivery()), at: past)
        try await bench.commit(.confirmed(started.rows), at: past)
        var configuration = RouterConfiguration()
        configuration.rhythm.sweep = .milliseconds(10)
        // A look at the queue would wait for the broker.
        configuration.rhythm.hints.patience = .infinity
        configuration.ageing = nil
        let service = try service(bench, configuration)
        let sweeping = Task { await service.sweep() }
        defer { sweeping.cancel() }

        let unserved = try #require(await next(service))
        #expect(unserved.isServed == false)
        let told = try await bench.commit(.channel(unserved.name, isServed: unserved.isServed))
        #expect(told.facts.map(\.kind) == ["channel.unserved"])
        #expect(told.facts.first?.data == ["channel": "default"])

        try await bench.commit(renewal(), at: Date())
        // Every sweep in between found the same, and said nothing.
        let served = try #require(await next(service))
        #expect(served.isServed)
        let over = try await bench.commit(.channel(served.name, isServed: served.isServed))
        #expect(over.facts.map(\.kind) == ["channel.served"])
    }

    /// The next thing that the sweep has found about a channel.
    private func next(_ service: RouterService) async -> (name: String, isServed: Bool)? {
        while let inputs = await service.inputs.next(upTo: 1) {
            for case .channel(let name, let isServed) in inputs { return (name, isServed) }
        }
        return nil
    }

    // MARK: The broker

    @Test func aBrokerThatIsNotThereIsInTheLedger() async throws {
        let bench = try RouterBench()
        let service = try service(bench)
        let reader = LedgerReader(path: Ledger.file(in: bench.folder).path)
        let running = Task {
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await service.broker.run() }
                group.addTask { try await service.run() }
                try await group.waitForAll()
            }
        }
        let state = try await RouterStage.until("the ledger knows of the broker") { try await reader.pipelineState().broker }
        running.cancel()
        _ = await running.result
        #expect(state.condition == .disconnected)
        #expect(state.reason?.contains("127.0.0.1") == true)
    }
}

extension [AfterCommit] {
    fileprivate var acknowledgements: Int { count { if case .acknowledge = $0 { true } else { false } } }
}
