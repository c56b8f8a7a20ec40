/// Something wrong in a settings file: where, what, what would be right.
package struct ServiceProblem: Sendable, Hashable, Codable {
    package enum Severity: String, Sendable, Codable {
        /// The entry does not run.
        case error
        /// The entry runs, perhaps not as its author meant.
        case warning
    }

    package var severity: Severity
    /// The registry's folder; `pipeline` for the pipeline's own settings.
    package var service: String
    /// Relative to the registry where it is inside it.
    package var file: String
    /// The jobName, or the position (`#1` is the first) of an entry that has none; nil for the file itself.
    package var entry: String?
    package var key: String?
    /// One sentence that names the value.
    package var message: String
    package var value: String?
    /// What would be right.
    package var allowed: String?
    /// The known key or job name that is closest to what was written.
    package var nearest: String?

    package init(
        severity: Severity,
        service: String,
        file: String,
        entry: String? = nil,
        key: String? = nil,
        message: String,
        value: String? = nil,
        allowed: String? = nil,
        nearest: String? = nil,
    ) {
        self.severity = severity
        self.service = service
        self.file = file
        self.entry = entry
        self.key = key
        self.message = message
        self.value = value
        self.allowed = allowed
        self.nearest = nearest
    }
}

extension ServiceProblem: CustomStringConvertible {
    /// All of it in one line, for terminals and logs.
    package var description: String {
        var text = "\(severity.rawValue): \(place): \(message)"
        if let allowed { text += " Allowed: \(allowed)." }
        if let nearest { text += " Did you mean \"\(nearest)\"?" }
        return text
    }
}
