import Foundation
import Synchronization

/// The places where a test can make a process fail: between any two steps of which the second may never happen.
///
///     DCM_FAULT=router.event.committed:2:exit dcm-router
///
/// `DCM_FAULT` is `name:nth:action`, several separated by commas. The nth time that the process comes to the place it ends on the spot
/// (`exit`, as if killed), throws (`throw`, where the caller can take it; elsewhere it exits), or stands still for good (`hang`).
/// With `DCM_FAULT_ONCE=<file>` the file is written first, and a process that finds it has no faults: so a restarted process goes on,
/// and a test sees that the place was reached. Without `DCM_FAULT` a point costs one comparison.
package enum FaultPoint: String, CaseIterable, Sendable {
    // Router, T1: an event becomes a run.
    case routerEventPlanned = "router.event.planned"
    case routerEventApplied = "router.event.applied"
    case routerEventCommitted = "router.event.committed"
    // T2: claims and renewals.
    case routerClaimApplied = "router.claim.applied"
    case routerClaimCommitted = "router.claim.committed"
    case routerClaimAnswered = "router.claim.answered"
    case routerRenewalCommitted = "router.renewal.committed"
    // T3: results and commands.
    case routerResultApplied = "router.result.applied"
    case routerResultCommitted = "router.result.committed"
    case routerCommandApplied = "router.command.applied"
    case routerCommandCommitted = "router.command.committed"
    // T4: the outbox.
    case routerOutboxTaken = "router.outbox.taken"
    case routerOutboxPublished = "router.outbox.published"
    case routerOutboxRemoved = "router.outbox.removed"
    // T5: the sweep, and what goes after its time.
    case routerSweepApplied = "router.sweep.applied"
    case routerSweepCommitted = "router.sweep.committed"
    case routerPlanningFailed = "router.planning.failed"
    case routerRunPurged = "router.run.purged"
    // Worker.
    case workerHintTaken = "worker.hint.taken"
    case workerClaimGranted = "worker.claim.granted"
    case workerJobEnded = "worker.job.ended"
    case workerResultConfirmed = "worker.result.confirmed"
    // Ingest: a page of the change log, before anything in it is dealt with.
    case ingestChangeRead = "ingest.change.read"
    // An event before it is published; after the broker's confirm and before the journal; after the journal.
    case ingestEventMade = "ingest.event.made"
    case ingestEventConfirmed = "ingest.event.confirmed"
    case ingestEventRecorded = "ingest.event.recorded"
    // The cursor behind a whole page of the change log, and the one of another database.
    case ingestCursorSaved = "ingest.cursor.saved"
    case ingestResyncSaved = "ingest.resync.saved"
    // The first start, and one page of a sweep before it counts as done.
    case ingestBaselineTaken = "ingest.baseline.taken"
    case ingestSweepPage = "ingest.sweep.page"

    /// What the environment asks for; nil in every process but a test's.
    private static let plan = FaultPlan.fromEnvironment(ProcessInfo.processInfo.environment)

    /// Comes to a place whose caller cannot take an error.
    package static func reach(_ point: FaultPoint) {
        guard let plan else { return }
        switch plan.action(at: point) {
        case nil: return
        case .hang: FaultPlan.hang()
        case .exit, .throw: FaultPlan.exit()
        }
    }

    /// Comes to a place whose caller can take an error.
    package static func check(_ point: FaultPoint) throws {
        guard let plan else { return }
        switch plan.action(at: point) {
        case nil: return
        case .hang: FaultPlan.hang()
        case .exit: FaultPlan.exit()
        case .throw: throw InjectedFault(point: point)
        }
    }
}

package struct InjectedFault: Error, CustomStringConvertible {
    package let point: FaultPoint
    package var description: String { "a fault that a test asked for at \(point.rawValue)" }
}

/// Which points fail, when and how.
final class FaultPlan: Sendable {
    enum Action: String, CaseIterable, Sendable {
        case exit
        case `throw`
        case hang
    }

    struct Fault: Sendable, Hashable {
        var point: FaultPoint
        /// 1 for the first time.
        var nth: Int
        var action: Action
    }

    private let faults: [Fault]
    private let once: String?
    private let visits = Mutex<[FaultPoint: Int]>([:])

    init(_ faults: [Fault], once: String? = nil) {
        self.faults = faults
        self.once = once
    }

    /// A text that is none ends the process: a test that asks for a fault in vain would pass for the wrong reason.
    static func fromEnvironment(_ environment: [String: String]) -> FaultPlan? {
        guard let text = environment["DCM_FAULT"], !text.isEmpty else { return nil }
        let once = environment["DCM_FAULT_ONCE"]
        if let once, FileManager.default.fileExists(atPath: once) { return nil }
        guard let faults = parse(text) else {
            FileHandle.standardError.write(
                Data("DCM_FAULT is '\(text)', allowed is name:nth:exit|throw|hang with a name of FaultPoint.\n".utf8))
            Foundation.exit(78)
        }
        return FaultPlan(faults, once: once)
    }

    static func parse(_ text: String) -> [Fault]? {
        var faults: [Fault] = []
        for item in text.split(separator: ",") {
            let parts = item.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
            guard parts.count == 3, let point = FaultPoint(rawValue: parts[0]), let nth = Int(parts[1]), nth > 0,
                let action = Action(rawValue: parts[2])
            else { return nil }
            faults.append(Fault(point: point, nth: nth, action: action))
        }
        return faults
    }

    /// Counts a visit.
    func action(at point: FaultPoint) -> Action? {
        let visit = visits.withLock { visits in
            visits[point, default: 0] += 1
            return visits[point, default: 0]
        }
        guard let fault = faults.first(where: { $0.point == point && $0.nth == visit }) else { return nil }
        if let once { _ = FileManager.default.createFile(atPath: once, contents: Data(point.rawValue.utf8)) }
        return fault.action
    }

    /// Like SIGKILL: nothing is flushed, closed or said.
    static func exit() -> Never { _exit(137) }

    static func hang() -> Never {
        while true { sleep(1000) }
    }
}
