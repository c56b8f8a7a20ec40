import Foundation
import JobStore
import Jobs
import Pipeline
import Testing

@testable import Router

@Suite struct RunCacheTests {
    func run(_ number: Int, headers: JSONValue = [:]) -> StoredRun {
        let id = RunID(milliseconds: UInt64(number), random: (0, 0))
        let definition = JobDefinition(name: "a", service: "s", stage: .services, entry: "s.a")
        let source = JobSource(server: "o", level: .study, resourceID: "r", series: [], dcmpath: "dicom/\(id)")
        return StoredRun(
            run: Run(id: id, plan: RunPlan(jobs: [.init(definition: definition, dependencies: [])])),
            context: RunContext(source: source, headers: headers, addedParams: [:]))
    }

    func keep(_ run: StoredRun, in cache: inout RunCache) { cache.keep([run.run.id: run]) }

    @Test func whatWasUsedLastStays() {
        var cache = RunCache(countLimit: 8)
        for number in 1...8 { keep(run(number), in: &cache) }
        keep(run(1), in: &cache)
        keep(run(9), in: &cache)
        #expect(cache.count == 6)
        #expect(cache[run(1).run.id] != nil)
        #expect(cache[run(9).run.id] != nil)
        #expect(cache[run(2).run.id] == nil)
    }

    @Test func largeHeadersMakeRoomForNoOthers() {
        let large = JSONValue.array((0..<1000).map { .string("a tag's value of some length \($0)") })
        var cache = RunCache(weightLimit: 1 << 20)
        for number in 1...200 { keep(run(number, headers: large), in: &cache) }
        #expect(cache.count < 20)
        #expect(cache.weight <= 1 << 20)
        #expect(cache[run(200).run.id] != nil)
    }

    @Test func weightIsGivenBack() {
        var cache = RunCache()
        for number in 1...50 { keep(run(number, headers: ["k": "a value that is longer than fifteen bytes"]), in: &cache) }
        for number in 1...50 { cache.forget(run(number).run.id) }
        #expect(cache.weight == 0)
        #expect(cache.count == 0)
    }

    @Test func aRunThatHasEndedLeaves() {
        var cache = RunCache()
        var ended = run(1)
        keep(ended, in: &cache)
        _ = ended.run.apply(.start, at: Date())
        _ = ended.run.apply(.cancelAll(actor: "op"), at: Date())
        #expect(ended.run.state.isTerminal)
        keep(ended, in: &cache)
        #expect(cache.count == 0)
    }
}
