package import Foundation
package import Jobs

/// One stable series, study or patient, as ingest saw it. `message_id` is the snapshot, so that a repeat is one run.
package struct EventMessage: Sendable, Hashable, Codable {
    package static let type = "dcm.event.v1"

    /// One series of the resource that this event is about.
    package struct Series: Sendable, Hashable, Codable {
        /// Orthanc's id.
        package var id: String
        package var instances: Int

        package init(id: String, instances: Int) {
            self.id = id
            self.instances = instances
        }
    }

    /// The Orthanc server's name in the configuration.
    package var server: String
    package var level: ResourceLevel
    /// Orthanc's id of the series, study or patient.
    package var resourceID: String
    /// Hash of level, id, sorted instance ids and LastUpdate.
    package var snapshot: String
    package var observedAt: Date
    /// The snapshot of the same resource that this one grew from.
    package var follows: String?
    /// Set when ingest decided that the event goes no further; such an event is recorded and makes no run.
    package var filtered: Reason?
    /// The accepted series: what the export job downloads.
    package var series: [Series]
    /// Series that a filter refused, by Orthanc id.
    package var refusedSeries: [String: Reason]
    /// Upstream's payload without `dcmpath`, which the router adds because only it knows the run.
    package var headers: JSONValue

    package init(
        server: String,
        level: ResourceLevel,
        resourceID: String,
        snapshot: String,
        observedAt: Date,
        follows: String? = nil,
        filtered: Reason? = nil,
        series: [Series],
        refusedSeries: [String: Reason] = [:],
        headers: JSONValue
    ) {
        self.server = server
        self.level = level
        self.resourceID = resourceID
        self.snapshot = snapshot
        self.observedAt = observedAt
        self.follows = follows
        self.filtered = filtered
        self.series = series
        self.refusedSeries = refusedSeries
        self.headers = headers
    }
}
