import Accounts
import ArgumentParser
import Foundation
import JobStore
import Jobs
import Stack

struct TokenCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "token",
        abstract: "Makes and revokes API tokens of the monitor.",
        discussion: "A program sends its token as 'Authorization: Bearer TOKEN'.",
        subcommands: [TokenAddCommand.self, TokenListCommand.self, TokenRevokeCommand.self])
}

struct TokenAddCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "add", abstract: "Makes a token and prints it, this once: only its SHA-256 is kept.")

    @OptionGroup var accounts: AccountOptions
    @Option(help: "viewer, operator or admin.") var role: AccountRole = .viewer
    @Option(help: ArgumentHelp("For how many days it is valid, 1 to 3650.", valueName: "N")) var days = 365
    @Argument(help: ArgumentHelp("What it is for: a-z, 0-9, dot, dash, underscore and @.", valueName: "NAME")) var name: String

    func validate() throws {
        guard (1...3650).contains(days) else { throw ValidationError("--days is \(days); it has to be a number from 1 to 3650.") }
    }

    func run() async throws {
        let name = name.lowercased()
        if let problem = AccountRules.problem(name: name) { throw ValidationError(problem) }
        let now = Date()
        let (id, secret) = SecretText.makeToken()
        let store = try accounts.open()
        try await store.addToken(
            MonitorToken(
                id: id, name: name, role: role, createdBy: "cli", createdAt: now, expiresAt: now.addingTimeInterval(Double(days) * 86400)),
            hash: SecretText.digest(secret),
            audit: .atTerminal(
                "add-token", .init("token", id),
                detail: ["name": .string(name), "role": .string(role.rawValue), "days": .integer(Int64(days))]))
        // Alone on its line and on the standard output, for scripts.
        say(secret)
    }
}

struct TokenListCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "list", abstract: "Lists the tokens, not their secrets.")

    @OptionGroup var accounts: AccountOptions

    func run() async throws {
        let tokens = try await accounts.open().tokens()
        guard !tokens.isEmpty else { return say("There are no tokens. MONITOR_TOKEN is not listed: it is a setting.") }
        let now = Date()
        var table = TextTable(["ID", "NAME", "ROLE", "STATE", "EXPIRES", "LAST USED"])
        for token in tokens {
            table.add([
                token.id, token.name, token.role.rawValue,
                token.revokedAt != nil ? "revoked" : token.isValid(at: now) ? "valid" : "expired",
                token.expiresAt?.ISO8601Format() ?? "never", token.usedAt?.ISO8601Format() ?? "never",
            ])
        }
        say(table.description)
    }
}

struct TokenRevokeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "revoke", abstract: "Ends a token at once.")

    @OptionGroup var accounts: AccountOptions
    @Argument(help: ArgumentHelp("The token's name or id.", valueName: "NAME")) var name: String

    func run() async throws {
        let entry: @Sendable (MonitorToken) -> AuditEntry = { token in
            .atTerminal("revoke-token", .init("token", token.id), detail: ["name": .string(token.name)])
        }
        let token = try await accounts.open().revokeToken(name, audit: entry, at: Date())
        say("The token \(token.name) is revoked.")
    }
}
