import Foundation
import Testing

@testable import Router

@Suite struct ConfinedFolderTests {
    final class Place {
        let root = FileManager.default.temporaryDirectory.appending(path: "confined-\(UUID().uuidString)")
        var data: URL { root.appending(path: "data") }
        var outside: URL { root.appending(path: "outside") }

        init() throws {
            for folder in ["data/dicom/run/series", "outside"] {
                try FileManager.default.createDirectory(at: root.appending(path: folder), withIntermediateDirectories: true)
            }
            for file in ["data/dicom/run/a.dcm", "data/dicom/run/series/b.dcm", "data/dicom/other.dcm", "outside/precious"] {
                try Data("x".utf8).write(to: root.appending(path: file))
            }
        }

        deinit { try? FileManager.default.removeItem(at: root) }

        func exists(_ path: String) -> Bool { FileManager.default.fileExists(atPath: root.appending(path: path).path) }
    }

    @Test func whatStartsWithTheNameGoesAndALinkedFolderIsLeftAlone() throws {
        let place = try Place()
        let folder = ConfinedFolder(place.data)
        try folder.removeAll(in: "dicom", startingWith: "ru")
        #expect(!place.exists("data/dicom/run"))
        #expect(place.exists("data/dicom/other.dcm"))
        try folder.removeAll(in: "nowhere", startingWith: "x")
        try folder.removeAll(in: "dicom", startingWith: "")
        #expect(place.exists("data/dicom/other.dcm"))
        try FileManager.default.createSymbolicLink(
            at: place.data.appending(path: "away"), withDestinationURL: place.outside)
        #expect(throws: ConfinedFolder.Refusal.self) { try folder.removeAll(in: "away", startingWith: "pre") }
        #expect(place.exists("outside/precious"))
    }

    @Test func aFolderGoesWithAllThatIsInItAndNothingElse() throws {
        let place = try Place()
        try ConfinedFolder(place.data).remove("dicom/run")
        #expect(!place.exists("data/dicom/run"))
        #expect(place.exists("data/dicom/other.dcm"))
        // Again, and what never was.
        try ConfinedFolder(place.data).remove("dicom/run")
        try ConfinedFolder(place.data).remove("no/such/place")
        try ConfinedFolder(place.root.appending(path: "nowhere")).remove("x")
    }

    @Test func aLinkIsDeletedAndNeverFollowed() throws {
        let place = try Place()
        let link = place.data.appending(path: "dicom/run/link")
        try FileManager.default.createSymbolicLink(at: link, withDestinationURL: place.outside)
        try ConfinedFolder(place.data).remove("dicom/run")
        #expect(!place.exists("data/dicom/run"))
        #expect(place.exists("outside/precious"))
    }

    @Test func aLinkOnTheWayIsRefused() throws {
        let place = try Place()
        try FileManager.default.createSymbolicLink(at: place.data.appending(path: "away"), withDestinationURL: place.outside)
        #expect(throws: ConfinedFolder.Refusal.self) { try ConfinedFolder(place.data).remove("away/precious") }
        #expect(place.exists("outside/precious"))
        // The link itself may go.
        try ConfinedFolder(place.data).remove("away")
        #expect(place.exists("outside/precious"))
        #expect(!place.exists("data/away"))
    }

    @Test(
        arguments: [
            "", "/", "..", "../outside/precious", "dicom/../../outside/precious", "/etc", "dicom//run", "./dicom", "dicom/run/", "a\0b",
        ]
    )
    func aPathThatLeavesIsRefused(path: String) throws {
        let place = try Place()
        #expect(throws: ConfinedFolder.Refusal.self) { try ConfinedFolder(place.data).remove(path) }
        #expect(place.exists("outside/precious"))
        #expect(place.exists("data/dicom/run/a.dcm"))
    }

    @Test func aFileThatWasWrittenAnewStays() throws {
        let place = try Place()
        let folder = ConfinedFolder(place.data)
        try folder.removeFile("dicom/run/a.dcm", unchangedSince: Date() - 3600)
        try folder.removeFile("dicom/run/a.dcm", unchangedSince: .distantPast)
        #expect(place.exists("data/dicom/run/a.dcm"))
        try folder.removeFile("dicom/run/a.dcm", unchangedSince: Date() + 3600)
        #expect(!place.exists("data/dicom/run/a.dcm"))
        // Again, and what never was.
        try folder.removeFile("dicom/run/a.dcm", unchangedSince: Date() + 3600)
        try folder.removeFile("no/such/place", unchangedSince: Date() + 3600)
    }

    @Test func aNameThatTurnsOutToBeAFolderOrALinkStays() throws {
        let place = try Place()
        let link = place.data.appending(path: "link")
        try FileManager.default.createSymbolicLink(at: link, withDestinationURL: place.outside.appending(path: "precious"))
        let folder = ConfinedFolder(place.data)
        for name in ["dicom/run", "link"] { try folder.removeFile(name, unchangedSince: .distantFuture) }
        #expect(place.exists("data/dicom/run/a.dcm"))
        #expect(place.exists("outside/precious"))
        #expect(place.exists("data/link"))
        #expect(throws: ConfinedFolder.Refusal.self) { try folder.removeFile("../outside/precious", unchangedSince: .distantFuture) }
    }
}
