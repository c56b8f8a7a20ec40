import Foundation
import JobStore
import Jobs
import Pipeline

/// `/metrics` in Prometheus' text format. Names of services and channels, never of patients or resources.
struct MetricsText: Sendable {
    private var lines: [String] = []

    /// - Parameters:
    ///   - overview: nil while the ledger cannot be read.
    ///   - vitals: what the router said last; nil when it has said nothing for long.
    init(
        _ overview: Overview?, durations: Durations.Values = .init(), vitals: VitalsMessage? = nil, isBrokerConnected: Bool, streams: Int,
        webhooks: [MonitorWebhook] = [], backlogs: [String: WebhookBacklog] = [:], at now: Date
    ) {
        family("dcm_broker_connected", "Whether the monitor is connected to the broker.")
        sample("dcm_broker_connected", [:], isBrokerConnected ? 1 : 0)
        family("dcm_ledger_readable", "Whether the monitor can read the ledger.")
        sample("dcm_ledger_readable", [:], overview == nil ? 0 : 1)
        family("dcm_monitor_streams", "Open live feeds.")
        sample("dcm_monitor_streams", [:], Double(streams))
        family("dcm_router_ready", "Whether the router has said in the last 30 s that it is at work.")
        sample("dcm_router_ready", [:], vitals == nil ? 0 : 1)
        if let vitals { commits(vitals) }
        histograms(durations)
        tell(webhooks, backlogs, now)
        guard let overview else { return }
        broker(overview, now)
        jobs(overview, now)
        workers(overview, now)
        events(overview, now)
    }

    var text: String { lines.joined(separator: "\n") + "\n" }

    private mutating func tell(_ webhooks: [MonitorWebhook], _ backlogs: [String: WebhookBacklog], _ now: Date) {
        family("dcm_webhook_enabled", "Whether the webhook is told anything.")
        for webhook in webhooks { sample("dcm_webhook_enabled", ["webhook": webhook.name], webhook.isEnabled ? 1 : 0) }
        family("dcm_webhook_tries_total", "Tries to deliver a message, by how they ended, since the webhook was made.", "counter")
        for webhook in webhooks {
            sample("dcm_webhook_tries_total", ["webhook": webhook.name, "outcome": "delivered"], Double(webhook.delivered))
            sample("dcm_webhook_tries_total", ["webhook": webhook.name, "outcome": "failed"], Double(webhook.failed))
        }
        family("dcm_webhook_dead_total", "Messages that were given up, since the webhook was made.", "counter")
        for webhook in webhooks { sample("dcm_webhook_dead_total", ["webhook": webhook.name], Double(webhook.dead)) }
        family("dcm_webhook_waiting", "Messages that are on their way or will be tried again.")
        for webhook in webhooks { sample("dcm_webhook_waiting", ["webhook": webhook.name], Double(backlogs[webhook.id]?.waiting ?? 0)) }
        family("dcm_webhook_oldest_waiting_seconds", "Age of the message that waits longest.")
        for webhook in webhooks {
            let age = backlogs[webhook.id]?.oldest.map { max(0, now.timeIntervalSince($0)) } ?? 0
            sample("dcm_webhook_oldest_waiting_seconds", ["webhook": webhook.name], age)
        }
        family("dcm_webhook_failing_seconds", "For how long every try has failed.")
        for webhook in webhooks {
            let seconds = webhook.isEnabled ? webhook.failingSince.map { max(0, now.timeIntervalSince($0)) } ?? 0 : 0
            sample("dcm_webhook_failing_seconds", ["webhook": webhook.name], seconds)
        }
    }

    /// Only what the router has said: a monitor of its own connection would not see another node's alarm.
    private mutating func broker(_ overview: Overview, _ now: Date) {
        guard let broker = overview.pipeline.broker else { return }
        let blocked = broker.condition == .blocked
        family("dcm_broker_blocked", "Whether the broker takes no messages because its memory or disk is at the limit.")
        sample("dcm_broker_blocked", [:], blocked ? 1 : 0)
        family("dcm_broker_blocked_seconds", "For how long it has taken none.")
        sample("dcm_broker_blocked_seconds", [:], blocked ? max(0, now.timeIntervalSince(broker.since)) : 0)
        family("dcm_router_broker_connected", "Whether the router is connected to the broker.")
        sample("dcm_router_broker_connected", [:], broker.condition == .disconnected ? 0 : 1)
    }

