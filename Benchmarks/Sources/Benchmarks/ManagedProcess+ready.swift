import Foundation
import Stack

extension ManagedProcess {
    /// Starts one of the product's programs and returns when it says that it is ready.
    ///
    /// - Parameters:
    ///   - folder: gets its log, which begins anew, and its READY_FILE.
    ///   - environment: besides PATH and the like.
    static func ready(_ name: String, _ executable: String, in folder: URL, _ environment: [String: String]) async throws -> ManagedProcess
    {
        let readyFile = folder.appending(path: "\(name).ready")
        let log = folder.appending(path: "\(name).log")
        try? FileManager.default.removeItem(at: log)
        let own = environment.merging(["READY_FILE": readyFile.path]) { $1 }
        let started = try ManagedProcess(
            Command(name: name, executable: executable, environment: Command.plainEnvironment.merging(own) { $1 }, logFile: log))
        do {
            try await poll(for: .seconds(60), orThrow: StackError(.timedOut, "The \(name) was not ready after 60 s.", logFile: log)) {
                try started.checkIsRunning()
                return ReadyFile.readiness(of: readyFile, pid: started.pid) == .ready ? true : nil
            }
        } catch {
            await started.kill()
            throw error
        }
        return started
    }
}
