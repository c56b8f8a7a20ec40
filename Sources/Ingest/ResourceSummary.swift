import Jobs
import Orthanc

/// What a list says of a series, study or patient.
struct ResourceSummary: Sendable, Hashable {
    var id: OrthancID
    var isStable: Bool
    /// Orthanc's UTC time; empty when Orthanc has none.
    var lastUpdate: String
}

extension OrthancClient {
    /// One page of a level. Only an empty one is the end.
    func summaries(_ level: ResourceLevel, since: Int, limit: Int) async throws -> [ResourceSummary] {
        switch level {
        case .series:
            try await series(since: since, limit: limit).map {
                ResourceSummary(id: $0.id, isStable: $0.isStable, lastUpdate: $0.lastUpdate ?? "")
            }
        case .study:
            try await studies(since: since, limit: limit).map {
                ResourceSummary(id: $0.id, isStable: $0.isStable, lastUpdate: $0.lastUpdate ?? "")
            }
        case .patient:
            try await patients(since: since, limit: limit).map {
                ResourceSummary(id: $0.id, isStable: $0.isStable, lastUpdate: $0.lastUpdate ?? "")
            }
        }
    }
}
