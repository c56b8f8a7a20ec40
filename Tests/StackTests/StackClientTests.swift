import Foundation
import Testing

@testable import Stack

@Suite("The client of a stack")
struct StackClientTests {
    @Test("Only a daemon of this very folder counts, under whatever name the folder has")
    func supervised() async throws {
        try await withTemporaryFolder { folder in
            let home = StackHome(path: folder.appendingPathComponent("home").path)
            try home.makeFolders()
            let alias = folder.appendingPathComponent("alias")
            try FileManager.default.createSymbolicLink(at: alias, withDestinationURL: home.folder)
            let arguments: [([String], Bool)] = [
                (["supervise", "--home", home.folder.path, "--bin", "/x"], true),
                (["supervise", "--home", alias.path], true),
                (["supervise", "--home", home.folder.path + "2"], false),
                (["supervise", "--bin", home.folder.path], false),
                (["supervise", "--home"], false),
                (["status", "--home", home.folder.path], false),
                (["status", "--home", home.folder.path, "supervise"], false),
            ]
            #expect(!StackClient(home: home).isSupervised)
            for (words, isOurs) in arguments {
                var command = shell(idle, name: "daemon", in: folder)
                command.arguments += words
                let process = try ManagedProcess(command)
                try StackStatus(supervisor: process.pid).write(home)
                #expect(StackClient(home: home).isSupervised == isOurs, "\(words)")
                await process.kill()
                #expect(!StackClient(home: home).isSupervised, "\(words)")
            }
        }
    }
}
