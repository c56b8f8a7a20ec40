package import Foundation

/// What went wrong while a private process or a whole stack was started, watched or stopped.
package struct StackError: Error, CustomStringConvertible, Sendable {
    package struct Code: Hashable, Sendable, CustomStringConvertible {
        private enum Value: String { case notFound, cannotStart, exited, timedOut, portTaken, badSetting, fileSystem, unreachable, refused }
        private let value: Value
        package var description: String { value.rawValue }

        /// A program or a file that has to be there is not.
        package static let notFound = Code(value: .notFound)
        /// The operating system refused to start the program.
        package static let cannotStart = Code(value: .cannotStart)
        /// The process ended before it was ready.
        package static let exited = Code(value: .exited)
        /// Something that was waited for did not happen in time.
        package static let timedOut = Code(value: .timedOut)
        /// A port that was asked for belongs to somebody else.
        package static let portTaken = Code(value: .portTaken)
        /// A setting has a value that cannot be used.
        package static let badSetting = Code(value: .badSetting)
        /// A folder or file could not be made, read or written.
        package static let fileSystem = Code(value: .fileSystem)
        /// Nobody answers at an address.
        package static let unreachable = Code(value: .unreachable)
        /// A server answered, and the answer was no (credentials, status).
        package static let refused = Code(value: .refused)
    }

    package let code: Code
    /// What, where, value, cure: one or two sentences for the person at the terminal.
    package let message: String
    /// The log that knows more.
    package let logFile: URL?
    /// The last lines of that log when the error was made.
    package let logTail: [String]

    package init(_ code: Code, _ message: String, logFile: URL? = nil, logStart: UInt64 = 0) {
        self.code = code
        self.message = message
        self.logFile = logFile
        self.logTail = logFile.map { LogTail.lastLines(of: $0, count: 12, from: logStart) } ?? []
    }

    package var description: String {
        guard let logFile else { return message }
        let tail = logTail.isEmpty ? "  (the log is empty)" : logTail.map { "  | \($0)" }.joined(separator: "\n")
        return "\(message)\nThe last lines of \(logFile.path):\n\(tail)"
    }
}
