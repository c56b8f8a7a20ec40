import JobStore
import Jobs

/// What dead letters, and bulk operations on jobs that failed or are dead, are asked with.
enum JobParameters {
    /// As `type`: jobs without an error, as after lost workers. No type is named so.
    static let noType = "-"

    static let filter: [APIParameter] = [
        .query("state", .several(["failed", "dead"]), "Only jobs in these states; without it both.", example: "dead"),
        .query("service", .text(longest: 200), "Only jobs of this service; `\(Display.builtIn)` is the export, which has none."),
        .query("name", .text(longest: 200), "Only jobs of this name."),
        .query("channel", .text(longest: 64), "Only jobs of this channel."),
        .query(
            "reason", .text(longest: 100), "Only jobs that ended so: exception, timeout, killed, out-of-memory, crash-limit, ...",
            example: "timeout"),
        .query(
            "type", .text(longest: 200), "Only jobs whose error is of exactly this type; `\(noType)`: those without one.",
            example: "ValueError"),
        .query("error", .text(longest: 200), "Only jobs whose error or reason says this."),
        .query("run", .text(longest: 64), "Only jobs of this run."),
        .query("discarded", .flag, "`true`: only dead jobs that somebody discarded; without it all others."),
        .query("from", .time, "Only jobs that ended at this time or later."),
        .query("to", .time, "Only jobs that ended before this time."),
    ]

    /// Of dead letters: what is asked for there is dead.
    static let dead = filter.filter { $0.name != "state" }

    /// - Parameter fields: by the parameters' names, checked.
    static func filter(_ fields: [String: String]) -> LedgerJobFilter {
        LedgerJobFilter(
            states: (fields["state"] ?? "").split(separator: ",").compactMap { JobState(rawValue: String($0)) },
            service: fields["service"].map(Display.withoutService), name: fields["name"], channel: fields["channel"],
            reason: fields["reason"], type: fields["type"] == noType ? "" : fields["type"], error: fields["error"],
            run: fields["run"]?.uppercased(), from: fields["from"].flatMap(APITime.date), to: fields["to"].flatMap(APITime.date),
            discarded: fields["discarded"] == "true")
    }

    static func deadFilter(_ fields: [String: String]) -> LedgerJobFilter {
        var filter = filter(fields)
        filter.states = [.dead]
        return filter
    }
}
