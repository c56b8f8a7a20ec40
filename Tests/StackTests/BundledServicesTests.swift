import Foundation
import Registry
import Stack
import Testing

@Suite("Bundled services", .timeLimit(.minutes(1))) struct BundledServicesTests {
    private static let checkout = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    private func home(_ folder: URL) -> StackHome { StackHome(path: folder.appendingPathComponent("home").path) }

    @Test("An empty home gets the standard ones, and they have no problem")
    func standard() async throws {
        try await withTemporaryFolder { folder in
            let bundled = try #require(BundledServices(Self.checkout.appendingPathComponent("services")))
            let home = home(folder)
            let pipeline = Self.checkout.appendingPathComponent("registry/settings.json")
            try home.fillServices(from: bundled, setting: nil, pipeline: pipeline)
            let items = ServiceInventory(ServiceTrees(home)).items
            #expect(items.map(\.name) == ["dcm2nii", "preview", "temp"])
            #expect(items.allSatisfy { $0.state == "ok" && $0.record?.source == "bundled" })
            #expect(try Data(contentsOf: home.registry.appendingPathComponent("settings.json")) == Data(contentsOf: pipeline))
        }
    }

    @Test("All of them together can be planned")
    func all() async throws {
        try await withTemporaryFolder { folder in
            let bundled = try #require(BundledServices(Self.checkout.appendingPathComponent("services")))
            let home = home(folder)
            try home.fillServices(from: bundled, setting: "all", pipeline: nil)
            #expect(try bundled.chosen("all").count >= 3)
            let catalog = ServiceCatalog.load(registry: home.registry, settings: home.registry.appendingPathComponent("settings.json"))
            #expect(catalog.problems.filter { $0.severity == .error } == [])
            #expect(catalog.failure == nil)
        }
    }

    @Test("A home that has services keeps them, whatever SERVICES says; a wrong name stops the filling of an empty one")
    func kept() async throws {
        try await withTemporaryFolder { folder in
            let bundled = try #require(BundledServices(Self.checkout.appendingPathComponent("services")))
            let home = home(folder)
            let message = try await refusal { try home.fillServices(from: bundled, setting: "temp,tmp", pipeline: nil) }
            #expect(message?.contains("'tmp'") == true)
            try FileSystem.makeFolder(home.registry.appendingPathComponent("mine"))
            try home.fillServices(from: bundled, setting: "temp", pipeline: nil)
            #expect(try FileManager.default.contentsOfDirectory(atPath: home.registry.path) == ["mine"])
            #expect(try FileManager.default.contentsOfDirectory(atPath: home.modules.path).isEmpty)
            let none = self.home(folder.appendingPathComponent("none"))
            try none.fillServices(from: bundled, setting: "none", pipeline: nil)
            let names = try FileManager.default.contentsOfDirectory(atPath: none.registry.path).filter { !$0.hasPrefix(".") }
            #expect(names == ["settings.json"])
        }
    }

    @Test("A first start that was killed while it filled goes on")
    func interrupted() async throws {
        try await withTemporaryFolder { folder in
            let bundled = try #require(BundledServices(Self.checkout.appendingPathComponent("services")))
            let home = home(folder)
            try home.fillServices(from: bundled, setting: "temp", pipeline: nil)
            FileSystem.remove(home.registry.appendingPathComponent("settings.json"))
            try FileSystem.write("", to: home.registry.appendingPathComponent(".dcm-filling"))
            try home.fillServices(from: bundled, setting: "temp,preview", pipeline: nil)
            #expect(ServiceInventory(ServiceTrees(home)).items.map(\.name) == ["preview", "temp"])
            #expect(!FileSystem.exists(home.registry.appendingPathComponent(".dcm-filling")))
        }
    }

    @Test("The template can be installed as it is")
    func template() async throws {
        try await withSite { site in
            let folder = site.folder.appendingPathComponent("first")
            try ServiceTemplate(name: "first-one").write(to: folder)
            let package = try ServicePackage.find("first-one", in: folder)
            let plan = try await ServiceInstaller(site.trees).install("first-one", package, source: "here")
            #expect(plan.warnings.isEmpty)
            #expect(ServiceInventory(site.trees).items.map(\.state) == ["ok"])
            #expect(throws: StackError.self) { try ServiceTemplate(name: "first-one").write(to: folder) }
        }
    }
}
