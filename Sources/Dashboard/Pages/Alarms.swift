import Foundation
import JobStore
import Jobs

/// What keeps jobs from starting, and what nobody should have to look for: at the head of every page, the worst first.
enum Alarms {
    static func of(_ overview: Overview, isConnected: Bool, routerSilentSince: Date? = nil, at now: Date) -> [PageFrame.Alarm] {
        var alarms: [PageFrame.Alarm] = []
        if !isConnected {
            alarms.append(.init(isError: true, text: "The broker cannot be reached: nothing new starts until it is back, nothing is lost."))
        }
        // Without a broker nobody hears the router.
        if isConnected, let routerSilentSince {
            alarms.append(
                .init(
                    isError: true,
                    text: "The router says nothing: what the pages show is as it was, and nothing new starts until it is back.",
                    since: routerSilentSince))
        }
        if let broker = broker(overview) { alarms.append(broker) }
        for text in overview.sources.compactMap({ $0.trouble(at: now) }) { alarms.append(.init(isError: true, text: text, url: "/events")) }
        for disk in overview.fullDisks {
            alarms.append(
                .init(
                    isError: true,
                    text: "The disk of \(disk.names.joined(separator: ", ")) is nearly full: \(Display.bytes(disk.free)) of "
                        + "\(Display.bytes(disk.size)) are free. Jobs fail when it is full."))
        }
        // What no pause explains comes before what somebody wanted.
        alarms += overview.channels.compactMap { unserved($0, overview, now) }
        alarms += overview.channels.compactMap { channel in channel.pause.map { paused($0, overview.queued(channel)) } }
        alarms += overview.services.compactMap { service in service.pause.map { paused($0, service.queued) } }
        return alarms
    }

    private static func broker(_ overview: Overview) -> PageFrame.Alarm? {
        guard let broker = overview.pipeline.broker else { return nil }
        switch broker.condition {
        case .open: return nil
        case .blocked:
            let reason = broker.reason.map { " (\($0))" } ?? ""
            return .init(
                isError: true,
                text: "RabbitMQ takes no messages\(reason): nothing new starts, nothing is lost. Free memory or disk on its machine.",
                since: broker.since)
        case .disconnected:
            let reason = broker.reason.map { ": \($0)" } ?? "."
            return .init(isError: true, text: "The router has no connection to the broker\(reason)", since: broker.since)
        }
    }

    private static func unserved(_ channel: LedgerChannel, _ overview: Overview, _ now: Date) -> PageFrame.Alarm? {
        guard channel.pausedAt == nil, let since = overview.unservedSince(channel) else { return nil }
        let drained = overview.drained(channel.name, at: now)
        guard drained.isEmpty else {
            let who = drained.count == 1 ? "The only worker of channel \(channel.name) is" : "All workers of channel \(channel.name) are"
            return .init(isError: true, text: "\(who) drained: \(waits(overview.queued(channel))).", url: "/workers", since: since)
        }
        return .init(
            isError: true, text: "No worker serves channel \(channel.name): \(waits(overview.queued(channel))).",
            url: "/queues#channel-\(channel.name)", since: since)
    }

    private static func paused(_ pause: Pause, _ count: Int) -> PageFrame.Alarm {
        let by = pause.actor.map { " by \($0)" } ?? ""
        return .init(
            isError: false, text: "\(pause.target.kind.capitalized) \(pause.target.name) is paused\(by): \(waits(count)).",
            url: pause.target.subject.url, since: pause.at)
    }

    private static func waits(_ count: Int) -> String {
        count == 0 ? "no job waits" : count == 1 ? "1 job waits" : "\(Display.number(count)) jobs wait"
    }
}

extension LedgerChannel {
    var pause: Pause? { pausedAt.map { Pause(.channel(name), by: pausedBy, at: $0) } }
}

extension Pause {
    /// `since 16:20 by zoe`. Already HTML.
    var words: String { "since \(Markup.time(at, isRelative: true))" + (actor.map { " by \(HTMLText.escape($0))" } ?? "") }
}

extension PauseTarget {
    fileprivate var subject: Explanation.Subject {
        switch self {
        case .channel(let name): .init(kind: .channel, id: name)
        case .service(let name): .init(kind: .service, id: name)
        }
    }
}
