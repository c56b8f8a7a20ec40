import Foundation
import Testing

@testable import Jobs

@Suite struct RunSimulationTests {
    /// More with `DCM_SIMULATIONS=1000000`; a failure names its seed, and `DCM_SEED` replays that one alone.
    @Test func everyRunEndsAndKeepsItsInvariants() throws {
        let environment = ProcessInfo.processInfo.environment
        let count = environment["DCM_SIMULATIONS"].flatMap(UInt64.init) ?? 1000
        let seeds = environment["DCM_SEED"].flatMap(UInt64.init).map { $0..<($0 + 1) } ?? 0..<count
        for seed in seeds {
            var simulation = RunSimulation(seed: seed)
            do {
                try simulation.play()
            } catch {
                Issue.record("seed \(seed): \(error)")
                return
            }
        }
    }

    @Test func aSeedReplaysExactly() throws {
        for seed: UInt64 in 0..<50 {
            var first = RunSimulation(seed: seed)
            var second = RunSimulation(seed: seed)
            try first.play()
            try second.play()
            #expect(first.run == second.run)
        }
    }
}
