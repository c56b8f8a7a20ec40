import Foundation
import JobStore
import Jobs
import Orthanc
import Pipeline

/// Makes the event of a snapshot out of the samples of its new or changed series.
enum EventMaker {
    /// Bytes of JSON that headers may have; beyond, long values are left out.
    static let headerLimit = 8 << 20

    static func event(
        _ snapshot: ResourceSnapshot, _ samples: [SeriesSample], _ filter: IngestFilter, follows: String?, at now: Date
    ) -> EventMessage {
        let accepted = samples.filter { $0.refusal == nil }
        let refused = samples.compactMap { sample in sample.refusal.map { (sample.series.id.rawValue, $0) } }
        return EventMessage(
            server: snapshot.server,
            level: snapshot.level,
            resourceID: snapshot.id.rawValue,
            snapshot: snapshot.hash(deviating: ResourceSnapshot.Deviation(samples, filter)),
            observedAt: now,
            follows: follows,
            filtered: accepted.isEmpty ? filtered(refused.map(\.1)) : nil,
            series: accepted.map { EventMessage.Series(id: $0.series.id.rawValue, instances: $0.series.instances.count) },
            refusedSeries: Dictionary(refused) { first, _ in first },
            headers: headers(snapshot, accepted)
        )
    }

    /// One common reason speaks for all of them.
    private static func filtered(_ reasons: [Reason]) -> Reason {
        if let first = reasons.first, reasons.allSatisfy({ $0 == first }) { return first }
        let codes = Set(reasons.map(\.code)).sorted().joined(separator: ", ")
        return Reason("no-accepted-series", "Each of the \(reasons.count) series was refused: \(codes).")
    }

    private static func headers(_ snapshot: ResourceSnapshot, _ accepted: [SeriesSample]) -> JSONValue {
        var headers = JSONValue.null
        for longest in [Int.max, 1024, 64, 0] {
            let samples = accepted.map { sample in
                var short = sample
                short.tags = sample.tags.filter { longest == .max || $0.value.encoded().count <= longest }
                return (short.series.id, short)
            }
            headers = EventHeaders.make(snapshot, accepted: Dictionary(samples) { first, _ in first })
            if headers.encoded().count <= headerLimit { break }
        }
        return headers
    }
}
