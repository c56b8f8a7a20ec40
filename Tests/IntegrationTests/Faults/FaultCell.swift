import Bootstrap
import Foundation
import Stack
import Testing

/// A fault, as DCM_FAULT names it.
struct FaultCell: CustomStringConvertible {
    var point: FaultPoint
    var nth: Int
    var action: String
    var description: String { "\(point.rawValue):\(nth):\(action)" }
}

extension PipelineProcesses {
    /// Starts the process that has the point with the fault and waits until it has happened. Afterwards the process is gone.
    ///
    /// - Parameter feed: makes something happen that leads to the point, when what is under way does not. Called every half second from the
    ///   second on.
    func fail(_ cell: FaultCell, _ settings: [String: String] = [:], feed: (() async throws -> Void)? = nil) async throws {
        let reached = folder.appending(path: "run/\(cell).reached")
        let faults = ["DCM_FAULT": "\(cell)", "DCM_FAULT_ONCE": reached.path]
        let child = try launch(cell.point.program, nil, settings.merging(faults) { $1 })
        var fed = ContinuousClock.now + .seconds(1)
        _ = try await until("\(cell) was reached", limit: .seconds(90)) {
            if FileManager.default.fileExists(atPath: reached.path) || !child.process.isRunning { return true }
            if let feed, fed.duration(to: .now) > .milliseconds(500) {
                try await feed()
                fed = .now
            }
            return nil
        } orShow: {
            child.log.split(separator: "\n").suffix(5).joined(separator: "\n")
        }
        #expect(FileManager.default.fileExists(atPath: reached.path), "\(cell): ended without its fault: \(child.log.suffix(500))")
        if cell.action == "exit" {
            let exit = try await until("\(cell) has ended its process") { child.process.exit }
            #expect(exit == .status(137), "\(cell)")
        }
        await child.kill()
    }
}
