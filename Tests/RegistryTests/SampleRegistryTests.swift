import Foundation
import Jobs
import Registry
import Testing

/// The sample services that come with the product.
@Suite struct SampleRegistryTests {
    private func load() -> ServiceCatalog {
        let root = URL(filePath: #filePath).resolvingSymlinksInPath().deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let registry = root.appending(path: "registry")
        return ServiceCatalog.load(registry: registry, settings: registry.appending(path: "settings.json"))
    }

    @Test func haveNoProblems() {
        let catalog = load()
        #expect(catalog.problems.map(\.description) == [])
        #expect(catalog.names == ["temp", "dcm2nii", "preview"])
        #expect(catalog.pipeline.fullTags)
    }

    @Test func makeAPlan() async throws {
        let plan = try await RunPlanner.plan(event: PlanInput(level: .study, headers: [:]), catalog: load()) { questions, _, _ in
            questions.map { _ in CallbackAnswer(.accepted(added: [:])) }
        }
        #expect(plan.jobs.map(\.definition.name) == ["export", "temp", "dcm2nii", "preview"])
        #expect(plan.jobs.last?.dependencies == [Dependency(parent: 0, origin: .stage), Dependency(parent: 2, origin: .declared)])
    }
}
