import Foundation

/// What a person can pause: nothing new of it starts until it is resumed, and what runs goes on.
package enum PauseTarget: Sendable, Hashable, Codable {
    /// Jobs that want the same pool of workers.
    case channel(String)
    /// A folder of the registry, in whatever channels its jobs are. Its callbacks are still asked: planning is not paused.
    case service(String)

    package var name: String {
        switch self {
        case .channel(let name), .service(let name): name
        }
    }

    /// `channel` or `service`.
    package var kind: String {
        switch self {
        case .channel: "channel"
        case .service: "service"
        }
    }

    /// - Parameter kind: `channel` or `service`.
    package init?(kind: String, name: String) {
        switch kind {
        case "channel": self = .channel(name)
        case "service": self = .service(name)
        default: return nil
        }
    }
}

/// Everything that is paused now.
package struct PausedWork: Sendable, Hashable {
    package var channels: Set<String>
    package var services: Set<String>

    package init(channels: Set<String> = [], services: Set<String> = []) {
        self.channels = channels
        self.services = services
    }

    package init(_ targets: some Sequence<PauseTarget>) {
        self.init()
        for target in targets {
            switch target {
            case .channel(let name): channels.insert(name)
            case .service(let name): services.insert(name)
            }
        }
    }

    package static let none = PausedWork()

    package func contains(_ target: PauseTarget) -> Bool {
        switch target {
        case .channel(let name): channels.contains(name)
        case .service(let name): services.contains(name)
        }
    }

    /// What keeps such a job from starting; nil when nothing does. Of both, the channel: it is the wider one.
    package func holds(_ job: JobDefinition) -> PauseTarget? {
        if channels.contains(job.channel) { return .channel(job.channel) }
        if services.contains(job.service) { return .service(job.service) }
        return nil
    }
}

extension Job {
    /// Its hint was refused because of a pause; the next one comes with the resumption.
    var isPaused: Bool { state == .ready && (cause == .channelPaused || cause == .servicePaused) }
}

extension Run {
    /// Something was resumed: what no other pause holds gets its hint.
    ///
    /// - Parameter paused: what still is.
    mutating func resume(_ paused: PausedWork, _ now: Date, _ effects: inout [RunEffect]) {
        for index in jobs.indices where jobs[index].isPaused {
            if let target = paused.holds(jobs[index].definition) {
                jobs[index].reason = .paused(target)
            } else {
                makeReady(index, .ready, now, &effects)
            }
        }
    }
}

extension Reason {
    static func paused(_ target: PauseTarget) -> Reason {
        switch target {
        case .channel(let name): Reason(.channelPaused, "Channel \(name) is paused.", subject: name)
        case .service(let name): Reason(.servicePaused, "Service \(name) is paused.", subject: name)
        }
    }
}
