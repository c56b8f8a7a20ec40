import ArgumentParser
import Foundation
import Jobs
import Registry
import Stack

struct ServiceListCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list",
        abstract: "The services of a stack: their jobs, versions, where they came from, and what is wrong.",
    )

    @OptionGroup var options: ServiceOptions

    @Flag(help: "Prints one JSON document for programs.")
    var json = false

    func run() async throws {
        let trees = try options.places().trees
        let inventory = ServiceInventory(trees)
        let others = (Checkout.bundled?.names ?? []).filter { name in !inventory.items.contains { $0.name == name } }
        if json {
            let document: JSONValue = [
                "registry": .string(trees.registry.path), "modules": .string(trees.modules.path), "services": inventory.json,
                "bundled": .array(others.map(JSONValue.string)),
            ]
            say(document.text)
            return
        }
        say("Services in \(trees.registry.path) and \(trees.modules.path)\n")
        var table = TextTable(["service", "state", "version", "from", "jobs"])
        for item in inventory.items {
            let jobs = item.jobs.map { "\($0.name) (\($0.stage.rawValue)\($0.isDisabled ? ", disabled" : ""))" }.joined(separator: ", ")
            table.add([
                item.name, item.state, "\(item.version ?? "-")\(item.isChanged ? "*" : "")", item.record?.source ?? "copied by hand", jobs,
            ])
        }
        say("\(table)")
        if inventory.items.contains(where: \.isChanged) { say("\n* changed since it was installed") }
        for item in inventory.items where !item.problems.isEmpty {
            say("\n\(item.name)")
            for problem in item.problems { say("  \(problem)") }
        }
        if !others.isEmpty { say("\nBundled and not installed: \(others.joined(separator: ", ")) ('./dcm service install NAME')") }
    }
}
