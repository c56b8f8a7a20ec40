import Foundation
import Jobs
import Registry
import Stack
import Synchronization
import Testing

@Suite("Installing services", .timeLimit(.minutes(2))) struct ServiceInstallTests {
    private func catalog(_ site: ServiceSite) -> ServiceCatalog {
        ServiceCatalog.load(registry: site.trees.registry, settings: site.trees.settings)
    }

    @Test("A package becomes a folder in each tree, without caches, tests and version control")
    func install() async throws {
        try await withSite { site in
            let extra = [
                "module/__pycache__/main.cpython-311.pyc": "x", "module/.git/HEAD": "x", "module/tests/test_it.py": "x",
                "module/sub/data.txt": "kept", "tests/test_it.py": "x", "README.md": "x", "module/venv/pyvenv.cfg": "x",
            ]
            let plan = try await ServiceInstaller(site.trees).install("one", site.package("one", extra: extra), source: "here")
            #expect(site.visible == ["one", "settings.json", "one"])
            let files = ["registry/one/__init__.py", "registry/one/settings.json", "modules/one/__init__.py", "modules/one/sub/data.txt"]
            #expect(Set(plan.files) == Set(files))
            let found = site.snapshot().filter { $0.value != "folder" && !$0.key.contains("/.dcm") && $0.key != "registry/settings.json" }
            #expect(Set(found.keys) == Set(files))
            #expect(site.leftovers.isEmpty)
            #expect(catalog(site).problems.isEmpty)
            #expect(Set(plan.leftOut) == ["module/__pycache__", "module/.git", "module/tests", "module/venv"])
        }
    }

    @Test("A dry run changes nothing, not even a lock file")
    func dryRun() async throws {
        try await withSite { site in
            try await site.install("one")
            let package = try site.package("one", mark: "2")
            let before = site.snapshot()
            let plan = try ServiceInstaller(site.trees).plan("one", package, source: "here", replace: true)
            #expect(plan.replaces)
            #expect(plan.text(listing: true).contains("job one: services"))
            #expect(site.snapshot() == before)
            let fresh = site.folder.appendingPathComponent("fresh")
            let trees = ServiceTrees(registry: fresh.appendingPathComponent("registry"), modules: fresh.appendingPathComponent("modules"))
            _ = try ServiceInstaller(trees).plan("one", package, source: "here", replace: false)
            #expect(!FileSystem.exists(fresh))
        }
    }

    @Test("What collides is refused with a reason, and nothing changes")
    func collisions() async throws {
        try await withSite { site in
            try await site.install("one")
            try FileSystem.makeFolder(site.trees.modules.appendingPathComponent("shared"))
            let before = site.snapshot()
            let taken = try await refusal { try await site.install("one", mark: "2") }
            #expect(taken?.contains("--replace") == true)
            let job = try await refusal { try await site.install("two", job: "one") }
            #expect(job?.contains("one") == true)
            #expect(job?.contains("--force") == true)
            let code = try await refusal { try await site.install("shared") }
            #expect(code?.contains("belongs to no service") == true)
            let broken = try await refusal {
                _ = try await ServiceInstaller(site.trees).install("bad", site.package("bad", settings: "{\"jobName\": 1}"), source: "here")
            }
            #expect(broken?.contains("jobName") == true)
            let elsewhere = try await refusal {
                _ = try await ServiceInstaller(site.trees).install("renamed", site.package("original"), source: "here")
            }
            #expect(elsewhere?.contains("install the service as original") == true)
            #expect(site.snapshot() == before)
            try await site.install("one", mark: "2", replace: true)
            #expect(site.mark(site.trees.modules, "one") == "2")
        }
    }

    @Test(
        "Names that cannot be a folder and a package are refused",
        arguments: ["", "../x", "a/b", "a.b", ".x", "-p", "export", "ü", "__x"])
    func names(_ name: String) {
        #expect(throws: StackError.self) { try ServiceName.check(name) }
    }

    @Test("A dash is fine: upstream's services have some")
    func dash() async throws {
        try await withSite { site in
            try await site.install("ms-sub")
            #expect(catalog(site).entries.map(\.name) == ["ms-sub"])
        }
    }

    @Test("Code without settings, as the older project's base, is installed, listed, and missed by the pipeline's settings")
    func codeOnly() async throws {
        try await withSite { site in
            let root = site.folder.appendingPathComponent("base")
            for half in ["registry", "module"] {
                try FileSystem.makeFolder(root.appendingPathComponent(half))
                try FileSystem.write("", to: root.appendingPathComponent("\(half)/__init__.py"))
            }
            let installer = ServiceInstaller(site.trees)
            let plan = try await installer.install("base", ServicePackage.find("base", in: root), source: "here")
            #expect(plan.warnings.count == 1)
            let settings = #"{"postServices": [{"jobName": "keeper", "worker": "base.keep.worker", "callback": "base.keep"}]}"#
            try FileSystem.write(settings, to: site.trees.settings)
            #expect(ServiceInventory(site.trees).items.map(\.name) == ["base"])
            let message = try await refusal { try await installer.remove("base", backup: nil, force: false) }
            #expect(message?.contains("job keeper of pipeline uses its code") == true)
        }
    }

    @Test("A link out of the package is refused; one inside it stays a link")
    func links() async throws {
        try await withSite { site in
            let package = try site.package("one")
            let module = try #require(package.module)
            try FileManager.default.createSymbolicLink(
                atPath: module.appendingPathComponent("again.py").path, withDestinationPath: "__init__.py")
            _ = try await ServiceInstaller(site.trees).install("one", package, source: "here")
            let link = try FileManager.default.destinationOfSymbolicLink(atPath: site.trees.modules.path + "/one/again.py")
            #expect(link == "__init__.py")
            for target in ["/etc/passwd", "../../x", "sub/../../../x"] {
                let bad = module.appendingPathComponent("out.py").path
                try FileManager.default.createSymbolicLink(atPath: bad, withDestinationPath: target)
                let message = try await refusal {
                    _ = try await ServiceInstaller(site.trees).install("one", package, source: "here", replace: true)
                }
                #expect(message?.contains("out of its folder") == true)
                try FileManager.default.removeItem(atPath: bad)
            }
        }
    }

    @Test("A service that others depend on is not removed unless that is meant")
    func dependents() async throws {
        try await withSite { site in
            try await site.install("one")
            let settings = #"{"jobName": "two", "worker": "two.worker", "callback": "two.callback", "dependsOn": "one"}"#
            let plan = try await ServiceInstaller(site.trees).install("two", site.package("two", settings: settings), source: "here")
            #expect(plan.text(listing: true).contains("after one"))
            let installer = ServiceInstaller(site.trees)
            let again = try installer.plan("one", site.package("one", mark: "2"), source: "here", replace: true)
            #expect(again.text(listing: false).contains("before two"))
            let message = try await refusal { try await installer.remove("one", backup: nil, force: false) }
            #expect(message?.contains("two") == true)
            #expect(site.visible == ["one", "settings.json", "two", "one", "two"])
            let backup = site.folder.appendingPathComponent("backup")
            try await installer.remove("one", backup: backup, force: true)
            #expect(site.visible == ["settings.json", "two", "two"])
            let kept = try ServicePackage.find("one", in: backup.appendingPathComponent("one"))
            _ = try await installer.install("one", kept, source: "backup")
            #expect(site.visible == ["one", "settings.json", "two", "one", "two"])
            let missing = try await refusal { try await installer.remove("three", backup: nil, force: false) }
            #expect(missing?.contains("one, two") == true)
        }
    }

    @Test("A backup has upstream's shape and brings back the same version")
    func backup() async throws {
        try await withSite { site in
            try await site.install("one", mark: "7")
            let folder = site.folder.appendingPathComponent("backup")
            let installer = ServiceInstaller(site.trees)
            try await installer.backup("one", to: folder, replace: false)
            #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["one"])
            #expect(Set(try FileManager.default.contentsOfDirectory(atPath: folder.path + "/one")) == ["registry", "module"])
            let twice = try await refusal { try await installer.backup("one", to: folder, replace: false) }
            #expect(twice?.contains("--replace") == true)
            let version = ServiceInventory(site.trees).items.first?.version
            try await installer.remove("one", backup: nil, force: false)
            #expect(ServiceInventory(site.trees).items.isEmpty)
            let package = try ServicePackage.find("one", in: folder)
            _ = try await installer.install("one", package, source: "backup")
            #expect(ServiceInventory(site.trees).items.first?.version == version)
        }
    }

    @Test("The list knows what was changed by hand and where it came from")
    func inventory() async throws {
        try await withSite { site in
            try await site.install("one")
            let item = try #require(ServiceInventory(site.trees).items.first)
            #expect(item.record?.source == "here")
            #expect(!item.isChanged)
            #expect(item.state == "ok")
            try FileSystem.write("MARK = 'x'\n", to: site.trees.modules.appendingPathComponent("one/__init__.py"))
            #expect(ServiceInventory(site.trees).items.first?.isChanged == true)
            let json = ServiceInventory(site.trees).json.array?.first
            #expect(json?["changed"] == true)
            #expect(json?["jobs"]?.array?.first?["stage"]?.string == "services")
        }
    }
}
