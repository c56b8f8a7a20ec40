import JobStore
import Jobs

/// What a run has given back to Orthanc and to others: its storing jobs say it in their results.
struct StoredResults: Sendable {
    /// A series that was stored, and where a browser finds it.
    struct Series: Sendable {
        var id: String
        var url: String?
    }

    /// Objects in Orthanc.
    var instances = 0
    var series: [Series] = []
    /// What other systems were sent: `3 objects to PACS`.
    var sent: [String] = []
    /// The jobs that stored, by id and name.
    var jobs: [(id: String, name: String)] = []
    var isCleaned: Bool

    init(_ aftermath: LedgerAftermath, server: String, _ orthanc: OrthancPages) {
        isCleaned = aftermath.hasBegunCleaning
        for job in aftermath.storing where job.state == .succeeded {
            jobs.append((job.id, job.name))
            guard let result = job.result?.object else { continue }
            instances += result["instances"]?.integer.map { Int(clamping: max(0, $0)) } ?? 0
            // A service of somebody else's may return something else under these names.
            for id in (result["series"]?.array ?? []).compactMap(\.string).filter(OrthancPages.isOrthancID).prefix(200) {
                series.append(Series(id: id, url: orthanc.url("series", id, server: server)))
            }
            for (name, count) in (result["sent"]?.object ?? [:]).sorted(by: { $0.key < $1.key }) {
                if let count = count.integer { sent.append("\(Display.count(Int(clamping: count), "object")) to \(name)") }
            }
        }
    }

    /// `Stored in Orthanc: 3 objects in 2 series.`; nil when nothing says so.
    var words: String? {
        if instances == 0 && series.isEmpty { return sent.isEmpty ? nil : "Sent \(sent.joined(separator: ", "))." }
        let place = series.isEmpty ? "" : " in \(series.count) series"
        let also = sent.isEmpty ? "" : "; sent \(sent.joined(separator: ", "))"
        return "Stored in Orthanc: \(Display.count(instances, "object"))\(place)\(also)."
    }

    /// Why a file of the run is not there any more.
    var absence: String {
        if !isCleaned { return "not there any more" }
        return instances > 0 || !series.isEmpty ? "cleaned up; the results are in Orthanc" : "cleaned up at the run's end"
    }
}
