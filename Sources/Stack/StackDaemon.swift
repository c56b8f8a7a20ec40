import Foundation
package import Logging
import Synchronization

/// The long life of a stack: one process that owns all others, from `up` to `down`.
package struct StackDaemon: Sendable {
    private let home: StackHome
    private let logger: Logger
    private let prepare: @Sendable () throws -> StackPlan

    /// - Parameter prepare: makes the plan, under the stack's lock.
    package init(home: StackHome, logger: Logger, prepare: @escaping @Sendable () throws -> StackPlan) {
        self.home = home
        self.logger = logger
        self.prepare = prepare
    }

    /// Runs the stack until `shouldStop` says so; returns when every process of it is gone.
    ///
    /// - Throws: ``StackError`` when another daemon has the folder, or the plan cannot be made. The latter is in
    ///   status.json too, for the `up` that waits.
    package func run(until shouldStop: @Sendable () -> Bool) async throws {
        let inUse = StackError(.refused, "The stack in \(home.folder.path) runs already.")
        let lock = try await FileLock.lock(home.lockFile, within: .seconds(3), orThrow: inUse)
        lock.shareWithLifeline()
        let board = StackBoard(home: home, logger: logger)
        let plan: StackPlan
        do {
            plan = try prepare()
        } catch {
            board.fail("\(error)", request: StackRequest.read(home)?.id)
            throw error
        }
        board.begin(plan)
        let supervisor = Supervisor(logger: logger) { board.show($0) }
        var request: StackRequest?
        while !shouldStop() {
            if let wanted = StackRequest.read(home), wanted != request {
                await carryOut(wanted, plan: plan, supervisor: supervisor)
                board.done(wanted.id)
                request = wanted
            }
            try? await Task.sleep(for: .milliseconds(100))
        }
        logger.info("stopping")
        for group in StackPlan.stopOrder(of: await supervisor.reports.map(\.name)) { await supervisor.remove(group) }
        StackRemains.kill(home, logger: logger)
        withExtendedLifetime(lock) {}
    }

    private func carryOut(_ request: StackRequest, plan: StackPlan, supervisor: Supervisor) async {
        let wanted = plan.children(workers: request.workers)
        let present = await supervisor.reports.map(\.name)
        await supervisor.remove(present.filter { name in !wanted.contains { $0.name == name } })
        for spec in wanted { await supervisor.add(spec) }
    }
}

/// Keeps status.json and endpoints.json true.
private final class StackBoard: Sendable {
    private let home: StackHome
    private let logger: Logger
    private let state: Mutex<(status: StackStatus, endpoints: Endpoints?)>

    init(home: StackHome, logger: Logger) {
        self.home = home
        self.logger = logger
        state = Mutex((StackStatus(supervisor: ProcessInfo.processInfo.processIdentifier), nil))
    }

    func begin(_ plan: StackPlan) {
        change {
            $0.status.notes = plan.notes
            $0.status.settings = plan.settings.comparable
            $0.endpoints = plan.endpoints
        }
    }

    func fail(_ reason: String, request: String?) {
        change {
            $0.status.failure = reason
            $0.status.request = request
        }
    }

    func done(_ request: String) {
        change { $0.status.request = request }
    }

    func show(_ reports: [ChildReport]) {
        change { state in
            state.status.children = reports
            var pids = Endpoints.Pids()
            for report in reports {
                switch report.name {
                case "broker": pids.broker = report.pid
                case "orthanc": pids.orthanc = report.pid
                case "ingest": pids.ingest = report.pid
                case "router": pids.router = report.pid
                case "monitor": pids.monitor = report.pid
                case "epmd": break
                default: report.pid.map { pids.workers.append($0) }
                }
            }
            state.endpoints?.pids = pids
        }
    }

    private func change(_ body: (inout (status: StackStatus, endpoints: Endpoints?)) -> Void) {
        state.withLock { state in
            body(&state)
            do {
                try state.endpoints?.write(home)
                try state.status.write(home)
            } catch {
                logger.error("state of the stack could not be written", metadata: ["error": "\(error)"])
            }
        }
    }
}
