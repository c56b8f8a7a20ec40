import ArgumentParser
import Foundation
import Glibc
import Logging
import Stack
import Synchronization

/// The daemon behind `up`: owns all processes of a stack until SIGTERM.
struct SuperviseCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "supervise",
        abstract: "Runs a stack in the foreground.",
        shouldDisplay: false,
    )

    @OptionGroup var options: StackOptions

    @Option(name: .customLong("default"), help: "NAME=value: a setting of the lowest rank.")
    var defaults: [String] = []

    func run() async throws {
        let options = options
        let home = options.home
        let logger = Logger(label: "supervisor") { StreamLogHandler.standardError(label: $0) }
        let lowest = Dictionary(
            defaults.compactMap { text in
                text.firstIndex(of: "=").map { (String(text[..<$0]), String(text[text.index(after: $0)...])) }
            },
            uniquingKeysWith: { $1 },
        )
        try FileSystem.makeFolder(home.folder)
        // Or the daemon would hold on to whatever folder `up` was typed in.
        _ = FileManager.default.changeCurrentDirectoryPath(home.folder.path)
        let stop = StopFlag()
        let sources = stop.watch([SIGTERM, SIGINT])
        defer { withExtendedLifetime(sources) {} }
        let daemon = StackDaemon(home: home, logger: logger) {
            try StackPlan.prepare(
                home: home,
                environment: ProcessInfo.processInfo.environment,
                checkout: Checkout.folder,
                executables: options.executables,
                defaults: lowest,
            )
        }
        do {
            try await daemon.run { stop.isSet }
        } catch {
            logger.critical("cannot run the stack", metadata: ["error": "\(error)"])
            throw ExitCode.failure
        }
    }
}

/// Remembers that one of some signals came.
private final class StopFlag: Sendable {
    private let flag = Mutex(false)

    var isSet: Bool { flag.withLock { $0 } }

    /// - Returns: what has to live as long as the signals are to be noticed.
    func watch(_ signals: [Int32]) -> [any DispatchSourceSignal] {
        signals.map { number in
            signal(number, SIG_IGN)
            let source = DispatchSource.makeSignalSource(signal: number)
            source.setEventHandler { self.flag.withLock { $0 = true } }
            source.resume()
            return source
        }
    }
}
