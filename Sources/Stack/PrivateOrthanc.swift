package import Foundation
import Synchronization

/// An Orthanc server for one test or one person: own folder, ports and user.
///
/// HTTP is for this machine only; DICOM, which knows no passwords, listens on all interfaces and takes C-STORE from any AET.
package final class PrivateOrthanc: Sendable {
    package let node: OrthancNode
    private let process = Mutex<ManagedProcess?>(nil)

    package var url: String { node.url }
    package var user: String { node.user }
    package var password: String { node.password }
    package var dicomPort: UInt16 { node.dicomPort }
    package var aet: String { node.aet }
    package var pid: pid_t? {
        process.withLock { $0 }.flatMap { $0.isRunning ? $0.pid : nil }
    }

    private init(node: OrthancNode) {
        self.node = node
    }

    /// Starts a server and returns when it answers `/system`: about 0.2 seconds.
    ///
    /// - Parameters:
    ///   - folder: made when missing; holds orthanc.json, orthanc.log and Storage.
    ///   - stableAge: seconds, at least 1.
    /// - Throws: ``StackError``, with the last lines of orthanc.log.
    package static func start(
        in folder: URL,
        stableAge: Int = 1,
        overwriteInstances: Bool = false,
        hook: OrthancNode.Hook? = nil,
        maximumPatients: Int = 0,
        within limit: Duration = .seconds(30),
    ) async throws -> PrivateOrthanc {
        let node = OrthancNode(
            folder: folder,
            httpPort: try FreePorts.next(),
            dicomPort: try FreePorts.next(),
            stableAge: stableAge,
            overwriteInstances: overwriteInstances,
            hook: hook,
            maximumPatients: maximumPatients,
        )
        let orthanc = PrivateOrthanc(node: node)
        do {
            try await orthanc.launch(within: limit)
        } catch {
            await orthanc.stop()
            throw error
        }
        return orthanc
    }

    private func launch(within limit: Duration) async throws {
        try node.writeFiles()
        let server = try ManagedProcess(node.server())
        process.withLock { $0 = server }
        try await poll(
            for: limit,
            every: .milliseconds(20),
            orThrow: StackError(.timedOut, "Orthanc was not ready after \(limit.components.seconds) s.", logFile: node.logFile),
        ) {
            try server.checkIsRunning()
            do {
                try await node.checkSystem()
                return true
            } catch let error as StackError where error.code == .unreachable {
                return nil
            }
        }
    }

    /// A clean stop: SIGTERM, and SIGKILL after 20 seconds.
    package func stop() async {
        let server = process.withLock { process in
            defer { process = nil }
            return process
        }
        await server?.terminate(grace: .seconds(20))
    }

    package func kill() async {
        await process.withLock { $0 }?.kill()
    }

    /// Stops the server when it runs and starts it again with the same addresses and images.
    package func restart(within limit: Duration = .seconds(30)) async throws {
        await stop()
        try await launch(within: limit)
    }
}
