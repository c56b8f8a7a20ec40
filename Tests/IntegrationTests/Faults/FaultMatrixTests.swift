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
            // Most jobs of a run come with the answer to a result: no hint is sent, and no claim asks for them.
            try await pipeline.fail(cell, settings) { others.append(try await pipeline.publish(.short)) }
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

    private func cells(of point: FaultPoint) -> [FaultCell] {
        var cells = (1...3).map { FaultCell(point: point, nth: $0, action: "exit") }
        cells.append(FaultCell(point: point, nth: 1, action: "hang"))
        // Behind a commit there is nobody to throw to: the process exits there too.
        let canThrow = point.rawValue.hasSuffix(".applied") || point == .routerEventPlanned
        if canThrow { cells.append(FaultCell(point: point, nth: 1, action: "throw")) }
        return cells
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
        case .ingestChangeRead, .ingestEventMade, .ingestEventConfirmed, .ingestEventRecorded, .ingestCursorSaved, .ingestResyncSaved,
            .ingestBaselineTaken, .ingestSweepPage:
            throw TestFailure("\(point.rawValue) needs studies instead of events: IngestKillTests")
        }
        return [:]
    }
}
