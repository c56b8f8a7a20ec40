import Foundation
import Logging
import ServiceLifecycle
import Synchronization

/// Tells whoever started this process that it does its work: a JSON file `{"pid":n,"service":name,"state":"ready"}` at READY_FILE,
/// written when the service is ready, touched every five seconds, removed at the end. The state of a service that waits for its turn
/// beside another one of its kind is `standby`.
package final class ReadinessFile: Service, Sendable {
    private let file: URL?
    private let service: String
    private let state = Mutex<State?>(nil)
    private let logger: Logger

    init(file: URL?, service: String, logger: Logger) {
        self.file = file
        self.service = service
        self.logger = logger
    }

    package enum State: String, Sendable {
        case ready
        case standby
    }

    package func markReady() { mark(.ready) }

    /// It is well and does nothing: another one does the work.
    package func markStandby() { mark(.standby) }

    private func mark(_ new: State) {
        let isNew = state.withLock { state in
            defer { state = new }
            return state != new
        }
        guard isNew else { return }
        logger.info("\(new.rawValue)")
        write(new)
    }

    package func run() async throws {
        defer { remove() }
        await cancelWhenGracefulShutdown {
            while !Task.isCancelled {
                if let state = self.state.withLock({ $0 }) { self.write(state) }
                try? await Task.sleep(for: .seconds(5))
            }
        }
    }

    private func write(_ state: State) {
        guard let file else { return }
        let text = #"{"pid":\#(ProcessInfo.processInfo.processIdentifier),"service":"\#(service)","state":"\#(state.rawValue)"}"#
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
