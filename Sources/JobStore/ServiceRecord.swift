package import Jobs

/// A service as the router read it: what the monitor shows of it.
package struct ServiceRecord: Sendable, Hashable, Codable {
    package struct Problem: Sendable, Hashable, Codable {
        /// `error` or `warning`.
        package var severity: String
        /// Relative to the registry.
        package var file: String
        package var entry: String?
        package var key: String?
        /// What stands there.
        package var value: String?
        /// What may stand there.
        package var allowed: String?
        /// The known name that comes nearest.
        package var nearest: String?
        package var message: String

        package init(
            severity: String, file: String, entry: String? = nil, key: String? = nil, value: String? = nil, allowed: String? = nil,
            nearest: String? = nil, message: String
        ) {
            self.severity = severity
            self.file = file
            self.entry = entry
            self.key = key
            self.value = value
            self.allowed = allowed
            self.nearest = nearest
            self.message = message
        }
    }

    package var name: String
    package var jobs: [JobDefinition]
    package var problems: [Problem]
    /// What each job depends on by its settings, both by name; jobs that depend on nothing may be left out.
    package var needs: [String: [String]]

    package init(name: String, jobs: [JobDefinition], problems: [Problem], needs: [String: [String]] = [:]) {
        self.name = name
        self.jobs = jobs
        self.problems = problems
        self.needs = needs
    }
}
