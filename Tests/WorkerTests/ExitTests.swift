import Foundation
import Jobs
import Orthanc
import Testing

@testable import Worker

@Suite struct ExitTests {
    private let now = Date(timeIntervalSince1970: 1000)

    private func exit(_ outcome: JobExit.Outcome, _ kind: JobExit.Kind) -> JobExit {
        JobExit(outcome: outcome, kind: kind, startedAt: now, finishedAt: now, log: "a.log")
    }

    @Test("A job that ended by itself is reported as it ended, whatever we wanted at the same time")
    func ownEnd() {
        let succeeded = exit(.succeeded, .completed)
        #expect(succeeded.reported(after: nil) == succeeded)
        #expect(succeeded.reported(after: .cancelled) == succeeded)
        #expect(succeeded.reported(after: .shutdown) == succeeded)
    }

    @Test("Without the lease nothing is reported")
    func lost() {
        #expect(exit(.succeeded, .completed).reported(after: .lost) == nil)
        #expect(exit(.cancelled, .cancelled).reported(after: .lost) == nil)
    }

    @Test("A job that a stopping worker ended is handed back, not cancelled")
    func released() {
        let reported = exit(.cancelled, .cancelled).reported(after: .shutdown)
        #expect(reported?.outcome == .released)
        #expect(reported?.kind == .released)
        #expect(reported?.log == "a.log")
        #expect(exit(.cancelled, .cancelled).reported(after: .cancelled)?.outcome == .cancelled)
    }

    @Test(
        "What an export's error means for the job",
        arguments: [
            (OrthancError(.notFound, server: "o", message: "m"), JobExit.Kind.gone, false),
            (OrthancError(.unauthorized, server: "o", message: "m"), .exception, true),
            (OrthancError(.unreachable, server: "o", message: "m"), .exception, true),
            (OrthancError(.unwritable, server: "o", message: "m"), .resources, true),
            (OrthancError(.invalidIdentifier, server: "o", message: "m"), .exception, false),
        ])
    func orthancErrors(_ error: OrthancError, _ kind: JobExit.Kind, _ isRetriable: Bool) {
        let exit = JobExit.exportFailed(error, timeout: .never, startedAt: now, finishedAt: now + 2)
        #expect(exit.outcome == .failed)
        #expect(exit.kind == kind)
        #expect(exit.isRetriable == isRetriable)
        #expect(exit.failure?.message == "\(error)")
        #expect(exit.usage?.wall == 2)
    }

    @Test("A full disk tells the sizes and is not tried again, damaged and unwritable files are")
    func exportErrors() {
        let full = JobExit.exportFailed(
            ExportError.diskFull(needed: 30_000_000, reserve: 256_000_000, available: 11_000_000, folder: "/data/x"),
            timeout: .never, startedAt: now, finishedAt: now)
        #expect(full.kind == .resources)
        #expect(!full.isRetriable)
        #expect(full.failure?.message.contains("30 MB") == true)
        #expect(full.failure?.message.contains("11 MB") == true && full.failure?.message.contains("256 MB") == true)
        let unwritable = JobExit.exportFailed(
            ExportError.unwritable(path: "/data/x", reason: "Read-only file system"), timeout: .never, startedAt: now, finishedAt: now)
        #expect(unwritable.kind == .resources)
        #expect(unwritable.isRetriable)
        let unconfined = JobExit.exportFailed(
            ExportError.unconfined(path: "/data/x", reason: "a link"), timeout: .never, startedAt: now, finishedAt: now)
        #expect(unconfined.kind == .resources)
        #expect(!unconfined.isRetriable)
        let damaged = JobExit.exportFailed(
            ExportError.checksum(instance: "i", expected: "a", actual: "b"), timeout: .never, startedAt: now, finishedAt: now)
        #expect(damaged.kind == .exception)
        #expect(damaged.isRetriable)
    }

    @Test("A cancelled export is cancelled, a slow one has run into its timeout")
    func exportEnds() {
        let cancelled = JobExit.exportFailed(CancellationError(), timeout: .never, startedAt: now, finishedAt: now)
        #expect(cancelled.outcome == .cancelled)
        let slow = JobExit.exportFailed(ExportTimeout(), timeout: .after(seconds: 5), startedAt: now, finishedAt: now)
        #expect(slow.kind == .timeout)
        #expect(slow.failure?.message.contains("5 s") == true)
    }
}
