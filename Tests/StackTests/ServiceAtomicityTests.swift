import Foundation
import Registry
import Stack
import Synchronization
import Testing

@Suite("What a reader sees while services change", .timeLimit(.minutes(2))) struct ServiceAtomicityTests {
    private func killing(at step: FolderSwap.Step, _ site: ServiceSite) -> ServiceInstaller {
        ServiceInstaller(site.trees) { if $0 == step { throw Killed() } }
    }

    /// The service as one reader finds it; settings come with code, always.
    private func check(_ site: ServiceSite, allowed: Set<String?>, _ place: Comment) {
        let catalog = ServiceCatalog.load(registry: site.trees.registry, settings: site.trees.settings)
        #expect(catalog.problems.isEmpty, place)
        let settings = catalog.entries.first?.description
        #expect(allowed.contains(settings), place)
        #expect(site.mark(site.trees.registry, "one") == settings, place)
        if settings != nil { #expect(site.mark(site.trees.modules, "one") != nil, place) }
    }

    @Test(
        "Killed after any step of an installation: a reader sees nothing or all of it, the next one repairs",
        arguments: FolderSwap.Step.allCases)
    func killedInstall(_ step: FolderSwap.Step) async throws {
        try await withSite { site in
            let package = try site.package("one")
            _ = try? await killing(at: step, site).install("one", package, source: "here")
            check(site, allowed: [nil, "1"], "killed at \(step)")
            // Only where everything is in its place is there something to replace.
            let isDone = ServiceCatalog.load(registry: site.trees.registry, settings: site.trees.settings).entries.count == 1
            if !isDone { try await site.install("one") }
            #expect(site.mark(site.trees.registry, "one") == "1")
            #expect(site.mark(site.trees.modules, "one") == "1")
            try await site.install("one", mark: "2", replace: true)
            #expect(site.leftovers.isEmpty)
            #expect(ServiceInventory(site.trees).items.map(\.state) == ["ok"])
        }
    }

    @Test(
        "Killed after any step of a replacement: a reader sees a whole service, the next one repairs",
        arguments: FolderSwap.Step.allCases)
    func killedReplacement(_ step: FolderSwap.Step) async throws {
        try await withSite { site in
            try await site.install("one")
            _ = try? await killing(at: step, site).install("one", site.package("one", mark: "2"), source: "here", replace: true)
            check(site, allowed: ["1", "2"], "killed at \(step)")
            let isTorn = site.mark(site.trees.registry, "one") != site.mark(site.trees.modules, "one")
            #expect(isTorn == (step == .moduleInPlace))
            #expect(ServiceInventory(site.trees).items.map(\.state) == [isTorn ? "error" : "ok"])
            try await site.install("one", mark: "3", replace: true)
            #expect(site.mark(site.trees.registry, "one") == "3")
            #expect(site.mark(site.trees.modules, "one") == "3")
            #expect(site.leftovers.isEmpty)
            #expect(ServiceInventory(site.trees).items.map(\.state) == ["ok"])
        }
    }

    @Test(
        "Killed after any step of a removal: a reader sees all of it or nothing, the next one ends it",
        arguments: FolderSwap.Step.allCases)
    func killedRemoval(_ step: FolderSwap.Step) async throws {
        try await withSite { site in
            try await site.install("one")
            _ = try? await killing(at: step, site).remove("one", backup: nil, force: false)
            check(site, allowed: [nil, "1"], "killed at \(step)")
            if site.visible != ["settings.json"] { try await ServiceInstaller(site.trees).remove("one", backup: nil, force: false) }
            #expect(site.visible == ["settings.json"])
            try await site.install("one")
            #expect(site.leftovers.isEmpty)
        }
    }

    @Test("What the file system refuses half-way is undone")
    func undone() async throws {
        try await withSite { site in
            try await site.install("one")
            let before = site.snapshot()
            // Something that is no folder: the exchange of the registry works, its predecessor cannot be a leftover.
            let installer = ServiceInstaller(site.trees) {
                if $0 == .moduleInPlace { throw StackError(.fileSystem, "No room.") }
            }
            let package = try site.package("one", mark: "2")
            let message = try await refusal { _ = try await installer.install("one", package, source: "here", replace: true) }
            #expect(message == "No room.")
            #expect(site.snapshot() == before)
        }
    }

    @Test("Readers in a loop never miss a service that is replaced again and again, nor find old code for new settings")
    func replacedUnderReaders() async throws {
        try await withSite { site in
            try await site.install("one", mark: "1000")
            let watch = Watch()
            let packages = try (1001...1020).map { try ("\($0)", site.package("one", mark: "\($0)")) }
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    for (_, package) in packages {
                        _ = try await ServiceInstaller(site.trees).install("one", package, source: "here", replace: true)
                    }
                    watch.isDone.withLock { $0 = true }
                }
                group.addTask {
                    while !watch.isDone.withLock({ $0 }) {
                        let catalog = ServiceCatalog.load(registry: site.trees.registry, settings: site.trees.settings)
                        let settings = catalog.entries.first?.description.flatMap(Int.init)
                        let code = site.mark(site.trees.modules, "one").flatMap(Int.init)
                        if !catalog.problems.isEmpty { watch.faults.withLock { $0.append("\(catalog.problems)") } }
                        if settings == nil || code == nil || settings! > code! {
                            watch.faults.withLock { $0.append("settings \(settings as Int?), code \(code as Int?)") }
                        }
                        watch.looks.withLock { $0 += 1 }
                        await Task.yield()
                    }
                }
                try await group.waitForAll()
            }
            #expect(watch.faults.withLock { $0.prefix(3) } == [])
            #expect(watch.looks.withLock { $0 } > 0)
            #expect(site.mark(site.trees.registry, "one") == "1020")
        }
    }
}

private final class Watch: Sendable {
    let isDone = Mutex(false)
    let faults = Mutex<[String]>([])
    let looks = Mutex(0)
}
