import Foundation
import Synchronization
import Testing

@testable import Jobs

/// docs/testing.md says how to run more of them, and how to replay one.
@Suite struct SimulationTests {
    private static let environment = ProcessInfo.processInfo.environment

    @Test func everyRunEndsAndKeepsItsInvariants() async throws {
        let count = Self.environment["DCM_SIMULATIONS"].flatMap(UInt64.init) ?? (Self.environment["CI"] == nil ? 2000 : 100_000)
        let first = Self.environment["DCM_SEED"].flatMap(UInt64.init)
        let seeds = first.map { $0..<($0 + 1) } ?? 0..<count
        let failure = await SimulationCampaign.firstFailure(in: seeds, with: RealReducer.self)
        if let failure { Issue.record("\(failure)") }
    }

    @Test func aSeedReplaysExactly() throws {
        for seed: UInt64 in 0..<50 {
            let (simulation, outcome) = Simulation.random(seed: seed, with: RealReducer.self)
            #expect(simulation.replay(with: RealReducer.self).run == outcome.run)
        }
    }
}

/// Many seeds, on all cores.
enum SimulationCampaign {
    struct Failure: Sendable, CustomStringConvertible {
        var seed: UInt64
        var violation: Violation
        var shrunk: Simulation

        var description: String { "DCM_SEED=\(seed): \(violation)\nshrunk to:\n\(shrunk)" }
    }

    /// - Returns: the failure with the lowest seed of those that were found, shrunk.
    static func firstFailure(in seeds: Range<UInt64>, with reducer: any RunReducer.Type) async -> Failure? {
        let queue = SeedQueue(seeds)
        let found = await withTaskGroup(of: (seed: UInt64, violation: Violation)?.self) { group in
            for _ in 0..<ProcessInfo.processInfo.activeProcessorCount {
                group.addTask { await play(queue, reducer) }
            }
            var best: (seed: UInt64, violation: Violation)?
            for await found in group {
                if let found, found.seed < best?.seed ?? .max { best = found }
            }
            return best
        }
        guard let found else { return nil }
        let (simulation, _) = Simulation.random(seed: found.seed, with: reducer)
        return Failure(seed: found.seed, violation: found.violation, shrunk: simulation.shrunk(with: reducer))
    }

    @concurrent private static func play(
        _ queue: SeedQueue, _ reducer: any RunReducer.Type
    ) async -> (seed: UInt64, violation: Violation)? {
        while let seeds = queue.next() {
            for seed in seeds {
                guard let violation = Simulation.random(seed: seed, with: reducer).1.violation else { continue }
                queue.stop()
                return (seed, violation)
            }
        }
        return nil
    }

    private final class SeedQueue: Sendable {
        private let left: Mutex<Range<UInt64>>

        init(_ seeds: Range<UInt64>) { left = Mutex(seeds) }

        func next() -> Range<UInt64>? {
            left.withLock { left in
                guard !left.isEmpty else { return nil }
                let chunk = left.prefix(64)
                left = chunk.endIndex..<left.upperBound
                return chunk.startIndex..<chunk.endIndex
            }
        }

        func stop() { left.withLock { $0 = $0.upperBound..<$0.upperBound } }
    }
}
