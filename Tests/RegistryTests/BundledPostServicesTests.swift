import Foundation
import Jobs
import Registry
import Testing

/// storageManager and systemcleaner, with the settings that they are installed with.
@Suite struct BundledPostServicesTests {
    private let now = Date(timeIntervalSince1970: 1_700_000_000)

    /// export, a service, and the two behind it.
    private func run(storing answer: CallbackAnswer = CallbackAnswer(.accepted(added: [:]))) async throws -> Run {
        let root = URL(filePath: #filePath).resolvingSymlinksInPath().deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let folder = try RegistryFolder(pipeline: "{}")
        for name in ["storageManager", "systemcleaner"] {
            try FileManager.default.copyItem(
                at: root.appending(path: "services/\(name)/registry"), to: folder.url.appending(path: name))
        }
        try folder.service("work")
        let catalog = folder.load()
        #expect(catalog.problems.map(\.description) == [])
        let plan = try await RunPlanner.plan(event: PlanInput(level: .study, headers: [:]), catalog: catalog) { questions, _, _ in
            questions.map { $0.jobName == "storageManager" ? answer : CallbackAnswer(.accepted(added: [:])) }
        }
        #expect(plan.failure == nil)
        var run = Run(id: RunID(milliseconds: 1, random: (2, 3)), plan: plan)
        _ = run.apply(.start, at: now)
        return run
    }

    private func finish(_ run: inout Run, _ name: String, _ outcome: JobExit.Outcome) throws {
        let job = try #require(run.jobs.firstIndex { $0.definition.name == name })
        let attempt = run.jobs[job].attempt
        _ = run.apply(.claim(job: job, attempt: attempt, worker: "w", id: "\(name)\(attempt)"), at: now)
        #expect(run.jobs[job].state == .running, "\(name)")
        let exit = JobExit(
            outcome: outcome, kind: outcome == .failed ? .exception : .completed, startedAt: now, finishedAt: now, isRetriable: false)
        _ = run.apply(.result(job: job, attempt: attempt, token: run.jobs[job].token, exit: exit), at: now)
    }

    private func state(_ run: Run, _ name: String) -> JobState? {
        run.jobs.first { $0.definition.name == name }?.state
    }

    @Test func resultsThatWereNotStoredAreNotDeleted() async throws {
        var run = try await run()
        for name in ["export", "work"] { try finish(&run, name, .succeeded) }
        try finish(&run, "storageManager", .failed)
        let cleaner = try #require(run.jobs.first { $0.definition.name == "systemcleaner" })
        #expect(cleaner.state == .skipped && cleaner.reason.code == "held-back")
        // Stored after all, the run is cleaned up.
        let storing = try #require(run.jobs.firstIndex { $0.definition.name == "storageManager" })
        _ = run.apply(.retry(job: storing, actor: "op"), at: now)
        try finish(&run, "storageManager", .succeeded)
        try finish(&run, "systemcleaner", .succeeded)
        #expect(run.state == .succeeded)
    }

    @Test func aRunWithoutResultsIsCleanedUpToo() async throws {
        var run = try await run(storing: CallbackAnswer(.declined))
        #expect(state(run, "storageManager") == nil)
        for name in ["export", "work", "systemcleaner"] { try finish(&run, name, .succeeded) }
        #expect(run.state == .succeeded)
    }

    @Test func whatAFailedServiceHasLeftIsCleanedUp() async throws {
        var run = try await run()
        try finish(&run, "export", .succeeded)
        try finish(&run, "work", .failed)
        #expect(state(run, "storageManager") == .skipped)
        try finish(&run, "systemcleaner", .succeeded)
        #expect(run.state == .failed)
    }
}
