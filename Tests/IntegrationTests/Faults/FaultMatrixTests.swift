import Bootstrap
import Foundation
import JobStore
import Jobs
import Pipeline
import Stack
import Testing

/// Every point at which a process can die, one after the other, in the middle of a run of 30 jobs. Ingest's are in ``IngestKillTests``.
///
/// One run for each point: the process that has the point is started with the fault at its first visit, then, once that has happened,
/// with the fault at the second visit of the new process, then at the third; then the point hangs, and throws where it can. At last the
/// process is started without a fault, and the run must have ended as if nothing had happened.
@Suite(.serialized, .timeLimit(.minutes(10))) struct FaultMatrixTests {
    /// A fault, as DCM_FAULT names it.
    struct Cell: CustomStringConvertible {
        var point: FaultPoint
        var nth: Int
        var action: String
        var description: String { "\(point.rawValue):\(nth):\(action)" }
    }

    @Test func everyPointIsSurvived() async throws {
        try await PipelineProcesses.with(ownBroker: true) { pipeline in
            var report: [String] = []
            for program in [PipelineProcesses.Program.router, .worker] {
                // The other side runs on.
                let others = try await others(of: program, pipeline)
                for point in FaultPoint.allCases where point.program == program {
                    let began = ContinuousClock.now
                    try await survive(point, pipeline)
                    report.append("\(point.rawValue) \(began.duration(to: .now))")
                }
                for other in others {
                    #expect(other.process.isRunning, "\(other.process.command.name) must not mind")
                    await other.kill()
                }
            }
            #expect(report.count == FaultPoint.allCases.filter { $0.program != .ingest }.count)
        }
    }

    private func others(of program: PipelineProcesses.Program, _ pipeline: PipelineProcesses) async throws -> [PipelineChild] {
        switch program {
        case .router: [try await pipeline.start(.worker, "worker-1"), try await pipeline.start(.worker, "worker-2")]
        case .worker: [try await pipeline.start(.router)]
        case .ingest: []
        }
    }

    private func survive(_ point: FaultPoint, _ pipeline: PipelineProcesses) async throws {
        let settings = try await provoke(point, pipeline)
        let snapshot = try await pipeline.publish(.full)
        var others: [String] = []
        for cell in cells(of: point) {
            // Some points are visited only when something new comes.
            if held(at: point) != [] { for _ in 1...3 { others.append(try await pipeline.publish(.short)) } }
            try await fail(cell, settings, pipeline)
        }
        for job in held(at: point) { try pipeline.release(job) }
        let healthy = try await pipeline.start(point.program)
        let run = try await pipeline.ended(snapshot)
        let check = HistoryCheck(golden: .full, mayLoseAttempts: point.program == .worker)
        try await pipeline.check(run, check)
        for other in others { _ = try await pipeline.ended(other) }
        let dead = try await pipeline.ledger.deadMessages(limit: 10).items.map(\.reason)
        #expect(dead == [], "\(point.rawValue): no message deserved that")
        // The next one gets its own.
        await healthy.kill()
    }

    private func cells(of point: FaultPoint) -> [Cell] {
        let exits = (1...3).map { Cell(point: point, nth: $0, action: "exit") }
        // Behind a commit there is nobody to throw to: the process exits there too.
        let canThrow = point.rawValue.hasSuffix(".applied") || point == .routerEventPlanned
        return exits + [Cell(point: point, nth: 1, action: "hang")] + (canThrow ? [Cell(point: point, nth: 1, action: "throw")] : [])
    }

    /// Starts the process with the fault and waits until it has happened. Afterwards the process is gone.
    private func fail(_ cell: Cell, _ settings: [String: String], _ pipeline: PipelineProcesses) async throws {
        let reached = pipeline.folder.appending(path: "run/\(cell).reached")
        let faults = ["DCM_FAULT": "\(cell)", "DCM_FAULT_ONCE": reached.path]
        let child = try pipeline.launch(cell.point.program, nil, settings.merging(faults) { $1 })
        _ = try await until("\(cell) was reached", limit: .seconds(30)) {
            FileManager.default.fileExists(atPath: reached.path) || !child.process.isRunning ? true : nil
        } orShow: {
            child.log.split(separator: "\n").suffix(5).joined(separator: "\n")
        }
        #expect(FileManager.default.fileExists(atPath: reached.path), "\(cell): ended without its fault: \(child.log.suffix(500))")
        if cell.action == "exit" {
            let exit = try await until("\(cell) has ended its process") { child.process.exit }
            #expect(exit == .status(137), "\(cell)")
        }
        await child.kill()
    }

    private func held(at point: FaultPoint) -> [String] {
        [.routerSweepApplied, .routerSweepCommitted].contains(point) ? (1...8).map { "slice-\($0)" } : []
    }

    /// Sees to it that the point is visited often enough.
    /// - Returns: what the failing process needs in its environment.
    private func provoke(_ point: FaultPoint, _ pipeline: PipelineProcesses) async throws -> [String: String] {
        switch point {
        case .routerEventPlanned, .routerEventApplied, .routerEventCommitted:
            for _ in 1...10 { try await pipeline.publish(.none) }
        case .routerPlanningFailed:
            for _ in 1...10 { try await pipeline.publish(.none) }
            // Nobody can be asked.
            return ["PYTHON": "/nonexistent/python3"]
        case .routerCommandApplied, .routerCommandCommitted:
            for _ in 1...5 {
                try await pipeline.command(.pauseChannel, "nobody")
                try await pipeline.command(.resumeChannel, "nobody")
            }
        case .routerRunPurged:
            return ["RETENTION": "0.00001"]
        case .routerSweepApplied, .routerSweepCommitted:
            // More jobs than there are slots keep all workers busy: what waits behind them ages, again and again.
            for job in held(at: point) { try pipeline.hold(job) }
            return ["AGEING": "0.1"]
        case .routerClaimApplied, .routerClaimCommitted, .routerClaimAnswered, .routerRenewalCommitted, .routerResultApplied,
            .routerResultCommitted, .routerOutboxTaken, .routerOutboxPublished, .routerOutboxRemoved, .workerHintTaken,
            .workerClaimGranted, .workerJobEnded, .workerResultConfirmed:
            // A run of 30 jobs is enough.
            break
        default:
            // Ingest needs studies instead of events: IngestKillTests.
            #expect(point.program == .ingest, "\(point.rawValue): say how it is reached")
        }
        return [:]
    }
}
