import Foundation
import JobStore
import Jobs
import Orthanc

/// A series, study or patient at one moment, with everything below it down to the instances' ids.
struct ResourceSnapshot: Sendable, Hashable {
    struct Study: Sendable, Hashable {
        var id: OrthancID
        var tags: JSONValue
        var series: [OrthancSeries]
    }

    var server: String
    var level: ResourceLevel
    var id: OrthancID
    var isStable: Bool
    /// Orthanc's UTC time; empty when Orthanc has none.
    var lastUpdate: String
    /// The resource's main tags; a study's with those of its patient.
    var tags: JSONValue
    var patient: OrthancID
    var studies: [Study]

    var series: [OrthancSeries] { studies.flatMap(\.series) }

    /// Names this state: another server, resource, set of instances or time of update makes another hash.
    var hash: String {
        var lines = ["1", server, level.rawValue, id.rawValue, lastUpdate]
        for series in series.sorted(by: { $0.id < $1.id }) {
            lines.append(series.id.rawValue)
            lines += series.instances.sorted().map(\.rawValue)
        }
        return ContentDigest.hexadecimal(.sha256, of: Data(lines.joined(separator: "\n").utf8))
    }

    /// A hash for each series, by Orthanc's id.
    var seriesHashes: [String: String] {
        Dictionary(series.map { ($0.id.rawValue, Self.hash(of: $0)) }) { first, _ in first }
    }

    private static func hash(of series: OrthancSeries) -> String {
        let lines = [series.lastUpdate ?? ""] + series.instances.sorted().map(\.rawValue)
        return String(ContentDigest.hexadecimal(.sha256, of: Data(lines.joined(separator: "\n").utf8)).prefix(32))
    }

    /// The series that are new or have changed since `record`; all of them when there is none.
    func changedSeries(since record: IngestRecord?) -> [OrthancSeries] {
        guard let record else { return series }
        if record.origin == .baseline {
            return series.filter { ($0.lastUpdate ?? "") > record.lastUpdate }
        }
        return series.filter { record.series[$0.id.rawValue] != Self.hash(of: $0) }
    }

    func isSameState(as record: IngestRecord) -> Bool {
        record.origin == .baseline ? lastUpdate == record.lastUpdate : hash == record.snapshot
    }

    func record(_ origin: IngestRecord.Origin, at now: Date) -> IngestRecord {
        IngestRecord(
            server: server, level: level, resource: id.rawValue, snapshot: hash, lastUpdate: lastUpdate, origin: origin,
            series: seriesHashes,
            recordedAt: now
        )
    }
}
