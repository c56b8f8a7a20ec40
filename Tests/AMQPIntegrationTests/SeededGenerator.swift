import Foundation
import TestSupport

extension SeededGenerator {
    /// The seed of this run: `DCM_SEED` sets it, a failure names it.
    static let runSeed: UInt64 =
        ProcessInfo.processInfo.environment["DCM_SEED"].flatMap(UInt64.init) ?? .random(in: 1...1_000_000_000)
}
