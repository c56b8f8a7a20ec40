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
    /// How long the question for the next job is repeated before it is taken back.
    var questionLimit = Pace.scaled(.seconds(120))
    /// For handing back and reporting at the very end.
    var farewell = Duration.seconds(5)
    /// The same after a second SIGTERM.
    var hastyFarewell = Duration.seconds(2)
    /// Bytes that jobs which say how much they need may use together.
    var memory: Int64 = .max
    /// Ids of the GPUs that jobs share; nil when nobody said which.
    var gpus: [String]?
    var niceness = PythonJobs.Niceness()

    static let standardGrace = Duration.seconds(20)
}

extension WorkerConfiguration {
    /// - `WORKER_ID` (text, `<host>.<pid>`): the worker's name in the monitor. A random suffix makes it unique to one process: whoever
    ///   claims under the same name is taken for the same process.
    /// - `WORKER_SLOTS` (int, 1): jobs at a time, 1 to 256.
    /// - `WORKER_CHANNELS` (list, `default`): the channels whose jobs this worker takes. Without it, `JOBS` or `WORKER_JOBS` as upstream has
    ///   them: names of queues, where those of priorities mean the channel `default`, which serves all of them.
    /// - `WORKER_MEMORY` (bytes, as `16G`; the machine's or the container's): what the `resources.memory` of its jobs may add up to.
    /// - `WORKER_GPUS` (none): a number of devices, or their ids with commas (`0,1`; `2,` is the device 2).
    /// - `JOB_NICE` (0 to 19, as the worker), `JOB_IONICE` (`idle` or `best-effort:0` to `best-effort:7`, as the worker).
    /// - `WORKER_GRACE` (seconds, 20): how long running jobs may go on after SIGTERM.
    init(_ settings: Settings) throws {
        id = settings.text("WORKER_ID") ?? Self.hostName()
        guard id.utf8.count <= 128, id.utf8.allSatisfy({ (0x21...0x7e).contains($0) }) else {
            throw SettingError(variable: "WORKER_ID", value: id, allowed: "1 to 128 visible ASCII characters")
        }
        id += "." + String(UInt32.random(in: 0 ... .max), radix: 36)
        slots = try settings.integer("WORKER_SLOTS", default: 1, in: 1...256)
        channels = try Self.channels(settings)
        grace = try Self.grace(settings)
        memory = try Self.memory(settings)
        gpus = try Self.gpus(settings)
        niceness = try Self.niceness(settings)
    }

    private static func channels(_ settings: Settings) throws -> [String] {
        let names = ["WORKER_CHANNELS", "JOBS", "WORKER_JOBS"]
        guard let variable = names.first(where: { settings.text($0) != nil }) else { return ["default"] }
        var channels = settings.list(variable, default: [])
        if variable != names[0] { channels = channels.map { Priority($0) == nil ? $0 : "default" } }
        guard !channels.isEmpty, channels.allSatisfy(ChannelName.isValid) else {
            throw SettingError(
                variable: variable, value: channels.first { !ChannelName.isValid($0) } ?? settings.text(variable),
                allowed: "names of 1 to 64 characters of a-z, 0-9, - and _")
        }
        var seen: Set<String> = []
        return channels.filter { seen.insert($0).inserted }
    }

    private static func memory(_ settings: Settings) throws -> Int64 {
        guard let text = settings.text("WORKER_MEMORY") else { return Machine.now().memory ?? .max }
        guard let bytes = ByteCount.parse(text) else {
            throw SettingError(variable: "WORKER_MEMORY", value: text, allowed: "an amount of memory such as 16G, 512M, or bytes")
        }
        return bytes
    }

    private static func gpus(_ settings: Settings) throws -> [String]? {
        guard let text = settings.text("WORKER_GPUS") else { return nil }
        if let count = Int(text), (0...64).contains(count) { return (0..<count).map(String.init) }
        let ids = settings.list("WORKER_GPUS", default: [])
        // Ids of NVIDIA are numbers, or GPU- and MIG- with hexadecimal digits.
        let isAllowed: (String) -> Bool = { id in id.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "-" || $0 == "/") } }
        guard text.contains(",") || ids.count > 1 || Int(text) == nil, !ids.isEmpty, ids.allSatisfy(isAllowed), Set(ids).count == ids.count
        else {
            throw SettingError(
                variable: "WORKER_GPUS", value: text, allowed: "a number of devices from 0 to 64, or ids with commas such as 0,1")
        }
        return ids
    }

    private static func niceness(_ settings: Settings) throws -> PythonJobs.Niceness {
        var niceness = PythonJobs.Niceness()
        if settings.text("JOB_NICE") != nil { niceness.cpu = try settings.integer("JOB_NICE", default: 0, in: 0...19) }
        if let text = settings.text("JOB_IONICE") {
            let allowed = ["idle"] + (0...7).map { "best-effort:\($0)" }
            guard allowed.contains(text) else {
                throw SettingError(variable: "JOB_IONICE", value: text, allowed: "idle, or best-effort:0 to best-effort:7")
            }
            niceness.disk = text
        }
        return niceness
    }

    static func grace(_ settings: Settings) throws -> Duration {
        .seconds(try settings.seconds("WORKER_GRACE", default: standardGrace / .seconds(1), in: 0...86_400))
    }

    private static func hostName() -> String {
        let host = ProcessInfo.processInfo.hostName.filter { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "-" || $0 == ".") }
        return "\(host.prefix(64)).\(ProcessInfo.processInfo.processIdentifier)"
    }
}
