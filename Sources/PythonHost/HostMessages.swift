import Foundation
import Jobs

/// The protocol's number; python/dcm_processor/host/frames.py describes its messages.
let hostProtocol = 2

/// The messages to a host.
enum HostRequest: Encodable {
    struct Hello: Encodable {
        var type = "hello"
        var `protocol` = hostProtocol
        var root: String
        /// Folder below `root` whose code a jobs host watches.
        var service: String?
        /// False: the module is imported in the process of each job.
        var preload: Bool?
        /// Seconds; a jobs host that hangs in an import ends itself after them, even when nobody is left to end it.
        var importLimit: Double?
        /// Modules that a callbacks host imports in the process of each request, because they start threads.
        var late: [String]?
    }

    struct Evaluate: Encodable {
        struct Call: Encodable {
            var jobName: String
            var entry: String
            var params: JSONValue
            /// True: the function is imported and not called.
            var check: Bool?
        }

        var type = "evaluate"
        var request: Int
        var headers: JSONValue
        var addedParams: [String: JSONValue]
        var calls: [Call]
    }

    struct Run: Encodable {
        var type = "run"
        var job: String
        var entry: String
        var jobName: String
        var headers: JSONValue
        var params: JSONValue
        var addedParams: JSONValue
        var attempt: Int
        var runId: String
        var workdir: String
        var log: String
        var data: String
        var environment: [String: String]
        /// Seconds; nil for no limit.
        var timeout: Int?
        /// Seconds between SIGTERM and SIGKILL.
        var grace: Double
        /// Bytes.
        var memory: Int64?
        var nice: Int?
        var ionice: String?
        /// A program and its arguments instead of `entry`.
        var command: [String]?
        var checkpoint: String?
        /// True: the function is imported and not called.
        var check: Bool?
    }

    struct Stop: Encodable {
        var type = "stop"
        var job: String
        var reason: String
    }

    case hello(Hello)
    case evaluate(Evaluate)
    case run(Run)
    case stop(Stop)

    func encode(to encoder: any Encoder) throws {
        switch self {
        case .hello(let message): try message.encode(to: encoder)
        case .evaluate(let message): try message.encode(to: encoder)
        case .run(let message): try message.encode(to: encoder)
        case .stop(let message): try message.encode(to: encoder)
        }
    }
}

/// The messages from a host.
enum HostReply: Decodable, Sendable {
    struct Hello: Decodable, Sendable {
        var `protocol`: Int
        var pid: Int32
        var python: String
    }

    struct Failure: Decodable, Sendable {
        var type: String
        var message: String
        var traceback: String?

        var exit: JobExit.Failure { JobExit.Failure(type: type, message: message, traceback: traceback) }
    }

    struct Verdict: Decodable, Sendable {
        var request: Int
        var call: Int
        var accepted: Bool
        var added: [String: JSONValue]
        var duration: Double
        var output: String
        var error: Failure?
    }

    struct Started: Decodable, Sendable {
        var job: String
        var pid: Int32
    }

    struct Progress: Decodable, Sendable {
        var job: String
        var fraction: Double
        var text: String?
    }

    struct Refused: Decodable, Sendable {
        enum Reason: String, Decodable, Sendable {
            /// The service's code has changed since this host was started.
            case stale
            /// The host has forked often enough or has grown too large.
            case worn
            /// The import started threads, which do not survive a fork.
            case threads
            /// The import failed.
            case `import`
            /// The machine refused a process or a file.
            case resources
        }

        var job: String
        var reason: Reason
        var error: Failure?
        /// The end of what the import printed.
        var tail: String?
    }

    struct Exited: Decodable, Sendable {
        struct Ending: Decodable, Sendable {
            enum Kind: String, Decodable, Sendable {
                case result
                case exception
                case memory
                /// The import failed in the process of the job.
                case broken
            }

            var kind: Kind
            var value: JSONValue?
            var error: Failure?
        }

        struct Usage: Decodable, Sendable {
            var wall: Double
            var user: Double
            var system: Double
            /// Bytes.
            var peakMemory: Int64
        }

        enum Stop: String, Decodable, Sendable {
            case timeout
            case cancel
            /// Its processes used more memory than the job may.
            case memory
            /// It had more processes than a job may.
            case processes
        }

        /// What a job had too much of: bytes or processes.
        struct Excess: Decodable, Sendable {
            var memory: Int64?
            var processes: Int?
            var limit: Int64
        }

        var job: String
        /// The exit status, nil when a signal ended the process.
        var code: Int?
        var signal: Int?
        /// Why the host ended it, nil when the job ended by itself.
        var stopped: Stop?
        var excess: Excess?
        /// Whether the kernel killed processes around the job because memory ran out.
        var kernelKilled: Bool?
        /// What the job handed over, nil when it handed over nothing.
        var ending: Ending?
        var artifacts: [JobExit.Artifact]
        /// The end of its log.
        var tail: String?
        /// The beginning of a command's standard output.
        var output: String?
        var usage: Usage
    }

    case hello(Hello)
    /// This call is being asked now.
    case asking(request: Int, call: Int)
    case verdict(Verdict)
    case done(request: Int)
    case stale(request: Int)
    /// The import of this module has started threads, which do not survive a fork.
    case threads(request: Int, module: String)
    /// The host has begun to import this job's module.
    case importing(job: String)
    case started(Started)
    case progress(Progress)
    case refused(Refused)
    case exited(Exited)

    private enum Keys: String, CodingKey {
        case type
        case request
        case call
        case module
        case job
    }

    init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: Keys.self)
        switch try container.decode(String.self, forKey: .type) {
        case "hello": self = .hello(try Hello(from: decoder))
        case "asking":
            self = .asking(request: try container.decode(Int.self, forKey: .request), call: try container.decode(Int.self, forKey: .call))
        case "verdict": self = .verdict(try Verdict(from: decoder))
        case "done": self = .done(request: try container.decode(Int.self, forKey: .request))
        case "stale": self = .stale(request: try container.decode(Int.self, forKey: .request))
        case "threads":
            self = .threads(
                request: try container.decode(Int.self, forKey: .request), module: try container.decode(String.self, forKey: .module))
        case "importing": self = .importing(job: try container.decode(String.self, forKey: .job))
        case "started": self = .started(try Started(from: decoder))
        case "progress": self = .progress(try Progress(from: decoder))
        case "refused": self = .refused(try Refused(from: decoder))
        case "exited": self = .exited(try Exited(from: decoder))
        case let type:
            throw DecodingError.dataCorruptedError(forKey: .type, in: container, debugDescription: "unknown message type \(type)")
        }
    }
}
