import ArgumentParser
import Foundation
import Stack

struct StatusCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status",
        abstract: "Shows what runs in a stack and where to find it; ends with status 3 when it does not run.",
    )

    @OptionGroup var location: HomeOptions

    func run() throws {
        let home = location.home
        let client = StackClient(home: home)
        guard try client.isRunning, let status = StackStatus.read(home) else {
            say("No stack runs in \(home.folder.path); './dcm up\(location.suffix)' starts it.")
            throw ExitCode(3)
        }
        guard client.isSupervised else {
            say("The supervisor of the stack in \(home.folder.path) was killed; its processes are ending.")
            throw ExitCode(3)
        }
        say("Stack in \(home.folder.path), supervised by process \(status.supervisor)\n")
        var table = TextTable(["SERVICE", "STATE", "PID", "SINCE", "STARTS"])
        for child in status.children {
            table.add([
                child.name, child.state.rawValue, child.pid.map(String.init) ?? "-", Self.age(child.since), "\(child.starts)",
            ])
        }
        say(table.description)
        for child in status.children {
            if let problem = child.problem { say("\n\(problem)") }
        }
        if let endpoints = try? Endpoints.read(home) { say(endpoints.summary(home: home)) }
    }

    private static func age(_ since: Date) -> String {
        let seconds = max(0, Int(Date().timeIntervalSince(since)))
        switch seconds {
        case ..<120: return "\(seconds) s"
        case ..<7200: return "\(seconds / 60) min"
        case ..<172_800: return "\(seconds / 3600) h"
        default: return "\(seconds / 86_400) d"
        }
    }
}
