import Bootstrap
import Foundation
import JobStore
import Testing

/// W1, W2: ingest dies at each of its fault points, and at any other moment, while 200 studies arrive.
@Suite(.serialized, .sharedBroker, .timeLimit(.minutes(5))) struct IngestKillTests {
    @Test func everyStudyHasOneRunWhereverIngestDies() async throws {
        try await PipelineProcesses.with { pipeline in
            try await pipeline.start(.router, nil, ["REGISTRY": pipeline.path("wanting")])
            var arrivals = (0..<200).map { Arrivals.study(instances: 1 + $0 % 2) }
            func next(_ count: Int) -> [[SmallImage]] {
                defer { arrivals.removeFirst(min(count, arrivals.count)) }
                return Array(arrivals.prefix(count))
            }

            // At the first start there is nothing else to do.
            try await pipeline.fail(FaultCell(point: .ingestBaselineTaken, nth: 1, action: "exit"))
            // A second before they are needed.
            try await pipeline.send(next(10))
            var reached: Set<FaultPoint> = [.ingestBaselineTaken]
            for cell in cells {
                let studies = next(5)
                async let sent: Void = pipeline.send(studies)
                if cell.point == .ingestResyncSaved { try await moveCursor(pipeline) }
                try await pipeline.fail(cell)
                try await sent
                reached.insert(cell.point)
            }
            #expect(reached == Set(FaultPoint.allCases.filter { $0.program == .ingest }))

            while !arrivals.isEmpty {
                let studies = next(15)
                async let sent: Void = pipeline.send(studies)
                let ingest = try pipeline.launch(.ingest)
                try await Task.sleep(for: .milliseconds(Int.random(in: 100...800)))
                await ingest.kill()
                try await sent
            }
            try await pipeline.start(.ingest)
            let account = try await pipeline.account()
            #expect(account.studies.count > 200)
        }
    }

    private var cells: [FaultCell] {
        let points: [FaultPoint] = [
            .ingestEventMade, .ingestEventConfirmed, .ingestEventRecorded, .ingestChangeRead, .ingestCursorSaved, .ingestSweepPage,
        ]
        return points.flatMap { point in
            (1...3).map { FaultCell(point: point, nth: $0, action: "exit") }
                + [FaultCell(point: point, nth: 1, action: "hang"), FaultCell(point: point, nth: 1, action: "throw")]
        } + ["exit", "throw"].map { FaultCell(point: .ingestResyncSaved, nth: 1, action: $0) }
    }

    /// What is in the change log now is then read by nobody.
    private func moveCursor(_ pipeline: PipelineProcesses) async throws {
        let journal = try IngestJournal(folder: pipeline.folder.appending(path: "state"))
        let server = try #require(try await IngestJournal.readOnly(at: pipeline.folder.appending(path: "state")).sources().first?.server)
        try await journal.save(cursor: IngestCursor(sequence: 1_000_000), server: server, at: Date())
    }
}
