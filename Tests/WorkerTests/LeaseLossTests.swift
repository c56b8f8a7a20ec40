import AMQP
import Bootstrap
import Foundation
import Jobs
import Logging
import Pipeline
import PythonHost
import ServiceLifecycle
import Synchronization
import Testing

@testable import Worker

/// What becomes of a job whose lease cannot be renewed.
@Suite(.timeLimit(.minutes(2)))
struct LeaseLossTests {
    private static let job = JobID(run: RunID(milliseconds: 9, random: (1, 2)), index: 0)
    private let logger = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })

    struct Case: Sendable, CustomTestStringConvertible {
        var kind: JobKind
        var onLeaseLoss: OnLeaseLoss
        var ends: Bool
        var testDescription: String { "\(kind.rawValue), \(onLeaseLoss.rawValue)" }
    }

    @Test(
        "By this machine's own clock a job that must not outlive its lease ends some seconds before it; others go on and are reported",
        arguments: [
            Case(kind: .python, onLeaseLoss: .keep, ends: false), Case(kind: .python, onLeaseLoss: .kill, ends: true),
            Case(kind: .export, onLeaseLoss: .keep, ends: true),
        ])
    func ownClock(_ example: Case) async throws {
        let clock = HandClock()
        let runner = FakeRunner(mayEnd: false)
        let router = FakeRouter {
            $0.definition.kind = example.kind
            $0.definition.onLeaseLoss = example.onLeaseLoss
        }
        try await withWorker(router, runner, clock.clock) { hint in
            #expect(await eventually { runner.state.withLock { $0.running } == 1 })
            // A renewal that is answered at 20 s makes the lease last until 50 s.
            clock.advance(by: .seconds(20))
            let renewals = router.state.withLock { $0.renewals.count }
            #expect(await eventually { router.state.withLock { $0.renewals.count } > renewals + 1 })
            router.state.withLock { $0.isBrokerAway = true }
            clock.advance(by: .seconds(21))
            let isStillMine = try #require(runner.state.withLock { $0.isStillMine })
            #expect(isStillMine())
            #expect(!(await eventually(within: .milliseconds(100)) { runner.state.withLock { $0.running } == 0 }))
            // Eight seconds before the end: five to die of SIGTERM, three for clocks that do not run alike.
            clock.advance(by: .milliseconds(1100))
            #expect(!isStillMine())
            if example.ends {
                #expect(await eventually { hint.all == [.ack(multiple: false)] })
            } else {
                #expect(!(await eventually(within: .milliseconds(100)) { runner.state.withLock { $0.running } == 0 }))
                clock.advance(by: .seconds(3600))
                router.state.withLock { $0.isBrokerAway = false }
                runner.finishAll()
                #expect(await eventually { hint.all == [.ack(multiple: false)] })
            }
        }
        #expect(router.state.withLock { $0.results.map(\.exit.outcome) } == (example.ends ? [] : [.succeeded]))
    }

    @Test("What the router says for certain counts at once, for every kind of job: the result could not count any more")
    func toldLost() async throws {
        for onLeaseLoss in OnLeaseLoss.allCases {
            let runner = FakeRunner(mayEnd: false)
            let router = FakeRouter { $0.definition.onLeaseLoss = onLeaseLoss }
            try await withWorker(router, runner, .machine) { hint in
                #expect(await eventually { runner.state.withLock { $0.running } == 1 })
                router.state.withLock { $0.renewReply = RenewReply(lost: [.init(job: Self.job, token: 10)]) }
                #expect(await eventually { hint.all == [.ack(multiple: false)] })
            }
            #expect(router.state.withLock { $0.results.isEmpty })
        }
    }

    @Test("A real job that will not end is gone with all that it started before the router may give it to another worker")
    func realChild() async throws {
        let folder = URL(filePath: NSTemporaryDirectory()).appending(path: "dcm-lease-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: folder) }
        var folders = ServiceFolders(settings: .environment())
        folders.modules = folder.appending(path: "modules")
        folders.data = folder.appending(path: "data")
        folders.logs = folder.appending(path: "logs")
        for place in [folders.modules, folders.data, folders.logs] {
            try FileManager.default.createDirectory(at: place, withIntermediateDirectories: true)
        }
        let source = """
            import os, signal, subprocess, time
            def worker(**_):
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                child = subprocess.Popen(["sleep", "600"])
                path = os.path.join(os.environ["DATA"], "pids")
                with open(path + ".new", "w") as file:
                    file.write(f"{os.getpid()} {child.pid}")
                os.rename(path + ".new", path)
                time.sleep(600)
            """
        try Data(source.utf8).write(to: folders.modules.appending(path: "svc.py"))
        let hostPath = URL(filePath: #filePath).resolvingSymlinksInPath()
            .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent().appending(path: "python")
        var environment = ProcessInfo.processInfo.environment
        environment["DATA"] = folders.data.path
        let configuration = PythonHostConfiguration(
            python: environment["PYTHON"] ?? "/usr/bin/python3", hostPath: hostPath, root: folders.modules, environment: environment)
        let runner = PythonRunner(
            jobs: PythonJobs(configuration, folders, killGrace: .seconds(1), logger: logger))
        let router = FakeRouter {
            $0.leaseSeconds = 6
            $0.definition.onLeaseLoss = .kill
        }
        let pidFile = folders.data.appending(path: "pids")
        try await withWorker(router, runner, .machine, killGrace: .seconds(1)) { hint in
            #expect(await eventually(within: .seconds(30)) { FileManager.default.fileExists(atPath: pidFile.path) })
            let pids = try String(contentsOf: pidFile, encoding: .utf8).split(separator: " ").compactMap { pid_t($0) }
            #expect(pids.count == 2)
            #expect(pids.allSatisfy(Self.isAlive))
            let cut = ContinuousClock.now
            router.state.withLock { $0.isBrokerAway = true }
            #expect(await eventually(within: .seconds(30)) { !pids.contains(where: Self.isAlive) })
            #expect(ContinuousClock.now - cut < .seconds(6))
            #expect(await eventually { hint.all == [.ack(multiple: false)] })
        }
        #expect(router.state.withLock { $0.results.isEmpty })
    }

    /// A process that has ended and that nobody has waited for yet does nothing any more.
    private static func isAlive(_ pid: pid_t) -> Bool {
        guard let status = try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8) else { return false }
        return status.split(separator: ")").last?.split(separator: " ").first != "Z"
    }

    /// Runs a worker that is given one hint, for the time of `body`.
    private func withWorker(
        _ router: FakeRouter, _ runner: some JobRunner, _ clock: WorkerClock, killGrace: Duration = .seconds(5),
        _ body: (Settlements) async throws -> Void
    ) async throws {
        var configuration = WorkerConfiguration(id: "w1")
        configuration.heartbeat = .milliseconds(10)
        configuration.killGrace = killGrace
        let source = FakeSource()
        let worker = WorkerService(
            configuration: configuration, source: source, router: router, runner: runner, readiness: nil, logger: logger, clock: clock)
        let group = ServiceGroup(services: [worker], logger: logger)
        let hint = Settlements()
        source.put(hint.delivery(HintMessage(job: Self.job, attempt: 1, dispatch: 1)), into: PipelineQueue.jobs(channel: "default"))
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask { try await group.run() }
            try await body(hint)
            await group.triggerGracefulShutdown()
            try await tasks.waitForAll()
        }
    }
}

/// A clock that stands still until a test moves it.
private final class HandClock: Sendable {
    private let time = Mutex(ContinuousClock.now)

    func advance(by duration: Duration) { time.withLock { $0 += duration } }

    var clock: WorkerClock {
        WorkerClock(
            now: { self.time.withLock { $0 } },
            sleep: { duration in
                let end = self.time.withLock { $0 } + duration
                while !Task.isCancelled, self.time.withLock({ $0 }) < end { try? await Task.sleep(for: .milliseconds(1)) }
            })
    }
}

private struct PythonRunner: JobRunner {
    let jobs: PythonJobs

    func run(
        _ order: JobOrder,
        isStillMine: @escaping @Sendable () -> Bool,
        onProgress: @escaping @Sendable (RenewMessage.Progress) -> Void
    ) async -> JobExit {
        await jobs.run(order, onProgress: onProgress)
    }

    func shutdown() async { await jobs.hosts.shutdown() }
}
