import Foundation
import JobStore
import Jobs

extension SampleLedger {
    /// An Orthanc with four studies: two that had their event, one that a filter refused, one that still grows.
    func fillJournal() async throws {
        let journal = try IngestJournal(folder: folder.appending(path: "state"))
        _ = try await journal.register(.study, server: "ct", at: now)
        try await journal.report(IngestSource(server: "ct", state: .following, lastSequence: 120, cursorSequence: 100, checkedAt: now))
        let records = (1...4).map { number in
            IngestRecord(
                server: "ct", level: .study, resource: Self.resource(number), snapshot: "s\(number)", lastUpdate: "20260101T000000",
                origin: number == 3 ? .filtered : .event, reason: number == 3 ? Reason("modality", "The modality is SR.") : nil,
                recordedAt: now)
        }
        try await journal.save(records, server: "ct", at: now)
        try await journal.notePending([
            IngestPending(
                server: "ct", level: .study, resource: Self.resource(4), since: now.addingTimeInterval(-60),
                reason: Reason("unstable", "Instances are still arriving."))
        ])
        try await journal.finishSweep(.study, server: "ct", listed: 4, at: now)
    }
}