    private mutating func jobs(_ overview: Overview, _ now: Date) {
        family("dcm_runs", "Runs by state.")
        for state in RunState.allCases { sample("dcm_runs", ["state": state.rawValue], Double(overview.totals.runs[state] ?? 0)) }
        family("dcm_jobs", "Jobs by state, service and channel.")
        for group in overview.totals.jobs {
            let service = Display.service(group.service)
            sample("dcm_jobs", ["state": group.state.rawValue, "service": service, "channel": group.channel], Double(group.count))
        }
        channels("dcm_channel_oldest_waiting_seconds", "Age of the job that waits longest for a worker.", overview) { channel in
            channel.oldestQueuedAt.map { max(0, now.timeIntervalSince($0)) } ?? 0
        }
        channels("dcm_channel_paused", "Whether the channel is paused.", overview) { $0.pausedAt == nil ? 0 : 1 }
        family("dcm_jobs_discarded", "Dead jobs that somebody took off the list; dcm_jobs has the others.")
        sample("dcm_jobs_discarded", [:], Double(overview.totals.discarded))
        family("dcm_service_paused", "Whether the service is paused.")
        for service in overview.services { sample("dcm_service_paused", ["service": service.name], service.pause == nil ? 0 : 1) }
        channels("dcm_channel_queued", "Jobs that a worker of the channel could take.", overview) { Double(overview.queued($0)) }
        channels("dcm_channel_workers", "Living workers that serve the channel.", overview) { Double($0.workers) }
        channels("dcm_channel_unserved", "Whether jobs wait and no worker serves the channel.", overview) {
            overview.unservedSince($0) == nil ? 0 : 1
        }
        channels("dcm_channel_unserved_seconds", "For how long jobs have waited without any worker that could take them.", overview) {
            overview.unservedSince($0).map { max(0, now.timeIntervalSince($0)) } ?? 0
        }
        channels("dcm_channel_slots", "Slots of the workers that serve the channel.", overview) { Double($0.slots) }
    }

    private mutating func channels(_ name: String, _ help: String, _ overview: Overview, _ value: (LedgerChannel) -> Double) {
        family(name, help)
        for channel in overview.channels { sample(name, ["channel": channel.name], value(channel)) }
    }

    private mutating func workers(_ overview: Overview, _ now: Date) {
        family("dcm_workers", "Workers by state.")
        let present = Dictionary(grouping: overview.workers) { $0.presence(at: now) }
        for state in [LedgerWorker.Presence.running, .draining, .stopped, .lost] {
            sample("dcm_workers", ["state": state.rawValue], Double(present[state]?.count ?? 0))
        }
        let alive = (present[.running] ?? []) + (present[.draining] ?? [])
        family("dcm_worker_slots", "Jobs that the living workers can run at the same time.")
        sample("dcm_worker_slots", [:], Double(alive.reduce(0) { $0 + $1.slots }))
        family("dcm_worker_slots_busy", "Slots in use.")
        sample("dcm_worker_slots_busy", [:], Double(alive.reduce(0) { $0 + $1.jobs.count }))
        let leases = overview.workers.flatMap(\.jobs)
        family("dcm_leases", "Jobs that a worker holds.")
        sample("dcm_leases", [:], Double(leases.count))
        family("dcm_lease_oldest_seconds", "For how long the job that runs longest has run.")
        sample("dcm_lease_oldest_seconds", [:], leases.compactMap(\.startedAt).min().map { max(0, now.timeIntervalSince($0)) } ?? 0)
    }

    private mutating func events(_ overview: Overview, _ now: Date) {
        family("dcm_ingest_following", "Whether ingest follows the server's change log.")
        for source in overview.sources { sample("dcm_ingest_following", ["server": source.server], source.isFollowed(at: now) ? 1 : 0) }
        family("dcm_ingest_lag", "Changes that ingest has still to read.")
        for source in overview.sources { sample("dcm_ingest_lag", ["server": source.server], Double(source.lag)) }
        accounts(overview, now)
        family("dcm_events_total", "Events from ingest, by what became of them.", "counter")
        for group in overview.totals.events {
            sample("dcm_events_total", ["reason": group.code ?? "accepted"], Double(group.count))
        }
        family("dcm_dead_messages_total", "Messages that could not be read.", "counter")
        sample("dcm_dead_messages_total", [:], Double(overview.totals.deadMessagesEver))
        family("dcm_dead_messages", "Messages that could not be read and that nobody has decided about.")
        sample("dcm_dead_messages", [:], Double(overview.totals.deadMessages))
        family("dcm_facts_total", "Facts recorded.", "counter")
        sample("dcm_facts_total", [:], Double(overview.totals.latestFact))
        family("dcm_service_problems", "Errors and warnings in a service's settings.")
        for service in overview.services {
            for severity in ["error", "warning"] {
                let count = service.problems.count { $0.severity == severity }
                sample("dcm_service_problems", ["service": service.name, "severity": severity], Double(count))
            }
        }
    }

