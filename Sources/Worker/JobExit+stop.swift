import Foundation
import Jobs

extension JobExit {
    /// What to report about an attempt that we may have ended ourselves.
    /// - Returns: nil when nothing is to be reported: the lease is lost, and with it the right to say anything.
    func reported(after stop: AttemptTable.Stop?) -> JobExit? {
        switch stop {
        case nil, .cancelled: self
        case .lost: nil
        case .shutdown: outcome == .cancelled ? released : self
        }
    }

    /// Handed back unfinished, which is nobody's fault and counts as no attempt.
    private var released: JobExit {
        var exit = self
        exit.outcome = .released
        exit.kind = .released
        exit.failure = nil
        return exit
    }

    /// Handed back before it began.
    static func released(at now: Date) -> JobExit {
        JobExit(outcome: .released, kind: .released, startedAt: now, finishedAt: now)
    }
}
