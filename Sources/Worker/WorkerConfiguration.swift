import Bootstrap
import Foundation
import Jobs
import Pipeline

/// What a worker takes and how it stops.
struct WorkerConfiguration: Sendable {
    /// Unique to this process.
    var id: String
    /// Jobs at a time.
    var slots = 1
    var channels = ["default"]
    /// How long running jobs may go on after SIGTERM before they are handed back.
    var grace = Self.standardGrace
    /// Between SIGTERM and SIGKILL of a job's processes.
    var killGrace = Duration.seconds(5)
    var heartbeat = Pace.scaled(.seconds(10))
    /// How long the answer to a heartbeat may take.
    var renewalLimit = Pace.scaled(.seconds(8))
    /// How much earlier than the router's a lease ends here, besides the time that killing takes: clocks do not run alike.
    var leaseMargin = Pace.scaled(.seconds(3))
    /// How long a hint may wait here for a free slot before another worker gets it.
    var patience = Duration.seconds(2)
    /// For handing back and reporting at the very end.
    var farewell = Duration.seconds(5)

    static let standardGrace = Duration.seconds(20)
}

extension WorkerConfiguration {
    /// - `WORKER_ID` (text, `<host>.<pid>`): the worker's name in the monitor. A random suffix makes it unique to one process: whoever
    ///   claims under the same name is taken for the same process.
    /// - `WORKER_SLOTS` (int, 1): jobs at a time, 1 to 256.
    /// - `WORKER_CHANNELS` (list, `default`): the channels whose jobs this worker takes.
    /// - `WORKER_GRACE` (seconds, 20): how long running jobs may go on after SIGTERM.
    init(_ settings: Settings) throws {
        id = settings.text("WORKER_ID") ?? Self.hostName()
        guard id.utf8.count <= 128, id.utf8.allSatisfy({ (0x21...0x7e).contains($0) }) else {
            throw SettingError(variable: "WORKER_ID", value: id, allowed: "1 to 128 visible ASCII characters")
        }
        id += "." + String(UInt32.random(in: 0 ... .max), radix: 36)
        slots = try settings.integer("WORKER_SLOTS", default: 1, in: 1...256)
        channels = settings.list("WORKER_CHANNELS", default: ["default"])
        if let wrong = channels.first(where: { !ChannelName.isValid($0) }) {
            throw SettingError(variable: "WORKER_CHANNELS", value: wrong, allowed: "names of 1 to 64 characters of a-z, 0-9, - and _")
        }
        var seen: Set<String> = []
        channels = channels.filter { seen.insert($0).inserted }
        grace = try Self.grace(settings)
    }

    static func grace(_ settings: Settings) throws -> Duration {
        .seconds(try settings.seconds("WORKER_GRACE", default: standardGrace / .seconds(1), in: 0...86_400))
    }

    private static func hostName() -> String {
        let host = ProcessInfo.processInfo.hostName.filter { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "-" || $0 == ".") }
        return "\(host.prefix(64)).\(ProcessInfo.processInfo.processIdentifier)"
    }
}
