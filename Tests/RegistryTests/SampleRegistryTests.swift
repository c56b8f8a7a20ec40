import Foundation
import Jobs
import Registry
import Testing

/// The sample services that come with the product.
@Suite struct SampleRegistryTests {
    private func load() throws -> ServiceCatalog {
        let root = URL(filePath: #filePath).resolvingSymlinksInPath().deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let folder = try RegistryFolder(pipeline: String(contentsOf: root.appending(path: "registry/settings.json"), encoding: .utf8))
        for name in ["temp", "dcm2nii", "preview"] {
            try FileManager.default.copyItem(
                at: root.appending(path: "services/\(name)/registry"), to: folder.url.appending(path: name))
        }
        return folder.load()
    }

    @Test func haveNoProblems() throws {
        let catalog = try load()
        #expect(catalog.problems.map(\.description) == [])
        #expect(catalog.names == ["temp", "dcm2nii", "preview"])
        #expect(catalog.pipeline.fullTags)
    }

    @Test func makeAPlan() async throws {
        let plan = try await RunPlanner.plan(event: PlanInput(level: .study, headers: [:]), catalog: try load()) { questions, _, _ in
            questions.map { _ in CallbackAnswer(.accepted(added: [:])) }
        }
        #expect(plan.jobs.map(\.definition.name) == ["export", "temp", "dcm2nii", "preview"])
        #expect(plan.jobs.last?.dependencies == [Dependency(parent: 0, origin: .stage), Dependency(parent: 2, origin: .declared)])
    }
}
