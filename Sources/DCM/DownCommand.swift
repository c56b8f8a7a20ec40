import ArgumentParser
import Foundation
import Stack

struct DownCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "down",
        abstract: "Stops every process of a stack and keeps its state.",
    )

    @OptionGroup var location: HomeOptions

    func run() async throws {
        let home = location.home
        say("Stopping the stack in \(home.folder.path)")
        let stopped = try await StackClient(home: home).down(say: say)
        say(stopped ? "Everything is stopped; the state is kept." : "Nothing was running there.")
    }
}
