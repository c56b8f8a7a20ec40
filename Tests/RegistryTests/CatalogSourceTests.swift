import Foundation
import Registry
import Testing

@Suite struct CatalogSourceTests {
    /// Makes a file older than the time in which a second change could go unnoticed.
    private func age(_ file: URL, by seconds: TimeInterval) throws {
        try FileManager.default.setAttributes([.modificationDate: Date(timeIntervalSinceNow: -seconds)], ofItemAtPath: file.path)
    }

    @Test func noticesChangedAddedAndRemovedServices() throws {
        let folder = try RegistryFolder()
        try folder.service("a")
        let source = ServiceCatalogSource(registry: folder.url, settings: folder.settings)
        #expect(source.current().names == ["a"])
        try folder.service("b")
        #expect(source.current().names == ["a", "b"])
        try folder.write("{\(RegistryFolder.entry("c"))}", to: "b/settings.json")
        #expect(source.current().names == ["a", "c"])
        try FileManager.default.removeItem(at: folder.url.appending(path: "a"))
        #expect(source.current().names == ["c"])
        try folder.write(#"{"postServices": [{\#(RegistryFolder.entry("p"))}]}"#, to: "settings.json")
        #expect(source.current().names == ["c", "p"])
    }

    @Test func doesNotOpenFilesThatHaveNotChanged() throws {
        let folder = try RegistryFolder()
        try folder.service("abc")
        let file = folder.url.appending(path: "abc/settings.json")
        let stamp = Date(timeIntervalSinceNow: -100)
        try age(folder.settings, by: 100)
        try FileManager.default.setAttributes([.modificationDate: stamp], ofItemAtPath: file.path)
        let source = ServiceCatalogSource(registry: folder.url, settings: folder.settings)
        #expect(source.current().names == ["abc"])
        // Other content behind the same size, time and inode: only who opens the file sees it.
        let handle = try FileHandle(forWritingTo: file)
        try handle.write(contentsOf: Data("{\(RegistryFolder.entry("xyz"))}".utf8))
        try handle.close()
        try FileManager.default.setAttributes([.modificationDate: stamp], ofItemAtPath: file.path)
        #expect(source.current().names == ["abc"])
        try age(file, by: 50)
        #expect(source.current().names == ["xyz"])
    }

    @Test func opensYoungFilesAgain() throws {
        let folder = try RegistryFolder()
        try folder.service("abc")
        let file = folder.url.appending(path: "abc/settings.json")
        let stamp = try #require(try FileManager.default.attributesOfItem(atPath: file.path)[.modificationDate] as? Date)
        let source = ServiceCatalogSource(registry: folder.url, settings: folder.settings)
        #expect(source.current().names == ["abc"])
        let handle = try FileHandle(forWritingTo: file)
        try handle.write(contentsOf: Data("{\(RegistryFolder.entry("xyz"))}".utf8))
        try handle.close()
        try FileManager.default.setAttributes([.modificationDate: stamp], ofItemAtPath: file.path)
        #expect(source.current().names == ["xyz"])
    }

    /// Permissions that are put right, or a file server that is back, leave size, time and inode as they were.
    @Test(arguments: ["settings.json", "abc/settings.json"])
    func opensAgainWhatItCouldNotRead(_ path: String) throws {
        let folder = try RegistryFolder()
        try folder.service("abc")
        let file = folder.url.appending(path: path)
        let good = try Data(contentsOf: file)
        try folder.write(String(repeating: "[", count: good.count), to: path)
        for other in [folder.settings, folder.url.appending(path: "abc/settings.json")] { try age(other, by: 100) }
        let stamp = try #require(try FileManager.default.attributesOfItem(atPath: file.path)[.modificationDate] as? Date)
        let source = ServiceCatalogSource(registry: folder.url, settings: folder.settings)
        #expect(!source.current().errors.isEmpty)
        let handle = try FileHandle(forWritingTo: file)
        try handle.write(contentsOf: good)
        try handle.close()
        try FileManager.default.setAttributes([.modificationDate: stamp], ofItemAtPath: file.path)
        #expect(source.current().errors.isEmpty)
    }
}
