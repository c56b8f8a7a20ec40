import Logging
import Synchronization

/// Keeps what is logged, for tests of what an operator gets to see.
struct LogBook: LogHandler {
    private final class Pages: Sendable {
        let lines = Mutex<[String]>([])
    }

    private let pages = Pages()
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.info

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let metadata = metadata.merging(event.metadata ?? [:]) { $1 }
        let line = "\(event.level): \(event.message) \(metadata.map { "\($0.key)=\($0.value)" }.sorted().joined(separator: " "))"
        pages.lines.withLock { $0.append(line) }
    }

    var lines: [String] { pages.lines.withLock { $0 } }

    /// Whether one line holds all of these.
    func holds(_ parts: String...) -> Bool {
        lines.contains { line in parts.allSatisfy { line.contains($0) } }
    }
}
