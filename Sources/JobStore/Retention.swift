package import Foundation
package import Jobs

/// Until when the ledger forgets.
package struct RetentionCutoffs: Sendable, Hashable {
    /// Runs that ended before, events without a run that came before, and facts of neither.
    package var runs: Date
    /// That a command was carried out: longer than a broker can keep a message of it.
    package var messages: Date
    package var audit: Date
    package var deadMessages: Date

    package init(runs: Date, messages: Date, audit: Date, deadMessages: Date) {
        self.runs = runs
        self.messages = messages
        self.audit = audit
        self.deadMessages = deadMessages
    }
}

package struct PurgeStep: Sendable, Hashable {
    /// How many rows were deleted, those of deleted runs included.
    package var rows = 0
    package var runs = 0
    /// Nothing is left that is old enough, and the file has given back what it can.
    package var isDone = false
}

/// A run that the ledger no longer has, and whose logs and images have to follow.
package struct ExpiredRun: Sendable, Hashable {
    package var id: RunID
    /// Relative to DATA.
    package var dcmpath: String
    /// Files that its jobs wanted people to see, relative to DATA.
    package var artifacts: [String]

    package init(id: RunID, dcmpath: String, artifacts: [String]) {
        self.id = id
        self.dcmpath = dcmpath
        self.artifacts = artifacts
    }
}
