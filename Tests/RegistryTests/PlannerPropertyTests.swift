import Foundation
import Jobs
import Registry
import TestSupport
import Testing

/// Random catalogs and verdicts; a failing case names its seed.
@Suite struct PlannerPropertyTests {
    /// Settings in which everything may be wrong, written out and read like anyone's.
    static func folder(seed: UInt64) throws -> RegistryFolder {
        var random = SeededGenerator(seed: seed)
        let names = (0..<Int.random(in: 1...14, using: &random)).map { "j\($0)" }
        var lists: [Stage: [String]] = [:]
        for name in names {
            var members: [String] = []
            if random.chance(60) {
                let parents = (0..<Int.random(in: 0...3, using: &random)).map { _ in "\"\(names.randomElement(using: &random)!)\"" }
                members.append("\"dependsOn\": [\(parents.joined(separator: ","))]")
            }
            if random.chance(50) { members.append("\"sortPosition\": \(Int.random(in: -3...3, using: &random))") }
            if random.chance(25) { members.append(#""onFailure": "run""#) }
            if random.chance(20) { members.append(#""finalizer": true"#) }
            if random.chance(20) { members.append(#""storing": true"#) }
            if random.chance(8) { members.append(#""disabled": true"#) }
            if random.chance(8) { members.append(#""events": "series""#) }
            let stage: Stage = random.chance(25) ? .pre : random.chance(35) ? .post : .services
            // A broken pre-service ends the case early, so it is made rarer.
            if random.chance(stage == .pre ? 1 : 6) { members.append(#""timeout": "never""#) }
            lists[stage, default: []].append("{\(RegistryFolder.entry(name, members.joined(separator: ", ")))}")
        }
        let folder = try RegistryFolder(
            pipeline: """
                {"preServices": [\(lists[.pre, default: []].joined(separator: ","))],
                 "postServices": [\(lists[.post, default: []].joined(separator: ","))]}
                """
        )
        for (index, entry) in lists[.services, default: []].enumerated() {
            try folder.write(entry, to: "s\(index)/settings.json")
        }
        return folder
    }

    static func plan(_ catalog: ServiceCatalog, seed: UInt64) async throws -> RunPlan {
        var random = SeededGenerator(seed: seed ^ 0xabcd)
        return try await RunPlanner.plan(event: PlanInput(level: .study, headers: ["seed": 1]), catalog: catalog) { questions, _, _ in
            questions.map { question in
                if random.chance(75) { return CallbackAnswer(.accepted(added: ["from": .string(question.jobName)])) }
                if question.stage == .pre || random.chance(70) { return CallbackAnswer(.declined) }
                return CallbackAnswer(.failed(JobExit.Failure(type: "ValueError", message: "x")))
            }
        }
    }

    @Test(arguments: 0..<20)
    func plansKeepTheirPromises(_ block: Int) async throws {
        var withJobs = 0
        for seed in UInt64(block * 25)..<UInt64(block * 25 + 25) {
            let folder = try Self.folder(seed: seed)
            let catalog = folder.load()
            let plan = try await Self.plan(catalog, seed: seed)
            #expect(plan == (try await Self.plan(folder.load(), seed: seed)), "seed \(seed): not deterministic")
            check(plan, of: catalog, "seed \(seed)")
            if !plan.jobs.isEmpty { withJobs += 1 }
        }
        #expect(withJobs > 2, "the generator makes too few runs to say anything")
    }

    private func check(_ plan: RunPlan, of catalog: ServiceCatalog, _ place: Comment) {
        let decided = Set(plan.decisions.map(\.job))
        #expect(Set(catalog.entries.map(\.name) + catalog.brokenEntries.map(\.label)) == decided, place)
        guard plan.failure == nil, !plan.jobs.isEmpty else {
            #expect(plan.jobs.isEmpty && plan.addedParams.isEmpty, place)
            return
        }
        let jobs = plan.jobs
        #expect(jobs[0].definition.kind == .export && jobs[0].dependencies.isEmpty && jobs[0].skipped == nil, place)
        #expect(jobs.dropFirst().allSatisfy { $0.definition.kind == .python }, place)
        #expect(Set(jobs.map(\.definition.name)).count == jobs.count, place)
        let running = jobs.indices.filter { jobs[$0].skipped == nil }
        #expect(running.contains { jobs[$0].definition.stage == .services }, place)
        // A pre-service whose callback accepted runs, or nothing does.
        #expect(!jobs.contains { $0.definition.stage == .pre && !$0.definition.isFinalizer && $0.skipped != nil }, place)
        #expect(Set(plan.addedParams.keys) == Set(running.dropFirst().map { jobs[$0].definition.name }), place)

        var ancestors: [Set<Int>] = []
        for (index, job) in jobs.enumerated() {
            let parents = job.dependencies.map(\.parent)
            #expect(parents.allSatisfy { $0 >= 0 && $0 < index }, place)
            #expect(Set(parents).count == parents.count, place)
            #expect(parents.allSatisfy { jobs[$0].skipped == nil }, place)
            #expect(job.dependencies.allSatisfy { $0.satisfiedBy == nil }, place)
            ancestors.append(parents.reduce(into: Set(parents)) { $0.formUnion(ancestors[$1]) })
            checkBarrier(jobs, index, ancestors[index], running, place)
            checkDeclared(jobs, index, catalog, place)
        }
    }

    private func checkBarrier(_ jobs: [RunPlan.Entry], _ index: Int, _ ancestors: Set<Int>, _ running: [Int], _ place: Comment) {
        let job = jobs[index]
        guard index > 0 else { return }
        #expect(ancestors.contains(0), place)
        let order: [Stage] = [.export, .pre, .services, .post]
        for other in running where order.firstIndex(of: jobs[other].definition.stage)! < order.firstIndex(of: job.definition.stage)! {
            #expect(ancestors.contains(other), place)
            // Nothing but cleaning up may run on data that a pre-service has failed on.
            if jobs[other].definition.stage == .pre, !job.definition.isFinalizer {
                #expect(job.dependencies.contains { $0.parent == other && $0.condition == .succeeded }, place)
            }
        }
        if job.definition.isFinalizer { #expect(job.dependencies.allSatisfy { $0.condition == .finished }, place) }
    }

    private func checkDeclared(_ jobs: [RunPlan.Entry], _ index: Int, _ catalog: ServiceCatalog, _ place: Comment) {
        let job = jobs[index]
        guard let entry = catalog.entries.first(where: { $0.name == job.definition.name && !$0.isDisabled }) else {
            #expect(index == 0, place)
            return
        }
        for name in entry.dependsOn {
            let parent = jobs.firstIndex { $0.definition.name == name && $0.skipped == nil }
            if let parent {
                #expect(job.dependencies.contains { $0.parent == parent && $0.origin == .declared }, place)
            } else if entry.onFailure == .skip, !entry.definition.isFinalizer {
                #expect(job.skipped?.code == "dependency-not-accepted", place)
            }
        }
        if job.skipped != nil, !entry.definition.isFinalizer { #expect(!entry.dependsOn.isEmpty && entry.onFailure == .skip, place) }
    }
}
