import Foundation
import Logging
import ServiceLifecycle
import Synchronization

/// Tells whoever started this process that it does its work: a JSON file `{"pid":n,"service":name}` at READY_FILE,
/// written when the service is ready, touched every five seconds, removed at the end.
package final class ReadinessFile: Service, Sendable {
    private let file: URL?
    private let service: String
    private let isReady = Mutex(false)
    private let logger: Logger

    init(file: URL?, service: String, logger: Logger) {
        self.file = file
        self.service = service
        self.logger = logger
    }

    package func markReady() {
        let isFirst = isReady.withLock { ready in
            defer { ready = true }
            return !ready
        }
        guard isFirst else { return }
        logger.info("ready")
        write()
    }

    package func run() async throws {
        defer { remove() }
        await cancelWhenGracefulShutdown {
            while !Task.isCancelled {
                if self.isReady.withLock({ $0 }) { self.write() }
                try? await Task.sleep(for: .seconds(5))
            }
        }
    }

    private func write() {
        guard let file else { return }
        let text = #"{"pid":\#(ProcessInfo.processInfo.processIdentifier),"service":"\#(service)"}"#
        do {
            try Data(text.utf8).write(to: file, options: .atomic)
        } catch {
            logger.error("READY_FILE cannot be written", metadata: ["file": "\(file.path)", "error": "\(error)"])
        }
    }

    private func remove() {
        if let file { try? FileManager.default.removeItem(at: file) }
    }
}
