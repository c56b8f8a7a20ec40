import JobStore
import Jobs

/// What lists of runs, and bulk operations on runs, are asked with.
enum RunParameters {
    static let filter: [APIParameter] = [
        .query("state", .several(RunState.allCases.map(\.rawValue)), "Only runs in these states.", example: "failed"),
        .query("event", .text(longest: 200), "Only runs of this event: its number, its snapshot, or Orthanc's id of what it is about."),
        .query("q", .text(longest: 200), "The beginning of a run's or an Orthanc id, a job's id, or a job's name."),
        .query("level", .one(ResourceLevel.allCases.map(\.rawValue)), "Only runs of a series, a study or a patient."),
        .query("service", .text(longest: 200), "Only runs with a job of this service; `\(Display.builtIn)` is the export, which has none."),
        .query("modality", .text(longest: 16), "Only runs with a series of this modality.", example: "CT"),
        .query("error", .text(longest: 200), "Only runs whose failed or dead jobs, or which themselves, say this in their reason."),
        .query("from", .time, "Only runs that were made at this time or later."),
        .query("to", .time, "Only runs that were made before this time."),
    ]

    /// - Parameter fields: by the parameters' names, checked.
    static func filter(_ fields: [String: String]) throws(Problem) -> LedgerRunFilter {
        var states: [RunState] = []
        for text in (fields["state"] ?? "").split(separator: ",") {
            guard let state = RunState(rawValue: String(text)) else {
                throw .parameter("state", String(text), allowed: RunState.allCases.map(\.rawValue).joined(separator: ", "))
            }
            states.append(state)
        }
        return LedgerRunFilter(
            states: states, event: fields["event"], text: fields["q"], level: fields["level"],
            service: fields["service"].map(Display.withoutService), modality: fields["modality"], error: fields["error"],
            from: fields["from"].flatMap(APITime.date), to: fields["to"].flatMap(APITime.date))
    }
}
