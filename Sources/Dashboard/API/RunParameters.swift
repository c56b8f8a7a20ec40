import Hummingbird
import JobStore
import Jobs

/// What lists of runs, and bulk operations on runs, are asked with.
enum RunParameters {
    static let filter: [APIParameter] = [
        .query("state", .several(RunState.allCases.map(\.rawValue)), "Only runs in these states.", example: "failed"),
        .query("event", .text(longest: 200), "Only runs of this event: its number, its snapshot, or Orthanc's id of what it is about."),
        .query("q", .text(longest: 200), "The beginning of a run's or an Orthanc id, a job's id, or a job's name."),
    ]

    static func filter(_ request: Request) throws -> LedgerRunFilter {
        LedgerRunFilter(states: try ListQuery.runStates(request), event: request.query("event"), text: request.query("q"))
    }

    /// Equal for requests that ask for the same list.
    static func fingerprint(_ request: Request) -> String {
        filter.map { request.query($0.name) ?? "" }.joined(separator: "\u{1}")
    }
}
