/// Why no Python host could answer.
package struct PythonHostError: Error, CustomStringConvertible {
    package struct Code: Sendable, Hashable, CustomStringConvertible {
        private enum Value: String { case cannotStart, notGreeted, ended }
        private let value: Value
        private init(_ value: Value) { self.value = value }

        /// The interpreter could not be started at all.
        package static let cannotStart = Code(.cannotStart)
        /// A process started but did not greet in our protocol: no package `dcm_processor`, another version, too slow.
        package static let notGreeted = Code(.notGreeted)
        /// The host ended while nothing of a service ran, or was shut down.
        package static let ended = Code(.ended)

        package var description: String { value.rawValue }
    }

    package let code: Code
    package let message: String

    init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    package var description: String { message }
}
