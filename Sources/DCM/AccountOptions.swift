import ArgumentParser
import Foundation
import JobStore
import Jobs
import Stack

/// Whose users and tokens are meant. The store is written directly: whoever may write STATE may say who may sign in, also before the
/// first start and while the monitor is down.
struct AccountOptions: ParsableArguments {
    @OptionGroup var location: HomeOptions

    @Option(
        help: ArgumentHelp(
            "The STATE folder of a monitor that './dcm up' did not start (default: the environment's STATE, else the stack's).",
            valueName: "DIR"))
    var state: String?

    func open() throws -> MonitorStore { try MonitorStore(folder: folder) }

    private var folder: URL {
        if let state { return URL(fileURLWithPath: state).standardizedFileURL }
        if location.path == nil, let state = ProcessInfo.processInfo.environment["STATE"], !state.isEmpty {
            return URL(fileURLWithPath: state).standardizedFileURL
        }
        return location.home.state
    }
}

extension AuditEntry {
    /// What was done at a terminal, and by which account of the machine.
    static func atTerminal(_ action: String, _ target: Target, detail: [String: JSONValue] = [:]) -> AuditEntry {
        let detail = detail.merging(["account": .string(NSUserName())]) { $1 }
        return AuditEntry(actor: "cli", action: action, target: target, detail: .object(detail))
    }
}

extension AccountRole: ExpressibleByArgument {}

/// A password that nobody sees on the screen, in the list of processes or in the shell's history.
enum PasswordPrompt {
    /// Asks twice at a terminal; else reads the first line of the standard input.
    static func read(for name: String) throws -> String {
        guard isatty(STDIN_FILENO) == 1 else {
            guard let line = readLine(strippingNewline: true) else {
                throw ValidationError("The password is the first line of the standard input, and there is none.")
            }
            return line
        }
        let password = ask("Password of \(name): ")
        guard password == ask("Once more: ") else { throw ValidationError("The two passwords differ. Nothing was changed.") }
        return password
    }

    private static func ask(_ question: String) -> String {
        FileHandle.standardError.write(Data(question.utf8))
        var shown = termios()
        tcgetattr(STDIN_FILENO, &shown)
        var hidden = shown
        hidden.c_lflag &= ~tcflag_t(ECHO)
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &hidden)
        defer {
            tcsetattr(STDIN_FILENO, TCSAFLUSH, &shown)
            FileHandle.standardError.write(Data("\n".utf8))
        }
        return readLine(strippingNewline: true) ?? ""
    }
}
