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
        let entry = AuditEntry.atTerminal("add-user", .init("user", name), detail: ["role": .string(role.rawValue)])
        try await store.addUser(name, role: role, password: PasswordHash().make(password), audit: entry, at: Date())
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

    @OptionGroup var user: UserArguments
    @Argument(help: ArgumentHelp("viewer, operator or admin.", valueName: "ROLE")) var role: AccountRole

    func run() async throws {
        try await user.change("set-role", detail: ["role": .string(role.rawValue)], "is \(role.rawValue).") { [role] store, name, entry in
            try await store.setRole(name, role, keepsAdmin: false, audit: entry)
        }
    }
}

struct UserPasswordCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "passwd", abstract: "Sets a user's password and signs this user out everywhere.")

    @OptionGroup var user: UserArguments

    func run() async throws {
        try await user.change("set-password", "has a new password, and is signed out everywhere.") { store, name, entry in
            guard try await store.user(name) != nil else { throw ValidationError("There is no user '\(name)'.") }
            let password = try PasswordPrompt.read(for: name)
            if let problem = AccountRules.problem(password: password, of: name) { throw ValidationError(problem) }
            try await store.setPassword(name, PasswordHash().make(password), audit: entry, at: Date())
        }
    }
}

struct UserDisableCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "disable", abstract: "Signs a user out, and in no more.")

    @OptionGroup var user: UserArguments

    func run() async throws {
        try await user.change("disable-user", "may not sign in any more.") { store, name, entry in
            try await store.setDisabled(name, true, keepsAdmin: false, audit: entry)
        }
    }
}

struct UserEnableCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "enable", abstract: "Lets a disabled user sign in again.")

    @OptionGroup var user: UserArguments

    func run() async throws {
        try await user.change("enable-user", "may sign in again.") { store, name, entry in
            try await store.setDisabled(name, false, keepsAdmin: false, audit: entry)
        }
    }
}

struct UserRemoveCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "remove", abstract: "Removes a user. What this user did stays in the audit.")

    @OptionGroup var user: UserArguments

    func run() async throws {
        try await user.change("remove-user", "is removed.") { store, name, entry in
            try await store.removeUser(name, keepsAdmin: false, audit: entry)
        }
    }
}

/// The user that a command changes.
struct UserArguments: ParsableArguments {
    @OptionGroup var accounts: AccountOptions
    @Argument(help: nameHelp) var name: String

    /// - Parameters:
    ///   - said: what the terminal says of the user then.
    ///   - body: makes the change and writes down the audit's entry, in one transaction.
    func change(
        _ action: String, detail: [String: JSONValue] = [:], _ said: String,
        _ body: (_ store: MonitorStore, _ name: String, _ entry: AuditEntry) async throws -> Void
    ) async throws {
        let name = name.lowercased()
        try await body(accounts.open(), name, .atTerminal(action, .init("user", name), detail: detail))
        say("\(name) \(said)")
    }
}
