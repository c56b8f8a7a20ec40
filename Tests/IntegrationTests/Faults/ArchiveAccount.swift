import Foundation
import JobStore
import Jobs
import Testing

/// Compares what Orthanc holds with what the router's ledger knows: nothing lost, nothing twice, nothing that is less than the study.
struct ArchiveAccount {
    struct Study {
        var uid: String
        /// Instances by series.
        var series: [String: Int]
    }

    /// By Orthanc's id.
    var studies: [String: Study] = [:]
    /// By Orthanc's id of the study, oldest first.
    var events: [String: [LedgerEvent]] = [:]

    init(_ pipeline: PipelineProcesses) async throws {
        for study in try await pipeline.orthanc.ask("GET", "/studies?expand").array ?? [] {
            let id = try #require(study["ID"]?.string)
            // The one that is there from the start may be older than ingest.
            if id == pipeline.study.id { continue }
            studies[id] = Study(uid: study["MainDicomTags"]?["StudyInstanceUID"]?.string ?? "", series: [:])
        }
        for series in try await pipeline.orthanc.ask("GET", "/series?expand").array ?? [] {
            let id = try #require(series["ID"]?.string)
            studies[series["ParentStudy"]?.string ?? ""]?.series[id] = series["Instances"]?.array?.count ?? 0
        }
        // Before the router has made the ledger there is nothing to read.
        let page = try? await pipeline.ledger.events(limit: 100_000)
        for event in (page?.items ?? []).reversed() { events[event.resourceID, default: []].append(event) }
    }

    /// Studies, by UID, that have fewer events than they are to have, or an event without a run.
    func missing(_ states: [String: Int]) -> [String] {
        studies.filter { id, study in
            let events = events[id] ?? []
            return events.count < states[study.uid] ?? 1 || events.contains(where: \.runs.isEmpty)
        }.map(\.value.uid).sorted()
    }

    /// - Parameter states: how many events a study is to have, by UID; 1 unless said.
    /// - Returns: what is wrong, in sentences.
    func violations(_ states: [String: Int]) -> [String] {
        studies.sorted { $0.value.uid < $1.value.uid }.flatMap { id, study -> [String] in
            let events = events[id] ?? []
            let expected = states[study.uid] ?? 1
            var wrong: [String] = []
            if events.count != expected { wrong.append("\(study.uid) has \(events.count) events instead of \(expected)") }
            for event in events where event.runs.count != 1 {
                wrong.append("event \(event.sequence) of \(study.uid) has \(event.runs.count) runs")
            }
            // The later of two events tells what has changed.
            if let only = events.first, events.count == 1 {
                let told = Dictionary(uniqueKeysWithValues: only.series.map { ($0.id, $0.instances) })
                let counts = (told.values.sorted(), study.series.values.sorted())
                if told != study.series { wrong.append("the event of \(study.uid) tells of \(counts.0) instances instead of \(counts.1)") }
            }
            return wrong
        }
    }
}

extension PipelineProcesses {
    /// Waits until each study in Orthanc has a run, and checks that it has no more than it should.
    ///
    /// - Parameter states: how many events a study is to have, by UID; 1 unless said.
    @discardableResult
    func account(for states: [String: Int] = [:], limit: Duration = .seconds(60)) async throws -> ArchiveAccount {
        // What the change log and the sweep have to say of the others has been read when this one has its run.
        let last = Arrivals.study()
        try await send(last)
        let account = try await until("every study has its run", limit: limit) {
            let account = try await ArchiveAccount(self)
            return account.missing(states).isEmpty ? account : nil
        } orShow: {
            let account = try? await ArchiveAccount(self)
            let missing = account?.missing(states) ?? []
            return "\(missing.count) are missing: \(missing.prefix(5).joined(separator: ", "))."
        }
        let dead = try await ledger.deadMessages(limit: 10).items.map(\.reason)
        let violations = account.violations(states) + dead.map { "a message was put aside: \($0)" }
        guard violations.isEmpty else { throw TestFailure(violations.joined(separator: "; ")) }
        return account
    }
}
