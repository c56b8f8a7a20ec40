package import Foundation
package import Pipeline
import Synchronization

/// What the router last said of itself.
package final class RouterVitals: Sendable {
    private static let silence = 30.0
    private let last = Mutex<(message: VitalsMessage, at: Date)?>(nil)

    package init() {}

    package func note(_ message: VitalsMessage, at now: Date) { last.withLock { $0 = (message, now) } }

    /// Since when the router, which was heard before, has been silent for long.
    func silentSince(at now: Date) -> Date? {
        last.withLock { last in last.flatMap { now.timeIntervalSince($0.at) < Self.silence ? nil : $0.at } }
    }

    /// - Returns: nil when it has been silent for long.
    func current(at now: Date) -> VitalsMessage? {
        last.withLock { last in last.flatMap { now.timeIntervalSince($0.at) < Self.silence ? $0.message : nil } }
    }
}
