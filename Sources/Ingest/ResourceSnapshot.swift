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
    var hash: String { hash(deviating: Deviation()) }

    /// What keeps an event from telling everything of a state, by Orthanc's ids of series.
    struct Deviation: Sendable, Hashable {
        var unreadable: Set<String> = []
        /// By a rule of the configuration.
        var refused: Set<String> = []
        /// ``IngestFilter/fingerprint`` of that configuration.
        var filter = ""

        init() {}

        init(_ samples: [SeriesSample], _ filter: IngestFilter) {
            for sample in samples {
                if sample.error != nil {
                    unreadable.insert(sample.series.id.rawValue)
                } else if let refusal = sample.refusal, refusal != IngestFilter.ownResult {
                    refused.insert(sample.series.id.rawValue)
                }
            }
            if !refused.isEmpty { self.filter = filter.fingerprint }
        }
    }

    /// The router takes each hash once, so what was left out must be able to come later, under another one.
    func hash(deviating deviation: Deviation) -> String {
        var lines = ["1", server, level.rawValue, id.rawValue, lastUpdate]
        for series in series.sorted(by: { $0.id < $1.id }) {
            lines.append(series.id.rawValue)
            lines += series.instances.sorted().map(\.rawValue)
        }
        lines += deviation.unreadable.sorted().map { "unreadable \($0)" }
        if !deviation.filter.isEmpty { lines.append("filter \(deviation.filter)") }
        return ContentDigest.hexadecimal(.sha256, of: Data(lines.joined(separator: "\n").utf8))
    }

    /// Names one more event of a state that had the event `snapshot`.
    static func hash(replaying snapshot: String, name: String) -> String {
        ContentDigest.hexadecimal(.sha256, of: Data("replay\n\(snapshot)\n\(name)".utf8))
    }

    private static func hash(of series: OrthancSeries) -> String {
        let lines = [series.lastUpdate ?? ""] + series.instances.sorted().map(\.rawValue)
        return String(ContentDigest.hexadecimal(.sha256, of: Data(lines.joined(separator: "\n").utf8)).prefix(32))
    }

    /// What the record of a series holds that was refused under a configuration.
    private static func refusedHash(of series: OrthancSeries, _ filter: String) -> String {
        "\(hash(of: series))/\(filter)"
    }

    /// The series that are new or have changed since `record`, or were refused under another configuration; all of them without a record.
    func changedSeries(since record: IngestRecord?, _ filter: IngestFilter) -> [OrthancSeries] {
        guard let record else { return series }
        if record.origin == .baseline {
            return series.filter { ($0.lastUpdate ?? "") > record.lastUpdate }
        }
        let fingerprint = filter.fingerprint
        return series.filter {
            let known = record.series[$0.id.rawValue]
            return known != Self.hash(of: $0) && known != Self.refusedHash(of: $0, fingerprint)
        }
    }

    /// Whether the record knows this state of the series, whatever the filter said then.
    func isRecorded(_ series: OrthancSeries, in record: IngestRecord) -> Bool {
        record.series[series.id.rawValue]?.hasPrefix(Self.hash(of: series)) == true
    }

    func isSameState(as record: IngestRecord, _ filter: IngestFilter) -> Bool {
        guard lastUpdate == record.lastUpdate else { return false }
        if record.origin == .baseline { return true }
        return record.series.count == series.count && changedSeries(since: record, filter).isEmpty
    }

    /// - Parameters:
    ///   - previous: the record before this one; what it says of unchanged series stays.
    ///   - samples: of the series that have changed since.
    func record(
        _ origin: IngestRecord.Origin, follows previous: IngestRecord?, _ samples: [SeriesSample], _ filter: IngestFilter, at now: Date
    ) -> IngestRecord {
        let deviation = Deviation(samples, filter)
        let changed = Set(samples.map(\.series.id))
        var hashes: [String: String] = [:]
        for series in series where !deviation.unreadable.contains(series.id.rawValue) {
            let name = series.id.rawValue
            if deviation.refused.contains(name) {
                hashes[name] = Self.refusedHash(of: series, deviation.filter)
            } else if !changed.contains(series.id), let known = previous?.series[name] {
                hashes[name] = known
            } else {
                hashes[name] = Self.hash(of: series)
            }
        }
        let isRefusedSomewhere = hashes.values.contains { $0.contains("/") }
        return IngestRecord(
            server: server, level: level, resource: id.rawValue, snapshot: hash(deviating: deviation),
            // Without it the sweep takes the resource for one that has changed, and looks again.
            lastUpdate: deviation.unreadable.isEmpty ? lastUpdate : "",
            origin: origin, series: hashes, filter: isRefusedSomewhere ? filter.fingerprint : "", recordedAt: now
        )
    }
}
