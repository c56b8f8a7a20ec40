import Accounts
import ArgumentParser
import Foundation
import JobStore
import Jobs
import Stack

struct UserCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "user",
        abstract: "Says who may sign in to the monitor.",
        discussion: """
            As soon as there is one user, everybody has to sign in. A running monitor follows at once. In a container: \
            docker compose exec monitor dcm-tool user add anna --role admin
            """,
        subcommands: [
            UserAddCommand.self, UserListCommand.self, UserRoleCommand.self, UserPasswordCommand.self, UserDisableCommand.self,
            UserEnableCommand.self, UserRemoveCommand.self,
        ])
}

private let nameHelp = ArgumentHelp("a-z, 0-9, dot, dash, underscore and @.", valueName: "NAME")

struct UserAddCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "add", abstract: "Adds a user. The password is asked for, or is the first line of the standard input.")

    @OptionGroup var accounts: AccountOptions
    @Option(help: "viewer, operator or admin.") var role: AccountRole
    @Argument(help: nameHelp) var name: String

    func run() async throws {
        let name = name.lowercased()
        if let problem = AccountRules.problem(name: name) { throw ValidationError(problem) }
        let store = try accounts.open()
        guard try await store.user(name) == nil else { throw ValidationError("There is a user '\(name)' already.") }
        let password = try PasswordPrompt.read(for: name)
        if let problem = AccountRules.problem(password: password, of: name) { throw ValidationError(problem) }
        try await store.addUser(name, role: role, password: PasswordHash().make(password), at: Date())
        try await store.record(atTerminal: "add-user", .init("user", name), detail: ["role": .string(role.rawValue)])
        say("\(name) may sign in as \(role.rawValue).")
    }
}

struct UserListCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "list", abstract: "Lists the users.")

    @OptionGroup var accounts: AccountOptions

    func run() async throws {
        let users = try await accounts.open().users()
        guard !users.isEmpty else { return say("There are no users.") }
        var table = TextTable(["NAME", "ROLE", "STATE", "SIGNED IN"])
        for user in users {
            table.add([
                user.name, user.role.rawValue, user.isDisabled ? "disabled" : "may sign in", user.signedInAt?.ISO8601Format() ?? "never",
            ])
        }
        say(table.description)
    }
}

struct UserRoleCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "role", abstract: "Gives a user another role.")

    @OptionGroup var accounts: AccountOptions
    @Argument(help: nameHelp) var name: String
    @Argument(help: ArgumentHelp("viewer, operator or admin.", valueName: "ROLE")) var role: AccountRole

    func run() async throws {
        let store = try accounts.open()
        try await store.setRole(name, role, keepsAdmin: false)
        try await store.record(atTerminal: "set-role", .init("user", name.lowercased()), detail: ["role": .string(role.rawValue)])
        say("\(name.lowercased()) is \(role.rawValue).")
    }
}

struct UserPasswordCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "passwd", abstract: "Sets a user's password and signs this user out everywhere.")

    @OptionGroup var accounts: AccountOptions
    @Argument(help: nameHelp) var name: String

    func run() async throws {
        let name = name.lowercased()
        let store = try accounts.open()
        guard try await store.user(name) != nil else { throw ValidationError("There is no user '\(name)'.") }
        let password = try PasswordPrompt.read(for: name)
        if let problem = AccountRules.problem(password: password, of: name) { throw ValidationError(problem) }
        try await store.setPassword(name, PasswordHash().make(password), at: Date())
        try await store.record(atTerminal: "set-password", .init("user", name))
        say("\(name) has a new password, and is signed out everywhere.")
    }
}

struct UserDisableCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "disable", abstract: "Signs a user out, and in no more.")

    @OptionGroup var accounts: AccountOptions
    @Argument(help: nameHelp) var name: String

    func run() async throws {
        let store = try accounts.open()
        try await store.setDisabled(name, true, keepsAdmin: false)
        try await store.record(atTerminal: "disable-user", .init("user", name.lowercased()))
        say("\(name.lowercased()) may not sign in any more.")
    }
}

struct UserEnableCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "enable", abstract: "Lets a disabled user sign in again.")

    @OptionGroup var accounts: AccountOptions
    @Argument(help: nameHelp) var name: String

    func run() async throws {
        let store = try accounts.open()
        try await store.setDisabled(name, false, keepsAdmin: false)
        try await store.record(atTerminal: "enable-user", .init("user", name.lowercased()))
        say("\(name.lowercased()) may sign in again.")
    }
}

struct UserRemoveCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "remove", abstract: "Removes a user. What this user did stays in the audit.")

    @OptionGroup var accounts: AccountOptions
    @Argument(help: nameHelp) var name: String

    func run() async throws {
        let store = try accounts.open()
        try await store.removeUser(name, keepsAdmin: false)
        try await store.record(atTerminal: "remove-user", .init("user", name.lowercased()))
        say("\(name.lowercased()) is removed.")
    }
}
