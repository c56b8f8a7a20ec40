import Foundation
import JobStore

/// Decides which published events count as lost: the broker confirmed them, and the router's ledger does not know them after a while.
/// The broker's disk may have been lost, its queue purged, the ledger taken from a backup. A value without input or output.
struct LostEvents: Sendable {
    enum Verdict: Sendable, Hashable {
        /// The ledger has it, or there is nothing that it should have.
        case settled
        /// It may still be on its way.
        case waiting
        case lost
    }

    /// Seconds that the router has before the first repetition, doubled for each further one: while it is down, its queue must not fill up.
    private let patience: Double
    private var repetitions: [String: Int] = [:]

    init(patience: Double) {
        self.patience = patience
    }

    static func isExpected(_ mark: IngestJournal.Mark) -> Bool {
        !mark.snapshot.isEmpty && [.event, .filtered, .ignored].contains(mark.origin)
    }

    /// - Parameter missing: what the ledger lacks; nil when that is not known.
    func judge(_ mark: IngestJournal.Mark, missing: Set<String>?, now: Date) -> Verdict {
        guard Self.isExpected(mark) else { return .settled }
        guard let missing else { return .waiting }
        guard missing.contains(mark.snapshot) else { return .settled }
        let wait = patience * Double(1 << min(repetitions[mark.snapshot, default: 0], 10))
        return now.timeIntervalSince(mark.recordedAt) < wait ? .waiting : .lost
    }

    mutating func noteRepetition(of snapshot: String) {
        repetitions[snapshot, default: 0] += 1
    }

    mutating func settle(_ snapshot: String) {
        repetitions[snapshot] = nil
    }
}
