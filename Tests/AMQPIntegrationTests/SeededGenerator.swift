import Foundation

/// A random generator that can be started again from its seed. `DCM_SEED` sets the one of the run; a failure names it.
struct SeededGenerator: RandomNumberGenerator {
    static let runSeed: UInt64 =
        ProcessInfo.processInfo.environment["DCM_SEED"].flatMap(UInt64.init) ?? .random(in: 1...1_000_000_000)

    private var state: UInt64

    init(seed: UInt64) { state = seed }

    /// SplitMix64.
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }
}
