import Bootstrap
import Foundation
import Testing

/// W1, W2: ingest is killed at each step while 200 studies arrive.
@Suite(.serialized, .sharedBroker, .timeLimit(.minutes(5))) struct IngestKillTests {
    @Test func everyStudyHasOneRunWhereverIngestDies() async throws {
        try await PipelineProcesses.with { pipeline in
            try await pipeline.start(.router, nil, ["REGISTRY": pipeline.path("wanting")])
            for _ in 1...20 {
                let studies = (0..<10).map { Arrivals.study(instances: 1 + $0 % 2) }
                async let sent: Void = pipeline.send(studies)
                let ingest = try pipeline.launch(.ingest)
                try await Task.sleep(for: .milliseconds(Int.random(in: 100...900)))
                await ingest.kill()
                try await sent
            }
            try await pipeline.start(.ingest)
            try await pipeline.account()
        }
    }
}