    private mutating func accounts(_ overview: Overview, _ now: Date) {
        family("dcm_ingest_listed", "Series, studies or patients that Orthanc listed in the last complete sweep.")
        for account in overview.accounts {
            guard let listed = account.listed else { continue }
            sample("dcm_ingest_listed", ["server": account.server, "level": account.level.rawValue], Double(listed))
        }
        family("dcm_ingest_resources", "Series, studies or patients by what became of them. All but those that are gone are in Orthanc.")
        for account in overview.accounts {
            for part in account.parts {
                sample(
                    "dcm_ingest_resources",
                    ["server": account.server, "level": account.level.rawValue, "state": part.state, "reason": part.reason],
                    Double(part.count))
            }
        }
        family("dcm_ingest_oldest_pending_seconds", "Age of what has waited longest for its event.")
        for account in overview.accounts {
            sample(
                "dcm_ingest_oldest_pending_seconds", ["server": account.server, "level": account.level.rawValue],
                account.oldestPending.map { max(0, now.timeIntervalSince($0)) } ?? 0)
        }
    }

    private mutating func commits(_ vitals: VitalsMessage) {
        family("dcm_router_commit_seconds", "What a commit of the router's ledger takes, since the router's start.", "histogram")
        var histogram: [(String, Int)] = []
        for (edge, count) in zip(VitalsMessage.commitEdges, vitals.commits) { histogram.append((Self.number(edge), count)) }
        samples("dcm_router_commit_seconds", [:], histogram, vitals.commits.last ?? 0, vitals.commitSeconds)
        family("dcm_router_inputs_total", "Messages, timers and commands that the router has committed.", "counter")
        sample("dcm_router_inputs_total", [:], Double(vitals.inputs))
    }

    private mutating func histograms(_ durations: Durations.Values) {
        histograms(
            "dcm_job_attempt_seconds", "What attempts of jobs took, from claim to end, since the monitor's start.", ["service", "state"],
            durations.jobs)
        histograms(
            "dcm_job_wait_seconds", "How long jobs that started had waited for a worker, since the monitor's start.",
            ["channel", "priority"], durations.waits)
        histograms("dcm_run_seconds", "What runs took, since the monitor's start.", ["level", "state"], durations.runs)
        family("dcm_job_failures_total", "Attempts that failed, by reason, since the monitor's start.", "counter")
        for (labels, count) in durations.failures.sorted(by: { $0.key.lexicographicallyPrecedes($1.key) }) {
            sample("dcm_job_failures_total", ["service": labels[0], "reason": labels[1]], Double(count))
        }
    }

    private mutating func histograms(_ name: String, _ help: String, _ names: [String], _ values: [[String]: Histogram]) {
        family(name, help, "histogram")
        for (labels, histogram) in values.sorted(by: { $0.key.lexicographicallyPrecedes($1.key) }) {
            let buckets = zip(histogram.edges, histogram.counts).map { (Self.number($0), $1) }
            samples(
                name, Dictionary(uniqueKeysWithValues: zip(names, labels)), Array(buckets), histogram.count, histogram.sum)
        }
    }

    private mutating func samples(
        _ name: String, _ labels: [String: String], _ buckets: [(edge: String, count: Int)], _ count: Int, _ sum: Double
    ) {
        for bucket in buckets + [("+Inf", count)] {
            sample(name + "_bucket", labels.merging(["le": bucket.edge]) { $1 }, Double(bucket.count))
        }
        sample(name + "_sum", labels, sum)
        sample(name + "_count", labels, Double(count))
    }

    private mutating func family(_ name: String, _ help: String, _ type: String = "gauge") {
        lines.append("# HELP \(name) \(help)")
        lines.append("# TYPE \(name) \(type)")
    }

    private mutating func sample(_ name: String, _ labels: [String: String], _ value: Double) {
        let pairs = labels.sorted { $0.key < $1.key }.map { "\($0.key)=\"\(Self.escape($0.value))\"" }
        lines.append(name + (pairs.isEmpty ? "" : "{" + pairs.joined(separator: ",") + "}") + " " + Self.number(value))
    }

    private static func number(_ value: Double) -> String {
        value == value.rounded() && abs(value) < 1e15 ? String(Int64(value)) : String(value)
    }

    private static func escape(_ value: String) -> String {
        value.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"").replacing("\n", with: "\\n")
    }
}
